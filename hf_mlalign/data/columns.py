"""Columns: which has which role (one table of names for all jobs), and their ids, languages, texts and numbers as Arrow
or NumPy arrays, without Python loops over rows; memory of mapped files."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import as_numbers as checked_numbers
from hf_mlalign.data.languages import known_code, normalise

if TYPE_CHECKING:
    from datasets import Dataset

LANGUAGE_COLUMNS = ("language_code", "lang_code", "language", "lang", "locale")

ROLES: dict[str, tuple[str, ...]] = {
    # instruction data; complete layouts are in hf_mlalign.data.layouts
    "instruction": ("instruction", "prompt", "question", "inputs"),
    "input": ("input",),
    "messages": ("messages", "conversations"),
    # every job
    "id": ("prompt_id", "question_id", "id"),
    "language": LANGUAGE_COLUMNS,
    "prompt": ("prompt", "instruction", "question", "query", "input", "text"),
    "response": ("response", "completion", "output", "answer"),
    "model": ("model", "candidate_model", "generator"),
    "task": ("task",),
    # sampled responses
    "responses": ("responses", "samples", "candidates"),
    "sample": ("sample_id", "sample", "sample_index"),
    "finish_reason": ("finish_reason",),
    "embedding": ("embedding",),
    # comparisons of two answers
    "candidate": ("candidate", "candidate_response", "response_a", "answer_a", "output_1", "chosen"),
    "baseline": ("baseline", "baseline_response", "response_b", "answer_b", "output_2", "rejected"),
    "reference": ("reference", "reference_answer"),
    "prediction": ("prediction", "predictions", "preference"),
    "swapped_prediction": ("swapped_prediction", "swapped_predictions"),
    "candidate_length": ("candidate_length", "model_length"),
    "baseline_length": ("baseline_length",),
    # parallel questions and their answers
    "answer": ("answer", "answers", "gold", "label", "completion"),
    "english_answer": ("english_answer", "answer_en"),
    "source": ("source",),
    "target": ("target",),
    "source_language": ("source_language",),
    "target_language": ("target_language",),
}
"""Role → column names that are recognised; the first one found is used."""
SYNONYMS = {
    "prompt_id": "id", "question_id": "id", "question": "prompt", "lang": "language", "predictions": "prediction",
    "prompt_ids": "id", "languages": "language", "swapped_predictions": "swapped_prediction",
    "candidate_lengths": "candidate_length", "baseline_lengths": "baseline_length",
}  # fmt: skip
"""Other names of a role that a column mapping may use."""


def read_mapping(
    columns: Iterable[str], column_mapping: Mapping[str, str] | None, roles: Iterable[str], where: str = ""
) -> dict[str, str]:
    """Check a mapping (your column → role): each column exists, and each role is one of `roles` and has one column.

    Raises:
        DataError: a missing column, an unknown role, or a role with two columns.
    """
    columns, roles = list(columns), list(roles)
    mapping = {column: SYNONYMS[role] if role not in roles and SYNONYMS.get(role) in roles else role
               for column, role in (column_mapping or {}).items()}  # fmt: skip
    if unknown := [role for role in mapping.values() if role not in roles]:
        raise DataError(f"{where}column_mapping has unknown roles: {listed(unknown)}. Roles: {listed(roles, 40)}.")
    if missing := [column for column in mapping if column not in columns]:
        raise DataError(
            f"{where}column_mapping names missing columns: {listed(missing)}. Columns found: {listed(columns)}."
        )
    if twice := [role for role in mapping.values() if list(mapping.values()).count(role) > 1]:
        both = [column for column, role in mapping.items() if role == twice[0]]
        raise DataError(f"{where}column_mapping maps {listed(both)} to the role {twice[0]!r}. Keep one of them.")
    return mapping


def find_roles(
    columns: Iterable[str],
    roles: Sequence[str],
    column_mapping: Mapping[str, str] | None = None,
    *,
    needed: Sequence[str] = (),
    names: Mapping[str, Sequence[str]] | None = None,
    remedy: str = "",
    where: str = "",
) -> dict[str, str]:
    """Role → column, for the roles that have one.

    Args:
        columns: the column names of the dataset.
        roles: the roles that the job reads, from `ROLES` or `names`.
        column_mapping: your column → role; overrides recognition.
        needed: roles that must have a column.
        names: role → column names to recognise instead of those in `ROLES`, for roles that a task file defines.
        remedy: how to map a missing column, e.g. 'e.g. {"question_id": "id"}'.
        where: start of every message, e.g. "baseline: ".
    Raises:
        DataError: a needed role has no column, or see `read_mapping`.
    """
    columns = list(columns)
    mapping = read_mapping(columns, column_mapping, roles, where)
    given = {role: column for column, role in mapping.items()}
    known = {**ROLES, **(names or {})}
    found = {}
    for role in roles:
        free = (name for name in known.get(role, (role,)) if name in columns and name not in mapping)
        if column := given.get(role) or next(free, None):
            found[role] = column
    if missing := [role for role in needed if role not in found]:
        raise DataError(
            f"{where}No column for {listed(missing)}. Columns found: {listed(columns)}. Map yours with "
            f"--column-mapping (column_mapping){f', {remedy}' if remedy else ''}."
        )
    return found


def check_dataset(ds: Any, where: str = "", *, empty: str | None = "Check the split and the filters.") -> None:
    """Raise a `DataError` unless `ds` is one split, held as a table; with `empty`, also if it has no rows."""
    import datasets

    if isinstance(ds, datasets.DatasetDict):
        example = f"ds[{next(iter(ds), '')!r}]"
        raise DataError(f"{where}Expected one split, got a DatasetDict with {listed(ds)}. Choose one, e.g. {example}.")
    if isinstance(ds, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        raise DataError(f"{where}All rows are needed at once, so streaming does not work. Load without streaming=True.")
    if not isinstance(ds, datasets.Dataset):
        raise DataError(f"{where}Expected a datasets.Dataset, got {type(ds).__name__}.")
    if empty is not None and not len(ds):
        raise DataError(f"{where}The dataset is empty. {empty}")


def read_ids(ds: Dataset, column: str) -> list[str | int]:
    """The ids of a column, one per row: texts or whole numbers.

    Raises:
        DataError: an id is missing or of another type (row named).
    """
    values = named_column(ds, column).to_pylist()
    for row, value in enumerate(values):
        if value is None:
            raise DataError(f"Column {column!r}, row {row}: missing. Fill it in or drop such rows.")
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            raise DataError(f"Column {column!r}, row {row}: {value!r} is not an id. Use texts or whole numbers.")
    return values


def read_languages(ds: Dataset, column: str) -> list[str]:
    """The ISO 639-1 code of each row; DataError for an unknown or missing language (row named)."""
    numbers, names = language_codes(named_column(ds, column), column)
    return np.asarray(names, dtype=object)[numbers].tolist() if len(numbers) else []


def language_codes(values: pa.Array, column: str, unknown: str | None = None) -> tuple[np.ndarray, list[str]]:
    """(n,) int32 codes into the list of ISO 639-1 codes; DataError for an unknown language (row named).

    A row with the text `unknown` gets the code "" in the list.
    """
    numbers, distinct = codes_of(values, column)
    known: dict[str, int] = {}
    lookup = []
    for i, value in enumerate(distinct.to_pylist()):
        code = normalise(value) if isinstance(value, str) else None
        if unknown is not None and value == unknown:
            code = ""
        elif code is None:
            code = known_code(value, f"Column {column!r}, row {int(np.argmax(numbers == i))}")
        lookup.append(known.setdefault(code, len(known)))
    return np.asarray(lookup, dtype=np.int32)[numbers], list(known)


def chunked_column(ds: Dataset, column: str) -> pa.ChunkedArray:
    """The column as Arrow, with the rows in the dataset's order (after selections and shuffles)."""
    if ds._indices is None:
        return ds.data.column(column)
    return ds.select_columns([column]).with_format("arrow")[:].column(column)


