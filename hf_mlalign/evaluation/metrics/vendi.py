"""Vendi score and distances to the nearest neighbour of rows of embeddings: exact, in blocks, one thread."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_vectors, finite_vectors, one_blas_thread, unit_rows

BLOCK = 2048
NEAR_DUPLICATE = 0.1
"""Rows closer than this (1 − cosine) to another count as near duplicates (Deita's 0.9, *authors' script*)."""


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
    """Vendi score, mean distance to the nearest neighbour and share of near duplicates of rows with a direction."""
    distances = nearest_neighbour_distances(vectors)
    several = len(distances) > 1
    return {
        "vendi_score": vendi_score(vectors),
        "nearest_neighbour_distance": float(distances.mean()) if several else math.nan,
        "near_duplicates": float((distances < NEAR_DUPLICATE).mean()) if several else math.nan,
    }


def has_direction(vectors: np.ndarray) -> np.ndarray:
    """(n,) bool, False for rows of zeros."""
    return vectors.any(axis=1)


def _directions(embeddings: Any) -> np.ndarray:
    vectors = as_vectors(embeddings)
    bad = np.flatnonzero(~(np.isfinite(vectors).all(1) & has_direction(vectors)))
    if len(bad):
        raise DataError(f"embeddings, row {bad[0]}: zero, NaN or infinity, so it has no direction. Drop such rows.")
    return unit_rows(vectors)
