"""The offline demonstration: a pool of graded answers that ships with the package, and the story told over it."""

from hf_mlalign.demo.pool_data import load_demo_pool
from hf_mlalign.demo.story import run_demo

__all__ = ["load_demo_pool", "run_demo"]
