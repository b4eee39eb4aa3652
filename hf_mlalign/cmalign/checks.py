"""Checks of preference datasets before training: which form they have, which columns, which rows are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_mlalign.core.errors import DataError, listed

PAIR = ("prompt", "chosen", "rejected")
REFERENCE = ("reference_prompt", "reference")


def check_preferences(ds: Any, name: str, *, reference: bool = False, margin: bool = False) -> None:
    """Check that `ds` can be trained on.

    Args:
        ds: a `Dataset` or `IterableDataset` (of which the first row is looked at).
        name: of the split, for messages.
        reference: `reference_prompt`, `reference` and `language` are needed, too; the split "train" must have at
            least one reference.
        margin: `margin` is needed, too.
    Raises:
        DataError: a column is missing, strings and messages are mixed, a chosen or rejected answer is missing, or
            all references are.
    """
    first = _first_row(ds, name)
    _check_columns(list(first), name, reference, margin)
    columns = [c for c in (*PAIR, *REFERENCE) if c in first and (reference or c in PAIR)]
    forms = {column: _form(ds, column, first[column], name) for column in columns}
    known = {column: form for column, form in forms.items() if form}
    if len(set(known.values())) > 1:
        shown = ", ".join(f"{column}: {form}" for column, form in known.items())
        raise DataError(f"{name}: the columns mix texts and messages ({shown}). Bring all into one of the two forms.")
    for column in ("chosen", "rejected"):
        _check_present(ds, column, name)
    if reference and name == "train":
        _check_references(ds, name)


def _first_row(ds: Any, name: str) -> Mapping[str, Any]:
    import datasets

    if not isinstance(ds, (datasets.Dataset, datasets.IterableDataset)):
        raise DataError(f"{name}: expected a Dataset or IterableDataset, got {type(ds).__name__}.")
    row = next(iter(ds), None)
    if row is None:
        raise DataError(f"{name}: the dataset is empty. Check the split and filters.")
    return row


def _check_columns(found: list[str], name: str, reference: bool, margin: bool) -> None:
    needed = ["chosen", "rejected"]
    if reference:
        needed += ["prompt", *REFERENCE, "language"]
    if margin:
        needed.append("margin")
    missing = [column for column in needed if column not in found]
    if missing:
        why = (
            "consistency_weight and weight_by_margin need the columns CMAlignPreferenceBuilder writes"
            if reference or margin
            else "preference pairs need chosen and rejected"
        )
        raise DataError(f"{name}: no column {listed(missing)} among {listed(found)}; {why}.")


def _form(ds: Any, column: str, value: Any, name: str) -> str | None:
    """ "texts" or "messages"; `None` if the first row leaves it open."""
    import datasets

    feature = (ds.features or {}).get(column)
    if isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string"):
        return "texts"
    if isinstance(value, str):
        return "texts"
    if isinstance(value, (list, tuple)) and all(
        isinstance(t, Mapping) and {"role", "content"} <= t.keys() for t in value
    ):
        return "messages"
    if value is None:
        return None if feature is None or isinstance(feature, datasets.Value) else "messages"
    raise DataError(
        f"{name}: column {column!r}, row 0 holds {str(value)[:60]!r}, neither a text nor role/content messages."
    )


def _check_present(ds: Any, column: str, name: str) -> None:
    import datasets

    if isinstance(ds, datasets.Dataset) and ds.data.column(column).null_count:
        row = next((i for i, value in enumerate(ds[column]) if value is None), None)
        if row is not None:
            raise DataError(f"{name}: column {column!r}, row {row} is missing. Drop such rows.")


def _check_references(ds: Any, name: str) -> None:
    import datasets

    if not isinstance(ds, datasets.Dataset):
        return
    if all(value is None for value in ds["reference"]):
        raise DataError(
            f"{name}: column 'reference' is missing in every row, so consistency_weight has nothing to pull towards. "
            "Build pairs with a reward that chooses references, or set consistency_weight to 0."
        )


def margin_mean(ds: Any, name: str) -> float:
    """Mean margin of a split; that of the training set is what margins are divided by.

    Raises:
        DataError: a margin that is missing, not finite or negative (row named), or only zeros.
    """
    import datasets
    import numpy as np

    if not isinstance(ds, datasets.Dataset):
        raise DataError(f"{name}: weight_by_margin needs the mean margin, unknown in a stream. Load without streaming.")
    margins = np.array([np.nan if value is None else value for value in ds["margin"]], np.float64)
    bad = np.flatnonzero(~(margins >= 0) | ~np.isfinite(margins))
    if len(bad):
        raise DataError(
            f"{name}: column 'margin', row {bad[0]}: {margins[bad[0]]} is no finite number of 0 or more. "
            "Drop such pairs (min_margin of the builder) or switch weight_by_margin off."
        )
    if not margins.mean():
        raise DataError(f"{name}: all margins are 0. Switch weight_by_margin off.")
    return float(margins.mean())