def arrow_column(ds: Dataset, column: str) -> pa.Array:
    """`chunked_column` as one Arrow array; nothing is copied if it is one chunk."""
    values = chunked_column(ds, column)
    values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        raise DataError(f"Column {column!r} is too large for one array. Convert texts to large_string.")
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def named_column(ds: Dataset, column: str) -> pa.Array:
    """`arrow_column` with the names of a ClassLabel instead of its numbers."""
    values, feature = arrow_column(ds, column), ds.features[column]
    if not hasattr(feature, "int2str"):
        return values
    return pa.array([None if v is None else feature.int2str(v) for v in values.to_pylist()], pa.string())


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
        raise DataError(f"Column {column!r}, row 0: holds {values.type}. Give one text or whole number per row.")
    if pa.types.is_dictionary(values.type):  # whose entries may be unused, equal or null
        values = values.dictionary_decode()
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"Column {column!r}, row {row}: missing. Fill it in or drop such rows.")
    encoded = values.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary


def last_contents(values: pa.Array, column: str) -> pa.Array:
    """Content of the last message of each row. Texts are returned unchanged; a missing or empty list gives null."""
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
    """The items of all lists, and the number of items in each row (0 for a missing list)."""
    if not (is_list(values.type) or pa.types.is_fixed_size_list(values.type)):
        raise DataError(f"Column {column!r} holds {values.type}; a list of responses per row was expected.")
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    return values.flatten(), lengths.astype(np.int64)


