"""Settings of `CMAlignTrainer`, and the checks of the preference datasets it trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
from trl import DPOConfig

from hf_mlalign.core.errors import DataError, listed

PAIR = ("prompt", "chosen", "rejected")
REFERENCE = ("reference_prompt", "reference")


@dataclass
class CMAlignConfig(DPOConfig):
    """`trl.DPOConfig` with a consistency term and a weighting of the pairs; all its other settings as there.

    Args:
        consistency_weight: λ of loss = DPO + λ·(1 − cos(h(chosen), stopgrad h(English reference))), ≥ 0. 0 (*ours*) is
            plain DPO: the trainer then does exactly what `DPOTrainer` does.
        consistency_layer: layer of the hidden states h: 0 the embeddings, 1 … L the layers, −1 the last. `None`: the
            middle one, L // 2 (*ours*; LaCoMSA compares layer 15 of 32, *authors' script*).
        weight_by_margin: weight every pair, in the "sigmoid" loss and in the consistency term, by its `margin` over the
            mean margin of the training set (*ours*: off). Margins must be 0 or more.
    Raises:
        DataError: a negative or non-finite λ, or weighting with losses that have no per-pair form here.
    """

    consistency_weight: float = field(
        default=0.0, metadata={"help": "Weight λ of 1 - cos(h(chosen), h(English reference)); 0 is plain DPO."}
    )
    consistency_layer: int | None = field(
        default=None, metadata={"help": "Layer whose mean-pooled hidden states are compared; default: the middle one."}
    )
    weight_by_margin: bool = field(
        default=False, metadata={"help": "Weight every pair by its margin over the mean margin of the training set."}
    )

    def __post_init__(self):
        super().__post_init__()
        weight = self.consistency_weight
        if not 0 <= weight < float("inf"):
            raise DataError(f"consistency_weight: {weight} is not a number of 0 or more. 0 is plain DPO.")
        if not self.weight_by_margin:
            return
        if set(self.loss_type) - {"sigmoid", "sft"} or "sigmoid" not in self.loss_type:
            raise DataError(
                f"weight_by_margin: works with loss_type sigmoid (also with sft beside it), not {self.loss_type}."
            )
        others = {"ld_alpha": self.ld_alpha is not None, "use_weighting": self.use_weighting,
                  "f_divergence_type": self.f_divergence_type != "reverse_kl"}  # fmt: skip
        if set_too := [name for name, is_set in others.items() if is_set]:
            raise DataError(f"weight_by_margin: cannot be combined with {', '.join(set_too)}. Leave one of them out.")

    @property
    def needs_columns(self) -> bool:
        """Whether anything beyond plain DPO is asked for."""
        return self.consistency_weight > 0 or self.weight_by_margin


def check_preferences(ds: Any, name: str, *, reference: bool = False, margin: bool = False) -> None:
    """Check that `ds` can be trained on.

    Args:
        ds: a `Dataset` or `IterableDataset` (of which the first row is looked at).
        name: of the split, for messages.
        reference: `reference_prompt`, `reference` and `language` are needed, too; the split "train" must have at
            least one reference.
        margin: `margin` is needed, too.
    Raises:
        DataError: a column is missing, texts and messages are mixed, a chosen or rejected answer is missing, or all
            references are.
    """
    if not isinstance(ds, (datasets.Dataset, datasets.IterableDataset)):
        raise DataError(f"{name}: expected a Dataset or IterableDataset, got {type(ds).__name__}.")
    first = next(iter(ds), None)
    if first is None:
        raise DataError(f"{name}: the dataset is empty. Check the split and filters.")
    needed = ["chosen", "rejected", *(["prompt", *REFERENCE, "language"] if reference else []), *["margin"] * margin]
    if missing := [column for column in needed if column not in first]:
        why = (
            "consistency_weight and weight_by_margin need the columns CMAlignPreferenceBuilder writes"
            if reference or margin
            else "preference pairs need chosen and rejected"
        )
        raise DataError(f"{name}: no column {listed(missing)} among {listed(first)}; {why}.")
    columns = [column for column in (*PAIR, *REFERENCE * reference) if column in first]
    forms = {column: _form(ds, column, first[column], name) for column in columns}
    known = {column: form for column, form in forms.items() if form}
    if len(set(known.values())) > 1:
        shown = ", ".join(f"{column}: {form}" for column, form in known.items())
        raise DataError(f"{name}: the columns mix texts and messages ({shown}). Bring all into one of the two forms.")
    if not isinstance(ds, datasets.Dataset):
        return
    for column in ("chosen", "rejected"):
        if ds.data.column(column).null_count:
            row = next((i for i, value in enumerate(ds[column]) if value is None), None)
            if row is not None:
                raise DataError(f"{name}: column {column!r}, row {row} is missing. Drop such rows.")
    if reference and name == "train" and all(value is None for value in ds["reference"]):
        raise DataError(
            f"{name}: column 'reference' is missing in every row, so consistency_weight has nothing to pull towards. "
            "Build pairs with a reward that chooses references, or set consistency_weight to 0."
        )


def _form(ds: Any, column: str, value: Any, name: str) -> str | None:
    """ "texts" or "messages"; `None` if the first row leaves it open."""
    feature = (ds.features or {}).get(column)
    if isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string"):
        return "texts"
    if isinstance(value, str):
        return "texts"
    turns = value if isinstance(value, (list, tuple)) else [None]
    if all(isinstance(turn, Mapping) and {"role", "content"} <= turn.keys() for turn in turns):
        return "messages"
    if value is None:
        return None if feature is None or isinstance(feature, datasets.Value) else "messages"
    raise DataError(f"{name}: column {column!r}, row 0 holds {str(value)[:60]!r}, not a text or role/content messages.")


def margin_mean(ds: Any, name: str) -> float:
    """Mean margin of a split; margins are divided by that of the training set.

    Raises:
        DataError: a margin that is missing, not finite or negative (row named), or only zeros.
    """
    if not isinstance(ds, datasets.Dataset):
        raise DataError(f"{name}: weight_by_margin needs the mean margin, unknown in a stream. Load without streaming.")
    margins = np.array([np.nan if value is None else value for value in ds["margin"]], np.float64)
    bad = np.flatnonzero(~(margins >= 0) | ~np.isfinite(margins))
    if len(bad):
        raise DataError(
            f"{name}: column 'margin', row {bad[0]}: {margins[bad[0]]} is not a finite number of 0 or more. "
            "Drop such pairs (min_margin of the builder) or switch weight_by_margin off."
        )
    if not margins.mean():
        raise DataError(f"{name}: all margins are 0. Switch weight_by_margin off.")
    return float(margins.mean())
