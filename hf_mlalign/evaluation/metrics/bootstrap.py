"""Bootstrap intervals of means of clustered values: whole clusters are resampled, without a loop over resamples.

A resample draws G of the G clusters with replacement. Only how often each is drawn matters, and clusters with the same
sum and size are exchangeable. So for each resample one multinomial draw says how many clusters of each such type there
are in it, which has exactly the distribution that G single draws give.

Where there are too many types for that to be fast, cluster means within 1/64 of their range (and of equal size) are
replaced by their mean. It changes no estimate and is done only if it takes at most 0.1 % off the variance, which is
0.05 % of the interval's width.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_codes, as_list, check_list, check_whole, is_missing
from hf_mlalign.data.columns import codes_of

BLOCK = 4_000_000
CLUSTERS_PER_TYPE = 10
BINS = 64
LOST_VARIANCE = 1e-3
SAMPLE = 2048
RARE = 10


@dataclass(frozen=True)
class ClusterSums:
    """Values added up by cell, a pair of group and cluster that occurs; the cells are sorted by group, then cluster.

    sums, sizes: (cells,) float64 sum and number of the values.
    clusters: (cells,) int64 in [0, n_clusters).
    starts: (n_groups + 1,) int64; the cells of group k are starts[k] : starts[k + 1].
    """

    sums: np.ndarray
    sizes: np.ndarray
    clusters: np.ndarray
    starts: np.ndarray
    n_clusters: int

    @classmethod
    def of(cls, values: np.ndarray, clusters: np.ndarray, groups: np.ndarray, n_groups: int) -> ClusterSums:
        """Add up (n,) values by their (n,) codes; cluster codes need not be dense."""
        groups = as_codes(groups, len(values), "groups").astype(np.int64)
        present, clusters = _dense(as_codes(clusters, len(values), "clusters"))
        n_clusters = len(present)
        if n_clusters == len(values):
            order = np.argsort(groups.astype(np.uint16) if n_groups < 2**16 else groups, kind="stable")
            starts = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=n_groups))])
            return cls(values[order], np.ones(len(values)), clusters[order], starts, n_clusters)
        cells, rows = _dense(groups * n_clusters + clusters)
        sizes = np.bincount(rows, minlength=len(cells)).astype(np.float64)
        sums = np.bincount(rows, weights=values, minlength=len(cells))
        starts = np.searchsorted(cells, np.arange(n_groups + 1) * n_clusters)
        return cls(sums, sizes, cells % max(n_clusters, 1), starts, n_clusters)

    def group(self, code: int) -> tuple[np.ndarray, np.ndarray]:
        """Sums and sizes of the clusters that have the group."""
        part = slice(self.starts[code], self.starts[code + 1])
        return self.sums[part], self.sizes[part]

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_clusters,) sums and sizes over all groups, in any order of the clusters."""
        if len(self.sums) == self.n_clusters:
            return self.sums, self.sizes
        return self.by_cluster(self.sums), self.by_cluster(self.sizes)

    def by_cluster(self, values: np.ndarray) -> np.ndarray:
        """(n_clusters,) sums of (cells,) values."""
        return np.bincount(self.clusters, weights=values, minlength=self.n_clusters)