def matrix(
    values: pa.Array | pa.ChunkedArray,
    column: str,
    first_row: int = 0,
    width: int | None = None,
    dtype: type[np.floating] = np.float32,
) -> np.ndarray:
    """Lists of d numbers each as one (n, d) array; nothing is copied if they are one chunk of that type and length.

    Args:
        first_row: number of the first row, for messages.
        width: d, if it is known from earlier rows.
        dtype: type of the result.
    Raises:
        DataError: a row is missing or has another length, or a number is missing (the first such row is named).
    """
    chunks = [chunk for chunk in getattr(values, "chunks", [values]) if len(chunk)]
    if len(chunks) == 1:
        return _block(chunks[0], column, first_row, width).astype(dtype, copy=False)
    filled, out = 0, np.empty((0, 0), dtype)
    for chunk in chunks:
        block = _block(chunk, column, first_row + filled, out.shape[1] if filled else width)
        if not filled:
            out = np.empty((len(values), block.shape[1]), dtype)
        out[filled : filled + len(chunk)] = block
        filled += len(chunk)
    return out


def _block(chunk: pa.Array, column: str, offset: int, width: int | None) -> np.ndarray:
    """The rows of one chunk, which starts at row `offset`; `width` is that of the rows before."""
    if pa.types.is_fixed_size_list(chunk.type):
        lengths = np.full(len(chunk), chunk.type.list_size)
        lengths[chunk.is_null().to_numpy(zero_copy_only=False)] = -1
    elif is_list(chunk.type):
        lengths = pc.fill_null(pc.list_value_length(chunk), -1).to_numpy(zero_copy_only=False)
    else:
        raise DataError(f"Column {column!r} holds {chunk.type}, not lists of numbers. Drop it to have it computed.")
    kind = chunk.type.value_type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise DataError(f"Column {column!r}, row {offset}: lists of {kind}, not of numbers. Drop it to be computed.")
    width = int(lengths[0]) if width is None else width
    bad = np.flatnonzero((lengths != width) | (lengths < 1))
    if len(bad):
        row = offset + int(bad[0])
        raise DataError(f"Column {column!r}, row {row}: a vector of length {width} is missing or has another length.")
    flat = chunk.flatten()
    if flat.null_count:
        row = offset + int(np.argmax(flat.is_null())) // width
        raise DataError(f"Column {column!r}, row {row}: a number is missing.")
    return flat.to_numpy(zero_copy_only=False).reshape(len(chunk), width)


