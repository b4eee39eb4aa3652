"""Check arguments: lists, texts, numbers, codes and vectors in any common container."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from decimal import Decimal
from itertools import islice
from numbers import Integral, Real
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError


def as_list(values: Any, name: str, n: int | None = None, rows: str = "rows") -> list:
    """`values` as a list of plain Python objects.

    Args:
        values: a list, a tuple, an array, a pandas Series (in its order, whatever its index), an Arrow array, a dataset
            column or an iterator.
        name: of the argument, for the message.
        n: required length; `None` for any.
        rows: what the `n` entries are, for the message.
    Raises:
        DataError: not a list of values (e.g. a single text, a mapping, a set, a table), or not `n` of them.
    """
    check_list(values, name)
    for method in ("to_pylist", "tolist"):
        if hasattr(values, method):
            found = list(getattr(values, method)())
            break
    else:
        found = list(values) if n is None or hasattr(values, "__len__") else list(islice(values, n + 1))
    if n is not None and len(found) != n:
        count = f"more than {n}" if not hasattr(values, "__len__") and len(found) > n else len(found)
        raise DataError(f"{name} has {count} entries for {n} {rows}. Give one per row.")
    return found


def check_list(values: Any, name: str) -> None:
    """DataError unless it is a list of values: a single text, a mapping, a set or a table are refused."""
    no_list = isinstance(values, (str, bytes, bytearray, Mapping, Set)) or hasattr(values, "columns")
    if no_list or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise DataError(f"{name}: {shown(values)} is not a list. Give one value per row.")


def as_texts(values: Any, name: str, n: int | None = None, rows: str = "rows", missing: bool = False) -> list:
    """`values` as a list of texts; with `missing`, `None`, NaN and NA are allowed and become `None`.

    Raises:
        DataError: as for `as_list`, or a value is not a text (the first such row is named).
    """
    out = as_list(values, name, n, rows)
    for row, value in enumerate(out):
        if isinstance(value, str):
            continue
        if not (missing and is_missing(value)):
            remedy = "a text or None" if missing else "a text, or drop the row"
            raise DataError(f"{name}, row {row}: {type(value).__name__} instead of a text. Give {remedy}.")
        out[row] = None
    return out


def is_missing(value: Any) -> bool:
    """Whether `value` is `None`, NaN or pandas' NA or NaT."""
    if value is None or isinstance(value, (str, bytes)):
        return value is None
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def shown(value: Any, most: int = 60) -> str:
    """The `repr` of a value for a message, cut after `most` characters."""
    try:
        text = repr(value[: most + 1] if isinstance(value, (str, bytes)) else value)
    except Exception:  # a broken __repr__, or an integer of too many digits
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"


def check_share(value: Any, name: str, low: float = 0.0, high: float = 1.0) -> None:
    """DataError unless `value` is a number from `low` to `high`."""
    if not isinstance(value, Real) or isinstance(value, bool) or not low <= value <= high:
        raise DataError(f"{name} is {shown(value)}; give a number from {low:g} to {high:g}")


def check_whole(value: Any, name: str, note: str = "") -> int:
    """`value` as an int; DataError unless it is a whole number of at least 0."""
    if not isinstance(value, Integral) or isinstance(value, (bool, np.bool_)) or value < 0:
        raise DataError(f"{name}: {shown(value)}. Give a whole number of at least 0{note}.")
    return int(value)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; zero rows stay zero. Rows whose squares over- or underflow are scaled in two steps."""
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
    """`embeddings` as an (n, d) array of numbers, without a copy if possible; DataError for anything else."""
    array = as_array(embeddings, name)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DataError(f"{name} has shape {array.shape} and dtype {array.dtype}; pass a 2-D array of numbers")
    return array


def as_array(values: Any, name: str) -> np.ndarray:
    """`values` as an array; DataError if the rows have unequal lengths."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise DataError(f"{name}: rows of unequal length. Pass an array of numbers, one row per sample.") from None


def as_vectors(embeddings: Any, name: str = "embeddings") -> np.ndarray:
    """`as_table` as float32; values that are too large become infinite."""
    array = as_table(embeddings, name)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def finite_vectors(
    embeddings: Any,
    name: str = "embeddings",
    n: int | None = None,
    *,
    rows: np.ndarray | None = None,
    dtype: type[np.floating] | None = np.float32,
) -> np.ndarray:
    """`as_table` with `n` rows of at least one number, all finite and within the range of float32.

    Args:
        rows: indices of the rows that must be finite (default: all).
        dtype: of the result; `None` keeps that of the array.
    Raises:
        DataError: another shape, or NaN or infinity (the first such row is named).
    """
    vectors = as_table(embeddings, name)
    if n is not None and len(vectors) != n:
        raise DataError(f"{name} has {len(vectors)} rows, {n} are needed. Pass one vector per row.")
    if not vectors.shape[1]:
        raise DataError(f"{name} has shape {vectors.shape}; pass vectors of one number or more.")
    largest = np.finfo(np.float32).max
    finite = np.abs(vectors) <= largest if vectors.dtype.itemsize > 4 else np.isfinite(vectors)
    bad = np.flatnonzero(~finite.all(axis=1))
    bad = bad if rows is None else np.intersect1d(bad, rows)
    if len(bad):
        raise DataError(f"{name}, row {bad[0]}: holds NaN or infinity. Encode that text again or drop the row.")
    with np.errstate(over="ignore"):  # rows that are not used
        return vectors if dtype is None else vectors.astype(dtype, copy=False)


def as_numbers(values: Any, name: str, n: int | None = None, rows: str = "rows") -> np.ndarray:
    """`values` as (n,) float64; `None` and NA become NaN.

    Raises:
        DataError: another shape or length, or values that are not numbers, e.g. texts or dates (the first such row is
            named).
    """
    array = _array(values)
    if array is None or array.dtype.kind not in "fiub":
        found = as_list(values, name)
        array = np.empty(len(found), np.float64)
        for row, value in enumerate(found):
            try:
                number = float(value) if isinstance(value, (Real, Decimal, np.bool_)) else None
            except (OverflowError, ValueError):
                number = None
            if number is None and not is_missing(value):
                raise DataError(f"{name}, row {row}: {shown(value)} is not a number. Give numbers, NaN or None.")
            array[row] = np.nan if number is None else number
    if array.ndim != 1:
        raise DataError(f"{name} has shape {array.shape}. Give one number per row.")
    if n is not None and len(array) != n:
        raise DataError(f"{name} has {len(array)} entries for {n} {rows}. Give one per row.")
    return array.astype(np.float64, copy=False)


def _array(values: Any) -> np.ndarray | None:
    """`values` as an array, or `None` where numpy cannot make one."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return None if array.ndim == 0 else array


def one_blas_thread():
    """A context in which numpy multiplies matrices with one thread, so that results do not depend on the machine."""
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


def clean_text(text: str) -> str:
    """`text` with lone surrogates replaced by U+FFFD; tokenizers and Arrow cannot hold them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def has_text(text: str | None) -> bool:
    """Whether a text is neither missing nor empty nor blank."""
    return text is not None and bool(text.strip())
