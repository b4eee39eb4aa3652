"""Checked numpy arrays: numbers, vectors, integer codes, and products whose bits do not depend on the machine's
threads."""

from __future__ import annotations

from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from hf_mlalign.errors import DataError
from hf_mlalign.sequences import as_list, is_missing, shown


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; zero rows stay zero. Rows whose squares over- or underflow are scaled twice."""
    vectors = vectors if vectors.dtype.kind == "f" else vectors.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("nd,nd->n", vectors, vectors)
    limits = np.finfo(vectors.dtype)
    odd = ~((squares >= limits.tiny / limits.eps) & (squares < np.inf))
    if odd.any() and vectors.shape[1]:
        largest = np.abs(vectors[odd]).max(axis=1, keepdims=True)
        vectors = vectors.copy()
        with np.errstate(invalid="ignore"):
            vectors[odd] /= np.where(largest == 0, 1, largest)
        squares[odd] = np.einsum("nd,nd->n", vectors[odd], vectors[odd])
    norms = np.sqrt(squares)[:, None]
    return vectors / np.where(norms == 0, 1, norms)


def as_table(embeddings: Any, name: str = "embeddings") -> np.ndarray:
    """`embeddings` as an (n, d) array of numbers, without a copy if it is one; DataError for anything else."""
    array = as_array(embeddings, name)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DataError(f"{name} has shape {array.shape} and dtype {array.dtype}; pass a 2-D array of numbers")
    return array


def as_array(values: Any, name: str) -> np.ndarray:
    """`values` as an array; DataError where the rows are of unequal length."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise DataError(f"{name}: rows of unequal length. Pass an array of numbers, one row a sample.") from None


def as_vectors(embeddings: Any, name: str = "embeddings") -> np.ndarray:
    """`as_table` as float32."""
    array = as_table(embeddings, name)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def finite_vectors(embeddings: Any, name: str = "embeddings", n: int | None = None) -> np.ndarray:
    """`as_vectors` of `n` rows; DataError naming the first row with NaN or infinity."""
    vectors = as_vectors(embeddings, name)
    if n is not None and len(vectors) != n:
        raise DataError(f"{name} has {len(vectors)} rows, {n} are needed. Pass one row a sample.")
    if len(vectors) and not vectors.shape[1]:
        raise DataError(f"{name} has shape {vectors.shape}; pass vectors of one number or more.")
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise DataError(f"{name}, row {bad[0]}: holds NaN or infinity. Encode that text again or drop the row.")
    return vectors


def as_numbers(values: Any, name: str, n: int | None = None, rows: str = "rows") -> np.ndarray:
    """`values` as (n,) float64; `None` and NA become NaN.

    Raises:
        DataError: another shape or length, or texts, dates or other things that are no numbers (first row named).
    """
    array = _array(values)
    if array is None or array.dtype.kind not in "fiub":
        numbers = as_list(values, name)
        array = np.array([_number(value, name, row) for row, value in enumerate(numbers)], np.float64)
    if array.ndim != 1:
        raise DataError(f"{name} has shape {array.shape}. Give one number a row.")
    if n is not None and len(array) != n:
        raise DataError(f"{name} has {len(array)} entries for {n} {rows}. Give one a row.")
    return array.astype(np.float64, copy=False)


def _array(values: Any) -> np.ndarray | None:
    """`values` as an array, or `None` where numpy makes none of them."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return None if array.ndim == 0 else array


def _number(value: Any, name: str, row: int) -> float:
    try:
        if isinstance(value, (Real, Decimal, np.bool_)):
            return float(value)
    except (OverflowError, ValueError):
        pass
    if is_missing(value):
        return float("nan")
    raise DataError(f"{name}, row {row}: {shown(value)} is no number. Give numbers, NaN or None.")


def one_blas_thread():
    """Context in which numpy's matrix products use one thread, so that their bits do not depend on the machine."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def as_codes(codes: Any, n: int, name: str, least: int = 0, below: int | None = None) -> np.ndarray:
    """`codes` as (n,) integers of at least `least` and, if given, less than `below`; DataError otherwise."""
    array = _array(codes)
    if array is None or (array.ndim == 1 and array.size and array.dtype.kind not in "iu"):
        for row, value in enumerate(as_list(codes, name)):
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise DataError(f"{name}, row {row}: {shown(value)}. Give whole numbers.")
            if not -(2**63) <= value < 2**63:
                raise DataError(f"{name}, row {row}: {shown(value)}; the largest allowed is {2**63 - 1}")
        array = np.asarray(as_list(codes, name), np.int64)
    if array.shape != (n,) or (array.size and array.dtype.kind not in "iu"):
        raise DataError(f"{name} has shape {array.shape} and dtype {array.dtype}; pass {n} integers")
    if array.size and array.min() < least:
        raise DataError(f"{name} has the value {array.min()}; the smallest allowed is {least}")
    if array.size and array.max() >= (2**63 if below is None else below):
        most = 2**63 if below is None else below
        raise DataError(f"{name}, row {array.argmax()}: {array.max()}; the largest allowed is {most - 1}")
    return array
