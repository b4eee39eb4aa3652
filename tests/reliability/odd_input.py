"""Odd input for any function: the same values in other containers, and values that cannot be used.

A kind says what an argument holds: "numbers" (n,), "lengths" (numbers of at least 0), "codes" (integers of at least 0),
"texts", "languages", "ids", "vectors" (n, d), "whole" (one number of at least 0), "share" (one number), "name" (one
text) or "dataset".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

Form = Callable[[Any], Any]


def _series(values: Any) -> pd.Series:
    """With an index that runs backwards, so that `values[0]` is the last one."""
    return pd.Series(values, index=range(len(values))[::-1])


def _strided(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return np.repeat(array, 2, axis=0)[::2]


def _read_only(values: Any) -> np.ndarray:
    array = np.array(values)
    array.flags.writeable = False
    return array


def _objects(values: Any) -> np.ndarray:
    out = np.empty(len(values), object)
    out[:] = list(values)
    return out


def _arrow(values: Any, kind: Any = None) -> pa.Array:
    return pa.array(values.tolist() if isinstance(values, np.ndarray) else list(values), kind, from_pandas=True)


def _chunked(values: Any) -> pa.ChunkedArray:
    whole = _arrow(values)
    half = len(whole) // 2
    return pa.chunked_array([whole.slice(0, half), whole.slice(half, 0), whole.slice(half)], whole.type)


def _sliced(values: Any) -> pa.Array:
    whole = _arrow(values)
    return pa.concat_arrays([whole.slice(0, 1), whole, whole.slice(0, 1)]).slice(1, len(whole))


_ARROW: dict[str, Form] = {"Arrow": _arrow, "chunked Arrow": _chunked, "sliced Arrow": _sliced}
_TEXTS: dict[str, Form] = {
    "list": list,
    "tuple": tuple,
    "object array": _objects,
    "text array": lambda v: np.asarray(v),
    "Series": _series,
    "text Series": lambda v: _series(v).astype("string"),
    "Categorical": lambda v: pd.Series(pd.Categorical(list(v)), index=range(len(v))[::-1]),
    "Index": lambda v: pd.Index(list(v)),
    **_ARROW,
    "large Arrow": lambda v: _arrow(v, pa.large_string()),
    "Arrow dictionary": lambda v: _arrow(v).dictionary_encode(),
}
_NUMBERS: dict[str, Form] = {
    "list": lambda v: np.asarray(v).tolist(),
    "tuple": lambda v: tuple(np.asarray(v).tolist()),
    "strided": _strided,
    "backwards": lambda v: np.asarray(v)[::-1].copy()[::-1],
    "read-only": _read_only,
    "objects": lambda v: np.asarray(v).astype(object),
    "big endian": lambda v: np.asarray(v).astype(np.asarray(v).dtype.newbyteorder(">")),
    "Series": _series,
    **_ARROW,
}
_CODES: dict[str, Form] = {
    **_NUMBERS,
    "int8": lambda v: np.asarray(v).astype(np.int8),
    "int64": lambda v: np.asarray(v).astype(np.int64),
}
_CODES.pop("objects")
_VECTORS: dict[str, Form] = {
    "list": lambda v: np.asarray(v).tolist(),
    "float64": lambda v: np.asarray(v, np.float64),
    "float16": lambda v: np.asarray(v, np.float16),
    "Fortran order": np.asfortranarray,
    "strided rows": _strided,
    "strided columns": lambda v: np.repeat(np.asarray(v), 2, axis=1)[:, ::2],
    "backwards": lambda v: np.asarray(v)[::-1].copy()[::-1],
    "read-only": _read_only,
    "big endian": lambda v: np.asarray(v).astype(">f4"),
    "DataFrame": lambda v: pd.DataFrame(np.asarray(v), index=range(len(v))[::-1]),
    "rows": lambda v: list(np.asarray(v)),
}
_DATASET: dict[str, Form] = {
    "indices": lambda ds: concatenate_datasets([ds, ds]).select(range(len(ds))).select(list(range(len(ds)))),
    "chunks": lambda ds: concatenate_datasets([ds.select([i]) for i in range(len(ds))]),
    "slice": lambda ds: concatenate_datasets([ds, ds]).select(range(len(ds), 2 * len(ds))),
    "numpy format": lambda ds: ds.with_format("numpy"),
    "large strings": lambda ds: _cast_texts(ds, "large_string"),
}


def _cast_texts(ds: Dataset, dtype: str) -> Dataset:
    from datasets import Value

    features = ds.features.copy()
    for name, feature in features.items():
        if isinstance(feature, Value) and feature.dtype == "string":
            features[name] = Value(dtype)
    return ds.cast(features)


FORMS: dict[str, dict[str, Form]] = {
    "numbers": _NUMBERS,
    "lengths": _NUMBERS,
    "codes": _CODES,
    "texts": _TEXTS,
    "languages": _TEXTS,
    "ids": _TEXTS,
    "vectors": _VECTORS,
    "dataset": _DATASET,
    "whole": {},
    "share": {},
    "name": {},
}


@dataclasses.dataclass(frozen=True)
class Bad:
    """A way to spoil a value at `row`; `named` if the error must name that row."""

    spoil: Callable[[Any, int], Any]
    named: bool = False


def _with(value: Any) -> Callable[[Any, int], Any]:
    def spoil(values: Any, row: int) -> list:
        out = list(values.tolist() if isinstance(values, np.ndarray) else values)
        out[row] = value
        return out

    return spoil


def _always(value: Any) -> Callable[[Any, int], Any]:
    return lambda values, row: value


def _cell(value: float) -> Callable[[Any, int], Any]:
    def spoil(values: Any, row: int) -> np.ndarray:
        out = np.array(values)
        out[row, -1] = value
        return out

    return spoil


_ANY = {
    "None": Bad(_always(None)),
    "a number": Bad(_always(7)),
    "one text": Bad(_always("abc")),
    "an object": Bad(_always(object())),
    "a mapping": Bad(_always({"a": 1})),
    "too short": Bad(lambda v, row: v[:-1]),
    "too long": Bad(lambda v, row: [*list(v), list(v)[-1]]),
    "empty": Bad(lambda v, row: v[:0]),
}
_A_NUMBER = {
    "a text": Bad(_with("x"), named=True),
    "a list": Bad(_with([1.0]), named=True),
    "an object inside": Bad(_with(object()), named=True),
    "a complex number": Bad(_with(1j), named=True),
    "texts of numbers": Bad(lambda v, row: [str(x) for x in v]),
    "bytes": Bad(lambda v, row: np.array([b"1"] * len(v))),
    "dates": Bad(lambda v, row: np.full(len(v), np.datetime64("2020-01-01"))),
    "two dimensions": Bad(lambda v, row: np.stack([np.asarray(v)] * 2, 1)),
    "an integer of 401 digits": Bad(_with(10**400), named=True),
    "infinity": Bad(_with(float("inf")), named=True),
}
_MISSING = {"NaN": Bad(_with(float("nan")), named=True), "missing": Bad(_with(None), named=True)}
_A_TEXT = {
    "a number inside": Bad(_with(7), named=True),
    "bytes inside": Bad(_with(b"x"), named=True),
    "a list inside": Bad(_with(["x"]), named=True),
    "an object inside": Bad(_with(object()), named=True),
    **_MISSING,
}
BAD: dict[str, dict[str, Bad]] = {
    "numbers": {**_ANY, **_A_NUMBER, **_MISSING},
    "lengths": {**_ANY, **_A_NUMBER, **_MISSING, "negative": Bad(_with(-1.0), named=True)},
    "codes": {**_ANY, **_A_NUMBER, **_MISSING, "negative": Bad(_with(-7)), "half": Bad(_with(0.5))},
    "texts": {**_ANY, **_A_TEXT},
    "languages": {**_ANY, **_A_TEXT, "unknown": Bad(_with("xx-none"), True), "blank": Bad(_with(" "), True)},
    "ids": {**_ANY, **_MISSING, "a list inside": Bad(_with(["x"])), "an object inside": Bad(_with(object()))},
    "vectors": {
        **_ANY,
        "NaN": Bad(_cell(np.nan), named=True),
        "infinity": Bad(_cell(-np.inf), named=True),
        "one dimension": Bad(lambda v, row: np.asarray(v)[:, 0]),
        "three dimensions": Bad(lambda v, row: np.asarray(v)[:, None]),
        "no columns": Bad(lambda v, row: np.asarray(v)[:, :0]),
        "texts": Bad(lambda v, row: np.asarray(v).astype(str)),
        "objects": Bad(lambda v, row: np.full(np.shape(v), object())),
        "complex numbers": Bad(lambda v, row: np.asarray(v) * 1j),
        "dates": Bad(lambda v, row: np.full(np.shape(v), np.datetime64("2020-01-01"))),
        "ragged": Bad(lambda v, row: [list(x[: len(x) - (i == row)]) for i, x in enumerate(v)]),
        "a missing row": Bad(lambda v, row: [None if i == row else list(x) for i, x in enumerate(v)]),
    },
    "whole": {
        "negative": Bad(_always(-1)),
        "half": Bad(_always(0.5)),
        "NaN": Bad(_always(float("nan"))),
        "infinity": Bad(_always(float("inf"))),
        "a text": Bad(_always("3")),
        "a list": Bad(_always([1])),
        "an object": Bad(_always(object())),
    },
    "share": {
        "negative": Bad(_always(-0.1)),
        "NaN": Bad(_always(float("nan"))),
        "infinity": Bad(_always(float("inf"))),
        "a text": Bad(_always("0.5")),
        "a list": Bad(_always([0.5])),
        "an object": Bad(_always(object())),
    },
    "name": {
        "unknown": Bad(_always("no such name")),
        "a number": Bad(_always(7)),
        "a list": Bad(_always(["x"])),
        "an object": Bad(_always(object())),
    },
    "dataset": {
        "None": Bad(_always(None)),
        "a list": Bad(_always([])),
        "one text": Bad(_always("abc")),
        "a mapping": Bad(_always({})),
        "no rows": Bad(lambda ds, row: ds.select([])),
        "no columns": Bad(lambda ds, row: ds.select_columns([])),
        "a DataFrame": Bad(lambda ds, row: ds.to_pandas()),
        "streaming": Bad(lambda ds, row: ds.to_iterable_dataset()),
    },
}


def copied(value: Any) -> Any:
    """A copy to compare with later."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return list(value) if isinstance(value, list) else value


