"""Checked input of the win rate: preferences in [0, 1], languages, prompts and lengths, one entry per comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_list, as_numbers, check_list, is_missing
from hf_mlalign.data.columns import codes_of, language_codes
from hf_mlalign.data.languages import check_languages


@dataclass(frozen=True)
class Comparisons:
    """n comparisons of a candidate with a baseline.

    preferences: (n,) float64 in [0, 1], 1 where the candidate is better; NaN where there is no judgement.
    languages: (n,) int64 codes into `names`, sorted ISO 639-1 codes; all 0 and `[]` without languages.
    prompts: (n,) int64 codes; all different without prompt ids.
    swapped: (n,) as preferences, from the other order, or `None`.
    length_differences: (n,) float64 candidate minus baseline, NaN where unknown, or `None`.
    """

    preferences: np.ndarray
    languages: np.ndarray
    names: list[str]
    prompts: np.ndarray
    swapped: np.ndarray | None = None
    length_differences: np.ndarray | None = None


def read_comparisons(
    predictions: Sequence[float | None] | np.ndarray,
    languages: Sequence[str] | None = None,
    prompt_ids: Sequence[Any] | None = None,
    swapped_predictions: Sequence[float | None] | np.ndarray | None = None,
    candidate_lengths: Sequence[float | None] | np.ndarray | None = None,
    baseline_lengths: Sequence[float | None] | np.ndarray | None = None,
) -> Comparisons:
    """Check the columns of `winrate`.

    Raises:
        DataError: no rows, unequal lengths of the columns, a value out of range, an unknown or missing language, a
            missing prompt id, or the lengths of one side only (the first bad row is named).
    """
    preferences = preferences_of(predictions, "predictions")
    n = len(preferences)
    if not n:
        raise DataError("predictions: no rows. Give one preference for each comparison.")
    codes, names = np.zeros(n, np.int64), []
    if languages is not None:
        values = _column(languages, n, "languages")
        try:
            arrow = isinstance(values, (pa.Array, pa.ChunkedArray))
            column = values if arrow else pa.array(values, pa.string(), from_pandas=True)
        except (pa.ArrowException, UnicodeError, TypeError):
            column = pa.array(check_languages(values))
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        codes, found = language_codes(column, "languages")
        names = sorted(found)
        codes = np.searchsorted(names, found)[codes]
    prompts = np.arange(n) if prompt_ids is None else prompt_codes(_column(prompt_ids, n, "prompt_ids"))
    swapped = None
    if swapped_predictions is not None:
        swapped = preferences_of(_column(swapped_predictions, n, "swapped_predictions"), "swapped_predictions")
    if (candidate_lengths is None) != (baseline_lengths is None):
        missing = "candidate_lengths" if candidate_lengths is None else "baseline_lengths"
        raise DataError(f"{missing}: missing. Length control needs the lengths of both sides; give both or neither.")
    differences = None
    if candidate_lengths is not None:
        sides = ("candidate_lengths", candidate_lengths), ("baseline_lengths", baseline_lengths)
        lengths = []
        for name, values in sides:
            numbers = as_numbers(_column(values, n, name), name)
            bad = np.flatnonzero((numbers < 0) | np.isinf(numbers))
            if len(bad):
                raise DataError(f"{name}, row {bad[0]}: {numbers[bad[0]]:g} is not a length in characters or tokens.")
            lengths.append(numbers)
        differences = lengths[0] - lengths[1]
    return Comparisons(preferences, codes, names, prompts, swapped, differences)


def preferences_of(values: Any, name: str) -> np.ndarray:
    """`values` as (n,) float64 in [0, 1] or NaN; `None` becomes NaN. DataError otherwise (first bad row named)."""
    numbers = as_numbers(values, name)
    bad = np.flatnonzero((numbers < 0) | (numbers > 1))
    if len(bad):
        raise DataError(
            f"{name}, row {bad[0]}: {numbers[bad[0]]:g} is not in [0, 1]. Give 1 for a win of the candidate, 0.5 for a "
            "tie, 0 for a loss and NaN for not judged; of AlpacaEval's preferences (1 to 2) subtract 1."
        )
    return numbers


def _column(values: Any, n: int, name: str) -> Any:
    check_list(values, name)
    values = values if hasattr(values, "__len__") else as_list(values, name)
    if len(values) != n:
        raise DataError(f"{name} has {len(values)} rows and predictions has {n}. Give one value for each comparison.")
    return values


def prompt_codes(values: Any) -> np.ndarray:
    """(n,) int64 codes of prompt ids in order of first appearance; values without an Arrow type are compared as text.

    Raises:
        DataError: a text instead of a list, or a missing id (`None` or NaN; first row named).
    """
    name = "prompt_ids"
    check_list(values, name)
    try:
        column = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, from_pandas=True)
    except (pa.ArrowException, UnicodeError, OverflowError):
        column = None
    if column is None or isinstance(column.type, pa.BaseExtensionType):
        texts = [None if is_missing(value) else str(value) for value in as_list(values, name)]
        column = pa.array([text and text.encode("utf-8", "surrogatepass") for text in texts], pa.binary())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return codes_of(column, name)[0].astype(np.int64)
