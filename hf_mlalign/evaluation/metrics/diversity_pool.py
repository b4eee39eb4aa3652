"""The pool a selection was made from: its clusters, and random selections of equal size to compare with."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import as_list
from hf_mlalign.data.languages import check_languages
from hf_mlalign.evaluation.metrics.vendi import has_direction, nearest_centroids, spread
from hf_mlalign.models.clustering import cluster

COMPARED = ("vendi_score", "nearest_neighbour_distance", "cluster_coverage")


@dataclass(frozen=True)
class PoolPart:
    """One language's rows of the pool; `labels` is the nearest centroid of each."""

    vectors: np.ndarray
    centroids: np.ndarray
    labels: np.ndarray


class Pool:
    """A pool whose languages are clustered apart, as M-DaQ does.

    Args:
        vectors: (N, d) float32; rows of zeros are left out.
        languages: N languages, or `None`.
        n_clusters: of each language; default ⌊√(N/2)⌋ of its N rows (CaR, Ge et al. 2024, *paper*).
        seed: of clustering and random selections.
    """

    def __init__(self, vectors: np.ndarray, languages: Sequence[str] | None, n_clusters: int | None, seed: int):
        codes = language_array(languages, len(vectors), "pool_languages")
        kept = has_direction(vectors)
        vectors, codes, self.seed = vectors[kept], codes[kept], seed
        if not len(vectors):
            raise DataError("pool: no rows with a direction. Pass the rows the selection was made from.")
        names = sorted(set(codes.tolist()))
        self.parts: Mapping[str, PoolPart] = {
            name: _part(vectors[codes == name], n_clusters, [seed, _number(name)]) for name in names
        }

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
        """How many of the pool's clusters hold a row of the selection; `vectors` have a direction each."""
        labels = {name: nearest_centroids(vectors[codes == name], part.centroids) for name, part in self.parts.items()}
        return {"n_pool": sum(len(part.labels) for part in self.parts.values()), **self._covered(labels)}

    def _covered(self, labels: Mapping[str, np.ndarray]) -> dict[str, Any]:
        of = {name: np.unique(part.labels) for name, part in self.parts.items()}
        covered = sum(len(np.intersect1d(labels[name], of[name])) for name in of)
        total = sum(map(len, of.values()))
        return {"clusters_covered": covered, "n_clusters": total, "cluster_coverage": covered / total}

    def random_selections(self, codes: np.ndarray, n_random: int) -> dict[str, Any]:
        """Mean and standard deviation of the figures over random selections as large as the selection in each language.

        A language's draws depend on the seed and its own pool only.
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
            rng = np.random.default_rng([self.seed, _number(name), draw])
            rows = rng.choice(len(part.labels), sizes[name], replace=False)
            vectors.append(part.vectors[rows])
            labels[name] = part.labels[rows]
        return {**spread(np.concatenate(vectors)), **self._covered(labels)}


def language_array(languages: Sequence[str] | None, n: int, name: str) -> np.ndarray:
    """(n,) ISO 639-1 codes, all "" without languages; DataError for an unknown one or another length."""
    if languages is None:
        return np.full(n, "", dtype=object)
    return np.asarray(check_languages(as_list(languages, name, n), name), dtype=object)


def _part(vectors: np.ndarray, n_clusters: int | None, seed: list[int]) -> PoolPart:
    k = max(1, math.isqrt(len(vectors) // 2)) if n_clusters is None else n_clusters
    found = cluster(vectors, k, seed=seed)
    return PoolPart(vectors, found.centroids, nearest_centroids(vectors, found.centroids))


def _number(name: str) -> int:
    return zlib.crc32(name.encode())
