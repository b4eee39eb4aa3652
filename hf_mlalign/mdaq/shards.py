"""Score a large dataset shard by shard, so that a killed run loses at most one shard."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.columns import Schema
from hf_mlalign.mdaq.transforms import EMBEDDING_COLUMN, SCORE_COLUMN, MDaQScorer

if TYPE_CHECKING:
    from datasets import Dataset

SHARD_ROWS = 20_000
"""Rows a shard (*ours*: about a second of work with the bundled model)."""


def score_in_shards(
    ds: Dataset,
    schema: Schema,
    scorer: MDaQScorer,
    folder: str | Path,
    *,
    shard_rows: int = SHARD_ROWS,
    batch_rows: int = 4096,
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Quality scores and instruction vectors of all rows, kept on disk shard by shard.

    Each finished shard is one file below `folder`, in a sub-folder named after the data, the columns and the scorer, so
    that a rerun takes up where the last one stopped and never mixes different runs.

    Args:
        ds: n rows.
        schema: which columns hold the texts.
        scorer: a `MDaQScorer(embeddings=True)`.
        folder: where the shards are kept.
        shard_rows: rows a file.
        batch_rows: rows scored at a time.
        progress: called with the number of rows done since the last call.
    Returns:
        scores (n,) float32, NaN where a row cannot be scored, and embeddings (n, d) float32.
    Raises:
        DataError: a value is not text (column and row are named).
    """
    target = Path(folder) / _key(ds, schema, scorer, shard_rows)
    target.mkdir(parents=True, exist_ok=True)
    scores = np.empty(len(ds), dtype=np.float32)
    embeddings = np.empty((len(ds), scorer.embedding_dimension), dtype=np.float32)
    texts = ds.select_columns(list(schema.text_columns))
    for begin in range(0, len(ds), shard_rows):
        end = min(begin + shard_rows, len(ds))
        path = target / f"rows-{begin:010d}-{end:010d}.npy"
        shard = _read(path, end - begin, embeddings.shape[1] + 1)
        if shard is None:
            shard = np.concatenate([_score(texts, scorer, b, min(b + batch_rows, end), progress)
                                    for b in range(begin, end, batch_rows)])  # fmt: skip
            _write(path, shard)
        else:
            progress(end - begin)
        scores[begin:end], embeddings[begin:end] = shard[:, 0], shard[:, 1:]
    return scores, embeddings


def _score(texts: Dataset, scorer: MDaQScorer, begin: int, end: int, progress: Callable[[int], None]) -> np.ndarray:
    columns = scorer(texts[begin:end], range(begin, end))
    scores = np.array([np.nan if s is None else s for s in columns[SCORE_COLUMN]], dtype=np.float32)
    progress(end - begin)
    return np.concatenate([scores[:, None], columns[EMBEDDING_COLUMN]], axis=1)


def _key(ds: Dataset, schema: Schema, scorer: MDaQScorer, shard_rows: int) -> str:
    parts = (ds._fingerprint, schema.text_columns, pickle.dumps(scorer.__getstate__(), protocol=4), shard_rows)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _read(path: Path, rows: int, width: int) -> np.ndarray | None:
    try:
        shard = np.load(path, allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError, OSError):
        return None
    return shard if shard.shape == (rows, width) and shard.dtype == np.float32 else None


def _write(path: Path, shard: np.ndarray) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with open(partial, "wb") as handle:
        np.save(handle, shard, allow_pickle=False)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, path)
