"""Writing files that are never seen half written, and telling files apart by content."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_mlalign.errors import DataError, listed

HASHED_BYTES = 2**32
"""Files together larger than this are told apart by size and time of change alone (*ours*)."""
LOCK = ".lock"


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that a reader sees either the old or the whole new content."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def names_in(folder: Path) -> set[str]:
    """Names of what a folder to be written holds, none where it is not there yet; DataError if it is a file."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"output: {str(folder)!r} is a file. Name a folder.")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def lock(folder: Path) -> Any:
    """Make the folder and lock it, as a context; DataError where another process writes to it or nobody can."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / LOCK, timeout=0).acquire()
    except Timeout:
        raise DataError(f"output: another process is writing to {str(folder)!r}. Wait for it.") from None
    except OSError as error:
        raise DataError(f"output: cannot write to {str(folder)!r}: {error.strerror}.") from error


def keep_parameters(path: Path, parameters: Mapping[str, Any], holds: str, remedy: str) -> None:
    """Write the parameters to a new JSON file, or raise a `DataError` if an old one has others.

    Args:
        holds: what the folder holds, for the message: "answers drawn with other parameters".
        remedy: the message's last sentence.
    """
    if not path.is_file():
        write_whole(path, json.dumps(parameters, indent=1, ensure_ascii=False) + "\n")
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
        source: what is there is told apart by file names and content; what is not, by its text.
        pattern: which files of a folder, at any depth.
    """
    import xxhash

    path = Path(source)
    inside = sorted(p for p in path.rglob(pattern) if p.is_file() and p.name != LOCK) if path.is_dir() else None
    files = [path] if path.is_file() else inside if inside is not None else sorted(map(Path, glob.glob(str(source))))
    whole = sum(file.stat().st_size for file in files) <= HASHED_BYTES
    digest = xxhash.xxh3_128(str(source).encode() if not files else b"")
    for file in files:
        digest.update(f"{file.relative_to(path) if inside is not None else file.name}\n".encode())
        if not whole:
            digest.update(f"{file.stat().st_size} {file.stat().st_mtime_ns}".encode())
            continue
        with open(file, "rb") as handle:
            while block := handle.read(2**22):
                digest.update(block)
    return digest.hexdigest()
