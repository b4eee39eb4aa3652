"""Settings of the papers for `hf_mlalign.launch.sft`, and how they give way to flags and files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError, listed

QUESTION_TRANSLATION = "question_translation"

RECIPES: dict[str, dict[str, Any]] = {
    QUESTION_TRANSLATION: {
        "use_peft": True, "learning_rate": 5e-5, "lr_scheduler_type": "cosine", "warmup_steps": 0.1,
        "num_train_epochs": 3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "max_length": 2048,
        "seed": 0, "completion_only_loss": True,
    },
    "mdaq": {
        "learning_rate": 5e-5, "num_train_epochs": 3, "total_batch_size": 256, "max_length": 2048,
        "completion_only_loss": True,
    },
    "none": {},
}  # fmt: skip
"""Recipe → option → value. question_translation: *authors' script* of arXiv 2405.13816, with LoRA on q and v; mdaq:
*paper*, arXiv 2509.15549 (max_length *ours*). In both the loss is that of the completions. none: TRL's defaults."""


def given_options(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """(recipe, options given on the command line or in the YAML file of --config).

    Raises:
        DataError: an unknown recipe, or a file that cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    parser.add_argument("--recipe")
    known, _ = parser.parse_known_args(list(arguments))
    options: dict[str, Any] = dict(_read_recipe(known.config)) if known.config else {}
    recipe = known.recipe or options.get("recipe") or QUESTION_TRANSLATION
    if recipe not in RECIPES:
        raise DataError(f"recipe: unknown {recipe!r}. Known: {listed(RECIPES)}.")
    flags = (a[2:].split("=")[0].replace("-", "_") for a in arguments if a.startswith("--"))
    return recipe, {**options, **dict.fromkeys(flags)}


def recipe_defaults(recipe: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's options but for those that are given; a given accumulation stands in for its total batch."""
    defaults = {name: value for name, value in RECIPES[recipe].items() if name not in given}
    if "gradient_accumulation_steps" in given:
        defaults.pop("total_batch_size", None)
    return defaults


def accumulation(total: int, per_device: int, processes: int) -> int:
    """Batches a process adds up for `total` rows an update; DataError if that is no whole number."""
    steps, rest = divmod(total, per_device * processes)
    if rest or not steps:
        raise DataError(
            f"total_batch_size: {total} is no multiple of {per_device} rows a device × {processes} processes. Choose "
            "another --per_device_train_batch_size."
        )
    return steps


def _read_recipe(path: str) -> Mapping[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"config: cannot read {path!r}: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, Mapping):
        raise DataError(f"config: {path!r} holds no mapping of options to values.")
    return found
