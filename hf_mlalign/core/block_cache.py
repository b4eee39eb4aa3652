"""Results of long computations, kept block by block: a run that is killed loses only the block it was computing."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

CHECK_BYTES = 4
"""Each block in a file begins with its CRC-32, which shows what a power failure left incomplete."""


def cached_blocks(
    blocks: Iterable[np.ndarray | slice],
    compute: Callable[[Any], np.ndarray],
    out: np.ndarray,
    folder: Path | None = None,
    key: Sequence[Any] = (),
) -> np.ndarray:
    """Fill `out` block by block: `out[block] = compute(block)`.

    Args:
        blocks: indices of rows of `out`; the same ones in the same order in every run.
        compute: from a block to its rows.
        out: (n,) or (n, d), of any type; returned.
        folder: where finished blocks are kept; `None`: nowhere.
        key: everything that decides the result (texts, model, options); values of one key are never used for another.
    """
    if folder is None:
        for block in blocks:
            out[block] = compute(block)
        return out
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps([*key, out.dtype.str, out.shape], default=str).encode("utf-8", "surrogatepass"))
    path = folder / f"{digest.hexdigest()[:32]}.rows"
    with open(path, "r+b" if path.exists() else "w+b", buffering=0) as file:
        for block in _read_blocks(file, blocks, out):
            out[block] = compute(block)
            begin, data = file.tell(), np.ascontiguousarray(out[block]).tobytes()
            data = zlib.crc32(data).to_bytes(CHECK_BYTES, "little") + data
            try:
                while data:
                    data = data[file.write(data) :]
            except BaseException:
                file.truncate(begin)
                raise
        os.fsync(file.fileno())
    return out


def _read_blocks(file: BinaryIO, blocks: Iterable[np.ndarray | slice], out: np.ndarray) -> Iterator[np.ndarray | slice]:
    """Fill in the blocks that the file holds; yields the others, the file cut where they begin."""
    missing = False
    for block in blocks:
        if not missing:
            begin, size = file.tell(), out[block].nbytes
            check, data = file.read(CHECK_BYTES), file.read(size)
            if len(data) == size and zlib.crc32(data).to_bytes(CHECK_BYTES, "little") == check:
                out[block] = np.frombuffer(data, out.dtype).reshape(out[block].shape)
                continue
            missing = True
            file.seek(begin)
            file.truncate()
        yield block
