"""What memory there is, and giving back what a mapped file took of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from pathlib import Path

MADV_DONTNEED = 4
CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Memory this process may still take, in bytes: what is free, and what its control group allows (files in the
    cache count as free); `None` where the system does not tell (anything but Linux)."""
    found = [_meminfo(), _left(CGROUP, "memory.max", "memory.current", "file")]
    found.append(_left(CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"))
    return min((value for value in found if value is not None), default=None)


def release_mapped(files: Iterable[str]) -> None:
    """Drop the pages of these read-only mapped files from the process's memory; they are read again when needed.

    A memory-mapped dataset that is read from end to end otherwise counts in full as memory of the process, although
    the system could take it back. Does nothing where the system does not list mappings (anything but Linux).
    """
    wanted = {str(Path(file).absolute()) for file in files}
    try:
        lines = Path("/proc/self/maps").read_text().splitlines() if wanted else []
    except OSError:
        return
    for line in lines:
        span, access, *_, path = line.split(maxsplit=5)
        if path in wanted and "w" not in access:
            begin, end = (int(address, 16) for address in span.split("-"))
            ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


def _left(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        cached = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used = int((folder / usage).read_text()) - int(cached[cache])
        return max(0, int((folder / limit).read_text()) - used)
    except (OSError, ValueError, KeyError):  # no such group, or "max"
        return None
