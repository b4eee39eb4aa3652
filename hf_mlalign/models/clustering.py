"""K-means over embeddings: faiss finds the nearest centroids, and the result depends only on the data and the seed.

It differs from a bare `faiss.Kmeans` in three ways:

* **Same bits for any thread count.** A BLAS that splits one product over threads may round differently for each
  thread count. Here the rows are cut into blocks of a fixed size, each block is searched by one thread with
  single-threaded BLAS, and several blocks run at once. Centroid sums are accumulated in row order.
* **No copy of the embeddings.** Blocks are read, cast to float32 and normalised one at a time, so memory-mapped,
  float16, strided and unnormalised input all work, and the extra memory is one block per thread, the centroids
  and a few numbers per row.
* **Canonical labels.** Clusters are numbered by first appearance, so equal partitions have equal labels.

Bits are reproducible on one kind of CPU; another instruction set may round differently.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import as_codes, as_list, check_list, check_whole
from hf_mlalign.models.kmeans import Clustering, KMeansOptions, Matrix, Rows, as_matrix, cluster_rows, positive

__all__ = [
    "Clustering",
    "Coverage",
    "LanguageClustering",
    "cluster",
    "cluster_by_language",
    "coverage",
    "default_n_clusters",
]


@dataclass(frozen=True)
class LanguageClustering:
    """One clustering per language over the same rows.

    labels: (n,) int32, unique over all languages: language `l` uses `offsets[l] … offsets[l] + n_clusters − 1`.
    by_language: the `Clustering` of each language, its labels starting at 0, in row order.
    """

    labels: np.ndarray
    by_language: dict[str, Clustering]
    offsets: dict[str, int]
    n_clusters: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Coverage:
    """How many of a pool's clusters a selection touches; `share` is in [0, 1] (0 for a pool without clusters)."""

    n_covered: int
    n_clusters: int
    share: float


