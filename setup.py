"""Everything else is in setup.cfg: here only the top-level folder metrics/ becomes hf_mlalign.metrics in the wheel."""

from setuptools import find_namespace_packages, setup

metrics = [f"hf_mlalign.{name}" for name in find_namespace_packages(include=["metrics", "metrics.*"])]
setup(
    packages=[*find_namespace_packages(include=["hf_mlalign", "hf_mlalign.*"]), *metrics],
    package_dir={"hf_mlalign.metrics": "metrics"},
)