def same(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    """Whether two results are equal, NaN equal to NaN; numbers within `tolerance`."""
    if isinstance(a, Dataset):
        return isinstance(b, Dataset) and same(a.with_format(None).to_dict(), b.with_format(None).to_dict(), tolerance)
    if isinstance(a, (pd.DataFrame, pd.Series)):
        return type(a) is type(b) and same(
            a.reset_index().to_dict("list") if a.ndim == 2 else a.to_list(),
            b.reset_index().to_dict("list") if b.ndim == 2 else b.to_list(),
            tolerance,
        )
    if isinstance(a, pd.Index):
        return same(a.to_list(), b.to_list(), tolerance)
    if isinstance(a, (pa.Array, pa.ChunkedArray)):
        return same(a.to_pylist(), b.to_pylist(), tolerance)
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        fields = [f.name for f in dataclasses.fields(a) if f.compare and "seconds" not in f.name]
        return all(same(getattr(a, name), getattr(b, name), tolerance) for name in fields)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[k], b[k], tolerance) for k in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b))
    if isinstance(a, np.ndarray) and a.dtype.kind in "fc":
        return np.shape(b) == a.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    if isinstance(a, np.ndarray):
        return same(a.tolist(), np.asarray(b).tolist(), tolerance)
    if isinstance(a, float):
        return a == b or (a != a and b != b) or abs(a - b) <= tolerance
    return bool(a == b)
