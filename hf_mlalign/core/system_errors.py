"""Turn errors of the system into one line that says what failed, where, and what to do."""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hf_mlalign.core.errors import DataError, listed

NEARLY_FULL = 2**20
"""A disk with fewer free bytes counts as full (*ours*)."""
AGAIN = "Run the same command again to continue; what was finished is kept."

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REMEDIES = {
    errno.ENOSPC: f"no space is left on the disk. Free some space. {AGAIN}",
    errno.EDQUOT: f"your disk quota is used up. Free some space. {AGAIN}",
    errno.EFBIG: f"a file is larger than the file system or ulimit -f allows. Raise it or free some space. {AGAIN}",
    errno.EROFS: "the disk is read-only. Name another folder, or make it writable.",
    errno.EACCES: "permission denied. Change the permissions, or name another path.",
    errno.EPERM: "this is not permitted. Change the permissions, or name another path.",
    errno.ENOENT: "no such file or folder.",
    errno.ENOTDIR: "a part of the path is a file. Name another path.",
    errno.EISDIR: "this is a folder. Name another path.",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one.",
    errno.EMFILE: f"too many open files. Raise the limit (ulimit -n). {AGAIN}",
    errno.EIO: f"the disk reports an input/output error. Check it (dmesg). {AGAIN}",
    errno.ENOMEM: f"out of memory. Use smaller batches, fewer rows or a larger machine. {AGAIN}",
}
"""Error number of the system → what happened and what to do."""
ALWAYS = (*FULL, errno.EROFS, errno.EMFILE, errno.EIO, errno.ENOMEM)
"""Errors that are reported even if another error was raised from them."""
TEXTS = {
    r"No space left on device|os error 28\b|disk is full|Not enough disk space|\d+ requested and \d+ written|"
    r"failed writing file|fwrite error": errno.ENOSPC,
    r"[Qq]uota exceeded|os error 122\b": errno.EDQUOT,
    r"File too large|os error 27\b": errno.EFBIG,
    r"Read-only file system|readonly database|os error 30\b": errno.EROFS,
    r"Too many open files|os error 24\b": errno.EMFILE,
    r"can't allocate memory|[Oo]ut of memory|bad_alloc|Unable to allocate|Cannot allocate memory": errno.ENOMEM,
}
"""Texts of errors that libraries raise instead of an `OSError` → error number."""


def explain(error: BaseException) -> str:
    """One line that says what failed, where, and what to do; for an unknown error, its type and message."""
    if (told := known(error)) is not None:
        return told
    text = " ".join(str(error).split())
    with suppress(Exception):
        from hf_mlalign.core.secrets import redacted

        text = redacted(text)
    text = f": {text[:300]}" if text else ""
    return f"{type(error).__name__}{text} (hf-mlalign --debug shows the traceback)"


def known(error: BaseException) -> str | None:
    """What a user can do about an error; `None` if it is neither a `DataError` nor an error of the system.

    The whole chain of causes is searched, so a full disk is recognised whichever library wrapped the error. A
    `DataError` keeps its message unless the disk or the memory ran out.
    """
    for cause in _chain(error):
        number = _number(cause)
        if number in ALWAYS or (cause is error and isinstance(cause, OSError) and number in REMEDIES):
            place = _place(error, cause, number)
            return f"{place}: {REMEDIES[number]}" if place else REMEDIES[number][:1].upper() + REMEDIES[number][1:]
    return str(error) if isinstance(error, DataError) else None


def note_folder(error: BaseException, folder: Path) -> None:
    """Note the folder in which an error occurred, for `explain`; the first note counts."""
    if not hasattr(error, "_hf_mlalign_folder"):
        with suppress(AttributeError):
            error._hf_mlalign_folder = str(folder)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes, and the errors that were being handled when it was raised, even suppressed ones."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is other for other in seen):
            seen.append(one)
            yield one
            waiting += [one.__context__, one.__cause__]


def _number(error: BaseException) -> int | None:
    """The error number of the system, recognised by the text if a library gives only that; `None` for other errors."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, DataError):
        return None
    text = str(error)
    return next((number for pattern, number in TEXTS.items() if re.search(pattern, text)), None)


def _place(error: BaseException, cause: BaseException, number: int | None) -> str | None:
    """Where it failed: the full disk, the file in the error, or the folder that was being written."""
    if number in (errno.ENOMEM, errno.EMFILE):
        return None
    noted = next((one._hf_mlalign_folder for one in _chain(error) if hasattr(one, "_hf_mlalign_folder")), None)
    datasets = sys.modules.get("datasets")
    cache = str(datasets.config.HF_DATASETS_CACHE) if datasets else None
    folders = {"output": noted, "cache (HF_HOME)": cache, "temporary files (TMPDIR)": tempfile.gettempdir()}
    places = {name: f"{name} {folder!r}" for name, folder in folders.items() if folder}
    if number in FULL and (full := [places[name] for name in places if _nearly_full(folders[name])]):
        return listed(full)
    file = getattr(cause, "filename", None)
    if isinstance(file, (str, bytes, os.PathLike)):
        return f"{places['output']}, {os.fsdecode(file)!r}" if noted else repr(os.fsdecode(file))
    if number == errno.ENOSPC:  # it may be any of them
        return f"one of {listed(places.values())}"
    return places.get("output") or (listed(places.values()) if number in FULL else None)


def _nearly_full(folder: str) -> bool:
    path = Path(folder)
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < NEARLY_FULL or (found.f_files > 0 and found.f_favail == 0)
