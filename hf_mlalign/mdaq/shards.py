"""Scores and vectors of a large pool on disk, shard by shard: a killed run loses at most one shard, and readers hold
only the blocks that they request."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import atomic_path
from hf_mlalign.data.columns import column_numbers, matrix, release_mapped
from hf_mlalign.data.layouts import Layout
from hf_mlalign.mdaq.options import SHARD_ROWS
from hf_mlalign.mdaq.scorer import EMBEDDING_COLUMN, SCORE_COLUMN, MDaQScorer
from hf_mlalign.models.kmeans import to_float16

if TYPE_CHECKING:
    from datasets import Dataset


BATCH_ROWS = 8192
"""Rows per record batch inside a shard (*ours*: 4 MiB of 256 dimensions)."""
DIGEST = b"digest"

Engine = Callable[..., Iterator[tuple[int, np.ndarray, np.ndarray]]]
"""What computes missing shards, see `in_process`."""


class ShardStore:
    """`quality_score` and `embedding` of n rows in Arrow IPC files of `shard_rows` rows each.

    A file is called `rows-<begin>-<end>.arrow` and holds `quality_score` (float32, null if a row cannot be scored) and
    `embedding` (fixed-size list of float16: the vectors are rounded) in record batches of 8,192 rows. Each file
    contains a digest of its content; a truncated or damaged file counts as missing.

    Args:
        folder: folder of the files, created by the first `write`. Use it for this pool and scorer only.
        n_rows: rows of the pool.
        dimension: length of a vector; 0 for files with scores only.
        shard_rows: rows per file (the last file holds the rest).
    """

    def __init__(self, folder: str | Path, n_rows: int, dimension: int, shard_rows: int = SHARD_ROWS):
        if min(n_rows, dimension, shard_rows - 1) < 0:
            raise DataError(f"n_rows {n_rows}, dimension {dimension}, shard_rows {shard_rows}: give numbers above 0.")
        self.folder, self.n_rows, self.dimension, self.shard_rows = Path(folder), n_rows, dimension, shard_rows
        self._whole: set[int] = set()

    def shards(self) -> list[tuple[int, int]]:
        """(begin, end) of every shard, ascending."""
        return [(b, min(b + self.shard_rows, self.n_rows)) for b in range(0, self.n_rows, self.shard_rows)]

    def missing(self) -> list[tuple[int, int]]:
        """(begin, end) of the missing or damaged shards, ascending. Each file is read once to check it."""
        for begin, _ in self.shards():
            if begin not in self._whole and self._read(begin) is not None:
                self._whole.add(begin)
        return [(begin, end) for begin, end in self.shards() if begin not in self._whole]

    def write(self, begin: int, scores: np.ndarray, vectors: np.ndarray) -> None:
        """Write the shard that starts at row `begin`; readers see all of it or nothing.

        Args:
            scores: (m,) numbers, NaN if a row cannot be scored.
            vectors: (m, dimension) numbers, rounded to float16 (infinite beyond ±65,504).
        Raises:
            DataError: no shard starts there, or the shapes do not fit the shard.
            OSError: the disk is full or not writable; nothing is left behind.
        """
        end = min(begin + self.shard_rows, self.n_rows)
        if begin % self.shard_rows or not 0 <= begin < self.n_rows:
            raise DataError(f"begin is {begin}; shards start at multiples of {self.shard_rows} below {self.n_rows}")
        if np.shape(scores) != (end - begin,) or np.shape(vectors) != (end - begin, self.dimension):
            raise DataError(
                f"rows {begin} to {end} have shapes {np.shape(scores)} and {np.shape(vectors)}; pass {end - begin} "
                f"scores and as many vectors of {self.dimension}"
            )
        scores, half = np.asarray(scores, dtype=np.float32), to_float16(vectors)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(begin)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        schema = _schema(self.dimension).with_metadata({DIGEST: _digest(scores, half)})
        with atomic_path(partial, path), open(partial, "wb") as handle, pa.ipc.new_file(handle, schema) as writer:
            for start in range(0, len(scores), BATCH_ROWS):
                part = slice(start, start + BATCH_ROWS)
                columns = [pa.array(scores[part], from_pandas=True)]
                if self.dimension:
                    flat = pa.array(half[part].reshape(-1))
                    columns.append(pa.FixedSizeListArray.from_arrays(flat, self.dimension))
                writer.write_batch(pa.record_batch(columns, schema=schema))
        self._whole.add(begin)

    def scores(self) -> np.ndarray:
        """(n_rows,) float32, NaN if a row cannot be scored; DataError if shards are missing."""
        out = np.empty(self.n_rows, dtype=np.float32)
        for begin, end, table in self._tables():
            out[begin:end] = pa.chunked_array([b.column(0) for b in table]).to_numpy()
        return out

    def vectors(self) -> DiskMatrix:
        """All vectors as a matrix that stays on disk; DataError if shards are missing."""
        per_shard = -(-self.shard_rows // BATCH_ROWS)
        offsets = np.zeros((len(self.shards()), per_shard), dtype=np.int64)
        for begin, _, table in self._tables():
            start = table.base
            for i, batch in enumerate(table):
                offsets[begin // self.shard_rows, i] = batch.column(1).buffers()[-1].address - start
        paths = [self.path(begin) for begin, _ in self.shards()]
        return DiskMatrix(paths, offsets, (self.n_rows, self.dimension), self.shard_rows, BATCH_ROWS)

    def path(self, begin: int) -> Path:
        """The file of the shard that starts at row `begin`."""
        end = min(begin + self.shard_rows, self.n_rows)
        return self.folder / f"rows-{begin:010d}-{end:010d}.arrow"

    def _tables(self) -> Iterator[tuple[int, int, _MappedFile]]:
        missing = self.missing()
        if missing:
            raise DataError(f"{str(self.folder)!r} lacks rows {missing[0][0]} to {missing[0][1]}; score them first.")
        for begin, end in self.shards():
            yield begin, end, _MappedFile(self.path(begin))

    def read(self, begin: int) -> tuple[np.ndarray, np.ndarray]:
        """(m,) float32 scores and (m, dimension) float16 vectors of the shard that starts at row `begin`.

        Raises:
            DataError: it is missing or damaged.
        """
        found = self._read(begin)
        if found is None:
            raise DataError(f"{str(self.path(begin))!r} is missing or damaged; score these rows again.")
        return found

    def _read(self, begin: int) -> tuple[np.ndarray, np.ndarray] | None:
        end = min(begin + self.shard_rows, self.n_rows)
        try:
            with pa.OSFile(str(self.path(begin))) as handle:
                reader = pa.ipc.open_file(handle)
                batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
                digest = (reader.schema.metadata or {}).get(DIGEST, b"")
            sizes = [min(BATCH_ROWS, end - b) for b in range(begin, end, BATCH_ROWS)]
            if not reader.schema.equals(_schema(self.dimension)) or [len(b) for b in batches] != sizes:
                return None
            scores = pa.chunked_array([b.column(0) for b in batches]).to_numpy()
            vectors = np.empty((len(scores), 0), np.float16)
            if self.dimension:
                vectors = np.concatenate([b.column(1).values.to_numpy() for b in batches]).reshape(-1, self.dimension)
            return (scores, vectors) if _digest(scores, vectors) == digest else None
        except (OSError, ValueError, pa.ArrowException):
            return None


class _MappedFile:
    """The record batches of an Arrow IPC file, and the address it is mapped to, which locates its buffers."""

    def __init__(self, path: Path):
        with pa.memory_map(str(path)) as handle:
            self.whole = handle.read_buffer(handle.size())
        self.base = self.whole.address
        self.reader = pa.ipc.open_file(self.whole)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return (self.reader.get_batch(i) for i in range(self.reader.num_record_batches))


def _schema(dimension: int) -> pa.Schema:
    vectors = [(EMBEDDING_COLUMN, pa.list_(pa.float16(), dimension))] if dimension else []
    return pa.schema([(SCORE_COLUMN, pa.float32()), *vectors])


def _digest(scores: np.ndarray, vectors: np.ndarray) -> bytes:
    import xxhash

    digest = xxhash.xxh3_128(np.where(np.isnan(scores), np.float32("nan"), scores).astype(np.float32).tobytes())
    digest.update(np.ascontiguousarray(vectors).reshape(-1).view(np.uint8))
    return digest.hexdigest().encode()


def score_in_shards(
    ds: Dataset,
    schema: Layout,
    scorer: MDaQScorer,
    folder: str | Path,
    *,
    shard_rows: int = SHARD_ROWS,
    batch_rows: int = 4096,
    progress: Callable[[int], None] = lambda rows: None,
    engine: Engine | None = None,
) -> ShardStore:
    """Score all rows into a `ShardStore`.

    Each finished shard is one file below `folder`, in a subfolder named after the data, the columns and the scorer, so
    that a rerun takes up where the last one stopped and never mixes different runs.

    Args:
        ds: n rows.
        schema: which columns hold the texts.
        scorer: a `MDaQScorer(embeddings=True)`.
        folder: where the shards are kept.
        shard_rows: rows per file.
        batch_rows: rows scored at a time.
        progress: called with the number of rows done since the last call.
        engine: computes the missing shards; default this process, one after the other.
    Returns:
        The complete store.
    Raises:
        DataError: a value is not text (column and row are named).
    """
    key = store_key(ds, schema.text_columns, pickle.dumps(scorer.__getstate__(), protocol=4), shard_rows)
    store = ShardStore(Path(folder) / key, len(ds), scorer.embedding_dimension, shard_rows)
    missing = store.missing()
    progress(len(ds) - sum(end - begin for begin, end in missing))
    texts = ds.select_columns(list(schema.text_columns))
    for begin, scores, vectors in (engine or in_process)(texts, scorer, missing, batch_rows, progress):
        store.write(begin, scores, vectors)
        release_mapped(mapped_files(ds))
    return store


def in_process(
    texts: Dataset,
    scorer: MDaQScorer,
    missing: Sequence[tuple[int, int]],
    batch_rows: int,
    progress: Callable[[int], None],
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The engine of one process: (begin, scores, float16 vectors) of each missing shard."""
    for begin, end in missing:
        yield begin, *score_shard(scorer, lambda a, b: texts[a:b], begin, end, batch_rows, progress)


