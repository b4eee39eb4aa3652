"""Checked numpy arrays: vectors, integer codes, and products whose bits do not depend on the machine's threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mlalign.errors import DataError


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; zero rows stay zero."""
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return vectors / np.where(norms == 0, 1, norms)


def as_vectors(embeddings: Any) -> np.ndarray:
    """`embeddings` as an (n, d) float32 array, without a copy if it is one."""
    array = np.asarray(embeddings)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DataError(f"embeddings has shape {array.shape} and dtype {array.dtype}; pass a 2-D array of numbers")
    return array.astype(np.float32, copy=False)


def one_blas_thread():
    """Context in which numpy's matrix products use one thread, so that their bits do not depend on the machine."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def as_codes(codes: Any, n: int, name: str, least: int = 0) -> np.ndarray:
    """`codes` as (n,) integers of at least `least`; DataError otherwise."""
    array = np.asarray(codes)
    if array.shape != (n,) or (array.size and array.dtype.kind not in "iu"):
        raise DataError(f"{name} has shape {array.shape} and dtype {array.dtype}; pass {n} integers")
    if array.size and array.min() < least:
        raise DataError(f"{name} has the value {array.min()}; the smallest allowed is {least}")
    return array