def _dense(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct values of non-negative integers, and their positions in it."""
    top = int(codes.max(initial=-1)) + 1
    if top > 4 * len(codes) + 1024:
        return np.unique(codes, return_inverse=True)
    there = np.zeros(top, bool)
    there[codes] = True
    present = np.flatnonzero(there)
    return present, codes if len(present) == top else (np.cumsum(there) - 1)[codes]


def standard_error(sums: np.ndarray, sizes: np.ndarray) -> float:
    """Cluster-robust standard error of Σ sums / Σ sizes, one entry a cluster; NaN for fewer than two clusters.

    √(G/(G−1) · Σ_g (s_g − n_g·ȳ)²) / Σ_g n_g. With one value a cluster it is the usual s/√n.
    """
    n = len(sums)
    if n < 2:
        return float("nan")
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    return float(np.sqrt(n / (n - 1) * np.sum(residuals**2)) / sizes.sum())


def resample(
    sums: np.ndarray, sizes: np.ndarray, n_clusters: int, n_resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Total sum and size in each resample of the clusters.

    Args:
        sums, sizes: (c,) float64 of the clusters that have any value, sizes above 0.
        n_clusters: of all, c or more; the others add nothing when drawn.
        n_resamples: R.
    Returns:
        (R,) float64 each. The size is 0 where no cluster with values was drawn.
    """
    sums, sizes, counts = _types(sums, sizes)
    shares = np.append(counts, n_clusters - counts.sum()) / n_clusters
    totals = np.empty((2, n_resamples))
    step = max(1, BLOCK // len(shares))
    for begin in range(0, n_resamples, step):
        part = slice(begin, min(begin + step, n_resamples))
        drawn = rng.multinomial(n_clusters, shares, size=part.stop - begin)[:, :-1].astype(np.float64)
        totals[0, part], totals[1, part] = np.einsum("rt,t->r", drawn, sums), np.einsum("rt,t->r", drawn, sizes)
    return totals[0], totals[1]


def _types(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum, size and number of clusters of each type, in an order that does not depend on that of the clusters."""
    few = len(sums) // CLUSTERS_PER_TYPE
    equal = sizes.min() == sizes.max()
    many = len(sums) > 20 * SAMPLE and len(np.unique(sums[:: len(sums) // SAMPLE])) > SAMPLE // 2  # a sample shows it
    if few and not many:
        codes, distinct = _distinct(sums)
        if len(distinct) <= few and equal:
            return distinct, np.full(len(distinct), sizes[0]), np.bincount(codes)
        if len(distinct) <= few and (types := _grouped(sums, sizes, codes, len(distinct))):
            return types
    if few:
        means = sums if equal else sums / sizes
        low, high = means.min(), means.max()
        bins = np.minimum((means - low) * (BINS / (high - low or 1)), BINS - 1).astype(np.int64)
        if types := _grouped(sums, sizes, bins, BINS):
            return types
    order = np.lexsort((sums, sizes))
    return sums[order], sizes[order], np.ones(len(sums), np.int64)


def _grouped(
    sums: np.ndarray, sizes: np.ndarray, codes: np.ndarray, n_codes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Types of equal size and code; `None` if there are too many or their mean sums lose variance."""
    _, types = _dense(_dense(sizes.astype(np.int64))[1] * n_codes + codes)
    counts = np.bincount(types)
    if len(counts) * CLUSTERS_PER_TYPE > len(sums):
        return None
    means = np.bincount(types, weights=sums) / counts
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    if np.sum((sums - means[types]) ** 2) > LOST_VARIANCE * np.sum(residuals**2):
        return None
    return means, np.bincount(types, weights=sizes) / counts, counts


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the distinct values, and these in ascending order; only the distinct are sorted."""
    import pyarrow as pa

    encoded = pa.array(values).dictionary_encode()
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(distinct)
    position = np.empty(len(distinct), np.int64)
    position[order] = np.arange(len(distinct))
    return position[encoded.indices.to_numpy(zero_copy_only=False)], distinct[order]


def percentile_interval(replicates: np.ndarray, confidence: float, n_clusters: float) -> tuple[float, float]:
    """Expanded percentile interval (Hesterberg 2015, The American Statistician 69, section 4.2).

    The quantiles are taken at Φ(∓√(G/(G−1))·t_{G−1}) in place of α/2 and 1 − α/2, which makes up for the spread that a
    bootstrap of G clusters lacks; it matters below some 50 clusters.

    Args:
        replicates: (R,) figures of the resamples; NaN is left out.
        confidence: in (0, 1).
        n_clusters: G.
    Returns:
        Lower and upper limit; NaN for fewer than two clusters or no replicates.
    """
    from scipy.special import ndtr, stdtrit

    replicates = replicates[~np.isnan(replicates)]
    if n_clusters < 2 or not len(replicates):
        return float("nan"), float("nan")
    width = np.sqrt(n_clusters / (n_clusters - 1)) * stdtrit(n_clusters - 1, (1 + confidence) / 2)
    low, high = np.quantile(replicates, [ndtr(-width), ndtr(width)])
    return float(low), float(high)


def unanimous_interval(value: float, n_clusters: int, confidence: float) -> tuple[float, float]:
    """Limits in [0, 1] where all G clusters have the same mean, so that no resample differs from another.

    What was not seen in G clusters has at most the probability q = 1 − (α/2)^(1/G); all of it may lie at 0 or at 1:
    [v·(1 − q), v + (1 − v)·q]. For v of 0 or 1 it is the Clopper-Pearson interval.
    """
    unseen = 1 - ((1 - confidence) / 2) ** (1 / n_clusters)
    return value * (1 - unseen), value + (1 - value) * unseen


def share_interval(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson limits of a share near 0 or 1, where a bootstrap is too narrow; else NaN.

    Too few of a kind were seen if n·share or n·(1 − share) is below 10 (*ours*). Counts need not be whole, as in Korn
    and Graubard 1998 (Survey Methodology 24): a mean of independent values in [0, 1] varies no more than a share of
    0s and 1s. For a share of 1 it is `unanimous_interval`.

    Args:
        share: in [0, 1], or NaN.
        n: independent units, above 0.
        confidence: in (0, 1).
    """
    from scipy.special import betaincinv

    share = min(max(share, 0.0), 1.0) if share == share else share
    if not n * min(share, 1 - share) < RARE:
        return float("nan"), float("nan")
    hits, misses, tail = n * share, n * (1 - share), (1 - confidence) / 2
    low = betaincinv(hits, misses + 1, tail) if hits > 0 else 0.0
    high = betaincinv(hits + 1, misses, 1 - tail) if misses > 0 else 1.0
    return float(low), float(high)


def check_bootstrap(n_resamples: int, confidence: float, seed: int = 0) -> None:
    """DataError for options out of range."""
    check_whole(n_resamples, "n_resamples", "; 0 leaves the intervals out")
    check_whole(seed, "seed")
    if not isinstance(confidence, Real) or not 0 < confidence < 1:
        raise DataError(f"confidence: {confidence!r} is not a number between 0 and 1. Give e.g. 0.95.")


def prompt_codes(values: Any) -> np.ndarray:
    """(n,) int64 codes of prompt ids in order of first appearance; values without an Arrow type are compared as text.

    Raises:
        DataError: a text instead of a list, or a missing id (`None` or NaN; first row named).
    """
    name = "prompt_ids"
    check_list(values, name)
    try:
        column = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, from_pandas=True)
    except (pa.ArrowException, UnicodeError, OverflowError):
        column = None
    if column is None or isinstance(column.type, pa.BaseExtensionType):
        texts = [None if is_missing(value) else str(value) for value in as_list(values, name)]
        column = pa.array([text and text.encode("utf-8", "surrogatepass") for text in texts], pa.binary())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return codes_of(column, name)[0].astype(np.int64)
