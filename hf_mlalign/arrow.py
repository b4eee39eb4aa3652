"""Reading sample tables: Arrow columns to codes, texts, message lists and matrices, without Python loops over rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.errors import DataError, listed
from hf_mlalign.languages import known_code, normalise

if TYPE_CHECKING:
    from datasets import Dataset


def arrow_column(ds: Dataset, column: str) -> pa.Array:
    """The column as one Arrow array, rows in the dataset's order; without a copy if it is one chunk."""
    if ds._indices is None:
        values = ds.data.column(column)
    else:
        values = ds.select_columns([column]).with_format("arrow")[:].column(column)
    values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        raise DataError(f"Column {column!r} is too large for one array. Convert texts to large_string.")
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def is_text(kind: pa.DataType) -> bool:
    """Whether the type holds strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether the type holds lists of any length."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def is_messages(kind: pa.DataType) -> bool:
    """Whether the type holds lists of messages with role and content."""
    names = {field.name for field in kind.value_type} if is_list(kind) and pa.types.is_struct(kind.value_type) else ()
    return {"role", "content"} <= set(names)


def codes_of(values: pa.Array, column: str) -> tuple[np.ndarray, pa.Array]:
    """(n,) int32 codes and the distinct values, in order of first appearance.

    Raises:
        DataError: lists or structs, or a missing value (first row named).
    """
    if pa.types.is_nested(values.type):
        raise DataError(f"Column {column!r}, row 0: holds {values.type}. Give one text or whole number a row.")
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"Column {column!r}, row {row}: missing. Fill it in or drop such rows.")
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary


def language_codes(values: pa.Array, column: str) -> tuple[np.ndarray, list[str]]:
    """(n,) int32 codes into the list of ISO 639-1 codes; DataError for an unknown language (row named)."""
    numbers, distinct = codes_of(values, column)
    known: dict[str, int] = {}
    lookup = []
    for i, value in enumerate(distinct.to_pylist()):
        code = normalise(value) if isinstance(value, str) else None
        if code is None:
            code = known_code(value, f"Column {column!r}, row {int(np.argmax(numbers == i))}")
        lookup.append(known.setdefault(code, len(known)))
    return np.asarray(lookup, dtype=np.int32)[numbers], list(known)


def last_contents(values: pa.Array, column: str) -> pa.Array:
    """Content of the last message of each row; texts are returned as they are, a missing or empty list gives null."""
    if is_text(values.type) or pa.types.is_null(values.type):
        return values.cast(pa.string()) if pa.types.is_null(values.type) else values
    if not is_messages(values.type):
        raise DataError(f"Column {column!r} holds {values.type}, neither texts nor lists of role/content messages.")
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    contents = values.flatten().field("content")
    if pa.types.is_null(contents.type):
        contents = contents.cast(pa.string())
    if not is_text(contents.type):
        row = int(np.argmax(lengths > 0))
        raise DataError(f"Column {column!r}, row {row}: the content of a message is {contents.type}, not text. "
                        "Keep the text parts only.")  # fmt: skip
    last = np.cumsum(lengths) - 1
    return contents.take(pa.array(last, mask=lengths == 0))


def flatten_lists(values: pa.Array, column: str) -> tuple[pa.Array, np.ndarray]:
    """The items of all lists, and how many each row has (0 for a missing list)."""
    if not (is_list(values.type) or pa.types.is_fixed_size_list(values.type)):
        raise DataError(f"Column {column!r} holds {values.type}; a list of responses a row was expected.")
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    return values.flatten(), lengths.astype(np.int64)


def matrix(values: pa.Array, column: str) -> np.ndarray:
    """Equally long number lists as one (n, d) float32 array, without a copy if they are float32 of fixed length.

    Raises:
        DataError: a row is missing or has another length (the first such row is named).
    """
    n = len(values)
    if pa.types.is_fixed_size_list(values.type) and not values.null_count:
        flat, width = values.flatten(), values.type.list_size
    else:
        if not (is_list(values.type) or pa.types.is_fixed_size_list(values.type)):
            raise DataError(
                f"Column {column!r} holds {values.type}, not lists of numbers. Drop it to have it computed."
            )
        lengths = pc.fill_null(pc.list_value_length(values), -1).to_numpy(zero_copy_only=False)
        width = int(lengths[0]) if n else 0
        bad = np.flatnonzero((lengths != width) | (lengths < 1))
        if len(bad):
            raise DataError(f"Column {column!r}, row {bad[0]}: a vector of length {width} is missing or differs.")
        flat = values.flatten()
    if flat.null_count:
        raise DataError(f"Column {column!r}, row {int(np.argmax(flat.is_null())) // width}: a number is missing.")
    return flat.to_numpy(zero_copy_only=False).reshape(n, width).astype(np.float32, copy=False)


def choose_column(columns: list[str], names: tuple[str, ...], role: str, mapping: dict[str, str]) -> str | None:
    """The column of a role: the mapped one, or the first of `names` there is."""
    mapped = [column for column, r in mapping.items() if r == role]
    if len(mapped) > 1:
        raise DataError(f"column_mapping maps {listed(mapped)} to the role {role!r}. Keep one of them.")
    if mapped and mapped[0] not in columns:
        raise DataError(f"column_mapping names a column that is not there: {mapped[0]}. Found: {listed(columns)}.")
    return mapped[0] if mapped else next((name for name in names if name in columns and name not in mapping), None)