def score_shard(
    scorer: MDaQScorer,
    read: Callable[[int, int], Mapping[str, list]],
    begin: int,
    end: int,
    batch_rows: int,
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[np.ndarray, np.ndarray]:
    """(m,) float32 scores and (m, d) float16 vectors of rows `begin` to `end`.

    Every shard starts with an empty cache, so that no bit of it depends on what was scored before.

    Args:
        read: gives the texts of rows a to b, column by column.
        batch_rows: rows scored at a time.
        progress: called with the number of rows done since the last call.
    Raises:
        DataError: a value is not text, or a number of a vector does not fit float16 (the row is named).
    """
    parts = []
    for first in range(begin, end, batch_rows):
        rows = range(first, min(first + batch_rows, end))
        scores, vectors = score_batch(scorer, read(rows.start, rows.stop), rows)
        half = to_float16(vectors)
        if len(bad := np.flatnonzero(~np.isfinite(half).all(axis=1))):
            row = first + bad[0]
            raise DataError(f"embedding, row {row}: a number does not fit float16. Use another encoder.")
        parts.append((scores, half))
        progress(len(rows))
    scorer.forget()
    scores, vectors = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return scores, vectors


def has_scores(columns: Iterable[str]) -> bool:
    """Whether a dataset already holds scores and vectors, as `hf-mlalign score` writes them."""
    return {SCORE_COLUMN, EMBEDDING_COLUMN} <= set(columns)


def copy_in_shards(
    ds: Dataset,
    folder: str | Path,
    *,
    shard_rows: int = SHARD_ROWS,
    progress: Callable[[int], None] = lambda rows: None,
) -> ShardStore:
    """Copy the columns `quality_score` and `embedding` of a dataset into a `ShardStore`, shard by shard.

    Arguments and resuming are as in `score_in_shards`. `quality_score`: numbers, null if a row cannot be scored;
    `embedding`: lists of numbers, all of one length.
    Raises:
        DataError: the columns hold something else, or a vector is missing or of another length (row named).
    """
    columns = ds.select_columns([SCORE_COLUMN, EMBEDDING_COLUMN]).with_format("arrow")
    dimension = vector_length(ds)
    store = ShardStore(Path(folder) / store_key(ds, shard_rows), len(ds), dimension, shard_rows)
    missing = store.missing()
    progress(len(ds) - sum(end - begin for begin, end in missing))
    half = pa.types.is_float16(columns.data.schema.field(EMBEDDING_COLUMN).type.value_type)
    for begin, end in missing:
        table = columns[begin:end]
        vectors = matrix(
            table.column(EMBEDDING_COLUMN), EMBEDDING_COLUMN, begin, dimension, np.float16 if half else np.float32
        )
        store.write(begin, column_numbers(table.column(SCORE_COLUMN), SCORE_COLUMN, begin), vectors)
        release_mapped(mapped_files(ds))
        progress(end - begin)
    return store


def vector_length(ds: Dataset) -> int:
    """Length of the vectors in the column `embedding`; DataError if the first row has none."""
    first = ds.select_columns([EMBEDDING_COLUMN]).with_format("arrow")[:1]
    return matrix(first.column(EMBEDDING_COLUMN), EMBEDDING_COLUMN).shape[1]


def mapped_files(ds: Dataset) -> list[str]:
    """The files a dataset is mapped from."""
    return [file["filename"] for file in ds.cache_files]


def score_batch(
    scorer: MDaQScorer, texts: Mapping[str, list], rows: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) float32 scores, NaN if a row cannot be scored, and (n, d) float32 vectors of n rows of texts; `rows` are
    their numbers, for messages."""
    columns = scorer(texts, rows)
    scores = np.array([np.nan if s is None else s for s in columns[SCORE_COLUMN]], dtype=np.float32)
    return scores, np.asarray(columns.get(EMBEDDING_COLUMN, np.empty((len(scores), 0))), dtype=np.float32)


def store_key(ds: Dataset, *parts: Any) -> str:
    """Name of the subfolder for a store of these rows, made with these parts."""
    return hashlib.sha256(repr((ds._fingerprint, *parts)).encode()).hexdigest()[:16]


GAP_BYTES = 32 * 2**10
"""Requested rows that are closer together than this are read at once (*ours*)."""


class DiskMatrix:
    """An (n, d) float16 matrix in the files of a `ShardStore`, read block by block.

    `matrix[a:b]`, `matrix[rows]` (row numbers in any order, or a mask) and `matrix[i]` return arrays; `np.asarray`
    reads all of it. Files are read, not mapped: what was read counts as the process's memory only while it is held.
    Several threads may read at once. Pickles as the names and layout of its files.

    Args:
        paths: the files, each with `shard_rows` rows (the last has the rest).
        offsets: (files, batches per file) int64, the byte at which the vectors of each record batch begin.
        shape: (n, d).
        batch_rows: rows per record batch (the last of a file has the rest).
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
            if step != 1:
                return self._rows(np.arange(start, stop, step))
            out = np.empty((max(0, stop - start), self.shape[1]), dtype=self.dtype)
            row = start
            while row < stop:
                shard, within = divmod(row, self._shard_rows)
                batch_end = min(self._shard_rows, (within // self._batch_rows + 1) * self._batch_rows)
                end = min(stop, shard * self._shard_rows + batch_end)
                self._read(row, out[row - start : end - start])
                row = end
            return out
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

    def _read(self, row: int, out: np.ndarray) -> None:
        """Fill `out` with consecutive rows of one record batch, starting at `row`."""
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
