"""Writing files that are never seen half written, and telling files apart by content."""

from __future__ import annotations

import glob
import os
from pathlib import Path

HASHED_BYTES = 2**32
"""Files together larger than this are told apart by size and time of change alone (*ours*)."""
LOCK = ".lock"


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that a reader sees either the old or the whole new content."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


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
