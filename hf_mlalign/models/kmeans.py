"""The k-means behind `hf_mlalign.models.clustering`: matrices read in blocks, threads, and Lloyd's iterations.

Selection rounds vectors to float16 (*ours*), in memory and on disk, so that every engine clusters the same numbers.
"""

from __future__ import annotations

import heapq
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hf_mlalign.core.errors import DataError, counted
from hf_mlalign.core.validation import as_array, check_whole

SEARCH_BLOCK = 2048
SUM_BLOCK = 16_384
SPLIT_EPS = 1 / 1024
ZERO_NORM = 1e-30
UNIT = 1e-6
COPY_BYTES = 64 * 2**20
COPY_SHARE = 0.25
DISK_COPY_BYTES = 2**30


@runtime_checkable
class Matrix(Protocol):
    """An (n, d) matrix of numbers that is read in blocks: `matrix[a:b]` and `matrix[row numbers]` return arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> np.ndarray: ...


def to_float16(vectors: Any) -> np.ndarray:
    """The numbers as a contiguous float16 array; numbers beyond ±65,504 become infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(vectors, dtype=np.float16)


def as_matrix(embeddings: Any) -> Matrix:
    """`embeddings` itself if it can be read in blocks, otherwise as an array.

    Raises:
        DataError: it does not have two dimensions, or does not hold numbers.
    """
    known = isinstance(embeddings, Matrix) and isinstance(embeddings.dtype, np.dtype)
    matrix = embeddings if known else as_array(embeddings, "embeddings")
    if len(matrix.shape) != 2:
        raise DataError(f"embeddings has shape {matrix.shape}; pass a 2-D array, one row per sample")
    if matrix.dtype.kind not in "fiu":
        raise DataError(f"embeddings has dtype {matrix.dtype}; pass numbers, for instance float32")
    return matrix


def rounded(embeddings: Any) -> Matrix:
    """A view of the matrix whose blocks are float16; nothing is copied until a block is read."""
    matrix = as_matrix(embeddings)
    return matrix if matrix.dtype == np.float16 else Float16View(matrix)