def numbers(ds: Dataset, column: str) -> np.ndarray:
    """A numeric column as a 1-D array; null becomes NaN in a float column.

    Raises:
        DataError: the column is not numeric, or an integer column has nulls (first row named).
    """
    return column_numbers(chunked_column(ds, column), column)


def column_numbers(values: pa.ChunkedArray, column: str, first_row: int = 0) -> np.ndarray:
    """`numbers` of the part of a column that starts at row `first_row`."""
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan, dtype=np.float32)
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise DataError(f"Column {column!r} holds {values.type}, not numbers. Drop it to have it computed.")
    if pa.types.is_integer(values.type) and values.null_count:
        row = first_row + int(np.flatnonzero(values.is_null().to_numpy())[0])
        raise DataError(f"Column {column!r}, row {row}: missing. Drop the column to have it computed.")
    return values.to_numpy()


def add_columns(ds: Dataset, columns: Mapping[str, Any]) -> Dataset:
    """`ds` with `columns` (arrays or lists, one value per row) added or replaced; NaN becomes null."""
    for name, values in columns.items():
        if name in ds.column_names:
            ds = ds.remove_columns(name)
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            values = pa.array(values, from_pandas=True)  # NaN becomes null
        ds = ds.add_column(name, values)
    return ds


def clean_clusters(clusters: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The given cluster ids, renumbered from 0 as int32; −1 for a row that has neither a score nor a cluster."""
    scores = checked_numbers(scores, "scores")
    if not isinstance(clusters, np.ndarray) or clusters.dtype.kind not in "iuf" or clusters.shape != scores.shape:
        clusters = checked_numbers(clusters, "cluster", len(scores), "scores")
    values = np.asarray(clusters, dtype=np.float64) if np.asarray(clusters).dtype.kind == "f" else np.asarray(clusters)
    bad = ~np.isfinite(values) | (values < 0) | (values != np.floor(values))
    worst = np.flatnonzero(bad & ~np.isnan(scores))
    if len(worst):
        raise DataError(
            f"Column 'cluster', row {worst[0]}: {values[worst[0]]} is not a whole number ≥ 0. Correct it, "
            "or drop the column to have clusters computed."
        )
    out = np.full(len(values), -1, dtype=np.int32)
    out[~bad] = np.unique(values[~bad], return_inverse=True)[1]
    return out


MADV_DONTNEED = 4
CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Memory in bytes that this process may still take: what is free (with files in the cache), and what its control
    group allows. `None` on systems other than Linux."""
    found = [
        _left(CGROUP, "memory.max", "memory.current", "file"),
        _left(CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
    ]
    with suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min((value for value in found if value is not None), default=None)


def release_mapped(files: Iterable[str]) -> None:
    """Release the pages of these read-only mapped files from the process's memory; they are read again when needed.

    Without it, a memory-mapped dataset that is read from end to end counts in full as memory of the process, although
    the system could take it back. Does nothing on systems other than Linux.
    """
    wanted = {str(Path(file).absolute()) for file in files}
    try:
        lines = Path("/proc/self/maps").read_text().splitlines() if wanted else []
    except OSError:
        return
    for line in lines:
        span, access, *_, path = line.split(maxsplit=5)
        if path in wanted and "w" not in access:
            begin, end = (int(address, 16) for address in span.split("-"))
            ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)


def _left(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    """What a control group may still take, in bytes."""
    try:
        cached = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used = int((folder / usage).read_text()) - int(cached[cache])
        return max(0, int((folder / limit).read_text()) - used)
    except (OSError, ValueError, KeyError):  # no such group, or "max"
        return None
