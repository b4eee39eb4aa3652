"""Clustering and selection on Ray Data: one task per language runs the local engine on all of its rows."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.core.errors import DataError, counted, listed
from hf_mlalign.core.ray import import_ray, plain_errors, submit
from hf_mlalign.data.columns import chunked_column, clean_clusters, matrix, numbers
from hf_mlalign.data.layouts import recognise_layout
from hf_mlalign.data.ray_tables import (
    ROW,
    arrow_dataset,
    column_names,
    from_references,
    numbered,
    row_numbers,
    sorted_by_row,
    table_references,
    vectors_column,
    with_columns,
)
from hf_mlalign.mdaq.options import allocate
from hf_mlalign.mdaq.ray.scoring import score
from hf_mlalign.mdaq.scorer import EMBEDDING_COLUMN, SCORE_COLUMN, MDaQScorer
from hf_mlalign.mdaq.selection import METHODS, Method
from hf_mlalign.mdaq.selector import CLUSTER_COLUMN, MDaQSelector

if TYPE_CHECKING:
    from ray.data import Dataset

LANGUAGE, LENGTH, REASON = "language", "length", "selection_reason"
log = logging.getLogger(__name__)


def select(
    ds: Dataset, selector: MDaQSelector | None = None, *, only_selected: bool = False, **scoring: Any
) -> Dataset:
    """`ds` with `quality_score`, `cluster` (int32), `selected` (bool) and `selection_reason`, as `selector.fit` gives.

    Scores and vectors are computed first unless their columns exist. Only row numbers, scores and float16 vectors are
    sent between nodes: those of one language to one task, which runs the local engine on them in the order of `row`
    (the column is added if there is none). The budgets "total" and "proportional" are shared by counts over all rows.
    What differs from the request is logged (logger `hf_mlalign.mdaq.ray.selecting`, level INFO).

    Args:
        ds: rows to select from.
        selector: what to select; default `MDaQSelector()`.
        only_selected: leave the other rows out.
        **scoring: options of `score`.
    Raises:
        DataError: as `MDaQSelector.fit`; or a column `row` that does not number the rows.
    """
    selector = selector or MDaQSelector()
    with plain_errors():
        return _selected(ds, selector, scoring, only_selected)


def cluster(
    ds: Dataset,
    *,
    n_clusters: int | None = None,
    n_quality: int = 6000,
    n_diversity: int = 1000,
    per_language: bool = True,
    languages: Sequence[str] | None = None,
    column_mapping: Mapping[str, str] | None = None,
    seed: int = 0,
    **scoring: Any,
) -> Dataset:
    """`ds` with `cluster` (int32, −1 for a row without a score): k-means within each language, ids unique over all.

    The ids are those of `MDaQSelector(…).fit(ds)` with the same arguments; see `select`.
    """
    selector = MDaQSelector(
        n_quality, n_diversity, per_language=per_language, n_clusters=n_clusters, languages=languages,
        column_mapping=column_mapping, seed=seed,
    )  # fmt: skip
    with plain_errors():
        return _selected(ds, selector, scoring, False, (CLUSTER_COLUMN,))


def _selected(
    ds: Dataset, selector: MDaQSelector, scoring: Mapping[str, Any], only_selected: bool, wanted: Sequence[str] = ()
) -> Dataset:
    names = column_names(ds)
    if ROW in names:
        row_numbers(table_references(ds))
    had_vectors = EMBEDDING_COLUMN in names
    if selector.needs_scoring(SimpleNamespace(column_names=names)):
        given = [name for name in (SCORE_COLUMN, EMBEDDING_COLUMN) if name in names]
        if given:
            raise DataError(f"The dataset has {listed(given)} but not both of quality_score and embedding. Drop it, "
                            "or add the other one with hf_mlalign.distributed.score.")  # fmt: skip
        scorer = MDaQScorer(selector.model, selector.column_mapping, embeddings=True, encoder=selector.encoder)
        ds = score(ds, scorer, **scoring)
    tables = numbered(table_references(ds))
    groups = _Groups.of(tables, selector)
    chosen, offsets = groups.choose(selector)
    drop = [] if had_vectors else [EMBEDDING_COLUMN]
    marks = _Marks(list(wanted), drop, only_selected, offsets, groups.clusters)
    return from_references([submit(_mark, table, marks, *chosen)[0] for table in tables])


@dataclass
class _Groups:
    """The light tables, cut by language: `parts[i][j]` is the reference to block i's rows of language j."""

    names: list[str]
    parts: list[list[Any]]
    counts: dict[str, int]
    clusters: np.ndarray | None

    @classmethod
    def of(cls, tables: Sequence[Any], selector: MDaQSelector) -> _Groups:
        ray = import_ray()
        job = ray.put((selector, METHODS[selector.method]))
        light = [submit(_light, table, job, parts=2) for table in tables]
        found = ray.get([summary for _, summary in light])
        counts: dict[str, int] = {}
        for summary in found:
            for name, number in summary.counts.items():
                counts[name] = counts.get(name, 0) + number
        names = sorted(set(counts) - {""})
        dropped = sum(summary.dropped for summary in found)
        if dropped:
            log.info(f"left out {counted(dropped, 'row')} in other or unknown languages")
        given = [summary.clusters for summary in found if summary.clusters is not None]
        parts = [submit(_cut, table, names, parts=max(1, len(names))) for table, _ in light]
        clusters = np.unique(np.concatenate(given)) if given else None
        return cls(names, parts, {name: counts[name] for name in names}, clusters)

    def choose(self, selector: MDaQSelector) -> tuple[list[Any], list[int]]:
        """References to (row, cluster, reason) of each language, and the number that each one's clusters begin with."""
        shares, notes = allocate(self.counts, selector.n_quality, selector.n_diversity, selector.budgets)
        tasks = []
        for j, name in enumerate(self.names):
            one = copy.copy(selector)
            one.budgets, one.languages, one.result_ = {name: shares[name]}, None, None
            job = one, METHODS[selector.method]
            tasks.append(submit(_choose, name, job, *(part[j] for part in self.parts), parts=2))
        found = import_ray().get([summary for _, summary in tasks])
        for note in (*notes, *(note for _, own in found for note in own)):
            log.info(note)
        sizes = [0 if self.clusters is not None else size for size, _ in found]
        return [table for table, _ in tasks], np.cumsum([0, *sizes])[:-1].tolist()


