"""Vectors rounded to float16 (*ours*), in memory or on disk: every engine then clusters the same numbers."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_array


@runtime_checkable
class Matrix(Protocol):
    """An (n, d) matrix of numbers that is read in blocks: `matrix[a:b]` and `matrix[row numbers]` give arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> np.ndarray: ...


def to_float16(vectors: Any) -> np.ndarray:
    """The numbers as a contiguous float16 array; what is beyond ±65,504 becomes infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(vectors, dtype=np.float16)


def as_matrix(embeddings: Any) -> Matrix:
    """`embeddings` if it can be read in blocks, else as an array.

    Raises:
        DataError: it does not have two dimensions, or holds no numbers.
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
