"""Moving columns between `datasets.Dataset` and arrays, without copies where that is possible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_mlalign.arrays import as_numbers as checked_numbers
from hf_mlalign.arrow import chunked_column
from hf_mlalign.errors import DataError, listed

if TYPE_CHECKING:
    from datasets import Dataset


def check_dataset(ds: Any) -> None:
    """Raise a `DataError` unless `ds` is one non-empty map-style `Dataset`."""
    import datasets

    if isinstance(ds, datasets.DatasetDict):
        raise DataError(
            f"Expected one split, got a DatasetDict with {listed(ds)}. Choose one, e.g. ds['{next(iter(ds))}']."
        )
    if isinstance(ds, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        raise DataError("Selection ranks all rows and needs a map-style Dataset. Load without streaming=True.")
    if not isinstance(ds, datasets.Dataset):
        raise DataError(f"Expected a datasets.Dataset, got {type(ds).__name__}.")
    if not len(ds):
        raise DataError(
            "The dataset is empty: there is nothing to select from. Check the split, filters and languages."
        )


def numbers(ds: Dataset, column: str) -> np.ndarray:
    """A numeric column as a 1-D array; null becomes NaN in a float column.

    Raises:
        DataError: the column is not numeric, or an integer column has nulls (first row named).
    """
    return column_numbers(chunked_column(ds, column), column)


def column_numbers(values: pa.ChunkedArray, column: str, first_row: int = 0) -> np.ndarray:
    """`numbers` of a part of a column that begins at row `first_row`."""
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan, dtype=np.float32)
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise DataError(f"Column {column!r} holds {values.type}, not numbers. Drop it to have it computed.")
    if pa.types.is_integer(values.type) and values.null_count:
        row = first_row + int(np.flatnonzero(values.is_null().to_numpy())[0])
        raise DataError(f"Column {column!r}, row {row}: missing. Drop the column to have it computed.")
    return values.to_numpy()


def add_columns(ds: Dataset, columns: Mapping[str, Any]) -> Dataset:
    """`ds` with `columns` (arrays or lists, one value a row), replacing equally named ones; NaN becomes null."""
    for name, values in columns.items():
        if name in ds.column_names:
            ds = ds.remove_columns(name)
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            values = pa.array(values, from_pandas=True)  # NaN becomes null
        ds = ds.add_column(name, values)
    return ds


def clean_clusters(clusters: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Given cluster ids as int32 numbered from 0; −1 where a row without score has none."""
    scores = checked_numbers(scores, "scores")
    if not isinstance(clusters, np.ndarray) or clusters.dtype.kind not in "iuf" or clusters.shape != scores.shape:
        clusters = checked_numbers(clusters, "cluster", len(scores), "scores")
    values = np.asarray(clusters, dtype=np.float64) if np.asarray(clusters).dtype.kind == "f" else np.asarray(clusters)
    bad = ~np.isfinite(values) | (values < 0) | (values != np.floor(values))
    worst = np.flatnonzero(bad & ~np.isnan(scores))
    if len(worst):
        raise DataError(
            f"Column 'cluster', row {worst[0]}: {values[worst[0]]} is no whole number ≥ 0. Correct it, "
            "or drop the column to have clusters computed."
        )
    out = np.full(len(values), -1, dtype=np.int32)
    out[~bad] = np.unique(values[~bad], return_inverse=True)[1]
    return out