@dataclass
class _Summary:
    counts: dict[str, int]
    dropped: int
    clusters: np.ndarray | None


@dataclass
class _Marks:
    """What `_mark` adds and drops; `clusters`: the distinct ids the rows came with."""

    wanted: list[str]
    drop: list[str]
    only_selected: bool
    offsets: list[int]
    clusters: np.ndarray | None


def _light(table: pa.Table, job: tuple[MDaQSelector, Method]) -> tuple[pa.Table, _Summary]:
    """What selection needs of a block, without its texts, and what the driver must know of it."""
    selector = _known(job)
    ds = arrow_dataset(table)
    scores = numbers(ds, SCORE_COLUMN).astype(np.float32)
    languages = selector.read_languages(ds)
    columns = {ROW: table.column(ROW).cast(pa.int64()), LANGUAGE: pa.array(languages.tolist(), pa.string()),
               SCORE_COLUMN: pa.array(scores, from_pandas=True)}  # fmt: skip
    clusters = None
    if CLUSTER_COLUMN in table.column_names:
        given = numbers(ds, CLUSTER_COLUMN)
        clean_clusters(given, scores)
        columns[CLUSTER_COLUMN] = pa.array(given, from_pandas=True)
        clusters = np.unique(given[np.isfinite(given) & (given >= 0)])
    if EMBEDDING_COLUMN in table.column_names and len(table):
        with np.errstate(over="ignore"):
            vectors = matrix(chunked_column(ds, EMBEDDING_COLUMN), EMBEDDING_COLUMN, 0, None, np.float16)
        columns[EMBEDDING_COLUMN] = vectors_column(vectors)
    lengths = None
    if "lengths" in METHODS[selector.method].needs:
        lengths = selector.read_lengths(ds, recognise_layout(ds.column_names, selector.column_mapping))
    if lengths is not None:
        columns[LENGTH] = pa.array(lengths)
    known = ~np.isnan(scores)
    counts = {name: int(np.count_nonzero(known[languages == name])) for name in np.unique(languages).tolist() if name}
    light = pa.table(columns).filter(pa.array(languages != ""))
    return light, _Summary(counts, int(np.count_nonzero(languages == "")), clusters)


