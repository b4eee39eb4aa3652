"""The pairs that people judge: read from any dataset, checked before a server starts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.languages import known_code
from hf_mlalign.data.layouts import message_turns
from hf_mlalign.data.roles import LANGUAGE_COLUMNS, check_split, choose_column

if TYPE_CHECKING:
    from datasets import Dataset

PROMPT_COLUMNS = ("prompt", "instruction", "question", "inputs")
PROMPT_ID_COLUMNS = ("prompt_id", "id")
ANSWER_COLUMNS = (("candidate", "baseline"), ("response_a", "response_b"), ("answer_a", "answer_b"),
                  ("chosen", "rejected"))  # fmt: skip
"""(candidate, baseline) columns that are recognised without a mapping."""
ROLES = ("prompt", "candidate", "baseline", "language", "prompt_id")

Turns = tuple[tuple[str, str], ...]


def digest(*parts: str) -> str:
    """32 hexadecimal digits that stand for these texts (BLAKE2b, 128 bits); a length before each keeps them apart."""
    hashed = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(data) + data)
    return hashed.hexdigest()


def prompt_turns(prompt: Any, column: str, row: int) -> Turns:
    """(role, text) of each turn; a plain text is one turn of the user. `column` and `row` are for messages.

    Raises:
        DataError: neither a text nor role/content (or from/value) messages, or nothing but white space.
    """
    turns = (("user", prompt),) if isinstance(prompt, str) else _messages(prompt, (column, row))
    if not any(text.strip() for _, text in turns):
        raise DataError(f"{_at((column, row))}: the prompt is missing or blank. Drop such rows.")
    return turns


def turns_digest(turns: Turns) -> str:
    """`digest` of a prompt."""
    return digest(json.dumps(turns, ensure_ascii=True))


@dataclass(frozen=True)
class Item:
    """One prompt with the two answers to compare.

    Attributes:
        language: ISO 639-1.
        turns: the prompt as (role, text) turns, the last of which the answers answer.
    """

    prompt_id: str
    language: str
    turns: Turns
    candidate: str
    baseline: str

    @cached_property
    def digests(self) -> dict[str, str]:
        """`digest` of prompt, candidate and baseline, under these names."""
        return {"prompt": turns_digest(self.turns), "candidate": digest(self.candidate),
                "baseline": digest(self.baseline)}  # fmt: skip

    @cached_property
    def key(self) -> str:
        """Names this item in the records; the same for the same language and texts."""
        return digest(self.language, *self.digests.values())


def read_pairs(ds: Dataset, column_mapping: Mapping[str, str] | None = None, language: str | None = None) -> list[Item]:
    """The items of a dataset; a row that says the same as an earlier one is left out.

    Args:
        ds: a prompt (text, or role/content messages) and two answers (texts, or messages of which the last counts) a
            row. Recognised without a mapping: the first of `PROMPT_COLUMNS`, one pair of `ANSWER_COLUMNS`, a language
            column, `prompt_id` or `id`. Without a prompt id, the prompt's digest is one.
        column_mapping: column → role, one of `ROLES`.
        language: of all rows, where there is no language column.
    Raises:
        DataError: a column is not found, or a row's prompt, answer or language cannot be used (row named).
    """
    check_split(ds)
    columns = _columns(ds.column_names, dict(column_mapping or {}), language)
    table = ds.select_columns(sorted({c for c in columns.values() if c}))
    items: dict[str, Item] = {}
    for row, values in enumerate(table):
        item = _item(values, columns, language, row)
        items.setdefault(item.key, item)
    if not items:
        raise DataError("pairs: there are no rows. Check the split and the filters.")
    return list(items.values())


def _columns(found: list[str], mapping: dict[str, str], language: str | None) -> dict[str, str | None]:
    unknown = [role for role in mapping.values() if role not in ROLES]
    if unknown:
        raise DataError(f"column_mapping has unknown roles: {listed(unknown)}. Roles: {listed(ROLES)}.")
    columns = {
        "prompt": choose_column(found, PROMPT_COLUMNS, "prompt", mapping),
        **_answer_columns(found, mapping),
        "language": choose_column(found, LANGUAGE_COLUMNS, "language", mapping),
        "prompt_id": choose_column(found, PROMPT_ID_COLUMNS, "prompt_id", mapping),
    }
    if columns["prompt"] is None:
        raise DataError(f"pairs: no prompt among the columns {listed(found)}. Map it: --column-mapping yours=prompt.")
    if columns["language"] is None and language is None:
        raise DataError(
            f"pairs: no language among the columns {listed(found)}. Map it (yours=language), or name the language of "
            "all rows with --language de."
        )
    return columns


def _answer_columns(found: list[str], mapping: dict[str, str]) -> dict[str, str | None]:
    mapped = {role: choose_column(found, (), role, mapping) for role in ("candidate", "baseline")}
    if any(mapped.values()):
        if not all(mapped.values()):
            raise DataError("column_mapping: map both answers: yours=candidate,other=baseline.")
        return mapped
    pairs = [pair for pair in ANSWER_COLUMNS if set(pair) <= set(found) - mapping.keys()]
    if len(pairs) != 1:
        known = "; ".join(map("/".join, pairs or ANSWER_COLUMNS))
        why = "several pairs of answers" if pairs else "no pair of answers"
        raise DataError(
            f"pairs: {why} among the columns {listed(found)} ({'found' if pairs else 'known'}: {known}). "
            "Say which: --column-mapping yours=candidate,other=baseline."
        )
    return dict(zip(("candidate", "baseline"), pairs[0]))


def _item(values: Mapping[str, Any], columns: Mapping[str, str | None], language: str | None, row: int) -> Item:
    def where(role: str) -> tuple[str, int]:
        return columns[role], row

    turns = prompt_turns(values[columns["prompt"]], *where("prompt"))
    answers = [_answer(values[columns[role]], where(role)) for role in ("candidate", "baseline")]
    if columns["language"]:
        code = known_code(values[columns["language"]], _at(where("language")))
    else:
        code = known_code(language, "language")
    prompt_id = values[columns["prompt_id"]] if columns["prompt_id"] else turns_digest(turns)
    if prompt_id is None:
        raise DataError(f"{_at(where('prompt_id'))}: missing. Fill it in or drop the column.")
    return Item(str(prompt_id), code, turns, *answers)


def _answer(value: Any, where: tuple[str, int]) -> str:
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, Sequence) and not value):
        raise DataError(f"{_at(where)}: the answer is missing. Drop such rows, or give an empty text.")
    return _messages(value, where)[-1][1]


def _messages(value: Any, where: tuple[str, int]) -> Turns:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise DataError(f"{_at(where)}: expected a text or a list of messages, found {type(value).__name__}.")
    turns = tuple(message_turns(value, *where))
    empty = next((i for i, (_, text) in enumerate(turns) if text is None), None)
    if empty is not None:
        raise DataError(f"{_at(where)}: message {empty} has no text. Keep messages with text only.")
    return turns


def _at(where: tuple[str, int]) -> str:
    return f"Column {where[0]!r}, row {where[1]}"
