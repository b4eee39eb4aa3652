"""`hf-mlalign env`: versions, and whether the parts of other packages that this one builds on are as they were."""

from __future__ import annotations

import platform

import typer

from hf_mlalign.cli_options import say

OTHERS = ("torch", "peft", "tokenizers", "safetensors", "numpy", "pandas", "pyarrow", "faiss-cpu", "ray", "gradio")
CHANGED = 1


def env() -> None:
    """Print versions and check the parts of other packages that this one builds on; paste it in bug reports.

    Exit code 1 if a part has changed.
    """
    from hf_mlalign import __version__
    from hf_mlalign.private_parts import PARTS, TESTED, changed, installed_version

    say(f"hf_mlalign {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for package, (low, high) in TESTED.items():
        say(f"  {package:22}{installed_version(package):14}tested with {low}{f' to {high}' if high != low else ''}")
    for package in OTHERS:
        say(f"  {package:22}{installed_version(package)}")
    say(f"  {'CUDA devices':22}{_devices()}")
    messages = changed()
    say(f"Parts of other packages beyond their documented interface: {len(PARTS) - len(messages)} of {len(PARTS)} as "
        "expected.")  # fmt: skip
    for message in messages:
        say(message)
    if messages:
        raise typer.Exit(CHANGED)


def _devices() -> str:
    import torch

    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none"