class Float16View:
    """A matrix whose blocks are rounded to float16 when they are read."""

    dtype = np.dtype(np.float16)

    def __init__(self, matrix: Matrix):
        self.matrix, self.shape = matrix, tuple(matrix.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        return to_float16(self.matrix[key])


@dataclass(frozen=True)
class Clustering:
    """A partition of `n` rows.

    Attributes:
        labels: (n,) int32, 0 … n_clusters − 1 in order of first appearance; −1 for a masked row.
        centroids: (n_clusters, d) float32, of unit length when spherical (a cluster of zero vectors has a zero one).
        objective: mean cosine of the rows to their centroid (spherical; −1 … 1, higher is better), or their mean
            squared Euclidean distance (not spherical; ≥ 0, lower is better).
        n_clusters: clusters that hold at least one row; may be fewer than requested (see `notes`).
        n_iter: Lloyd iterations run (fewer than requested if the assignment stopped changing).
        notes: everything that differs from the request, one sentence each.
    """

    labels: np.ndarray
    centroids: np.ndarray
    objective: float
    n_clusters: int
    n_iter: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KMeansOptions:
    """Options of `hf_mlalign.models.clustering.cluster`, checked; `seed` may be a list of numbers."""

    seed: Any
    n_iter: int = 20
    spherical: bool = True
    max_points_per_centroid: int = 256
    bad_rows: str = "raise"
    n_threads: int | None = None

    def __post_init__(self) -> None:
        positive(self.max_points_per_centroid, "max_points_per_centroid")
        if not isinstance(self.n_iter, Integral) or self.n_iter < 0:
            raise DataError(f"n_iter is {self.n_iter!r}; give 0 or more iterations")
        for part in self.seed if isinstance(self.seed, (list, tuple)) else [self.seed]:
            check_whole(part, "seed")
        if self.bad_rows not in ("raise", "mask"):
            raise DataError(f'bad_rows is {self.bad_rows!r}; use "raise" or "mask"')
        if self.n_threads is not None:
            positive(self.n_threads, "n_threads")


class Rows:
    """Row numbers of the matrix; a slice if they are consecutive, so that reading them copies nothing."""

    def __init__(self, index: np.ndarray) -> None:
        self.index = index
        consecutive = len(index) > 0 and index[-1] - index[0] + 1 == len(index)
        self.start = int(index[0]) if consecutive else None

    def __len__(self) -> int:
        return len(self.index)

    def part(self, start: int, stop: int) -> slice | np.ndarray:
        if self.start is None:
            return self.index[start:stop]
        return slice(self.start + start, self.start + min(stop, len(self.index)))


@dataclass
class Reader:
    """Blocks of float32 rows, normalised if `scale` (one factor per row of `rows`) is given."""

    matrix: Matrix
    rows: Rows
    scale: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def block(self, start: int, stop: int) -> np.ndarray:
        x = np.ascontiguousarray(self.matrix[self.rows.part(start, stop)], dtype=np.float32)
        return x if self.scale is None else x * self.scale[start:stop, None]

    def take(self, positions: np.ndarray) -> Reader:
        scale = None if self.scale is None else self.scale[positions]
        return Reader(self.matrix, Rows(self.rows.index[positions]), scale)

    def all(self) -> np.ndarray:
        return self.block(0, len(self))

    def prepared(self) -> Reader:
        """The same rows, copied once to contiguous float32 if they are few: at most a quarter of a matrix that is in
        memory (as float32), or 1 GiB of one that is not (*ours*)."""
        in_memory = isinstance(self.matrix, np.ndarray) and not isinstance(self.matrix, np.memmap)
        ready = in_memory and self.matrix.dtype == np.float32 and self.matrix.flags.c_contiguous
        if ready and self.scale is None and self.rows.start is not None:
            return self
        held = isinstance(getattr(self.matrix, "matrix", self.matrix), np.ndarray)
        n, d = self.matrix.shape
        limit = max(COPY_BYTES, COPY_SHARE * 4 * n * d) if held else DISK_COPY_BYTES
        if 4 * len(self) * d > limit:
            return self
        copy = np.empty((len(self), d), dtype=np.float32)
        for start in range(0, len(self), SEARCH_BLOCK):
            copy[start : start + SEARCH_BLOCK] = self.block(start, start + SEARCH_BLOCK)
        return Reader(copy, Rows(np.arange(len(self))))


@dataclass
class Workers:
    """Threads that each run faiss and its BLAS single-threaded; the caller's settings are not changed."""

    pool: ThreadPoolExecutor
    spherical: bool

    def nearest(self, reader: Reader, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(labels int64, closeness float32) of every row: cosine, or minus the squared distance."""
        import faiss

        index = (faiss.IndexFlatIP if self.spherical else faiss.IndexFlatL2)(centroids.shape[1])
        index.add(centroids)
        labels = np.empty((len(reader), 1), dtype=np.int64)
        close = np.empty((len(reader), 1), dtype=np.float32)

        def search(start: int) -> None:
            part = slice(start, start + SEARCH_BLOCK)
            index.search(reader.block(part.start, part.stop), 1, D=close[part], I=labels[part])

        list(self.pool.map(search, range(0, len(reader), SEARCH_BLOCK)))
        close = close[:, 0] if self.spherical else -close[:, 0]
        return labels[:, 0], close

    def sums(self, reader: Reader, labels: np.ndarray, k: int) -> np.ndarray:
        """(k, d) float32 sum of the rows of each cluster, in row order."""
        from scipy.sparse import csc_matrix

        total = np.zeros((k, reader.matrix.shape[1]), dtype=np.float32)
        for start in range(0, len(reader), SUM_BLOCK):
            block = reader.block(start, start + SUM_BLOCK)
            m = len(block)
            ones = np.ones(m, dtype=np.float32)
            member = csc_matrix((ones, labels[start : start + m], np.arange(m + 1)), shape=(k, m))
            total += member @ block
        return total


def cluster_rows(matrix: Matrix, rows: Rows | None, n_clusters: int, options: KMeansOptions) -> Clustering:
    """K-means over these rows of the matrix (`None`: all); see `hf_mlalign.models.clustering.cluster`."""
    rows = rows or Rows(np.arange(len(matrix)))
    n, notes = len(rows), []
    if n_clusters > n:
        notes.append(f"made {n} of {n_clusters} clusters (only {counted(n, 'row')})")
        n_clusters = n
    norms = _check_rows(matrix, rows, options.bad_rows)
    labels = np.full(n, -1, dtype=np.int64)
    good = np.isfinite(norms)
    if not good.all():
        notes.append(f"masked {counted(n - good.sum(), 'row')} with NaN or infinity (label -1)")
    zero = good & (norms < ZERO_NORM) if options.spherical else np.zeros(n, dtype=bool)
    usable = np.flatnonzero(good & ~zero)
    apart = bool(zero.any()) and n_clusters > 1 and len(usable) > 0
    if zero.any():
        place = "a cluster of their own" if apart else "the only cluster"
        notes.append(f"put {counted(zero.sum(), 'zero vector')} without direction into {place}")
    rescale = options.spherical and bool((np.abs(norms[usable] - 1) > UNIT).any())
    reader = Reader(matrix, rows, _scale(norms) if rescale else None)
    reader = (reader if len(usable) == n else reader.take(usable)).prepared()
    centroids, closeness, n_iter = _fit(reader, n_clusters - apart, options, labels, usable, notes)
    labels[zero] = len(centroids) if apart else 0
    if zero.any() and (apart or not len(centroids)):
        centroids = np.concatenate([centroids, np.zeros((1, matrix.shape[1]), dtype=np.float32)])
    objective = float(closeness.sum(dtype=np.float64)) / max(1, int(good.sum()))
    return _canonical(labels, centroids, objective if options.spherical else abs(objective), n_iter, notes)


def _fit(
    reader: Reader, k: int, options: KMeansOptions, labels: np.ndarray, usable: np.ndarray, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Train, assign every usable row (written into `labels`) → centroids, closeness of each row, iterations."""
    import faiss

    if not len(reader):
        return np.empty((0, reader.matrix.shape[1]), dtype=np.float32), np.empty(0, dtype=np.float32), 0
    rng = np.random.default_rng(options.seed)
    sample = reader
    if len(reader) > k * options.max_points_per_centroid:
        size = k * options.max_points_per_centroid
        sample = reader.take(np.sort(rng.choice(len(reader), size, replace=False))).prepared()
        notes.append(f"trained the centroids on a sample of {size} of {len(reader)} rows")
    centroids = _distinct_rows(sample, k, rng)
    if len(centroids) < k:
        found = counted(len(centroids), "distinct row")
        notes.append(f"made {len(centroids)} of {k} clusters (only {found})")
    threads = options.n_threads or min(faiss.omp_get_max_threads(), os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, initializer=lambda: faiss.omp_set_num_threads(1)) as pool:
        workers = Workers(pool, options.spherical)
        centroids, found, n_iter = _lloyd(workers, sample, centroids, options.n_iter)
        if found is None or sample is not reader:
            found = workers.nearest(reader, centroids)
    labels[usable] = found[0]
    used = len(np.unique(found[0]))
    if used < len(centroids):
        notes.append(f"dropped {len(centroids) - used} of {len(centroids)} clusters that were empty at the end")
    return centroids, found[1], n_iter


def _lloyd(
    workers: Workers, reader: Reader, centroids: np.ndarray, n_iter: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None, int]:
    """Lloyd's iterations → centroids, the assignment that belongs to them (None if unknown), iterations run."""
    before = None
    for step in range(n_iter):
        labels, closeness = workers.nearest(reader, centroids)
        if before is not None and np.array_equal(before, labels):
            return centroids, (labels, closeness), step
        sizes = np.bincount(labels, minlength=len(centroids))
        sums = workers.sums(reader, labels, len(centroids))
        centroids = sums / np.maximum(sizes, 1).astype(np.float32)[:, None]
        if (sizes == 0).any():
            loss = np.maximum((1.0 if workers.spherical else 0.0) - closeness.astype(np.float64), 0.0)
            loss = np.where(loss > 1e-6, loss, 0.0) if workers.spherical else loss
            _split(centroids, sizes, np.bincount(labels, weights=loss, minlength=len(centroids)))
        if workers.spherical:
            centroids *= _scale(np.linalg.norm(centroids, axis=1))[:, None]
        before = labels
    return centroids, None, n_iter


def _split(centroids: np.ndarray, sizes: np.ndarray, loss: np.ndarray) -> None:
    """Move each empty centroid next to the centroid with the largest total loss, halving that loss; in place.

    faiss splits clusters at random, in proportion to their size. Splitting by loss needs no random numbers and does
    not waste splits on clusters of identical rows. Empty centroids stay if no cluster has any loss left.
    """
    nudge = np.where(np.arange(centroids.shape[1]) % 2 == 0, 1 + SPLIT_EPS, 1 - SPLIT_EPS).astype(np.float32)
    heap = [(-x, i) for i, x in enumerate(loss) if x > 0 and sizes[i] > 1]
    heapq.heapify(heap)
    for empty in np.flatnonzero(sizes == 0):
        if not heap:
            return
        negative, donor = heapq.heappop(heap)
        centroids[empty] = centroids[donor] * nudge
        centroids[donor] *= 2 - nudge
        heapq.heappush(heap, (negative / 2, donor))
        heapq.heappush(heap, (negative / 2, int(empty)))


def _distinct_rows(reader: Reader, k: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `k` rows with different contents, drawn at random; fewer only if there are no more."""
    order = rng.permutation(len(reader))
    weights = rng.integers(1, 2**63, reader.matrix.shape[1], dtype=np.uint64) | np.uint64(1)
    seen = np.empty(0, dtype=np.uint64)
    chosen = np.empty(0, dtype=np.int64)
    start, step = 0, max(k, 1024)
    while len(chosen) < k and start < len(order):
        part = order[start : start + step]
        for begin in range(0, len(part), SEARCH_BLOCK):
            rows = reader.take(part[begin : begin + SEARCH_BLOCK]).all() + np.float32(0)
            bits = rows.view(np.uint32).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            bits ^= bits >> np.uint64(32)
            seen = np.concatenate([seen, (bits * weights).sum(axis=1, dtype=np.uint64)])
        chosen = np.concatenate([chosen, part])
        first = np.sort(np.unique(seen, return_index=True)[1])
        seen, chosen = seen[first], chosen[first]
        start += step
    return reader.take(chosen[:k]).all()


def _canonical(
    labels: np.ndarray, centroids: np.ndarray, objective: float, n_iter: int, notes: list[str]
) -> Clustering:
    """Number the clusters by first appearance and drop the empty ones."""
    values, first = np.unique(labels, return_index=True)
    values, first = values[values >= 0], first[values >= 0]
    order = values[np.argsort(first)]
    new = np.full(len(centroids) + 1, -1, dtype=np.int32)
    new[order] = np.arange(len(order), dtype=np.int32)
    return Clustering(new[labels], centroids[order], objective, len(order), n_iter, tuple(notes))


def _check_rows(matrix: Matrix, rows: Rows, bad_rows: str) -> np.ndarray:
    """(n,) float64 Euclidean norms; NaN marks a row with NaN or infinity, which raises unless masked."""
    norms = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), SEARCH_BLOCK):
        part = rows.part(start, start + SEARCH_BLOCK)
        with np.errstate(over="ignore"):
            block = np.asarray(matrix[part], dtype=np.float32)
        norm = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
        norms[start : start + len(block)] = np.where(np.isfinite(norm), norm, np.nan)
    bad = np.flatnonzero(np.isnan(norms))
    if len(bad) and bad_rows == "raise":
        widest = "float16" if matrix.dtype == np.float16 else "float32"
        raise DataError(
            f"embeddings has {len(bad)} rows with NaN, infinity or values beyond {widest}, the first is row "
            f'{rows.index[bad[0]]}; drop these rows, or pass bad_rows="mask" to leave them out with label -1'
        )
    return norms


def _scale(norms: np.ndarray) -> np.ndarray:
    """float32 factor that scales each row to unit length; 0 for zero vectors."""
    known = np.isfinite(norms) & (norms >= ZERO_NORM)
    return np.divide(1.0, norms, out=np.zeros(len(norms)), where=known).astype(np.float32)


def positive(value: Any, argument: str) -> int:
    """A whole number of at least 1; DataError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise DataError(f"{argument} is {value!r}; give a whole number of at least 1")
    return int(value)
