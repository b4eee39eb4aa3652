"""The offline demonstration: a pool of graded answers that ships with the package, and the story told over it."""

from hf_mlalign.cli.demo.walkthrough import run_demo
from hf_mlalign.data.demo_pool import load_demo_pool

__all__ = ["load_demo_pool", "run_demo"]
