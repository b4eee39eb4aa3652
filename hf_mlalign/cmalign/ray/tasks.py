"""What the workers do when pairs are built: read facts, send rows to their blocks, compute means, run the builder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder, check_single_turns, differ, pair_table
from hf_mlalign.cmalign.consistency import encode_responses, language_means
from hf_mlalign.cmalign.samples import check_prompts, given_vectors, read_responses, read_samples
from hf_mlalign.core.ray import Held
from hf_mlalign.data.answers.extract import answer_spans
from hf_mlalign.data.columns import codes_of
from hf_mlalign.data.ray_tables import ROW, arrow_dataset, sorted_by_row, with_columns
from hf_mlalign.models.encoder import load_encoder


@dataclass
class Settings:
    """What all blocks must agree on.

    Attributes:
        mapping: column → role, of the columns that are read.
        languages: all languages of the pool, in the order of their codes.
        marked: a text of the pool marks its final answer, so that vectors have two parts.
    """

    mapping: dict[str, str]
    languages: list[str]
    marked: bool

    def column(self, role: str) -> str | None:
        return next((column for column, r in self.mapping.items() if r == role), None)

    @property
    def roles(self) -> dict[str, str]:
        return {role: column for column, role in self.mapping.items()}


@dataclass
class Built:
    """What the driver learns of a block of m samples, P prompts and k pairs; numbers count within the block."""

    scores: np.ndarray
    lengths: np.ndarray
    usable: np.ndarray
    reference: np.ndarray
    consistency: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    different: np.ndarray
    counts: dict[str, np.ndarray]


def facts_of(table: pa.Table, roles: Mapping[str, str], min_chars: int, read_marks: bool) -> tuple[pa.Table, bool]:
    """The block with stand-ins for its texts that pass or fail the same guards, and whether a text marks its answer."""
    ds = arrow_dataset(table)
    prompts = table.column(roles["prompt"]).combine_chunks()
    check_prompts(prompts, roles["prompt"], lambda place: table.column(ROW)[place].as_py())
    responses, counts = read_responses(ds, roles)
    blank = pc.fill_null(pc.or_(pc.equal(pc.binary_length(responses), 0), pc.utf8_is_space(responses)), True)
    lengths = pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(responses)), 0).to_numpy(zero_copy_only=False)
    size = np.where(blank.to_numpy(zero_copy_only=False), 0, np.clip(lengths, 1, max(1, min_chars)))
    stand_ins = pa.array(["x" * int(n) for n in range(max(1, min_chars) + 1)], pa.string()).take(pa.array(size))
    if counts is not None:
        offsets = pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))
        stand_ins = pa.ListArray.from_arrays(offsets, stand_ins)
    light = table.select([ROW, *(column for role, column in roles.items() if role != "embedding")])
    texts = {roles.get("response") or roles["responses"]: stand_ins,
             roles["prompt"]: pa.array([""] * len(table), pa.string())}  # fmt: skip
    marked = read_marks and any(answer_spans([text or "" for text in responses.to_pylist()]))
    return with_columns(light, texts).combine_chunks(), bool(marked)


def scatter(table: pa.Table, places: tuple[np.ndarray, np.ndarray], n_blocks: int, columns: Sequence[str]):
    """The rows that go to each block of prompts."""
    rows, blocks = places
    own = blocks[np.searchsorted(rows, table.column(ROW).to_numpy())]
    kept = table.select([ROW, *columns])
    parts = [kept.take(pa.array(np.flatnonzero(own == block))) for block in range(n_blocks)]
    return parts if n_blocks > 1 else parts[0]


def texts_at(
    table: pa.Table, settings: Settings, asked: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, pa.Array | np.ndarray]:
    """Which of the samples that are asked for stand in this block, and their texts, or their vectors where given."""
    rows, within = asked
    own = table.column(ROW).to_numpy()
    order = np.argsort(own, kind="stable")
    place = np.minimum(np.searchsorted(own[order], rows), len(own) - 1)
    found = np.flatnonzero(own[order][place] == rows) if len(own) else np.empty(0, np.int64)
    ds = arrow_dataset(table)
    responses, counts = read_responses(ds, settings.roles)
    starts = np.arange(len(own)) if counts is None else np.cumsum(counts) - counts
    flat = starts[order[place[found]]] + within[found]
    if settings.column("embedding"):
        return found, given_vectors(ds, settings.column("embedding"), counts, None, len(responses))[flat]
    return found, responses.take(pa.array(flat))


def mean_vectors(held: Held, settings: Settings, groups: Sequence[np.ndarray], *found) -> tuple:
    """(L, d) means of the languages and (d,) mean of the usable English samples: the last of the groups."""
    n = sum(len(numbers) for numbers, _ in found)
    order = np.argsort(np.concatenate([numbers for numbers, _ in found]), kind="stable")
    if settings.column("embedding"):
        table, rows = np.concatenate([part for _, part in found if len(part)])[order], np.arange(n)
    else:
        texts = pa.concat_arrays([part for _, part in found]).take(pa.array(order))
        rows, distinct = codes_of(pc.fill_null(texts, ""), "response")
        table = np.asarray(encode(held.get(), settings)(distinct.to_pylist()), np.float32)
    sizes = [len(group) for group in groups]
    codes = np.repeat(np.arange(len(groups)), sizes)
    means = language_means(table, codes, len(groups), rows[np.concatenate(groups)])
    return means[:-1], means[-1]


def encode(builder: CMAlignPreferenceBuilder, settings: Settings):
    """The builder's encoding of texts, in two parts wherever the whole pool's vectors have two."""
    builder.model = load_encoder(builder.model)

    def encoded(texts: list[str]) -> np.ndarray:
        vectors = encode_responses(builder.model, texts, settings.marked)
        if not settings.marked or vectors.shape[1] > builder.model.dimension:
            return vectors
        return np.concatenate([vectors, vectors], axis=1) / np.float32(np.sqrt(2))

    return encoded


def build_block(held: Held, settings: Settings, means: tuple | None, *parts: pa.Table) -> tuple[pa.Table, Built]:
    """The pairs of a block of whole prompts, and what the driver must know of them."""
    builder = held.get()
    ds = arrow_dataset(sorted_by_row([part for part in parts if len(part)]))
    samples = read_samples(
        ds, settings.mapping, encode=encode(builder, settings), answer_kind=builder.options.answer_kind,
        languages=settings.languages,
    )  # fmt: skip
    samples.pool_means = means
    if builder.options.output_format == "standard":
        check_single_turns(samples)
    result = builder.pairs_of(samples, part=True)
    chosen, rejected = result.chosen, result.rejected
    table = pair_table(samples, chosen, rejected, result.scores, builder.options.output_format)
    return table, Built(
        result.scores, samples.lengths, samples.usable, samples.reference, samples.reference_consistency, chosen,
        rejected, differ(samples, chosen, rejected), result.counts.table,
    )  # fmt: skip


def take_mask(table: pa.Table, mask: np.ndarray) -> pa.Table:
    """The rows where the mask is true."""
    return table.filter(pa.array(mask))
