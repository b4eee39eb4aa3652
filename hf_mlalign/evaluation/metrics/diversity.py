"""How diverse a selection of texts is, in itself and against the pool it was made from."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import (
    as_list,
    as_texts,
    as_vectors,
    check_whole,
    finite_vectors,
    one_blas_thread,
    unit_rows,
)
from hf_mlalign.data.languages import check_languages
from hf_mlalign.models.clustering import cluster
from hf_mlalign.models.encoder import EmbeddingCache, load_encoder

if TYPE_CHECKING:
    from hf_mlalign.models.encoder import Encoder

__all__ = ["nearest_neighbour_distances", "selection_diversity", "vendi_score"]

RANDOM_UP_TO = 10_000
"""Selections of up to this many rows are compared with random ones by default (*ours*)."""
NEAR_DUPLICATE = 0.1
"""Rows closer than this (1 − cosine) to another count as near duplicates (Deita's 0.9, *authors' script*)."""
BLOCK = 2048
"""Rows whose cosines are held at a time."""
COMPARED = ("vendi_score", "nearest_neighbour_distance", "cluster_coverage")
"""Figures that are compared with those of random selections."""


def selection_diversity(
    data: Any,
    *,
    languages: Sequence[str] | None = None,
    pool: Any = None,
    pool_languages: Sequence[str] | None = None,
    model: str | Encoder | None = None,
    n_clusters: int | None = None,
    n_random: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """How diverse a selection is, over all rows and per language.

    Args:
        data: n texts, or (n, d) embeddings.
        languages: n languages (ISO codes or English names); default: one language, "all" only.
        pool: texts or embeddings of the rows the selection was made from; gives the clusters and the random selections.
        pool_languages: their languages; needed if `languages` are given.
        model: encoder of texts; default: the bundled one.
        n_clusters: clusters of each language's pool; default ⌊√(N/2)⌋ of its N rows (CaR, Ge et al. 2024, *paper*).
        n_random: random selections of the same size in each language to compare with; default 10 for up to 10,000 rows,
            else 0 (*ours*). Each takes as long as the selection itself.
        seed: of the clustering and the random selections (0).
    Returns:
        `n`, `n_empty` (texts without a direction, left out below), `vendi_score`, `nearest_neighbour_distance` (mean of
        1 − cosine), `near_duplicates` (share of rows closer than 0.1); with a pool also `n_pool`, `clusters_covered`,
        `n_clusters`, `cluster_coverage` (share); with random selections `…_random` and `…_random_sd` (mean and standard
        deviation over them) of vendi_score, nearest_neighbour_distance and cluster_coverage, and `n_random`;
        `per_language`: the same for each language. NaN where a figure is undefined.
    Raises:
        DataError: no rows, one text instead of a list, lengths or dimensions differ, an unknown language, one that the
            pool lacks, `pool_languages` without a pool, or `n_random` or `seed` below 0.
    """
    if pool is None and pool_languages is not None:
        raise DataError("pool_languages: given without a pool. Pass the pool, too, or leave them out.")
    check_whole(seed, "seed")
    if n_random is not None:
        check_whole(n_random, "n_random", "; 0 leaves the random selections out")
    encode = EmbeddingCache(load_encoder(model).encode)
    vectors = _vectors(data, encode, "data")
    if not len(vectors):
        raise DataError("data: no rows. Pass at least one text.")
    codes = language_array(languages, len(vectors), "languages")
    kept = vectors.any(axis=1)
    chosen = None
    if pool is not None:
        if (languages is None) != (pool_languages is None):
            raise DataError("pool_languages: give languages for both the selection and the pool, or for neither.")
        n_random = (10 if len(vectors) <= RANDOM_UP_TO else 0) if n_random is None else n_random
        chosen = Pool(_vectors(pool, encode, "pool"), pool_languages, n_clusters, seed)
        chosen.check(vectors, codes, n_random)
    out = _measured(vectors, codes, kept, chosen, n_random or 0)
    names = sorted(set(codes.tolist())) if languages is not None else []
    out["per_language"] = {
        name: _measured(vectors[codes == name], codes[codes == name], kept[codes == name],
                        chosen and chosen.only(name), n_random or 0)
        for name in names
    }  # fmt: skip
    return out


def _measured(
    vectors: np.ndarray, codes: np.ndarray, kept: np.ndarray, pool: Pool | None, n_random: int
) -> dict[str, Any]:
    out = {"n": len(vectors), "n_empty": int((~kept).sum()), **spread(vectors[kept])}
    if pool is not None:
        out |= pool.coverage(vectors[kept], codes[kept]) | pool.random_selections(codes[kept], n_random)
    return out


def _vectors(data: Any, encode: Callable[[Any], np.ndarray], name: str) -> np.ndarray:
    """(n, d) float32: embeddings as they are, texts encoded."""
    if getattr(data, "ndim", 1) == 2:
        return finite_vectors(data, name)
    texts = as_texts(data, name)
    return finite_vectors(encode(texts), f"{name} (encoded)", len(texts))

def vendi_score(embeddings: Any) -> float:
    """Effective number of different rows: exp of the entropy of the eigenvalues of K/n, K the cosines of all rows.

    Friedman & Dieng 2023 (arXiv 2210.02410), equation 2. XXᵀ/n and XᵀX/n have the same eigenvalues above 0, so the
    smaller of the two is decomposed: O(n·d·min(n, d)) time, and memory for one block of rows.

    Args:
        embeddings: (n, d) numbers; scaled to unit length here.
    Returns:
        From 1 (all rows have the same direction) to min(n, d) (all are orthogonal); 0 for no rows.
    Raises:
        DataError: other shapes, NaN or infinity, or a row of zeros, which has no direction (first row named).
    """
    vectors = _directions(embeddings)
    n, d = vectors.shape
    if not n:
        return 0.0
    with one_blas_thread():
        if n <= d:
            gram = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
        else:
            blocks = (vectors[i : i + BLOCK].astype(np.float64) for i in range(0, n, BLOCK))
            gram = sum(block.T @ block for block in blocks)
        values = np.linalg.eigvalsh(gram)
    values = values[values > 0] / values[values > 0].sum()
    return float(np.exp(-np.sum(values * np.log(values))))


def nearest_neighbour_distances(embeddings: Any) -> np.ndarray:
    """Distance of each row to its nearest other row, as 1 − cosine.

    Exact, by blocked products: O(n²·d) time, memory for one block of rows against all. Equal rows have distance 0.

    Args:
        embeddings: (n, d) numbers; scaled to unit length here.
    Returns:
        (n,) float64 in [0, 2]; NaN for a single row.
    Raises:
        DataError: as `vendi_score`.
    """
    vectors = _directions(embeddings)
    nearest = np.zeros(len(vectors), np.int64)
    if len(vectors) < 2:
        return np.full(len(vectors), np.nan)
    with one_blas_thread():
        for start in range(0, len(vectors), BLOCK):
            cosines = vectors[start : start + BLOCK] @ vectors.T
            rows = np.arange(len(cosines))
            cosines[rows, rows + start] = -np.inf
            nearest[start : start + len(rows)] = cosines.argmax(1)
    out = np.empty(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        rows = slice(start, start + BLOCK)
        apart = vectors[rows].astype(np.float64) - vectors[nearest[rows]]
        out[rows] = np.einsum("nd,nd->n", apart, apart) / 2
    return out


def nearest_centroids(embeddings: Any, centroids: np.ndarray) -> np.ndarray:
    """(n,) int64 number of the centroid with the highest cosine for each row of `embeddings`."""
    vectors, centres = _directions(embeddings), unit_rows(finite_vectors(centroids, "centroids"))
    if not len(centres) or centres.shape[1] != vectors.shape[1]:
        raise DataError(f"centroids has shape {centres.shape}; pass one or more of length {vectors.shape[1]}.")
    with one_blas_thread():
        found = [(vectors[i : i + BLOCK] @ centres.T).argmax(1) for i in range(0, len(vectors), BLOCK)]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def spread(vectors: np.ndarray) -> dict[str, float]:
    """Vendi score, mean distance to the nearest neighbour and share of near duplicates; no row may be all zeros."""
    distances = nearest_neighbour_distances(vectors)
    several = len(distances) > 1
    return {
        "vendi_score": vendi_score(vectors),
        "nearest_neighbour_distance": float(distances.mean()) if several else math.nan,
        "near_duplicates": float((distances < NEAR_DUPLICATE).mean()) if several else math.nan,
    }


def _directions(embeddings: Any) -> np.ndarray:
    vectors = as_vectors(embeddings)
    bad = np.flatnonzero(~(np.isfinite(vectors).all(1) & vectors.any(axis=1)))
    if len(bad):
        raise DataError(f"embeddings, row {bad[0]}: zero, NaN or infinity, so it has no direction. Drop such rows.")
    return unit_rows(vectors)

@dataclass(frozen=True)
class PoolPart:
    """One language's rows of the pool; `labels` is the nearest centroid of each."""

    vectors: np.ndarray
    centroids: np.ndarray
    labels: np.ndarray


