"""`hf-mlalign env`: versions of the packages that results depend on; imports none of them."""

from __future__ import annotations

import platform

from hf_mlalign._version import TESTED, installed_version
from hf_mlalign.cli.options import say

OTHERS = ("torch", "peft", "tokenizers", "safetensors", "numpy", "pandas", "pyarrow", "faiss-cpu", "ray", "gradio")


def env() -> None:
    """Print the versions to paste into a bug report."""
    from hf_mlalign import __version__

    say(f"hf_mlalign {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for package, (low, high) in TESTED.items():
        say(f"  {package:22}{installed_version(package):14}tested with {low}{f' to {high}' if high != low else ''}")
    for package in OTHERS:
        say(f"  {package:22}{installed_version(package)}")
