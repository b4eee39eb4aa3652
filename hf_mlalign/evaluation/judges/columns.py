"""Reading comparisons from a dataset: its columns, or two sets of answers joined on prompt and language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import check_languages
from hf_mlalign.data.roles import assign_columns
from hf_mlalign.evaluation.judges.base import Message, check_prompt

if TYPE_CHECKING:
    from datasets import Dataset

ROLES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question"),
    "candidate": ("candidate", "candidate_response", "response_a", "answer_a", "output_1", "chosen"),
    "baseline": ("baseline", "baseline_response", "response_b", "answer_b", "output_2", "rejected"),
    "language": ("language", "lang", "language_code", "locale"),
    "prompt_id": ("prompt_id", "id"),
    "reference": ("reference", "reference_answer"),
}
"""Role → column names that are recognised, in this order; the first three are needed."""
RESPONSE_ROLES = {**{role: ROLES[role] for role in ("prompt", "language", "prompt_id")},
                  "response": ("response", "output", "answer", "completion"), "sample": ("sample",)}  # fmt: skip
NEEDED = ("prompt", "candidate", "baseline")
REMEDY = 'Map yours with column_mapping, e.g. {"output": "candidate"}.'


@dataclass(frozen=True)
class PairTable:
    """n comparisons; an answer is `None` where the row has none; optional columns are `None` where there is none."""

    prompts: list[str | list[Message]]
    candidates: list[str | None]
    baselines: list[str | None]
    languages: list[str] | None
    ids: list[Any] | None
    references: list[str | None] | None

    def __len__(self) -> int:
        return len(self.prompts)


def read_answer_pairs(ds: Dataset, column_mapping: Mapping[str, str] | None = None) -> PairTable:
    """Read prompts, both answers and what else there is.

    Raises:
        DataError: no rows, a needed column is missing, or a value cannot be read (column and row named).
    """
    columns = assign_columns(ds, ROLES, NEEDED, column_mapping, REMEDY)
    ds = ds.with_format(None)
    if not len(ds):
        raise DataError("The dataset has no rows.")
    prompts = _prompts(ds, columns["prompt"])
    sides = [_answers(ds, columns[role]) for role in ("candidate", "baseline")]
    languages, ids = (_whole(ds, columns[role]) for role in ("language", "prompt_id"))
    if languages is not None:
        languages = check_languages(languages, f"Column {columns['language']!r}")
    references = _answers(ds, columns["reference"]) if columns["reference"] else None
    return PairTable(prompts, *sides, languages, ids, references)


def join_responses(
    candidate: Dataset, baseline: Dataset, column_mapping: Mapping[str, str] | None = None
) -> tuple[Dataset, list[str]]:
    """One row for every prompt that both sets answer in a language: prompt_id, language, prompt, candidate, baseline.

    Of several samples, the one with the lowest number is taken.

    Args:
        candidate, baseline: rows with prompt_id, language, prompt and response (`ResponseSampler` writes them).
        column_mapping: your column → role, for both.
    Returns:
        The rows in the candidate's order, and notes on what was left out.
    Raises:
        DataError: missing columns, an answer twice, different prompts under one id, or nothing in common.
    """
    from datasets import Dataset

    ours, theirs = (_responses(ds, name, column_mapping) for ds, name in
                    ((candidate, "candidate"), (baseline, "baseline")))  # fmt: skip
    keys = [key for key in ours if key in theirs]
    if not keys:
        raise DataError(f"baseline: no prompt_id and language in common with the candidate, whose first is "
                        f"{next(iter(ours), None)}. Use the same ids on both sides.")  # fmt: skip
    for key in keys:
        if ours[key][0] != theirs[key][0]:
            raise DataError(f"baseline: prompt {key[0]!r} in {key[1]!r} is another text than the candidate's. "
                            "Give different prompts different ids.")  # fmt: skip
    notes = [f"{len(part) - len(keys):,} answers of the {name} have no counterpart and are left out"
             for name, part in (("candidate", ours), ("baseline", theirs)) if len(part) > len(keys)]  # fmt: skip
    rows = [{"prompt_id": key[0], "language": key[1], "prompt": ours[key][0], "candidate": ours[key][1],
             "baseline": theirs[key][1]} for key in keys]  # fmt: skip
    return Dataset.from_list(rows), notes


def _responses(ds: Dataset, name: str, mapping: Mapping[str, str] | None) -> dict[tuple, tuple]:
    needed = ("prompt", "language", "prompt_id", "response")
    columns = assign_columns(ds, RESPONSE_ROLES, needed, mapping, REMEDY, f"{name}: ")
    ds = ds.with_format(None)
    prompts, answers = _prompts(ds, columns["prompt"]), _answers(ds, columns["response"])
    languages = check_languages(ds[columns["language"]][:], f"{name}: column {columns['language']!r}")
    samples = ds[columns["sample"]][:] if columns["sample"] else [0] * len(ds)
    out: dict[tuple, tuple] = {}
    for row, (key, prompt, answer, sample) in enumerate(
        zip(zip(ds[columns["prompt_id"]][:], languages, strict=True), prompts, answers, samples, strict=True)
    ):
        if key in out and out[key][2] == sample:
            raise DataError(f"{name}, row {row}: prompt {key[0]!r} in {key[1]!r} is answered twice. Keep one answer.")
        if key not in out or sample < out[key][2]:
            out[key] = prompt, answer, sample
    return out


def _prompts(ds: Dataset, column: str) -> list[str | list[Message]]:
    values = ds[column][:]
    for row, value in enumerate(values):
        check_prompt(value, f"Column {column!r}, row {row}")
    return values


def _answers(ds: Dataset, column: str) -> list[str | None]:
    out = []
    for row, value in enumerate(ds[column][:]):
        if isinstance(value, list):  # a conversational answer: its last message
            value = (value[-1] or {}).get("content") if value and isinstance(value[-1], Mapping) else None
        if value is not None and not isinstance(value, str):
            raise DataError(f"Column {column!r}, row {row}: {str(value)[:60]!r} is no text. Convert it to a string.")
        out.append(value)
    return out


def _whole(ds: Dataset, column: str | None) -> list | None:
    """The values of an optional column; `None` where all are missing."""
    values = None if column is None else ds[column][:]
    if values is None or all(value is None for value in values):
        return None
    if None in values:
        raise DataError(f"Column {column!r}, row {values.index(None)}: missing. Fill it in or drop such rows.")
    return values