def default_n_clusters(n: int, n_quality: int = 6000, n_diversity: int = 1000) -> int:
    """Number of clusters for a pool of `n` rows from which `n_quality` + `n_diversity` are selected (*ours*).

    Diversity-aware selection takes one row from each cluster that the quality part left uncovered, so `n_diversity`
    such clusters must exist. If the quality rows fell at random into k clusters of equal size n/k, a cluster
    would stay uncovered with probability about (1 − n_quality/n)^(n/k). The result is the smallest k whose
    expected number of uncovered clusters, k·(1 − n_quality/n)^(n/k), reaches `n_diversity`. In real data, quality
    rows bunch together and clusters differ in size, both of which leave more clusters uncovered than that.

    Bounds: at least ⌊√(n/2)⌋ (CaR, Ge et al. 2024), and at most n/4, because with fewer than four rows per cluster
    k-means returns mostly single rows, and covering them no longer means covering a topic. With the paper's
    budget (6,000 + 1,000 of 52,000) it gives about 4,300 clusters of about 12 rows each.
    """
    for name, value in (("n", n), ("n_quality", n_quality), ("n_diversity", n_diversity)):
        check_whole(value, name)
    if n == 0:
        return 0
    low = max(1, math.isqrt(n // 2))
    high = max(low, n // 4)
    left = 1.0 - min(n_quality, n) / n

    def uncovered(k: int) -> float:
        return k * left ** (n / k)

    if uncovered(high) <= n_diversity:
        return high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if uncovered(middle) >= n_diversity else (middle + 1, high)
    return low


def cluster(
    embeddings: Any,
    n_clusters: int | None = None,
    seed: int = 0,
    n_iter: int = 20,
    spherical: bool = True,
    max_points_per_centroid: int = 256,
    *,
    n_quality: int = 6000,
    n_diversity: int = 1000,
    bad_rows: str = "raise",
    n_threads: int | None = None,
) -> Clustering:
    """K-means over the rows of `embeddings`, reproducible for any number of threads.

    Args:
        embeddings: (n, d) array of numbers with any float or integer dtype and any strides, `np.memmap` included. It
            is read in blocks, never copied whole, and never changed.
        n_clusters: clusters to make; None means `default_n_clusters(n, n_quality, n_diversity)` (*ours*). If there are
            fewer distinct rows, as many clusters are made as there are distinct rows, with a note.
        seed: for the initial centroids and the training sample (0, *ours*).
        n_iter: maximal number of Lloyd iterations (20, *ours*); stops early once no row changes its cluster.
        spherical: True (*ours*) clusters by cosine; rows need not be normalised. Zero vectors have no direction and
            form one cluster of their own (unless `n_clusters` is 1). False: squared Euclidean distance.
        max_points_per_centroid: with more than this many rows per cluster, the centroids are trained on a seeded
            sample of `n_clusters * max_points_per_centroid` rows and all rows assigned once (256, faiss's default).
        bad_rows: "raise" (*ours*) or "mask": rows with NaN or infinity get label −1 and a note.
        n_threads: None takes what faiss would (`OMP_NUM_THREADS`, `faiss.omp_set_num_threads`, or else every core).

    Raises:
        DataError: another shape or dtype, no rows, or a row with NaN or infinity.
    """
    matrix = _as_matrix(embeddings)
    options = KMeansOptions(seed, n_iter, spherical, max_points_per_centroid, bad_rows, n_threads)
    if n_clusters is None:
        n_clusters = default_n_clusters(len(matrix), n_quality, n_diversity)
    return cluster_rows(matrix, None, positive(n_clusters, "n_clusters"), options)


def cluster_by_language(
    embeddings: Any,
    languages: Sequence[str],
    n_clusters: int | Mapping[str, int] | None = None,
    seed: int = 0,
    *,
    n_quality: int | Mapping[str, int] = 6000,
    n_diversity: int | Mapping[str, int] = 1000,
    **options: Any,
) -> LanguageClustering:
    """Cluster the rows of each language separately, with cluster ids that are unique over all languages.

    A language's partition depends only on its own rows and their order, the seed and its name, and not on which other
    languages there are or how they are interleaved. Ids follow the alphabetical order of the languages.

    Args:
        embeddings, seed: see `cluster`.
        languages: (n,) strings, one per row.
        n_clusters, n_quality, n_diversity: one number for every language, or a mapping from language to number;
            `n_clusters=None` uses `default_n_clusters` for each.
        **options: n_iter, spherical, max_points_per_centroid, bad_rows and n_threads, see `cluster`.
    Raises:
        DataError: a missing language, a mapping that lacks one of the languages, or any error of `cluster`.
    """
    matrix = _as_matrix(embeddings)
    check_list(languages, "languages")
    if len(languages) != len(matrix):
        raise DataError(
            f"languages has {len(languages)} entries for {len(matrix)} rows of embeddings; pass one per row"
        )
    groups = group_rows(languages)
    return cluster_groups(matrix, groups, n_clusters, seed, n_quality=n_quality, n_diversity=n_diversity, **options)


def cluster_groups(
    embeddings: Any,
    groups: Mapping[str, np.ndarray],
    n_clusters: int | Mapping[str, int] | None = None,
    seed: int = 0,
    *,
    n_quality: int | Mapping[str, int] = 6000,
    n_diversity: int | Mapping[str, int] = 1000,
    **options: Any,
) -> LanguageClustering:
    """`cluster_by_language` for the rows that belong to a group; all others get the label −1.

    groups: name → row numbers, int64, ascending (see `group_rows`). Only these rows of the embeddings are read.
    """
    matrix = _as_matrix(embeddings)
    labels = np.full(len(matrix), -1, dtype=np.int32)
    by_language: dict[str, Clustering] = {}
    offsets: dict[str, int] = {}
    total = 0
    for name in sorted(groups):
        rows = groups[name]
        k = _for_language(n_clusters, name, "n_clusters")
        if k is None:
            nq, nd = (_for_language(x, name, a) for x, a in ((n_quality, "n_quality"), (n_diversity, "n_diversity")))
            k = default_n_clusters(len(rows), nq, nd)
        language_seed = [seed, zlib.crc32(name.encode("utf-8", "surrogatepass"))]
        k = positive(k, f"n_clusters of {name!r}")
        found = cluster_rows(matrix, Rows(rows), k, KMeansOptions(language_seed, **options))
        labels[rows] = np.where(found.labels >= 0, found.labels + total, -1)
        by_language[name], offsets[name] = found, total
        total += found.n_clusters
    notes = tuple(f"{name}: {note}" for name, found in by_language.items() for note in found.notes)
    return LanguageClustering(labels, by_language, offsets, total, notes)


def coverage(labels_selected: Any, labels_pool: Any) -> Coverage:
    """Number and share of the pool's clusters that hold at least one selected row.

    Both arguments are 1-D integer cluster labels; negative ones (rows that were not clustered) do not count.
    Raises DataError if a selected label is not in the pool.
    """
    clusters = []
    for name, labels in (("labels_selected", labels_selected), ("labels_pool", labels_pool)):
        check_list(labels, name)
        found = np.unique(as_codes(labels, len(labels), name, least=-(2**63)))
        clusters.append(found[found >= 0])
    chosen, pool = clusters
    foreign = np.setdiff1d(chosen, pool)
    if len(foreign):
        raise DataError(
            f"labels_selected has clusters that labels_pool lacks: {listed(foreign)}; pass the labels of the pool "
            "the rows were selected from"
        )
    return Coverage(len(chosen), len(pool), len(chosen) / len(pool) if len(pool) else 0.0)


def group_rows(languages: Sequence[str], wanted: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Language → its row numbers, ascending, int64; languages in alphabetical order.

    wanted: (n,) bool; rows that are not wanted are in no group and need no language.
    Raises DataError for a row without a language.
    """
    codes, names = text_codes(languages)
    missing = codes == (names.index("") if "" in names else -1)
    missing = missing if wanted is None else missing & wanted
    if np.any(missing):
        raise DataError(f"languages has no language in row {np.argmax(missing)} (''); fill it or drop the row")
    if wanted is not None:
        codes = np.where(wanted, codes, len(names))
    codes = codes.astype(np.min_scalar_type(len(names)))  # numpy sorts small integers in linear time
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    parts = {name: order[end - size : end] for name, size, end in zip(names, np.diff(ends, prepend=0), ends)
             if size}  # fmt: skip
    return {name: parts[name] for name in sorted(parts)}


def _as_matrix(embeddings: Any) -> Matrix:
    matrix = as_matrix(embeddings)
    if 0 in matrix.shape:
        raise DataError(f"embeddings has shape {matrix.shape}: nothing to cluster; pass at least one row and column")
    return matrix


def text_codes(languages: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """(n,) int32 codes and the distinct texts; for an array of texts, no Python object per row is made."""
    if isinstance(languages, np.ndarray) and languages.dtype.kind == "U" and languages.size:
        return _text_codes(np.ascontiguousarray(languages))
    values = as_list(languages, "languages")
    number: dict[str, int] = {}
    codes = np.empty(len(values), dtype=np.int32)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"languages has no language in row {row} ({value!r}); fill it or drop the row")
        codes[row] = number.setdefault(value, len(number))
    return codes, list(number)


def _text_codes(texts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The same by hashes of the texts, which are compared with the texts afterwards."""
    import pandas as pd

    hashes = np.zeros(len(texts), dtype=np.uint64)
    for points in texts.view(np.uint32).reshape(len(texts), -1).T:
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + points
    codes, distinct = pd.factorize(hashes)
    first = np.empty(len(distinct), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    names = texts[first]
    if not (names[codes] == texts).all():
        names, codes = np.unique(texts, return_inverse=True)
    return codes.astype(np.int32), names.tolist()


def _for_language(value: Any, name: str, argument: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if name not in value:
        raise DataError(f"{argument} has no entry for language {name!r}; it has {listed(sorted(value))}")
    return value[name]
