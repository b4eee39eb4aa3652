"""Checked sequences: one plain list from whatever container holds the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from itertools import islice
from numbers import Integral, Real
from typing import Any

from hf_mlalign.errors import DataError


def as_list(values: Any, name: str, n: int | None = None, rows: str = "rows") -> list:
    """`values` as a list of plain Python objects.

    Args:
        values: a list, a tuple, an array, a pandas Series (in its order, whatever its index), an Arrow array, a dataset
            column or an iterator.
        name: of the argument, for the message.
        n: how many there must be; `None`: any number.
        rows: what there are `n` of, for the message.
    Raises:
        DataError: one text, a mapping, a set, a table or something else that is no list of values; or not `n` of them.
    """
    check_list(values, name)
    found = _plain(values, None if n is None else n + 1)
    if n is not None and len(found) != n:
        count = f"more than {n}" if not hasattr(values, "__len__") and len(found) > n else len(found)
        raise DataError(f"{name} has {count} entries for {n} {rows}. Give one a row.")
    return found


def check_list(values: Any, name: str) -> None:
    """DataError for one text, a mapping, a set, a table or something else that is no list of values."""
    no_list = isinstance(values, (str, bytes, bytearray, Mapping, Set)) or hasattr(values, "columns")
    if no_list or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise DataError(f"{name}: {shown(values)} is not a list. Give one value a row.")


def _plain(values: Any, most: int | None) -> list:
    for method in ("to_pylist", "tolist"):
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values) if hasattr(values, "__len__") else list(islice(values, most))


def as_texts(values: Any, name: str, n: int | None = None, rows: str = "rows", missing: bool = False) -> list:
    """`values` as a list of texts; with `missing`, `None` stands for `None`, NaN and NA.

    Raises:
        DataError: as `as_list`, or a value that is no text (first row named).
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
    """What a message shows of a value: its `repr`, cut after `most` characters."""
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


def check_whole(value: Any, name: str, note: str = "") -> None:
    """DataError unless `value` is a whole number of at least 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        raise DataError(f"{name}: {shown(value)}. Give a whole number of at least 0{note}.")