class Pool:
    """The pool that a selection was made from; each language is clustered separately, as in M-DaQ.

    Args:
        vectors: (N, d) float32; rows of zeros are left out.
        languages: N languages, or `None`.
        n_clusters: of each language; default ⌊√(N/2)⌋ of its N rows (CaR, Ge et al. 2024, *paper*).
        seed: of clustering and random selections.
    """

    def __init__(self, vectors: np.ndarray, languages: Sequence[str] | None, n_clusters: int | None, seed: int):
        codes = language_array(languages, len(vectors), "pool_languages")
        kept = vectors.any(axis=1)
        vectors, codes, self.seed = vectors[kept], codes[kept], seed
        if not len(vectors):
            raise DataError("pool: no rows with a direction. Pass the rows the selection was made from.")
        self.parts: dict[str, PoolPart] = {}
        for name in sorted(set(codes.tolist())):
            rows = vectors[codes == name]
            k = max(1, math.isqrt(len(rows) // 2)) if n_clusters is None else n_clusters
            found = cluster(rows, k, seed=[seed, zlib.crc32(name.encode())])
            self.parts[name] = PoolPart(rows, found.centroids, nearest_centroids(rows, found.centroids))

    def only(self, language: str) -> Pool:
        """The pool of one language."""
        found = object.__new__(Pool)
        found.seed, found.parts = self.seed, {language: self.parts[language]}
        return found

    def check(self, vectors: np.ndarray, codes: np.ndarray, n_random: int) -> None:
        """DataError if the selection cannot come from this pool."""
        dimension = next(iter(self.parts.values())).vectors.shape[1]
        if vectors.shape[1] != dimension:
            raise DataError(f"pool: vectors of length {dimension}, data of length {vectors.shape[1]}. Use one encoder.")
        lacking = sorted(set(codes.tolist()) - set(self.parts))
        if lacking:
            raise DataError(f"pool_languages: the pool has no rows in {listed(lacking)}, the selection has. "
                            "Pass the whole pool.")  # fmt: skip
        for name, part in self.parts.items():
            n = int((codes == name).sum())
            if n_random and n > len(part.labels):
                raise DataError(f"data: {n} rows{f' in {name}' if name else ''}, the pool has {len(part.labels)}. Pass "
                                "the whole pool, or n_random=0.")  # fmt: skip

    def coverage(self, vectors: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
        """How many of the pool's clusters hold a row of the selection; no row may be all zeros."""
        labels = {name: nearest_centroids(vectors[codes == name], part.centroids) for name, part in self.parts.items()}
        return {"n_pool": sum(len(part.labels) for part in self.parts.values()), **self._covered(labels)}

    def _covered(self, labels: Mapping[str, np.ndarray]) -> dict[str, Any]:
        of = {name: np.unique(part.labels) for name, part in self.parts.items()}
        covered = sum(len(np.intersect1d(labels[name], of[name])) for name in of)
        total = sum(map(len, of.values()))
        return {"clusters_covered": covered, "n_clusters": total, "cluster_coverage": covered / total}

    def random_selections(self, codes: np.ndarray, n_random: int) -> dict[str, Any]:
        """Mean and standard deviation of the figures over random selections of the same size in each language.

        The draws of a language depend on the seed and its own pool only.
        """
        if not n_random:
            return {}
        sizes = {name: int((codes == name).sum()) for name in self.parts}
        drawn = [self._random(sizes, r) for r in range(n_random)]
        out: dict[str, Any] = {"n_random": n_random}
        for figure in COMPARED:
            values = np.asarray([one[figure] for one in drawn])
            out[f"{figure}_random"] = float(values.mean())
            out[f"{figure}_random_sd"] = float(values.std(ddof=1)) if n_random > 1 else math.nan
        return out

    def _random(self, sizes: Mapping[str, int], draw: int) -> dict[str, Any]:
        vectors, labels = [], {}
        for name, part in self.parts.items():
            rng = np.random.default_rng([self.seed, zlib.crc32(name.encode()), draw])
            rows = rng.choice(len(part.labels), sizes[name], replace=False)
            vectors.append(part.vectors[rows])
            labels[name] = part.labels[rows]
        return {**spread(np.concatenate(vectors)), **self._covered(labels)}


def language_array(languages: Sequence[str] | None, n: int, name: str) -> np.ndarray:
    """(n,) ISO 639-1 codes, all "" without languages; DataError for an unknown one or another length."""
    if languages is None:
        return np.full(n, "", dtype=object)
    return np.asarray(check_languages(as_list(languages, name, n), name), dtype=object)
