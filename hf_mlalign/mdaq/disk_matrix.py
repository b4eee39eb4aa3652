"""Vectors that stay on disk and are read as an array is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

GAP_BYTES = 32 * 2**10
"""Rows asked for that lie nearer together than this are read in one go (*ours*)."""


class DiskMatrix:
    """An (n, d) float16 matrix in the files of a `ShardStore`, read block by block.

    `matrix[a:b]`, `matrix[rows]` (row numbers in any order, or a mask) and `matrix[i]` return arrays; `np.asarray`
    reads all of it. Files are read, not mapped: what was read counts as the process's memory only while it is held.
    Several threads may read at once. Pickles as the names and layout of its files.

    Args:
        paths: the files, each with `shard_rows` rows (the last has the rest).
        offsets: (files, batches a file) int64, the byte at which the vectors of each record batch begin.
        shape: (n, d).
        batch_rows: rows a record batch (the last of a file has the rest).
    """

    dtype = np.dtype(np.float16)
    ndim = 2

    def __init__(
        self, paths: Sequence[Path], offsets: np.ndarray, shape: tuple[int, int], shard_rows: int, batch_rows: int
    ):
        self.shape, self._paths, self._offsets = shape, paths, offsets
        self._shard_rows, self._batch_rows = shard_rows, batch_rows

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            return self._range(start, max(start, stop)) if step == 1 else self._rows(np.arange(start, stop, step))
        index = np.asarray(key)
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise IndexError(f"a mask of shape {index.shape} for {len(self)} rows")
            index = np.flatnonzero(index)
        if index.size and index.dtype.kind not in "iu":
            raise IndexError(f"rows are chosen by whole numbers, a mask or a slice, not by {index.dtype}")
        index = index.astype(np.int64, copy=False)
        if index.size and (index.min() < -len(self) or index.max() >= len(self)):
            raise IndexError(f"a row number is out of range for {len(self)} rows")
        rows = self._rows(np.where(index < 0, index + len(self), index).ravel())
        return rows.reshape(*index.shape, self.shape[1])

    def _range(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, self.shape[1]), dtype=self.dtype)
        row = start
        while row < stop:
            end = min(stop, self._batch_end(row))
            self._read(row, out[row - start : end - start])
            row = end
        return out

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        if len(rows) and (rows[1:] < rows[:-1]).any():
            order = np.argsort(rows, kind="stable")
            out = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
            out[order] = self._rows(rows[order])
            return out
        out = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        shard, within = np.divmod(rows, self._shard_rows)
        batch = shard * self._offsets.shape[1] + within // self._batch_rows
        gap = max(1, GAP_BYTES // (2 * self.shape[1]))
        cuts = np.flatnonzero((batch[1:] != batch[:-1]) | (rows[1:] - rows[:-1] > gap)) + 1
        bounds = np.concatenate([[0], cuts, [len(rows)]]) if len(rows) else np.zeros(1, dtype=np.int64)
        for i in range(len(bounds) - 1):
            part = rows[bounds[i] : bounds[i + 1]]
            scratch = np.empty((int(part[-1] - part[0]) + 1, self.shape[1]), dtype=self.dtype)
            self._read(int(part[0]), scratch)
            out[bounds[i] : bounds[i + 1]] = scratch[part - part[0]]
        return out

    def _batch_end(self, row: int) -> int:
        shard, within = divmod(row, self._shard_rows)
        return shard * self._shard_rows + min(self._shard_rows, (within // self._batch_rows + 1) * self._batch_rows)

    def _read(self, row: int, out: np.ndarray) -> None:
        """Fill `out` with consecutive rows of one record batch, the first of which is `row`."""
        shard, within = divmod(row, self._shard_rows)
        batch, inside = divmod(within, self._batch_rows)
        view = memoryview(out.reshape(-1).view(np.uint8))
        with open(self._paths[shard], "rb", buffering=0) as handle:
            handle.seek(int(self._offsets[shard, batch]) + inside * 2 * self.shape[1])
            while len(view):
                count = handle.readinto(view)
                if not count:
                    raise OSError(f"{str(self._paths[shard])!r} became shorter while it was read")
                view = view[count:]
