"""Questions of a classification task, read and checked from any dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.arrow import arrow_column
from hf_mlalign.data.languages import known_code
from hf_mlalign.data.roles import LANGUAGE_COLUMNS, choose_column, language_codes
from hf_mlalign.spontaneous.classification.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset

ID_COLUMNS = ("id", "question_id", "prompt_id")


@dataclass(frozen=True)
class Questions:
    """The questions of a dataset, one entry a row.

    Attributes:
        ids: what is the same question has the same id in every language.
        languages: ISO 639-1 codes.
        texts: field name → text.
        classes: number of the right label.
        disagreeing: rows whose own label differs from the one in the task's gold language.
    """

    ids: list[str]
    languages: list[str]
    texts: list[dict[str, str]]
    classes: list[int]
    disagreeing: frozenset[int]

    @cached_property
    def by_language(self) -> dict[str, dict[str, int]]:
        """Language → id → row, in order of appearance."""
        found: dict[str, dict[str, int]] = {}
        for row, (language, name) in enumerate(zip(self.languages, self.ids)):
            found.setdefault(language, {})[name] = row
        return found

    @cached_property
    def order(self) -> list[str]:
        """Distinct ids in order of appearance."""
        return list(dict.fromkeys(self.ids))


def read_questions(
    ds: Dataset,
    task: Task,
    languages: Sequence[str] | None = None,
    column_mapping: Mapping[str, str] | None = None,
) -> Questions:
    """Read the rows of `languages` (default: all), plus the rows of the task's gold language for their labels only.

    Args:
        column_mapping: your column → role: a field of the task, "answer", "id" or "language".
    Raises:
        DataError: a column or language is missing, a text blank, a label unknown, a question there twice (row named).
    """
    columns = _columns(ds, task, dict(column_mapping or {}))
    languages = None if languages is None else entries(languages)
    codes = _languages(ds, columns.get("language"), languages)
    wanted = _wanted(codes, languages)
    ids = [None if value is None else str(value) for value in arrow_column(ds, columns["id"]).to_pylist()]
    values = {field: arrow_column(ds, columns[field]).to_pylist() for field in task.fields}
    answers = _answers(ds, columns["answer"])
    kept = [row for row, code in enumerate(codes) if code in wanted or code == task.gold_language]
    _check_rows(kept, ids, codes, columns["id"])
    own = {row: _class(answers[row], task, codes[row], f"Column {columns['answer']!r}, row {row}") for row in kept}
    gold = {ids[row]: own[row] for row in kept if codes[row] == task.gold_language}
    rows = [row for row in kept if codes[row] in wanted]
    texts = [{field: _text(values[field][row], columns[field], row) for field in task.fields} for row in rows]
    classes = [gold.get(ids[row], own[row]) for row in rows]
    disagreeing = frozenset(i for i, row in enumerate(rows) if classes[i] != own[row])
    return Questions([ids[row] for row in rows], [codes[row] for row in rows], texts, classes, disagreeing)


def entries(names: str | Iterable[str]) -> list[str]:
    """The names as a list; a text is one name."""
    if not isinstance(names, (str, Iterable)):
        raise DataError(f"Expected a name or a list of names, found {names!r}.")
    return [names] if isinstance(names, str) else list(names)


def _columns(ds, task: Task, mapping: dict[str, str]) -> dict[str, str]:
    roles = (*task.fields, "answer", "id", "language")
    unknown = [role for role in mapping.values() if role not in roles]
    if unknown:
        raise DataError(f"column_mapping has unknown roles: {listed(unknown)}. Roles: {listed(roles)}.")
    names = {"answer": (task.answer,), "id": ID_COLUMNS, "language": LANGUAGE_COLUMNS}
    found = {role: choose_column(ds.column_names, names.get(role, (role,)), role, mapping) for role in roles}
    missing = [role for role in roles if found[role] is None and role != "language"]
    if missing:
        hint = " `id` numbers a question, the same in every language." if "id" in missing else ""
        raise DataError(
            f"task {task.name!r}: no column for {listed(missing)}. Columns found: {listed(ds.column_names)}. "
            f"Name them with column_mapping={{column: role}}.{hint}"
        )
    return {role: column for role, column in found.items() if column is not None}


def _languages(ds, column: str | None, languages: Sequence[str] | None) -> list[str]:
    if column is None:
        if languages is None or len(languages) != 1:
            raise DataError("language: no such column. Add one, map one, or name the one language of these rows.")
        return [known_code(languages[0], "languages, row 0")] * len(ds)
    numbers, distinct = language_codes(arrow_column(ds, column), column)
    return [distinct[number] for number in numbers.tolist()]


def _wanted(codes: list[str], languages: Sequence[str] | None) -> set[str]:
    found = set(codes)
    if not found:
        raise DataError("ds has no rows.")
    if languages is None:
        return found
    wanted = {known_code(code, f"languages, row {i}") for i, code in enumerate(languages)}
    missing = sorted(wanted - found)
    if missing:
        raise DataError(f"languages: no rows in {listed(missing)}. Languages found: {listed(sorted(found))}.")
    return wanted


def _check_rows(kept: list[int], ids: list, codes: list[str], column: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    for row in kept:
        if ids[row] is None:
            raise DataError(f"Column {column!r}, row {row}: missing. Number the questions, alike in every language.")
        first = seen.setdefault((ids[row], codes[row]), row)
        if first != row:
            raise DataError(f"Column {column!r}, row {row}: question {ids[row]!r} in {codes[row]!r} is already in row "
                            f"{first}. Keep one of them.")  # fmt: skip


def _answers(ds, column: str) -> list:
    """The column's values; of a ClassLabel the names."""
    values, names = arrow_column(ds, column).to_pylist(), getattr(ds.features[column], "names", None)
    if names is None:
        return values
    return [names[value] if value is not None and 0 <= value < len(names) else None for value in values]


def _class(value, task: Task, language: str, where: str) -> int:
    """Number of a label given as text in the row's language or in English, or as one of the task's codes."""
    codes = [str(code) for code in task.codes or ()]
    if isinstance(value, int) and not isinstance(value, bool):
        if str(value) in codes:
            return codes.index(str(value))
    elif isinstance(value, str):
        for labels in (task.labels.get(language, ()), task.classes):
            folded = [label.casefold() for label in labels]
            for texts, text in ((labels, value.strip()), (folded, value.strip().casefold()), (codes, value.strip())):
                if text in texts:
                    return texts.index(text)
    known = [*dict.fromkeys((*task.labels.get(language, ()), *task.classes)), *codes]
    raise DataError(f"{where}: label {value!r} is unknown in {language!r}. Known: {listed(known)}. "
                    f"{_remedy(value, task)}")  # fmt: skip


def _remedy(value, task: Task) -> str:
    if value is None:
        return "Drop rows without a label."
    if str(value).lstrip("-").isdecimal() and task.codes is None:
        return (f"Which label a number stands for is not known: name it in the task, `codes: [...]`, a number for each "
                f"of {listed(task.classes)}; or give the labels as texts.")  # fmt: skip
    return "Correct it, or add it to the task's labels."


def _text(value, column: str, row: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"Column {column!r}, row {row}: {value!r} is no text. Fill it in or drop the row.")
    return value
