"""Ray datasets as Arrow tables in the dataset's order, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.ray import import_ray, plain_errors, submit

if TYPE_CHECKING:
    import datasets
    from ray.data import Dataset

ROW = "row"
"""Column with the numbers of the rows: the order in which the local engine would read them."""


def column_names(ds: Dataset) -> list[str]:
    """Names of the columns.

    Raises:
        DataError: `ds` is empty or not a Ray dataset.
    """
    import_ray()
    from ray.data import Dataset

    if not isinstance(ds, Dataset):
        kind = f"{type(ds).__module__.split('.')[0]}.{type(ds).__name__}"
        raise DataError(f"Expected a ray.data.Dataset, got {kind}. Make one with ray.data.from_huggingface(ds).")
    with plain_errors():
        schema = ds.schema()
    if schema is None:
        raise DataError("The dataset is empty: there is nothing to do. Check filters and paths.")
    return list(schema.names)


def table_references(ds: Dataset) -> list[Any]:
    """References to the blocks as Arrow tables, in the dataset's order."""
    ds.context.execution_options.preserve_order = True
    with plain_errors():
        return ds.to_arrow_refs()


def from_references(references: Sequence[Any]) -> Dataset:
    """The Ray dataset of these tables."""
    return import_ray().data.from_arrow_refs(list(references))


def number_rows(ds: Dataset) -> Dataset:
    """`ds` with a column `row` (int64): 0, 1, … in its order. An existing column is kept.

    Raises:
        DataError: the column does not hold distinct whole numbers.
    """
    if ROW in column_names(ds):
        row_numbers(table_references(ds))
        return ds
    return from_references(numbered(table_references(ds)))


def numbered(references: Sequence[Any]) -> list[Any]:
    """The tables with a column `row`, numbered across all of them; an existing column is kept."""
    ray = import_ray()
    heads = ray.get([submit(_head, reference)[0] for reference in references])
    if any(ROW in names for _, names in heads):
        return list(references)
    starts = np.cumsum([0, *(size for size, _ in heads)]).tolist()
    return [submit(_number, reference, start)[0] for reference, start in zip(references, starts[:-1], strict=True)]


def row_numbers(references: Sequence[Any]) -> np.ndarray:
    """(n,) int64 numbers of all rows, ascending; DataError unless they are distinct whole numbers."""
    found = import_ray().get([submit(_rows_of, reference)[0] for reference in references])
    rows = np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)
    again = np.flatnonzero(rows[1:] == rows[:-1])
    if len(again):
        raise DataError(f"Column {ROW!r}: {rows[again[0]]} occurs twice. Rename the column to have the rows numbered.")
    return rows


def _head(table: pa.Table) -> tuple[int, list[str]]:
    return len(table), table.column_names


def _number(table: pa.Table, start: int) -> pa.Table:
    return table.append_column(ROW, pa.array(np.arange(start, start + len(table), dtype=np.int64)))


def _rows_of(table: pa.Table) -> np.ndarray:
    column = table.column(ROW)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise DataError(f"Column {ROW!r} holds {column.type}, not whole numbers. Rename it to have the rows numbered.")
    return column.to_numpy().astype(np.int64)


def sorted_by_row(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of all rows, in the order of `row`."""
    whole = pa.concat_tables(tables)
    order = np.argsort(whole.column(ROW).to_numpy(), kind="stable")
    return whole if (order[1:] > order[:-1]).all() else whole.take(pa.array(order))


def arrow_dataset(table: pa.Table) -> datasets.Dataset:
    """The table as a `datasets.Dataset`, without a copy."""
    from datasets import Dataset
    from datasets.table import InMemoryTable

    return Dataset(InMemoryTable(table))


def with_columns(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    """The table with these columns, which replace columns of the same name."""
    kept = table.drop_columns([name for name in columns if name in table.column_names])
    for name, values in columns.items():
        kept = kept.append_column(name, values)
    return kept


def vectors_column(vectors: np.ndarray) -> pa.FixedSizeListArray:
    """An (n, d) array as a column of fixed-size lists, which `datasets` reads as `List(Value(…), length=d)`."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).reshape(-1)), vectors.shape[1])


def to_dataset(ds: Dataset, features: datasets.Features | None = None) -> datasets.Dataset:
    """All rows as a `datasets.Dataset` in this process, in the same order. Vectors stay lists of fixed length.

    Args:
        ds: Ray dataset.
        features: features of columns whose Arrow types do not say everything (class names, for instance). Those of
            missing columns are ignored.
    Raises:
        DataError: the dataset has no rows, or its blocks do not have the same columns.
    """
    import datasets

    with plain_errors():
        tables = import_ray().get(table_references(ds))
    tables = [table for table in tables if table.num_columns]
    if not tables:
        raise DataError("The dataset has no rows and no columns.")
    try:
        plain = [table.replace_schema_metadata(None) for table in tables]
        whole = pa.concat_tables(plain, promote_options="permissive")
    except pa.ArrowInvalid as error:
        names = {name for table in tables for name in table.column_names}
        raise DataError(f"The blocks differ in the types of {listed(sorted(names))}: {error}") from error
    found = arrow_dataset(whole)
    if features is None:
        return found
    known = {name: features.get(name, feature) for name, feature in found.features.items()}
    return found.cast(datasets.Features(known))
