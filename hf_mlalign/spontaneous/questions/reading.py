"""Parallel questions from tables in long form, wide form or pairs form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.arrow import arrow_column, is_text, language_codes, named_column
from hf_mlalign.data.languages import known_code, normalise
from hf_mlalign.data.layouts import clean_text
from hf_mlalign.data.roles import choose_column

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

PIVOT = "en"
FORMS = ("auto", "long", "wide", "pairs")
ROLES: dict[str, tuple[str, ...]] = {
    "id": ("question_id", "prompt_id", "id"),
    "task": ("task",),
    "language": ("language", "lang", "language_code", "locale"),
    "question": ("question", "prompt", "instruction", "query"),
    "source": ("source",),
    "target": ("target",),
    "source_language": ("source_language",),
    "target_language": ("target_language",),
}
"""Role → column names that are recognised, in this order."""
ANSWER_COLUMNS = ("answer", "answers", "gold", "label", "response", "output")
AUTHORS_LINE = r"\n?[ \t]*Translate the input from [^\n:]+ to [^\n:]+:\s*\Z"
"""The instruction that the authors' data carries at the end of each question."""
_WORD = re.compile(r"\s+")

Key = tuple[str, str]


@dataclass(slots=True)
class Question:
    """One question in one language beside its English text; `None` where that text is not there."""

    id: str
    task: str
    language: str
    text: str | None
    english: str | None
    golds: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.task, self.id


@dataclass
class Columns:
    """Which column plays which role in a table, and the form of the table."""

    form: str
    roles: dict[str, str]
    languages: dict[str, str] = field(default_factory=dict)
    answers: tuple[str, ...] = ()


def same_text(text: str) -> str:
    """What two texts must share to count as the same question: all but case and white space."""
    return _WORD.sub(" ", text).strip().casefold()


def find_columns(
    ds: Dataset, column_mapping: Mapping[str, str] | None = None, form: str = "auto", fixed: Sequence[str] = ()
) -> Columns:
    """The form of a table and its columns.

    Args:
        ds: long form (id, language, question), wide form (a column a language, named by its code or English name) or
            pairs form (source, target, source_language, target_language). Beside them an id, a task and answers.
        column_mapping: your column → a role of `ROLES`, "answer" (several columns may have it), or a language.
        form: "long", "wide" or "pairs" where a table could be read in two ways.
        fixed: roles whose value is given otherwise (languages of pairs), so that no column is needed.
    Raises:
        DataError: no form fits, or the mapping names something unknown.
    """
    import datasets

    if not isinstance(ds, datasets.Dataset):
        raise DataError(f"Expected one split as a datasets.Dataset, got {type(ds).__name__}. Choose a split.")
    if form not in FORMS:
        raise DataError(f"form: unknown {form!r}. Known: {listed(FORMS)}.")
    names, mapping = ds.column_names, dict(column_mapping or {})
    languages = _language_columns(ds, mapping)
    roles = {role: choose_column(names, known, role, mapping) for role, known in ROLES.items()}
    roles = {role: column for role, column in roles.items() if column}
    mapped = {role: column for column, role in mapping.items() if role in ROLES}
    answers = tuple(c for c, role in mapping.items() if role == "answer") or tuple(
        c for c in ANSWER_COLUMNS if c in names and c not in roles.values()
    )
    fits = {
        "pairs": {"source", "target", "source_language", "target_language"} <= {*roles, *fixed},
        "long": {"id", "language", "question"} <= roles.keys(),
        "wide": PIVOT in languages and len(languages) > 1,
    }
    if "source" in mapped and "target" in mapped:
        form = "pairs" if form == "auto" else form
    chosen = next((name for name, fit in fits.items() if fit), None) if form == "auto" else form
    if chosen is None or not fits[chosen]:
        raise DataError(
            f"{'No' if form == 'auto' else f'No {form}'} form of parallel questions in the columns found: "
            f"{listed(names)}. Needed: id, language and question (long form); a column a language, en among them (wide "
            "form); or source, target, source_language and target_language (pairs). Map yours with column_mapping, "
            'e.g. {"pregunta": "es", "question": "en"} or {"text": "question", "lang": "language"}.'
        )
    return Columns(chosen, roles, languages if chosen == "wide" else {}, answers)


def read_questions(ds: Dataset, columns: Columns, languages_of_pairs: tuple[str | None, str | None]) -> list[Question]:
    """Every question of the table beside its English text, in the order of the table.

    Raises:
        DataError: a value that is no text, an unknown language, or a question that is there twice in one language.
    """
    n = len(ds)
    ids = [str(v) for v in _ids(ds, columns.roles["id"])] if "id" in columns.roles else [str(i) for i in range(n)]
    tasks = texts_of(ds, columns.roles["task"]) if "task" in columns.roles else [""] * n
    tasks = [task or "" for task in tasks]
    golds = _golds(ds, columns.answers)
    if columns.form == "pairs":
        return _read_pairs(ds, columns, ids, tasks, golds, languages_of_pairs)
    if columns.form == "wide":
        return _read_wide(ds, columns, ids, tasks, golds)
    return _read_long(ds, columns, ids, tasks, golds)


def texts_of(ds: Dataset, column: str) -> list[str | None]:
    """The texts of a column, lone surrogates replaced; DataError for another type."""
    import pyarrow as pa

    values = named_column(ds, column)
    if not (is_text(values.type) or pa.types.is_null(values.type)):
        raise DataError(f"Column {column!r}, row 0: holds {values.type}, not text. Map another column, or convert it.")
    return [None if v is None else clean_text(v) for v in values.to_pylist()]


