"""Preference pairs on Ray Data: blocks of whole prompts, each built by the local builder, and the whole of it."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder, different_prompts
from hf_mlalign.cmalign.consistency import spaced
from hf_mlalign.cmalign.pairs import Counts, PairResult, guard_samples, load_policy
from hf_mlalign.cmalign.ray.tasks import (
    Built,
    Settings,
    build_block,
    facts_of,
    mean_vectors,
    scatter,
    take_mask,
    texts_at,
)
from hf_mlalign.cmalign.samples import Samples, read_samples, sample_roles
from hf_mlalign.core.errors import DataError
from hf_mlalign.core.ray import Held, cores, import_ray, plain_errors, submit
from hf_mlalign.data.columns import codes_of
from hf_mlalign.data.ray_tables import (
    ROW,
    arrow_dataset,
    column_names,
    from_references,
    numbered,
    row_numbers,
    sorted_by_row,
    table_references,
)

if TYPE_CHECKING:
    from ray.data import Dataset

BLOCKS_A_CORE = 4
"""Blocks of prompts a core (*ours*); what is lost with a worker is one of them."""


def build_pairs(
    ds: Dataset, builder: CMAlignPreferenceBuilder | None = None, *, blocks: int | None = None, num_gpus: float = 0.0
) -> Dataset | dict[str, Dataset]:
    """The pairs that `builder.build` makes of the same rows, in the same order; `builder.result_` tells every count.

    The driver reads ids, languages and sample numbers only, numbers the prompts and cuts them into blocks. All rows of
    a prompt go to one task, which runs the builder on its block; mean vectors of the languages are computed once for
    all. Rows are read in the order of `row` (the column is added where there is none).

    Args:
        ds: rows as `CMAlignPreferenceBuilder.build` takes them; vectors only as a column "embedding".
        builder: default `CMAlignPreferenceBuilder()`.
        blocks: of prompts; default 4 a core (*ours*). The result does not depend on it, except for two kinds of
            rewards: your own that look beyond a prompt see one block, and models that compute in padded batches may
            round the last bit of a score otherwise.
        num_gpus: GPUs that each task reserves, for encoders and rewards that run a model.
    Returns:
        The pairs; with `test_size`, a dictionary of "train" and "test".
    Raises:
        DataError: as `CMAlignPreferenceBuilder.build`; or a column `row` that does not number the rows.
    """
    if blocks is not None and (not isinstance(blocks, int) or blocks < 1):
        raise DataError(f"blocks is {blocks!r}; give a whole number of at least 1.")
    builder = builder or CMAlignPreferenceBuilder()
    start = time.perf_counter()
    roles = sample_roles([name for name in column_names(ds) if name != ROW], builder.options.column_mapping)
    with plain_errors():
        pool = _Pool.read(ds, builder, roles)
        result, tables, splits = pool.build(blocks or BLOCKS_A_CORE * cores(), num_gpus)
    result.seconds = time.perf_counter() - start
    builder.result_ = result
    if not len(result.chosen):
        raise DataError(f"No pair is left. {result.summary()}")
    if not builder.options.test_size:
        return from_references(tables)
    test = builder.in_test(result.samples, result.chosen)
    masks = [test[begin:end] for begin, end in splits]
    return {
        name: from_references([submit(take_mask, t, mask == side)[0] for t, mask in zip(tables, masks, strict=True)])
        for name, side in (("train", False), ("test", True))
    }


@dataclass
class _Pool:
    """All samples without their texts, on the driver, and the tables that hold the texts."""

    builder: CMAlignPreferenceBuilder
    tables: list[Any]
    settings: Settings
    samples: Samples
    rows: np.ndarray
    prompts: np.ndarray
    notes: list[str]

    @classmethod
    def read(cls, ds: Dataset, builder: CMAlignPreferenceBuilder, roles: dict[str, str]) -> _Pool:
        tables = numbered(table_references(ds))
        rows = row_numbers(tables)
        marks = builder.options.answer_spans and "embedding" not in roles
        facts = [submit(facts_of, table, roles, builder.options.min_chars, marks)[0] for table in tables]
        found = import_ray().get(facts)
        light = arrow_dataset(sorted_by_row([table for table, _ in found]))
        mapping = {column: role for role, column in roles.items() if role != "embedding"}
        samples = read_samples(light, mapping, answer_kind=builder.options.answer_kind)
        numbers_used = False  # models may share the numbers of samples, or the column holds no small integers
        if "sample" in roles and "response" in roles:
            values = light.data.column(roles["sample"])
            if pa.types.is_integer(values.type):
                given = values.to_numpy()
                numbers_used = np.array_equal(given if samples.order is None else given[samples.order], samples.sample)
        kept = {column: role for role, column in roles.items() if role != "sample" or numbers_used}
        prompts = codes_of(light.data.column(roles["id"]).combine_chunks(), roles["id"])[0]
        settings = Settings(kept, list(samples.languages), any(marked for _, marked in found))
        guard_samples(samples, Counts(samples.languages), builder.options.min_chars, builder.options.drop_truncated)
        return cls(builder, tables, settings, samples, rows, prompts, builder.check(samples))

    def build(self, n_blocks: int, num_gpus: float) -> tuple[PairResult, list[Any], list[tuple[int, int]]]:
        """The result as of one pool, the references to the pairs of each block, and which of the pairs those are."""
        ray, samples = import_ray(), self.samples
        sent = copy.copy(self.builder)
        sent.options = dataclasses.replace(sent.options, policy=load_policy(sent.options.policy))
        sent.result_ = None
        held = Held(sent)
        means = self._means(held, num_gpus)
        n_blocks = min(n_blocks, samples.n_prompts)
        block_of = np.arange(samples.n_prompts) * n_blocks // samples.n_prompts
        places = ray.put((self.rows, block_of[self.prompts].astype(np.int32)))
        pieces = [submit(scatter, table, places, n_blocks, list(self.settings.mapping), parts=n_blocks)
                  for table in self.tables]  # fmt: skip
        built = [
            submit(build_block, held, self.settings, means, *(piece[b] for piece in pieces), parts=2, num_gpus=num_gpus)
            for b in range(n_blocks)
        ]
        own = samples_of_blocks(block_of[samples.prompt], n_blocks)
        parts = ray.get([facts for _, facts in built])
        result = joined(self.builder, samples, own, parts, self.notes)
        ends = np.cumsum([0, *(len(part.chosen) for part in parts)]).tolist()
        return result, [table for table, _ in built], list(pairwise(ends))

    def _means(self, held: Held, num_gpus: float) -> Any:
        """Reference to the mean vectors a centring reward needs; `None` where it needs none."""
        if not getattr(self.builder.reward, "centre", False):
            return None
        samples = self.samples
        of_languages = [spaced(np.flatnonzero(samples.language == code)) for code in range(len(samples.languages))]
        english = np.flatnonzero(samples.is_english & samples.usable)
        wanted = [*of_languages, spaced(english) if len(english) else english]
        distinct, place = np.unique(np.concatenate(wanted), return_inverse=True)
        order = samples.order  # (row, place in the row's list) of the samples
        flat = distinct if order is None else order[distinct]
        rows = np.empty(len(samples), np.int64)
        rows[np.arange(len(rows)) if order is None else order] = samples.prompt_rows
        asked = import_ray().put((self.rows[rows[flat]], flat - np.searchsorted(rows, rows[flat])))
        found = [submit(texts_at, table, self.settings, asked)[0] for table in self.tables]
        cuts = np.cumsum([len(part) for part in wanted])[:-1]
        return submit(mean_vectors, held, self.settings, np.split(place, cuts), *found, num_gpus=num_gpus)[0]


def samples_of_blocks(block: np.ndarray, n_blocks: int) -> list[np.ndarray]:
    """Numbers of the samples of each block, ascending."""
    order = np.argsort(block, kind="stable")
    return np.split(order, np.cumsum(np.bincount(block, minlength=n_blocks))[:-1])


def joined(
    builder: CMAlignPreferenceBuilder,
    samples: Samples,
    own: Sequence[np.ndarray],
    parts: Sequence[Built],
    notes: Sequence[str],
) -> PairResult:
    """The result of one pool from those of its blocks; `own`: the numbers in the pool of each block's samples."""
    scores, lengths = np.full(len(samples), np.nan), np.zeros(len(samples), np.int64)
    counts = Counts(samples.languages)
    for rows, part in zip(own, parts, strict=True):
        scores[rows], lengths[rows], samples.usable[rows] = part.scores, part.lengths, part.usable
        prompts = np.unique(samples.prompt[rows])
        samples.reference[prompts] = np.where(part.reference >= 0, rows[part.reference], -1)
        samples.reference_consistency[prompts] = part.consistency
        for guard, values in part.counts.items():
            counts.table[guard] = counts.get(guard) + values
    samples.lengths, samples.wanted = lengths, builder.candidates(samples)
    chosen, rejected, different = (
        np.concatenate([values(rows, part) for rows, part in zip(own, parts, strict=True)])
        for values in (lambda r, p: r[p.chosen], lambda r, p: r[p.rejected], lambda r, p: p.different)
    )
    notes = [*notes, *different_prompts(samples, chosen, rejected, different)]
    return PairResult(builder.parameters, samples, scores, chosen, rejected, counts, notes)
