"""Which column has which role: the table of names for all jobs, and the readers of columns, ids and languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.arrow import codes_of, named_column
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
