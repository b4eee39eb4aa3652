"""The offline demonstration on the pool that ships with the package, told step by step."""

from hf_mlalign.cli.demo.walkthrough import run_demo

__all__ = ["run_demo"]
