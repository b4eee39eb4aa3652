"""Reading a table of parallel prompts: id, language, prompt, answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import check_whole
from hf_mlalign.data.columns import check_dataset, find_roles, is_text, named_column, read_ids, read_languages
from hf_mlalign.data.languages import check_languages, known_code

if TYPE_CHECKING:
    from datasets import Dataset

COLUMN_ROLES = ("id", "language", "prompt", "answer", "english_answer")


@dataclass(frozen=True)
class ParallelPrompts:
    """Prompts with one id in all their languages.

    Attributes:
        ids: texts or whole numbers, equal across languages.
        languages: ISO 639-1 codes.
        prompts: texts.
        answers: by language, one entry per row, None where a row has no answer in that language; empty if the table has
            no answers.
        without_english: how many rows of other languages have no English answer.
    """

    ids: list
    languages: list[str]
    prompts: list[str]
    answers: dict[str, list[str | None]]
    without_english: int


def read_parallel(
    ds: Dataset,
    column_mapping: Mapping[str, str] | None = None,
    languages: Sequence[str] | None = None,
    limit: int | None = None,
    english: str = "en",
) -> ParallelPrompts:
    """Read a table with one row per prompt and language. The English answer is the one of the English row with the same
    id, unless there is a column for it.

    Args:
        ds: columns for the roles id, language, prompt and, for the logit lens, answer and english_answer.
        column_mapping: your column → role.
        languages: keep only these (and English).
        limit: keep only this many ids, in their order.
        english: the language to compare with.
    Raises:
        DataError: a column or a value is missing, an id occurs twice in a language, or nothing is left.
    """
    check_dataset(ds)
    if limit is not None:
        check_whole(limit, "limit")
    english = known_code(english, "english")
    found = find_roles(ds.column_names, COLUMN_ROLES, column_mapping, needed=("id", "language", "prompt"),
                       remedy="e.g. question=prompt")  # fmt: skip
    ids, codes = read_ids(ds, found["id"]), read_languages(ds, found["language"])
    first_of: dict = {}
    for row, key in enumerate(zip(codes, ids, strict=True)):
        if first_of.setdefault(key, row) != row:
            raise DataError(f"Column {found['id']!r}, row {row}: {key[1]!r} in {key[0]!r} is already in row "
                            f"{first_of[key]}. Keep one row per id and language.")  # fmt: skip
    wanted = {*check_languages(languages), english} if languages else set(codes)
    allowed = set(list(dict.fromkeys(ids))[:limit])
    kept = [i for i, code in enumerate(codes) if code in wanted and ids[i] in allowed]
    if english not in {codes[i] for i in kept}:
        raise DataError(f"Column {found['language']!r}: no {english!r} row is left to compare with. Languages found: "
                        f"{listed(sorted(set(codes)))}.")  # fmt: skip
    prompts = _texts(ds, found["prompt"])
    answers: dict[str, list] = {}
    if "answer" in found:
        own = _texts(ds, found["answer"])
        blank = [i for i in kept if not (own[i] or "").strip()]
        if blank:
            raise DataError(f"Column {found['answer']!r}, row {blank[0]}: no answer. Fill it in or drop the row.")
        given = _texts(ds, found["english_answer"]) if "english_answer" in found else [None] * len(own)
        by_id = {ids[i]: own[i] for i in range(len(own)) if codes[i] == english}
        answers = {code: [None] * len(kept) for code in dict.fromkeys(codes[i] for i in kept)}
        for at, i in enumerate(kept):
            answers[english][at] = (given[i] or "").strip() or by_id.get(ids[i])
            answers[codes[i]][at] = own[i]
    without = sum(answer is None for answer in answers.get(english, ()))
    taken = ([values[i] for i in kept] for values in (ids, codes, prompts))
    return ParallelPrompts(*taken, answers, without)


def _texts(ds: Dataset, column: str) -> list[str | None]:
    values = named_column(ds, column)
    if not is_text(values.type):
        raise DataError(f"Column {column!r} holds {values.type}, not texts. Map another column to this role.")
    return values.to_pylist()
