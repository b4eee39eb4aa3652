"""Parallel questions from tables in long form, wide form or pairs form."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import clean_text
from hf_mlalign.data.columns import (
    ROLES,
    SYNONYMS,
    check_dataset,
    find_roles,
    is_text,
    named_column,
    read_ids,
    read_languages,
)
from hf_mlalign.data.languages import known_code, normalise

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

PIVOT = "en"
SIDES = ("source_language", "target_language")
COLUMN_ROLES = ("id", "task", "language", "prompt", "source", "target", *SIDES)
ANSWER_COLUMNS = ("answer", "answers", "gold", "label", "response", "output")
_WORD = re.compile(r"\s+")

Key = tuple[str, str]


@dataclass(slots=True)
class ParallelQuestion:
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
        ds: long form (id, language, question), wide form (a column per language, named by its code or English name) or
            pairs form (source, target, source_language, target_language). Beside them an id, a task and answers.
        column_mapping: your column → a role of `COLUMN_ROLES`, "answer" (several columns may have it), or a language.
        form: "long", "wide" or "pairs" where a table could be read in two ways.
        fixed: roles whose value is given otherwise (languages of pairs), so that no column is needed.
    Raises:
        DataError: no form fits, or the mapping names something unknown.
    """
    check_dataset(ds, empty=None)
    names, mapping = ds.column_names, dict(column_mapping or {})
    if absent := [column for column in mapping if column not in names]:
        raise DataError(f"column_mapping names columns that are not there: {listed(absent)}. Found: {listed(names)}.")
    known = {column: role for column, role in mapping.items() if SYNONYMS.get(role, role) in COLUMN_ROLES}
    answers = tuple(column for column, role in mapping.items() if role == "answer")
    languages: dict[str, str] = {}  # ISO 639-1 → column
    for column in (column for column in mapping if column not in known and column not in answers):
        if (code := normalise(mapping[column])) is None:
            roles = listed(sorted({*COLUMN_ROLES, "answer"}))
            raise DataError(f"column_mapping: {mapping[column]!r} is neither a role ({roles}) nor a language.")
        if code in languages:
            raise DataError(f"column_mapping maps {languages[code]!r} and {column!r} to {code!r}. Keep one of them.")
        languages[code] = column
    free = [name for name in names if name in known or name not in mapping]
    roles = find_roles(free, COLUMN_ROLES, known)
    answers = answers or tuple(c for c in ANSWER_COLUMNS if c in names and c not in roles.values())
    if not languages:  # none is mapped: columns named by a code or an English name
        types, role_names = ds.data.schema, {*ANSWER_COLUMNS, *itertools.chain(*ROLES.values())}
        for column in free:
            code = normalise(column) if column not in known and column not in role_names else None
            if code is not None and is_text(types.field(column).type):
                languages.setdefault(code, column)
    fits = {
        "pairs": {"source", "target", *SIDES} <= {*roles, *fixed},
        "long": {"id", "language", "prompt"} <= roles.keys(),
        "wide": PIVOT in languages and len(languages) > 1,
    }
    if form == "auto" and {"source", "target"} <= set(known.values()):
        form = "pairs"
    chosen = next((name for name, fit in fits.items() if fit), None) if form == "auto" else form
    if chosen is None or not fits[chosen]:
        raise DataError(
            f"{'No' if form == 'auto' else f'No {form}'} form of parallel questions in the columns found: "
            f"{listed(names)}. Needed: id, language and question (long form); a column per language, en among them "
            "(wide form); or source, target, source_language and target_language (pairs). Name yours with "
            "--column-mapping (column_mapping), e.g. pregunta=es,question=en or text=question,lang=language."
        )
    return Columns(chosen, roles, languages if chosen == "wide" else {}, answers)


def read_parallel_questions(
    ds: Dataset, columns: Columns, languages_of_pairs: tuple[str | None, str | None]
) -> list[ParallelQuestion]:
    """Every question of the table beside its English text, in the order of the table.

    Raises:
        DataError: a value that is not a text, an unknown language, or a question that is there twice in one language.
    """
    n, roles = len(ds), columns.roles
    ids = [str(value) for value in read_ids(ds, roles["id"])] if "id" in roles else [str(i) for i in range(n)]
    tasks = [task or "" for task in texts_of(ds, roles["task"])] if "task" in roles else [""] * n
    golds: list[tuple[str, ...]] = [()] * n
    for column in columns.answers:
        for row, value in enumerate(named_column(ds, column).to_pylist()):
            values = value if isinstance(value, (list, tuple)) else [value]
            golds[row] += tuple(str(v) for v in values if v is not None and not isinstance(v, dict))
    out = []
    if columns.form == "pairs":
        sides = [read_languages(ds, roles[role]) if code is None else [known_code(code, role)] * n
                 for role, code in zip(SIDES, languages_of_pairs, strict=True)]  # fmt: skip
        both = [texts_of(ds, roles[role]) for role in ("source", "target")]
        for row, (source, target) in enumerate(zip(*sides, strict=True)):
            if (source == PIVOT) == (target == PIVOT):
                raise DataError(f"Column source_language, row {row}: {source!r} → {target!r}. One side must be "
                                "English.")  # fmt: skip
            foreign = 1 if source == PIVOT else 0
            text, other = both[foreign][row], both[1 - foreign][row]
            out.append(ParallelQuestion(ids[row], tasks[row], sides[foreign][row], text, other, golds[row]))
        _check_once(((q.task, q.id, q.language) for q in out), columns)
        return out
    if columns.form == "long":
        codes, prompts = read_languages(ds, roles["language"]), texts_of(ds, roles["prompt"])
        first = _check_once(zip(tasks, ids, codes, strict=True), columns)
        only_english = set(codes) == {PIVOT}
        for (task, question, code), row in first.items():
            if code != PIVOT:
                at = first.get((task, question, PIVOT))
                other, gold = (None, golds[row]) if at is None else (prompts[at], golds[row] + golds[at])
                out.append(ParallelQuestion(question, task, code, prompts[row], other, gold))
            elif only_english:
                out.append(ParallelQuestion(question, task, PIVOT, None, prompts[row], golds[row]))
        return out
    texts = {code: texts_of(ds, column) for code, column in columns.languages.items()}
    english = texts.pop(PIVOT)
    _check_once(zip(tasks, ids, [""] * n, strict=True), columns)
    return [ParallelQuestion(ids[row], tasks[row], code, texts[code][row], english[row], golds[row])
            for row in range(n) for code in texts]  # fmt: skip


def texts_of(ds: Dataset, column: str) -> list[str | None]:
    """The texts of a column, lone surrogates replaced; DataError for another type."""
    import pyarrow as pa

    values = named_column(ds, column)
    if not (is_text(values.type) or pa.types.is_null(values.type)):
        raise DataError(f"Column {column!r}, row 0: holds {values.type}, not text. Map another column, or convert it.")
    return [None if v is None else clean_text(v) for v in values.to_pylist()]


def _check_once(keys: Iterable[tuple[str, str, str]], columns: Columns) -> dict[tuple[str, str, str], int]:
    """(task, id, language) → row; DataError where one is there twice."""
    first: dict[tuple[str, str, str], int] = {}
    for row, key in enumerate(keys):
        if first.setdefault(key, row) != row:
            where = f" in {key[2]!r}" if key[2] else ""
            raise DataError(
                f"Column {columns.roles.get('id', 'id')!r}, row {row}: question {key[1]!r}{where} is already in row "
                f"{first[key]}. Give every question an id of its own, or add a task column."
            )
    return first


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
