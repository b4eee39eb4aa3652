"""Atomic writes, locks, digests of content, and a cache of results block by block."""

from __future__ import annotations

import errno
import glob
import hashlib
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.system_errors import note_folder

HASHED_BYTES = 2**32
"""Files larger than this in total are compared only by size and modification time (*ours*)."""
LOCK = ".lock"
MOST_FILES = 100_000
"""A folder with more files is refused as a dataset (*ours*)."""
SMALL_BYTES = 2**24
"""Largest settings file that is read, e.g. templates or a task (*ours*)."""


def write_atomic(path: Path, text: str) -> None:
    """Write a small file atomically: readers see the old or the new content, even after a power failure."""
    with atomic_path(path.with_name(f".{path.name}.partial"), path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def atomic_path(partial: Path, target: Path) -> Iterator[Path]:
    """A context that writes `partial`; at its end it is renamed to `target`, or removed if anything fails."""
    try:
        yield partial
        commit(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def commit(partial: Path, target: Path) -> None:
    """Flush a finished file or folder to the disk (fsync), then rename it."""
    for path in (*partial.rglob("*"), partial):
        sync_path(path)
    os.replace(partial, target)
    sync_path(target.parent)


def sync_path(path: Path) -> None:
    """Flush a file, or the list of names in a folder, to the disk (fsync) if the file system supports it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # not on this file system
            raise
    finally:
        os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Raise a `DataError` if a folder cannot be created or written to. Changes nothing on disk."""
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    shown = repr(str(folder))
    if not path.is_dir():
        raise DataError(f"output: {shown} cannot be a folder: {str(path)!r} is a file. Name another folder.")
    if not os.access(path, os.W_OK | os.X_OK):
        raise DataError(
            f"output: cannot write to {shown}: {str(path)!r} is read-only or belongs to somebody else. Name another "
            "folder, or make it writable."
        )


def read_small(path: str | Path, role: str) -> str:
    """The text of a settings file of at most `SMALL_BYTES`.

    Raises:
        DataError: not a regular file, too large, or not UTF-8.
        OSError: it cannot be opened.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(f"{role}: {str(path)!r} is a pipe or a device, not a file.")
    if path.is_file() and path.stat().st_size > SMALL_BYTES:
        raise DataError(f"{role}: {str(path)!r} is larger than {SMALL_BYTES >> 20} MiB; such files are short.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{role}: {str(path)!r} is not a text in UTF-8: {error}.") from error


def list_names(folder: Path) -> set[str]:
    """Names of the files in a folder; empty if it does not exist yet. DataError if it is a file."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"output: {str(folder)!r} is a file. Name a folder.")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Create the folder and lock it; DataError if another process is writing to it or it is not writable."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / LOCK, timeout=0).acquire()
    except Timeout:
        raise DataError(f"output: another process is writing to {str(folder)!r}. Wait for it.") from None
    except OSError as error:
        note_folder(error, folder)
        raise DataError(f"output: cannot write to {str(folder)!r}: {error.strerror}.") from error
    with held:
        try:
            yield
        except BaseException as error:
            note_folder(error, folder)
            raise


def pin_parameters(path: Path, parameters: Mapping[str, Any], holds: str, remedy: str) -> None:
    """Write the parameters to a JSON file, or raise a `DataError` if the file exists with others.

    Args:
        holds: what the folder holds, for the message, e.g. "answers drawn with other parameters".
        remedy: last sentence of the message.
    """
    if not path.is_file():
        write_atomic(path, json.dumps(parameters, indent=1, ensure_ascii=False) + "\n")
        return
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"output: {str(path)!r} cannot be read: {error}. Name another folder.") from error
    changed = [name for name in {**old, **parameters} if old.get(name) != parameters.get(name)]
    if changed:
        shown = listed(f"{name} was {old.get(name)!r}, now {parameters.get(name)!r}" for name in changed)
        raise DataError(f"output: {str(path.parent)!r} holds {holds} ({shown}). {remedy}")


def content_digest(source: str | Path, pattern: str = "*") -> str:
    """Digest (32 hexadecimal characters) of a file, of a folder, of the files of a glob pattern, or of a name.

    Args:
        source: files are digested by name and content; a name that does not exist by its text.
        pattern: which files of a folder, at any depth; hidden folders are ignored.
    """
    import xxhash

    path = Path(source)
    if path.is_dir():
        found = list(itertools.islice(path.rglob(pattern), MOST_FILES + 1))
        if len(found) > MOST_FILES:
            raise DataError(f"source: {str(path)!r} holds more than {MOST_FILES:,} files. Name the folder of the data.")
        inside = {file: file.relative_to(path) for file in sorted(found) if file.name != LOCK}
        names = {  # without hidden folders, which hold the work or the old result of a run
            file: str(part) for file, part in inside.items() if not any(p.startswith(".") for p in part.parts[:-1])
        }
    else:
        names = {file: file.name for file in ([path] if path.is_file() else sorted(map(Path, glob.glob(str(source)))))}
    files = [file for file in names if file.is_file()]  # a pipe would hang
    whole = sum(file.stat().st_size for file in files) <= HASHED_BYTES
    digest = xxhash.xxh3_128(os.fsencode(str(source)) if not files else b"")
    for file in files:
        digest.update(os.fsencode(f"{names[file]}\n"))
        if not whole:
            digest.update(f"{file.stat().st_size} {file.stat().st_mtime_ns}".encode())
            continue
        with open(file, "rb") as handle:
            while block := handle.read(2**22):
                digest.update(block)
    return digest.hexdigest()

CHECK_BYTES = 4
"""Each block in a file begins with its CRC-32, which reveals blocks that a power failure left incomplete."""


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
        folder: where finished blocks are kept; `None` keeps none.
        key: everything that determines the result (texts, model, options); another key has another file.
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
    """Fill in the blocks that the file holds, cut off the rest of the file, and yield the missing blocks."""
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