def _cut(table: pa.Table, names: Sequence[str]) -> Any:
    """The rows of each language."""
    parts = [table.filter(pc.equal(table.column(LANGUAGE), name)).combine_chunks() for name in names]
    return parts if len(parts) > 1 else (parts or [table])[0]


def _known(job: tuple[MDaQSelector, Method]) -> MDaQSelector:
    """The selector; its method is registered in this process as it is on the driver."""
    selector, method = job
    METHODS[method.name] = method
    return selector


def _choose(name: str, job: tuple[MDaQSelector, Method], *parts: pa.Table) -> tuple[pa.Table, tuple[int, list[str]]]:
    """(row, cluster, reason) of the rows of one language, the number of its clusters, and notes."""
    selector = _known(job)
    table = sorted_by_row([part for part in parts if len(part)])
    columns = {n: table.column(n).to_numpy() for n in (SCORE_COLUMN, CLUSTER_COLUMN, LENGTH) if n in table.column_names}
    scores = columns[SCORE_COLUMN].astype(np.float32)
    vectors = None
    if EMBEDDING_COLUMN in table.column_names:
        vectors = matrix(table.column(EMBEDDING_COLUMN), EMBEDDING_COLUMN, 0, None, np.float16)
    languages = np.full(len(table), name)
    result = selector.select_from(scores, languages, vectors, columns.get(CLUSTER_COLUMN), columns.get(LENGTH))
    found = pa.table({ROW: table.column(ROW), CLUSTER_COLUMN: result.clusters, REASON: result.reasons.tolist()})
    known = allocate({name: int(np.count_nonzero(~np.isnan(scores)))}, 0, 0, selector.budgets)[1]
    return found, (int(result.clusters.max(initial=-1)) + 1, result.notes[len(known) :])


def _mark(table: pa.Table, marks: _Marks, *chosen: pa.Table) -> pa.Table:
    """The block with what was decided on its rows."""
    rows = table.column(ROW).to_numpy()
    clusters = np.full(len(rows), -1, np.int32)
    reasons = np.full(len(rows), "", "<U9")
    for found, offset in zip(chosen, marks.offsets, strict=True):
        numbers_of = found.column(ROW).to_numpy()
        place = np.minimum(np.searchsorted(numbers_of, rows), max(len(numbers_of) - 1, 0))
        hit = np.flatnonzero(numbers_of[place] == rows) if len(numbers_of) else np.empty(0, np.int64)
        taken = found.take(pa.array(place[hit]))
        own = taken.column(CLUSTER_COLUMN).to_numpy()
        clusters[hit] = np.where(own >= 0, own + offset, -1)
        reasons[hit] = np.asarray(taken.column(REASON).to_pylist(), dtype="<U9")
    if marks.clusters is not None:
        given, distinct = numbers(arrow_dataset(table), CLUSTER_COLUMN), marks.clusters
        place = np.minimum(np.searchsorted(distinct, given), max(len(distinct) - 1, 0))
        clusters = np.where(distinct[place] == given, place, -1).astype(np.int32)
    columns = {CLUSTER_COLUMN: pa.array(clusters), "selected": pa.array(reasons != ""),
               REASON: pa.array(reasons.tolist(), pa.string())}  # fmt: skip
    columns = {name: column for name, column in columns.items() if not marks.wanted or name in marks.wanted}
    out = with_columns(table.drop_columns([name for name in marks.drop if name in table.column_names]), columns)
    return out.filter(pa.array(reasons != "")) if marks.only_selected else out
