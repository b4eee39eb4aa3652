"""Preference rows as Arrow columns: conversational or plain, with the columns that say why each pair was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.cmalign.samples import Samples
from hf_mlalign.core.errors import DataError
from hf_mlalign.data.arrow import is_messages, last_contents

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("prompt", "chosen", "rejected", "language", "prompt_id", "score_chosen", "score_rejected", "margin",
           "reference_prompt", "reference", "reference_consistency", "candidate_chosen",
           "candidate_rejected")  # fmt: skip


def pair_table(
    samples: Samples, chosen: np.ndarray, rejected: np.ndarray, scores: np.ndarray, output_format: str
) -> pa.Table:
    """The k pairs with the columns `COLUMNS`; `reference*` are null where a prompt has no reference."""
    prompts = samples.prompt[chosen]
    reference = samples.reference[prompts]
    has = reference >= 0
    row = pa.array(reference, mask=~has)
    names = pa.array(samples.languages).take(pa.array(samples.language[chosen]))
    columns = [
        _prompts(samples, samples.prompt_rows[chosen], output_format),
        _completions(samples.responses.take(pa.array(chosen)), output_format),
        _completions(samples.responses.take(pa.array(rejected)), output_format),
        names,
        samples.prompt_ids.take(pa.array(prompts)),
        pa.array(scores[chosen].astype(np.float32)),
        pa.array(scores[rejected].astype(np.float32)),
        pa.array((scores[chosen] - scores[rejected]).astype(np.float32)),
        _reference_prompts(samples, reference, has, output_format),
        _completions(samples.responses.take(row), output_format),
        pa.array(samples.reference_consistency[prompts].astype(np.float32), from_pandas=True),
        pa.array(samples.sample[chosen].astype(np.int32)),
        pa.array(samples.sample[rejected].astype(np.int32)),
    ]
    return pa.Table.from_arrays(columns, names=list(COLUMNS))


def differ(samples: Samples, chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """(k,) bool: the two samples of the pair answer differently worded prompts."""
    sides = [samples.prompt_rows[rows] for rows in (chosen, rejected)]
    texts = [last_contents(samples.prompts.take(pa.array(rows)), "prompt") for rows in sides]
    return pc.fill_null(pc.not_equal(*texts), False).to_numpy(zero_copy_only=False)


def different_prompts(
    samples: Samples, chosen: np.ndarray, rejected: np.ndarray, different: np.ndarray | None = None
) -> str | None:
    """A sentence on pairs whose two samples answer differently worded prompts (`differ`); `None` if there are none."""
    found = np.flatnonzero(differ(samples, chosen, rejected) if different is None else different)
    sides = [samples.prompt_rows[rows] for rows in (chosen, rejected)]
    if not len(found):
        return None
    pair = found[0]
    name = samples.prompt_ids[int(samples.prompt[chosen[pair]])].as_py()
    return (
        f"{len(found):,} pairs join samples whose prompts differ in wording (first: prompt_id {name!r} in "
        f"{samples.languages[samples.language[chosen[pair]]]!r}, rows {sides[0][pair]} and {sides[1][pair]}); the "
        "chosen sample's prompt is used. If they are different questions, give each an id of its own."
    )


def to_dataset(table: pa.Table, fingerprint: str) -> Dataset:
    """A `Dataset` on the table, without a copy."""
    from datasets import Dataset
    from datasets.table import InMemoryTable

    return Dataset(InMemoryTable(table), fingerprint=fingerprint)


def messages(texts: pa.Array, role: str) -> pa.Array:
    """[{role, content}] for each text; null for a missing one."""
    n = len(texts)
    missing = texts.is_null().to_numpy(zero_copy_only=False)
    roles = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([role])).dictionary_decode()
    struct = pa.StructArray.from_arrays([roles, texts], names=["role", "content"])
    if not missing.any():
        return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), struct)
    return pa.ListArray.from_arrays(
        pa.array(np.append(0, np.cumsum(~missing)).astype(np.int32), mask=np.append(missing, False)),
        struct.filter(pa.array(~missing)),
    )


def _completions(texts: pa.Array, output_format: str) -> pa.Array:
    return messages(texts, "assistant") if output_format == "conversational" else texts


def _prompts(samples: Samples, rows: np.ndarray, output_format: str) -> pa.Array:
    taken = samples.prompts.take(pa.array(rows))
    return _formatted(taken, output_format)


def _reference_prompts(samples: Samples, reference: np.ndarray, has: np.ndarray, output_format: str) -> pa.Array:
    rows = np.where(has, samples.prompt_rows[np.maximum(reference, 0)], 0)
    taken = samples.prompts.take(pa.array(rows, mask=~has))
    return _formatted(taken, output_format)


def _formatted(prompts: pa.Array, output_format: str) -> pa.Array:
    conversational = is_messages(prompts.type)
    if output_format == "conversational":
        return _role_and_content(prompts) if conversational else messages(prompts, "user")
    if not conversational:
        return prompts
    turns = pc.fill_null(pc.list_value_length(prompts), 1).to_numpy(zero_copy_only=False)
    if (turns != 1).any():
        raise DataError(
            f'output_format: prompts of several messages (pair {int(np.argmax(turns != 1))}) have no "standard" form. '
            'Use output_format="conversational".'
        )
    return last_contents(prompts, "prompt")


def _role_and_content(prompts: pa.Array) -> pa.Array:
    """Message lists with the fields role and content only, in this order."""
    if [f.name for f in prompts.type.value_type] == ["role", "content"] and pa.types.is_list(prompts.type):
        return prompts
    lengths = pc.fill_null(pc.list_value_length(prompts), 0).to_numpy(zero_copy_only=False)
    flat = prompts.flatten()
    struct = pa.StructArray.from_arrays([flat.field("role"), flat.field("content")], names=["role", "content"])
    missing = prompts.is_null().to_numpy(zero_copy_only=False)
    ends = np.append(0, np.cumsum(lengths)).astype(np.int32)
    offsets = pa.array(ends, mask=np.append(missing, False)) if missing.any() else pa.array(ends)
    return pa.ListArray.from_arrays(offsets, struct)
