"""Questions of a classification task, read and checked from any dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.columns import arrow_column, check_dataset, find_roles, read_ids, read_languages
from hf_mlalign.data.languages import check_languages
from hf_mlalign.spontaneous.classification.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Questions:
    """The questions of a dataset, one entry per row.

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
    check_dataset(ds)
    own_names = {"answer": (task.answer,), **{field: (field,) for field in task.fields}}
    columns = find_roles(
        ds.column_names, (*task.fields, "answer", "id", "language"), column_mapping,
        needed=(*task.fields, "answer", "id"), names=own_names, where=f"task {task.name!r}: ",
        remedy="e.g. review=input,label=answer; the id of a question is the same in every language",
    )  # fmt: skip
    given = None if languages is None else check_languages(entries(languages))
    if "language" in columns:
        codes = read_languages(ds, columns["language"])
    elif given is not None and len(given) == 1:
        codes = given * len(ds)
    else:
        raise DataError("language: no such column. Add one, map one, or name the one language of these rows.")
    found = set(codes)
    wanted = found if given is None else set(given)
    if missing := sorted(wanted - found):
        raise DataError(f"languages: no rows in {listed(missing)}. Languages found: {listed(sorted(found))}.")
    ids = [str(value) for value in read_ids(ds, columns["id"])]
    values = {field: arrow_column(ds, columns[field]).to_pylist() for field in task.fields}
    answers = arrow_column(ds, columns["answer"]).to_pylist()
    if (names := getattr(ds.features[columns["answer"]], "names", None)) is not None:  # a ClassLabel
        answers = [names[v] if v is not None and 0 <= v < len(names) else None for v in answers]
    kept = [row for row, code in enumerate(codes) if code in wanted or code == task.gold_language]
    first: dict[tuple[str, str], int] = {}
    for row in kept:
        if first.setdefault((ids[row], codes[row]), row) != row:
            raise DataError(
                f"Column {columns['id']!r}, row {row}: question {ids[row]!r} in {codes[row]!r} is already in row "
                f"{first[ids[row], codes[row]]}. Keep one of them."
            )
    own = {row: _class(answers[row], task, codes[row], f"Column {columns['answer']!r}, row {row}") for row in kept}
    gold = {ids[row]: own[row] for row in kept if codes[row] == task.gold_language}
    rows = [row for row in kept if codes[row] in wanted]
    for field in task.fields:
        for row in rows:
            if not isinstance(value := values[field][row], str) or not value.strip():
                raise DataError(f"Column {columns[field]!r}, row {row}: {value!r} is not a text. Fill it in or drop "
                                "the row.")  # fmt: skip
    texts = [{field: values[field][row] for field in task.fields} for row in rows]
    classes = [gold.get(ids[row], own[row]) for row in rows]
    disagreeing = frozenset(i for i, row in enumerate(rows) if classes[i] != own[row])
    return Questions([ids[row] for row in rows], [codes[row] for row in rows], texts, classes, disagreeing)


def entries(names: str | Iterable[str]) -> list[str]:
    """The names as a list; a text is one name."""
    if not isinstance(names, (str, Iterable)):
        raise DataError(f"Expected a name or a list of names, found {names!r}.")
    return [names] if isinstance(names, str) else list(names)


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
    remedy = "Correct it, or add it to the task's labels."
    if value is None:
        remedy = "Drop rows without a label."
    elif str(value).lstrip("-").isdecimal() and task.codes is None:
        remedy = (f"Which label a number stands for is not known: name it in the task, `codes: [...]`, a number for "
                  f"each of {listed(task.classes)}; or give the labels as texts.")  # fmt: skip
    raise DataError(f"{where}: label {value!r} is unknown in {language!r}. Known: {listed(known)}. {remedy}")
