"""selection_diversity: how diverse a selection of texts is, in itself and against the pool it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_texts, check_whole, finite_vectors
from hf_mlalign.evaluation.metrics.diversity_pool import Pool, language_array
from hf_mlalign.evaluation.metrics.vendi import has_direction, nearest_neighbour_distances, spread, vendi_score
from hf_mlalign.models.encoder import EmbeddingCache, load_encoder

if TYPE_CHECKING:
    from hf_mlalign.models.encoder import Encoder

__all__ = ["nearest_neighbour_distances", "selection_diversity", "vendi_score"]

RANDOM_UP_TO = 10_000
"""Selections of at most so many rows are compared with random ones by default (*ours*)."""


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
    """How diverse a selection is, over all rows and in each language.

    Args:
        data: n texts, or (n, d) embeddings.
        languages: n languages (ISO codes or English names); default: one language, "all" only.
        pool: texts or embeddings of the rows the selection was made from; gives the clusters and the random selections.
        pool_languages: their languages; needed if `languages` are given.
        model: encoder of texts; default: the bundled one.
        n_clusters: clusters of each language's pool; default ⌊√(N/2)⌋ of its N rows (CaR, Ge et al. 2024, *paper*).
        n_random: random selections from the pool, of equal size in each language, to compare with; default 10 for up to
            10,000 rows, else 0 (*ours*). Each costs as much as the selection itself.
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
    kept = has_direction(vectors)
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
