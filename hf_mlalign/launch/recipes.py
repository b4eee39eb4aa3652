"""Settings of the papers for `hf_mlalign.launch.sft`; flags and files override them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import read_small

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
    import yaml

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    parser.add_argument("--recipe")
    known, _ = parser.parse_known_args(list(arguments))
    options: dict[str, Any] = {}
    if known.config:
        try:
            options = yaml.safe_load(read_small(known.config, "config"))
        except (OSError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"config: cannot read {known.config!r}: {reason}") from error
        if not isinstance(options, dict):
            raise DataError(f"config: {known.config!r} is not a mapping of options to values.")
    recipe = known.recipe or options.get("recipe") or QUESTION_TRANSLATION
    if recipe not in RECIPES:
        raise DataError(f"recipe: unknown {recipe!r}. Known: {listed(RECIPES)}.")
    flags = (a[2:].split("=")[0].replace("-", "_") for a in arguments if a.startswith("--"))
    return recipe, {**options, **dict.fromkeys(flags)}


def recipe_defaults(recipe: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's options that are not given; a given accumulation replaces its total batch."""
    defaults = {name: value for name, value in RECIPES[recipe].items() if name not in given}
    if "gradient_accumulation_steps" in given:
        defaults.pop("total_batch_size", None)
    return defaults


def accumulation(total: int, per_device: int, processes: int) -> int:
    """Batches that each process accumulates for `total` rows per update; DataError if that is not a whole number."""
    steps, rest = divmod(total, per_device * processes)
    if rest or not steps:
        raise DataError(
            f"total_batch_size: {total} is not a multiple of {per_device} rows per device × {processes} processes. "
            "Choose another --per_device_train_batch_size."
        )
    return steps
