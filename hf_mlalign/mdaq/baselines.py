"""The selection methods that M-DaQ is compared with, as functions of arrays.

Each returns row numbers (int64) in the order of selection. A row whose score is NaN is never selected. Equal scores are
ordered by row number. `hf_mlalign.mdaq.selection.select` runs them all through one interface.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import (
    as_numbers,
    as_table,
    check_share,
    check_whole,
    finite_vectors,
    one_blas_thread,
    shown,
    unit_rows,
)

BLOCK = 1024
WINDOW = 2048


def quality_select(scores: Any, n: int) -> np.ndarray:
    """The `n` rows with the highest score."""
    return score_order(scores)[: check_whole(n, "n")]


def random_select(scores: Any, n: int, seed: int = 0) -> np.ndarray:
    """`n` rows drawn uniformly without replacement from the rows that have a score, so that all methods choose from
    the same pool. With one seed, a smaller `n` gives a prefix of a larger one."""
    check_whole(seed, "seed")
    rows = np.flatnonzero(~np.isnan(as_scores(scores)))
    return np.random.default_rng(seed).permutation(rows)[: check_whole(n, "n")]


def longest_select(scores: Any, lengths: Any, n: int) -> np.ndarray:
    """The `n` longest rows among those with a score and a length. lengths: (n_rows,) numbers in any unit."""
    scores, lengths = as_scores(scores), as_scores(lengths, "lengths")
    if len(scores) != len(lengths):
        raise DataError(f"lengths has {len(lengths)} entries for {len(scores)} scores; pass one per row")
    return quality_select(np.where(np.isnan(scores), np.nan, lengths), n)


def car_clusters(embeddings: Any, seed: int = 0, variance: float = 0.95, n_clusters: int | None = None) -> np.ndarray:
    """Clusters of CaR (Ge et al. 2024, §3.3): PCA that keeps `variance` of the variance (0.95, *paper*; centred, not
    standardised, *authors' script*), then k-means with k = ⌊√(n/2)⌋ (*paper*) by Euclidean distance.

    embeddings: (n, d) finite numbers. Returns (n,) int32 labels.
    """
    from hf_mlalign.models.clustering import cluster

    reduced = principal_components(embeddings, variance)
    k = max(1, math.isqrt(len(reduced) // 2)) if n_clusters is None else n_clusters
    return cluster(reduced, k, seed=seed, spherical=False).labels


def principal_components(embeddings: Any, variance: float = 0.95) -> np.ndarray:
    """(n, m) float32 projection onto the fewest principal components that together explain at least `variance`
    (0 < variance ≤ 1) of the variance; one component if the rows do not differ."""
    if not isinstance(variance, Real) or not 0 < variance <= 1:
        raise DataError(f"variance is {variance}; give a share above 0 and up to 1")
    x = finite_vectors(embeddings, dtype=None)
    d = x.shape[1]
    mean = x.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((d, d))
    with one_blas_thread():
        for start in range(0, len(x), 8 * BLOCK):
            block = x[start : start + 8 * BLOCK] - mean
            covariance += block.T @ block
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        explained = np.cumsum(values) / (values.sum() or 1.0)
        m = min(d, int(np.searchsorted(explained, min(variance, explained[-1]), side="left")) + 1)
        reduced = np.empty((len(x), m), dtype=np.float32)
        for start in range(0, len(x), 8 * BLOCK):
            reduced[start : start + 8 * BLOCK] = (x[start : start + 8 * BLOCK] - mean) @ vectors[:, :m]
    return reduced


def deita_select(scores: Any, embeddings: Any, n: int, threshold: float = 0.9) -> np.ndarray:
    """DEITA (Liu et al. 2024, §2.3): go through the rows by score and keep a row if its largest cosine to the rows kept
    so far is at most `threshold` (0.9, *authors' script*), until `n` are kept.

    embeddings: (n_rows, d) numbers, finite in rows that have a score; need not be normalised. A zero vector has
    cosine 0 with every row. Cost: one blocked product of the rows visited with the rows kept.
    """
    if not isinstance(threshold, Real) or threshold != threshold:
        raise DataError(f"threshold is {shown(threshold)}; give a cosine, for instance 0.9")
    n = check_whole(n, "n")
    order, unit = _ordered_units(scores, embeddings)
    kept = np.empty(0, dtype=np.int64)
    with one_blas_thread():
        for start in range(0, len(order), BLOCK):
            if len(kept) >= n:
                break
            block = np.arange(start, min(start + BLOCK, len(order)))
            largest = np.full(len(block), -np.inf, dtype=np.float32)  # cosine to the rows kept
            for first in range(0, len(kept), BLOCK):
                np.maximum(largest, (unit[block] @ unit[kept[first : first + BLOCK]].T).max(axis=1), out=largest)
            block = block[np.minimum(largest, 1) <= threshold]
            kept = np.concatenate([kept, _greedy_block(unit, block, threshold)])
    return order[kept[:n]]


def mmr_select(scores: Any, embeddings: Any, n: int, trade_off: float = 0.5) -> np.ndarray:
    """Exact maximal marginal relevance (Carbonell & Goldstein 1998): repeatedly take the row with the largest
    trade_off · quality − (1 − trade_off) · (largest cosine to the rows taken); the first row by quality alone.

    Quality is the score scaled to [0, 1] over the rows that have one (all equal: 0; ±inf count as the largest and
    smallest finite score). trade_off: in [0, 1] (0.5, *ours*); 1 is top-n by score. Ties are broken by row number.
    Cost at most O(n_rows · n · d): a row's value can only fall as rows are taken, so a row is compared with them only
    when its last known value is among the largest. Exact up to the float32 rounding of the cosines (about 1e-7).
    Memory: one float32 copy of the scorable embeddings.
    """
    check_share(trade_off, "trade_off")
    scores = as_scores(scores)
    order, unit = _ordered_units(scores, embeddings, by_score=False)
    n = min(check_whole(n, "n"), len(order))
    quality = scores[order].astype(np.float64)
    finite = quality[np.isfinite(quality)]
    if len(finite):
        low, high = finite.min(), finite.max()
        quality = (np.clip(quality, low, high) - low) / ((high - low) or 1.0)
    else:
        quality = (quality > 0).astype(np.float64)
    with one_blas_thread():
        return order[_greedy_mmr(unit, trade_off * quality, 1 - trade_off, n)]


def _ordered_units(scores: Any, embeddings: Any, by_score: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a score (in order of score or row number) and their embeddings as float32 unit vectors."""
    scores = as_scores(scores)
    embeddings = as_table(embeddings)
    if len(embeddings) != len(scores):
        raise DataError(f"embeddings has shape {embeddings.shape} for {len(scores)} scores; pass one row per score")
    rows = np.flatnonzero(~np.isnan(scores))
    order = score_order(scores) if by_score else rows
    return order, unit_rows(finite_vectors(embeddings, rows=rows, dtype=None)[order].astype(np.float32))


def _greedy_block(unit: np.ndarray, rows: np.ndarray, threshold: float) -> np.ndarray:
    """Of `rows`, in order, those whose cosine to every row kept before is at most `threshold`."""
    close = np.minimum(unit[rows] @ unit[rows].T, 1) > threshold
    open_, kept = np.ones(len(rows), dtype=bool), []
    i = 0
    while i < len(rows):
        kept.append(i)
        open_ &= ~close[i]
        open_[: i + 1] = False
        i = int(np.argmax(open_)) if open_.any() else len(rows)
    return rows[kept]


def _greedy_mmr(unit: np.ndarray, quality: np.ndarray, penalty: float, n: int) -> np.ndarray:
    """`n` positions by exact MMR.

    Each row stores its largest cosine to the first `seen` rows taken, and the value that follows from it: `bound`,
    which is never below the current value (−inf, like `quality`, for rows taken). The steps run inside a window of the
    rows with the largest bounds, as long as the best of them beats every bound outside.
    """
    if not n:
        return np.empty(0, dtype=np.int64)
    taken, step = np.full(n, int(np.argmax(quality)), dtype=np.int64), 1
    quality = quality.copy()
    quality[taken[0]] = -np.inf
    largest_of = unit @ unit[taken[0]]
    bound = quality - penalty * largest_of
    seen_of = np.ones(len(unit), dtype=np.int64)
    while step < n:
        window, outside, outside_row = _top_window(bound, WINDOW)
        for seen in np.unique(seen_of[window]):  # compare them with the rows taken since the last comparison
            behind = window[seen_of[window] == seen]
            for start in range(int(seen), step, BLOCK):
                cosine = unit[behind] @ unit[taken[start : min(start + BLOCK, step)]].T
                largest_of[behind] = np.maximum(largest_of[behind], cosine.max(axis=1))
            bound[behind] = quality[behind] - penalty * largest_of[behind]
        rows, gain, largest, value = unit[window], quality[window], largest_of[window], bound[window]
        while step < n:
            best = int(np.argmax(value))
            if (value[best], -window[best]) < (outside, -outside_row):
                break
            taken[step] = window[best]
            step += 1
            gain[best] = -np.inf
            np.maximum(largest, rows @ rows[best], out=largest)
            np.subtract(gain, penalty * largest, out=value)
        quality[window], largest_of[window], bound[window] = gain, largest, value
        seen_of[window] = step
    return taken


def _top_window(bound: np.ndarray, size: int) -> tuple[np.ndarray, float, int]:
    """Rows with the `size` largest bounds (ties: lowest rows), ascending; largest bound outside and its first row."""
    if len(bound) <= size:
        return np.arange(len(bound)), -np.inf, len(bound)
    limit = np.partition(bound, len(bound) - size)[len(bound) - size]
    inside = bound > limit
    inside[np.flatnonzero(bound == limit)[: size - int(inside.sum())]] = True
    rest = np.where(inside, -np.inf, bound)
    first = int(np.argmax(rest))
    return np.flatnonzero(inside), float(rest[first]), first


def score_order(scores: Any) -> np.ndarray:
    """Row numbers by score, best first, ties by row number, rows with NaN left out; ±inf are ordinary values."""
    scores = as_scores(scores)
    rows = np.flatnonzero(~np.isnan(scores))
    return rows[np.argsort(-scores[rows], kind="stable")]


def as_scores(values: Any, argument: str = "scores") -> np.ndarray:
    """`values` as a 1-D float array (None becomes NaN); DataError for anything else."""
    array = values if isinstance(values, np.ndarray) and values.dtype.kind == "f" else as_numbers(values, argument)
    if array.ndim != 1:
        raise DataError(f"{argument} has shape {array.shape}; pass a 1-D array, one number per row")
    return array
