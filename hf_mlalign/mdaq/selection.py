"""Diversity-aware selection (M-DaQ) and one interface for every selection method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError, counted, listed
from hf_mlalign.core.validation import as_array, check_whole, finite_vectors
from hf_mlalign.mdaq import baselines
from hf_mlalign.mdaq.baselines import as_scores, score_order

QUALITY, DIVERSITY = "quality", "diversity"
STREAM_ROWS = 2**18


def das_select(scores: Any, clusters: Any, n_quality: int = 6000, n_diversity: int = 1000) -> np.ndarray:
    """Diversity-aware selection (M-DaQ, algorithm DAS): the best rows, then the best rows of uncovered clusters.

    Sort by score, descending, and equal scores by row number. Take the first `n_quality` rows. Then continue in this
    order and take a row if its cluster has no row yet, until `n_diversity` more are taken or the rows end.

    Args:
        scores: (n,) numbers, higher is better. NaN (or None): the row is never selected. ±inf are ordinary values,
            first and last in the order.
        clusters: (n,) integers, any values.
        n_quality, n_diversity: whole numbers ≥ 0 (6,000 and 1,000, *ours* in the authors' ratio 6:1).

    Returns row numbers, int64, in the order of selection: the quality part, then the diversity part. There are fewer
    than n_quality + n_diversity if fewer rows have a score or fewer clusters are uncovered; nothing is topped up.
    With n_quality ≤ m_quality and n_diversity ≤ m_diversity, the smaller selection is a subset of the larger one.
    O(n log n). Raises DataError for other shapes, dtypes or lengths, or a negative budget.
    """
    n_quality, n_diversity = check_whole(n_quality, "n_quality"), check_whole(n_diversity, "n_diversity")
    order = score_order(scores)
    clusters = _as_clusters(clusters, len(as_scores(scores)))
    first = np.sort(np.unique(clusters[order], return_index=True)[1])
    return np.concatenate([order[:n_quality], order[first[first >= n_quality][:n_diversity]]])


class StreamedDAS:
    """`das_select` in one pass over blocks of rows, which may come in any order; ties are broken the same way.

    Between blocks it holds the best `n_quality` rows and the best row of each cluster. A row is in the diversity part
    if and only if it is the best of its cluster and not among the best `n_quality` of all.
    """

    def __init__(self, n_quality: int = 6000, n_diversity: int = 1000):
        self.n_quality, self.n_diversity = check_whole(n_quality, "n_quality"), check_whole(n_diversity, "n_diversity")
        self._top = self._best = _Ranked(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))

    def add(self, rows: np.ndarray, scores: Any, clusters: Any) -> None:
        """rows: (m,) distinct row numbers, none of them added before; scores, clusters: (m,), as in `das_select`."""
        scores = as_scores(scores)
        clusters = _as_clusters(clusters, len(scores))
        known = np.flatnonzero(~np.isnan(scores))
        block = _Ranked(np.asarray(rows)[known], scores[known], clusters[known]).ordered()
        self._top = self._top.joined(block.part(slice(self.n_quality))).ordered().part(slice(self.n_quality))
        best = self._best.joined(block.part(block.first_of_cluster())).ordered()
        self._best = best.part(best.first_of_cluster())

    def select(self) -> np.ndarray:
        """Row numbers, int64, in the order of selection."""
        rest = self._best.rows[~np.isin(self._best.rows, self._top.rows)]
        return np.concatenate([self._top.rows, rest[: self.n_diversity]])


@dataclass(frozen=True)
class _Ranked:
    """Rows with their scores and clusters."""

    rows: np.ndarray
    scores: np.ndarray
    clusters: np.ndarray

    def part(self, which: slice | np.ndarray) -> _Ranked:
        return _Ranked(self.rows[which], self.scores[which], self.clusters[which])

    def joined(self, other: _Ranked) -> _Ranked:
        pairs = ((self.rows, other.rows), (self.scores, other.scores), (self.clusters, other.clusters))
        return _Ranked(*(np.concatenate(pair) if len(pair[0]) else pair[1] for pair in pairs))

    def ordered(self) -> _Ranked:
        return self.part(np.lexsort((self.rows, -self.scores)))

    def first_of_cluster(self) -> np.ndarray:
        return np.sort(np.unique(self.clusters, return_index=True)[1])


@dataclass(frozen=True)
class Pool:
    """The n rows to select from; all fields have n entries and only `scores` is always needed.

    Attributes:
        scores: (n,) numbers, higher is better, NaN for a row that could not be scored (never selected).
        clusters: (n,) integers.
        embeddings: (n, d) numbers.
        lengths: (n,) numbers, for instance characters.
    """

    scores: np.ndarray
    clusters: np.ndarray | None = None
    embeddings: np.ndarray | None = None
    lengths: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", as_scores(self.scores))
        n = len(self.scores)
        if self.clusters is not None:
            object.__setattr__(self, "clusters", _as_clusters(self.clusters, n))
        if self.lengths is not None:
            object.__setattr__(self, "lengths", as_scores(self.lengths, "lengths"))
        for name in ("embeddings", "lengths"):
            value = getattr(self, name)
            shape = () if value is None else getattr(value, "shape", None) or as_array(value, name).shape
            if value is not None and shape[:1] != (n,):
                raise DataError(f"{name} has shape {shape} for {n} scores; pass one entry per row")

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Selection:
    """Selected rows in the order of selection.

    Attributes:
        indices: (k,) int64 row numbers.
        reasons: (k,) strings, "quality" or "diversity".
        notes: one sentence for everything that differs from the request.
    """

    indices: np.ndarray
    reasons: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Method:
    """A registered method: `run(pool, n_quality, n_diversity, seed, **options)` and the `Pool` fields it needs."""

    name: str
    run: Callable[..., Any]
    needs: tuple[str, ...]


METHODS: dict[str, Method] = {}


def register_method(name: str, needs: tuple[str, ...] = ("scores",)) -> Callable[[Callable], Callable]:
    """Add a selection method under `name`; afterwards `select(name, …)` and `MDaQSelector(method=name)` run it.

    The function takes `(pool, n_quality, n_diversity, seed, **options)` and returns row numbers in the order of
    selection, or a `Selection` with its own reasons and notes. If it returns row numbers, the reason is "quality" for
    rows among the top k by score (k rows were selected) and "diversity" for the others. `needs` names the fields of
    `Pool` that must be set: scores, clusters, embeddings, lengths. Registering a name again replaces the method. ::

        @register_method("shortest", needs=("scores", "lengths"))
        def shortest(pool, n_quality, n_diversity, seed):
            return np.argsort(pool.lengths, kind="stable")[: n_quality + n_diversity]
    """
    unknown = sorted(set(needs) - set(Pool.__dataclass_fields__))
    if unknown:
        raise DataError(f"needs names {listed(unknown)}; a pool has {listed(Pool.__dataclass_fields__)}")

    def add(run: Callable) -> Callable:
        METHODS[name] = Method(name, run, tuple(needs))
        return run

    return add


def select(
    method: str, pool: Pool, n_quality: int, n_diversity: int, seed: int = 0, *, fill: bool = False, **options: Any
) -> Selection:
    """Select from `pool` by a registered method.

    Args:
        method: "das" (*paper*), "random", "longest", "quality", "car", "deita", "mmr", or one added by
            `register_method`. "das" and "car" use the two numbers apart; all others select n_quality + n_diversity rows
            in their own way.
        seed: of the methods that draw at random ("random", and "car" when it clusters).
        fill: top up by score when the method finds fewer rows than asked (False, *paper*); with a note.
        **options: of the method: "deita" threshold=0.9, "mmr" trade_off=0.5, "car" variance=0.95,
            n_clusters=⌊√(n/2)⌋.

    `notes` tell what was not done as asked: rows without score, fewer rows or uncovered clusters than asked, scores
    that are all equal. Raises DataError for an unknown method or option, or a pool without a field the method needs.
    """
    if method not in METHODS:
        raise DataError(f"method is {method!r}; known methods are {listed(METHODS)}")
    n_quality, n_diversity = check_whole(n_quality, "n_quality"), check_whole(n_diversity, "n_diversity")
    check_whole(seed, "seed")
    chosen = METHODS[method]
    missing = [name for name in chosen.needs if getattr(pool, name) is None]
    if missing:
        raise DataError(f"method {method!r} needs {listed(chosen.needs)}; the pool lacks {listed(missing)}")
    scorable = int(np.count_nonzero(~np.isnan(pool.scores)))
    notes = []
    if scorable < len(pool):
        notes.append(f"left out {counted(len(pool) - scorable, 'row')} without a score (of {len(pool):,})")
    if scorable > 1 and np.nanmin(pool.scores) == np.nanmax(pool.scores):
        notes.append(f"all {scorable:,} scores are equal, so the score does not discriminate; ties were broken by row "
                     "number")  # fmt: skip
    if scorable:
        try:
            found = chosen.run(pool, n_quality, n_diversity, seed, **options)
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
            raise DataError(f"method {method!r} does not take these options: {error}") from error
    else:
        found = np.empty(0, dtype=np.int64)
    selection = _checked(method, found, pool)
    notes += selection.notes
    return _complete(replace(selection, notes=tuple(notes)), pool, scorable, n_quality + n_diversity, fill)


def _checked(method: str, found: Any, pool: Pool) -> Selection:
    """A method's result as a `Selection`; DataError if it selects a row twice, outside the pool or without a score."""
    if not isinstance(found, Selection):
        indices = np.asarray(found).astype(np.int64)
        top = np.zeros(len(pool), dtype=bool)
        top[score_order(pool.scores)[: len(indices)]] = True
        inside = indices[(indices >= 0) & (indices < len(pool))]
        reasons = np.where(top[inside], QUALITY, DIVERSITY).astype("<U9")
        found = Selection(indices, reasons if len(inside) == len(indices) else np.full(len(indices), DIVERSITY))
    outside = len(found) and not (found.indices.min() >= 0 and found.indices.max() < len(pool))
    if outside or len(np.unique(found.indices)) < len(found) or np.isnan(pool.scores[found.indices]).any():
        raise DataError(
            f"method {method!r} selected a row twice, outside the pool or without a score; "
            "correct the registered function"
        )
    return found


def _complete(selection: Selection, pool: Pool, scorable: int, asked: int, fill: bool) -> Selection:
    """Report a shortfall, and top up by score if requested."""
    short = asked - len(selection)
    if short <= 0:
        return selection
    if len(selection) == scorable:
        note = f"selected only {counted(scorable, 'row')} of the {asked:,} requested: no more have a score"
        return replace(selection, notes=(*selection.notes, note))
    if not fill:
        note = f"selected {len(selection):,} of {asked:,} requested rows; --fill (fill=True) tops up by score"
        return replace(selection, notes=(*selection.notes, note))
    order = score_order(pool.scores)
    more = order[~np.isin(order, selection.indices)][:short]
    notes = [*selection.notes, f"topped up by score with {counted(len(more), 'row')}"]
    if len(selection) + len(more) < asked:
        notes.append(f"selected only {counted(scorable, 'row')} of the {asked:,} requested: no more have a score")
    return Selection(
        np.concatenate([selection.indices, more]),
        np.concatenate([selection.reasons, np.full(len(more), QUALITY, dtype="<U9")]),
        tuple(notes),
    )


@register_method("das", needs=("scores", "clusters"))
def _das(pool: Pool, n_quality: int, n_diversity: int, seed: int) -> Selection:
    streamed = StreamedDAS(n_quality, n_diversity)
    for start in range(0, len(pool), STREAM_ROWS):
        part = slice(start, min(start + STREAM_ROWS, len(pool)))
        streamed.add(np.arange(part.start, part.stop), pool.scores[part], pool.clusters[part])
    return _two_parts(streamed.select(), pool, pool.clusters, n_quality, n_diversity)


@register_method("car")
def _car(
    pool: Pool, n_quality: int, n_diversity: int, seed: int, variance: float = 0.95, n_clusters: int | None = None
) -> Selection:
    """CaR (Ge et al. 2024): the `n_quality` best rows (1,000, *authors' script*) and the best row of each cluster, best
    clusters first, at most `n_diversity` more.

    If a cluster has a row among the best, its own best row is among them, so this is DAS on CaR's clusters: those of
    the pool if it has any, otherwise `baselines.car_clusters` of the embeddings of the rows that have a score.
    """
    clusters = pool.clusters
    if clusters is None:
        if pool.embeddings is None:
            raise DataError("method 'car' needs clusters or embeddings; the pool has neither")
        rows = np.flatnonzero(~np.isnan(pool.scores))
        vectors = finite_vectors(pool.embeddings, rows=rows, dtype=None)
        clusters = np.zeros(len(pool), dtype=np.int64)
        vectors = vectors if len(rows) == len(pool) else vectors[rows]
        clusters[rows] = baselines.car_clusters(vectors, seed, variance, n_clusters)
    indices = das_select(pool.scores, clusters, n_quality, n_diversity)
    return _two_parts(indices, pool, clusters, n_quality, n_diversity)


def _two_parts(indices: np.ndarray, pool: Pool, clusters: np.ndarray, n_quality: int, n_diversity: int) -> Selection:
    reasons = np.full(len(indices), DIVERSITY, dtype="<U9")
    reasons[:n_quality] = QUALITY
    found = max(0, len(indices) - n_quality)
    notes = []
    scorable = int((~np.isnan(pool.scores)).sum())
    if found < n_diversity and len(indices) < scorable:
        total = len(np.unique(clusters[~np.isnan(pool.scores)]))
        notes.append(
            f"selected {found:,} of {n_diversity:,} rows for diversity: only {found:,} of {total:,} clusters were "
            f"uncovered; use more clusters, or a smaller n_diversity"
        )
    return Selection(indices, reasons, tuple(notes))


@register_method("quality")
def _quality(pool: Pool, n_quality: int, n_diversity: int, seed: int) -> np.ndarray:
    return baselines.quality_select(pool.scores, n_quality + n_diversity)


@register_method("random")
def _random(pool: Pool, n_quality: int, n_diversity: int, seed: int) -> np.ndarray:
    return baselines.random_select(pool.scores, n_quality + n_diversity, seed)


@register_method("longest", needs=("scores", "lengths"))
def _longest(pool: Pool, n_quality: int, n_diversity: int, seed: int) -> np.ndarray:
    return baselines.longest_select(pool.scores, pool.lengths, n_quality + n_diversity)


@register_method("deita", needs=("scores", "embeddings"))
def _deita(pool: Pool, n_quality: int, n_diversity: int, seed: int, threshold: float = 0.9) -> np.ndarray:
    return baselines.deita_select(pool.scores, pool.embeddings, n_quality + n_diversity, threshold)


@register_method("mmr", needs=("scores", "embeddings"))
def _mmr(pool: Pool, n_quality: int, n_diversity: int, seed: int, trade_off: float = 0.5) -> np.ndarray:
    return baselines.mmr_select(pool.scores, pool.embeddings, n_quality + n_diversity, trade_off)


def _as_clusters(clusters: Any, n: int) -> np.ndarray:
    array = as_array(clusters, "clusters")
    if array.shape != (n,):
        raise DataError(f"clusters has shape {array.shape} for {n} scores; pass a 1-D array, one label per row")
    if array.dtype.kind not in "iu" and array.size:
        raise DataError(f"clusters has dtype {array.dtype}; pass integer labels")
    return array
