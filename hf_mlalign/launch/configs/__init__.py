"""Settings for `accelerate launch --config_file`, by name: one GPU to several nodes, and two processes on a CPU.

accelerate launch --config_file $(python -m hf_mlalign.launch.configs fsdp2) -m hf_mlalign.launch.dpo …
"""

from __future__ import annotations

from pathlib import Path

from hf_mlalign.core.errors import DataError, listed

FOLDER = Path(__file__).parent


def config_names() -> list[str]:
    """Names of the settings, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def config_path(name: str) -> Path:
    """The YAML file of the settings called `name`; DataError for an unknown name."""
    path = FOLDER / f"{name.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        raise DataError(f"config: no launch settings {name!r}. Known: {listed(config_names())}.")
    return path