def _read_long(ds, columns: Columns, ids, tasks, golds) -> list[Question]:
    codes, names = language_codes(arrow_column(ds, columns.roles["language"]), columns.roles["language"])
    texts = texts_of(ds, columns.roles["question"])
    first: dict[tuple, int] = {}
    for row, key in enumerate(zip(tasks, ids, codes.tolist(), strict=True)):
        if key in first:
            raise DataError(
                f"Column {columns.roles['id']!r}, row {row}: question {key[1]!r} in {names[key[2]]!r} is already in "
                f"row {first[key]}. Give every question an id of its own, or add a task column."
            )
        first[key] = row
    pivot = names.index(PIVOT) if PIVOT in names else -1
    out = []
    for (task, question, code), row in first.items():
        if code != pivot:
            at = first.get((task, question, pivot))
            english, gold = (None, golds[row]) if at is None else (texts[at], golds[row] + golds[at])
            out.append(Question(question, task, names[code], texts[row], english, gold))
        elif len(names) == 1:
            out.append(Question(question, task, PIVOT, None, texts[row], golds[row]))
    return out


def _read_wide(ds, columns: Columns, ids, tasks, golds) -> list[Question]:
    texts = {code: texts_of(ds, column) for code, column in columns.languages.items()}
    english = texts.pop(PIVOT)
    _check_ids(ids, tasks, [""] * len(ids), columns)
    return [
        Question(ids[row], tasks[row], code, texts[code][row], english[row], golds[row])
        for row in range(len(ids))
        for code in texts
    ]


def _read_pairs(ds, columns: Columns, ids, tasks, golds, fixed) -> list[Question]:
    sides = [_side_languages(ds, columns, role, code) for role, code in zip(_SIDES, fixed, strict=True)]
    texts = [texts_of(ds, columns.roles[role]) for role in ("source", "target")]
    out = []
    for row in range(len(ids)):
        source, target = sides[0][row], sides[1][row]
        if (source == PIVOT) == (target == PIVOT):
            raise DataError(f"Column source_language, row {row}: {source!r} → {target!r}. One side must be English.")
        foreign = 1 if source == PIVOT else 0
        out.append(Question(ids[row], tasks[row], sides[foreign][row], texts[foreign][row], texts[1 - foreign][row],
                            golds[row]))  # fmt: skip
    _check_ids(ids, tasks, [q.language for q in out], columns)
    return out


_SIDES = ("source_language", "target_language")


def _side_languages(ds, columns: Columns, role: str, fixed: str | None) -> list[str]:
    if fixed is not None:
        return [known_code(fixed, role)] * len(ds)
    codes, names = language_codes(arrow_column(ds, columns.roles[role]), columns.roles[role])
    return [names[code] for code in codes.tolist()]


def _check_ids(ids: list[str], tasks: list[str], languages: list[str], columns: Columns) -> None:
    first: dict[tuple, int] = {}
    for row, key in enumerate(zip(tasks, ids, languages, strict=True)):
        if first.setdefault(key, row) != row:
            raise DataError(
                f"Column {columns.roles.get('id', 'id')!r}, row {row}: question {key[1]!r} is already in row "
                f"{first[key]}. Give every question an id of its own, or add a task column."
            )


def _ids(ds: Dataset, column: str) -> list[Any]:
    values = arrow_column(ds, column).to_pylist()
    for row, value in enumerate(values):
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            raise DataError(f"Column {column!r}, row {row}: {value!r} is no id. Use texts or whole numbers.")
    return values


def _golds(ds: Dataset, columns: Sequence[str]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()] * len(ds)
    for column in columns:
        for row, value in enumerate(named_column(ds, column).to_pylist()):
            values = value if isinstance(value, (list, tuple)) else [value]
            found[row] += tuple(str(v) for v in values if v is not None and not isinstance(v, dict))
    return found


def _language_columns(ds: Dataset, mapping: Mapping[str, str]) -> dict[str, str]:
    """ISO 639-1 → column: mapped ones, else those named by a code or an English name (not "id", the id)."""
    roles = {*ROLES, "answer"}
    found: dict[str, str] = {}
    for column, role in mapping.items():
        if role not in roles:
            if (code := normalise(role)) is None:
                raise DataError(f"column_mapping: {role!r} is neither a role ({listed(sorted(roles))}) nor a language.")
            if column not in ds.column_names:
                raise DataError(f"column_mapping names a column that is not there: {column}. "
                                f"Found: {listed(ds.column_names)}.")  # fmt: skip
            if code in found:
                raise DataError(f"column_mapping maps {found[code]!r} and {column!r} to {code!r}. Keep one of them.")
            found[code] = column
    if found:
        return found
    for column in ds.column_names:
        code = normalise(column) if column != "id" and column not in mapping else None
        if code is not None and is_text(_type(ds, column)):
            found.setdefault(code, column)
    return found


def _type(ds: Dataset, column: str):
    return ds.data.schema.field(column).type


def ranks(values: Sequence[str], seed: int) -> np.ndarray:
    """(n,) uint64 numbers that depend on each value and the seed only: an order of their own for sampling."""
    import hashlib

    import numpy as np

    start = hashlib.blake2b(str(seed).encode(), digest_size=8)
    out = np.empty(len(values), np.uint64)
    for i, value in enumerate(values):
        digest = start.copy()
        digest.update(value.encode())
        out[i] = int.from_bytes(digest.digest(), "big")
    return out
