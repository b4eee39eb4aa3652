"""The offline demo: each step of the work on the pool that ships with the package, explained in the terminal."""

from hf_mlalign.cli.demo.walkthrough import run_demo

__all__ = ["run_demo"]
