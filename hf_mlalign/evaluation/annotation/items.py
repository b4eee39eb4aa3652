"""The pairs that people judge: read from any dataset, checked before a server starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.languages import known_code
from hf_mlalign.evaluation.judges.base import Prompt, check_prompt
from hf_mlalign.evaluation.judges.run import answer_columns, read_answer_pairs

if TYPE_CHECKING:
    from datasets import Dataset

Turns = tuple[tuple[str, str], ...]


def digest(*parts: str) -> str:
    """32 hexadecimal digits that stand for these texts (BLAKE2b, 128 bits); a length before each keeps them apart."""
    hashed = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(data) + data)
    return hashed.hexdigest()


def prompt_turns(prompt: Prompt, where: str) -> Turns:
    """(role, text) of each turn; a plain text is one turn of the user.

    Raises:
        DataError: see `hf_mlalign.evaluation.judges.base.check_prompt`; the message begins with `where`.
    """
    return tuple((turn["role"], turn["content"]) for turn in check_prompt(prompt, where))


def turns_digest(turns: Turns) -> str:
    """`digest` of a prompt."""
    return digest(json.dumps(turns, ensure_ascii=True))


@dataclass(frozen=True)
class PairItem:
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


def read_items(
    ds: Dataset, column_mapping: Mapping[str, str] | None = None, language: str | None = None
) -> list[PairItem]:
    """The items of a dataset; a row that repeats an earlier one is left out.

    Args:
        ds: see `hf_mlalign.evaluation.judges.run.read_answer_pairs`; every row needs both answers and a language.
            Without a prompt id, the prompt's digest is one.
        column_mapping: your column → role.
        language: of all rows, where there is no language column.
    Raises:
        DataError: a column is not found, two pairs of answers are, or a row's prompt, answer or language cannot be used
            (row named).
    """
    table = read_answer_pairs(ds, column_mapping)
    pairs = answer_columns(ds.column_names, column_mapping)
    if len(pairs) > 1:
        raise DataError(f"pairs: several pairs of answers: {'; '.join(map('/'.join, pairs))}. Say which, e.g. "
                        "--column-mapping yours=candidate,other=baseline.")  # fmt: skip
    if table.languages is None and language is None:
        raise DataError(f"pairs: no language among the columns {listed(ds.column_names)}. Map it (yours=language), or "
                        "name the language of all rows with --language de.")  # fmt: skip
    codes = table.languages or [known_code(language, "language")] * len(table)
    items: dict[str, PairItem] = {}
    for row, (prompt, *answers) in enumerate(zip(table.prompts, table.candidates, table.baselines, strict=True)):
        if None in answers:
            column = table.columns[("candidate", "baseline")[answers.index(None)]]
            raise DataError(f"Column {column!r}, row {row}: the answer is missing. Drop such rows, or give an empty "
                            "text.")  # fmt: skip
        turns = prompt_turns(prompt, f"Column {table.columns['prompt']!r}, row {row}")
        prompt_id = turns_digest(turns) if table.ids is None else str(table.ids[row])
        item = PairItem(prompt_id, codes[row], turns, *answers)
        items.setdefault(item.key, item)
    return list(items.values())
