"""How a command ends: faults of the system as messages a user can act on, signals as exit codes."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hf_mlalign.errors import DataError, listed, printable
from hf_mlalign.private_parts import suspects

FAILED = 2
"""Exit code of every error."""
SIGNAL = 128
"""Exit code of a signal, less its number: 130 for Ctrl-C, 143 for SIGTERM."""
LONGEST = 2000
"""Characters of an error's line (*ours*)."""
NEARLY_FULL = 2**20
"""A disk with fewer free bytes is named as the full one (*ours*)."""
AGAIN = "Run the same command again to go on; what was finished is kept."

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REMEDIES = {
    errno.ENOSPC: f"no space is left on the disk. Free some space. {AGAIN}",
    errno.EDQUOT: f"your disk quota is used up. Free some space. {AGAIN}",
    errno.EFBIG: (
        "a file would be larger than the file system or the limit on file sizes (ulimit -f) allows. Raise the limit or "
        f"free some space. {AGAIN}"
    ),
    errno.EROFS: "the disk is read-only. Name another folder, or make it writable.",
    errno.EACCES: "permission denied. Change the permissions, or name another path.",
    errno.EPERM: "this is not permitted. Change the permissions, or name another path.",
    errno.ENOTDIR: "a part of the path is a file. Name another path.",
    errno.EISDIR: "this is a folder. Name another path.",
    errno.ENOENT: "no such file or folder.",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one.",
    errno.EMFILE: f"too many open files. Raise the limit (ulimit -n). {AGAIN}",
    errno.ENFILE: f"too many open files on this machine. {AGAIN}",
    errno.EIO: f"the disk reports an input/output error. Check it (dmesg). {AGAIN}",
    errno.ESTALE: f"the network file system lost the file. {AGAIN}",
    errno.ENOMEM: f"out of memory. Use smaller batches, fewer rows or a larger machine. {AGAIN}",
}
"""Error number of the system → what happened and what to do."""
ALWAYS = (*FULL, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOMEM)
"""Errors that say what happened better than whatever was raised from them."""
TEXTS = {
    r"No space left on device|os error 28\b|disk is full|Not enough disk space|\d+ requested and \d+ written|"
    r"failed writing file|fwrite error": errno.ENOSPC,
    r"[Qq]uota exceeded|os error 122\b": errno.EDQUOT,
    r"File too large|os error 27\b": errno.EFBIG,
    r"Read-only file system|readonly database|os error 30\b": errno.EROFS,
    r"Too many open files|os error 24\b": errno.EMFILE,
    r"can't allocate memory|[Oo]ut of memory|bad_alloc|Unable to allocate|Cannot allocate memory": errno.ENOMEM,
}
"""How libraries that raise no `OSError` word it → error number."""


def explain(error: BaseException) -> str:
    """One line that tells a user what failed, where, and what to do; of an unknown error its kind and words."""
    if (told := known(error)) is not None:
        return told
    text = _redacted(" ".join(str(error).split()))[:300]
    changed = "".join(f" {message}" for message in suspects(error)[:1])
    return f"{type(error).__name__}{f': {text}' if text else ''} (hf-mlalign --debug shows the traceback){changed}"


def known(error: BaseException) -> str | None:
    """What a user can do about an error; `None` if it is neither of this package nor of the system.

    The whole chain of causes is searched, so that a full disk is told as such whichever library wrapped it. A
    `DataError` keeps its own words unless the disk or the memory ran out under it.
    """
    for one in _chain(error):
        number = _number(one)
        if number in ALWAYS or (one is error and isinstance(one, OSError) and number in REMEDIES):
            place = _place(error, one, number)
            return f"{place}: {REMEDIES[number]}" if place else REMEDIES[number][:1].upper() + REMEDIES[number][1:]
    return str(error) if isinstance(error, DataError) else None


def at(error: BaseException, folder: Path) -> None:
    """Note in which folder an error came up, for `explain`; the first note counts."""
    if not hasattr(error, "_hf_mlalign_folder"):
        with suppress(AttributeError):
            error._hf_mlalign_folder = str(folder)


def ended(command: Callable[[], Any], debug: bool = False) -> int:
    """Call the command and return the exit code of the process.

    0 or what the command returns; 2 for every error, with one line on stderr (and, with `debug`, the traceback);
    130 after Ctrl-C and 143 after SIGTERM; 0 where the reader of stdout went away (`… | head`).
    """
    with _stoppable() as came:
        try:
            code = command()
            sys.stdout.flush()
        except BrokenPipeError:
            code = _without_stdout(debug)
        except SystemExit as stop:
            code = _of_exit(stop)
        except BaseException as error:
            code = _of_error(error, came, debug)
        code = code if isinstance(code, int) else 0
        if came and code in (SIGNAL + signal.SIGINT, FAILED):
            code = SIGNAL + came[0]
        if code == SIGNAL + signal.SIGINT or came[:1] == [code - SIGNAL]:
            _tell(f"Interrupted. {AGAIN}")
    return code


def _of_error(error: BaseException, came: list[int], debug: bool) -> int:
    if came or isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        if debug:
            traceback.print_exception(error)
        return SIGNAL + (came[0] if came else signal.SIGINT)
    if hasattr(error, "exit_code") and hasattr(error, "show"):
        shown = io.StringIO()
        error.show(file=shown)  # a usage error of the command line
        _tell(shown.getvalue().rstrip())
        return error.exit_code
    if debug:
        traceback.print_exception(error)
    text = explain(error)
    _tell(f"Error: {text if len(text) <= LONGEST else f'{text[:LONGEST]} …'}")
    return FAILED


def _of_exit(stop: SystemExit) -> int:
    if isinstance(stop.code, str):
        _tell(stop.code)
        return 1
    return stop.code or 0


def _without_stdout(debug: bool) -> int:
    if debug:
        traceback.print_exc()
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _tell(text: str) -> None:
    """Print to stderr, as `printable`, in red on a terminal; nobody may be listening."""
    text = printable(text)
    with suppress(OSError, ValueError):
        red = text.startswith("Error") and sys.stderr.isatty()
        print(f"\033[31m{text}\033[0m" if red else text, file=sys.stderr, flush=True)


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM raise `KeyboardInterrupt`; yields the list of those that came.

    Forked workers end silently. Once the command is over, a signal ends the process as the system does by default:
    nothing is left to save.
    """
    came: list[int] = []
    owner = os.getpid()

    def stop(number: int, _: Any) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    handled = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]
    for one in handled:
        signal.signal(one, stop)
    try:
        yield came
    finally:
        for one in handled:
            signal.signal(one, signal.SIG_DFL)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes, and what was being handled when it was raised, also where that is not to be shown."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is other for other in seen):
            seen.append(one)
            yield one
            waiting += [one.__context__, one.__cause__]


def _number(error: BaseException) -> int | None:
    """The system's number of an error, also where a library raises its words only; `None` for other errors."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, DataError):
        return None
    text = str(error)
    return next((number for pattern, number in TEXTS.items() if re.search(pattern, text)), None)


def _place(error: BaseException, cause: BaseException, number: int | None) -> str | None:
    """Where it failed: the full disk, the file that is named, or the folder that was being written."""
    if number in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return None
    folders = {name: f"{name} {folder!r}" for name, folder in _folders(error).items()}
    if number in FULL:
        full = [folders[name] for name, folder in _folders(error).items() if _nearly_full(folder)]
        if full:
            return listed(full)
    file = getattr(cause, "filename", None)
    if isinstance(file, (str, bytes, os.PathLike)):
        file = repr(os.fsdecode(file))
        return f"{folders['output']}, {file}" if "output" in folders else file
    if number == errno.ENOSPC:  # whose file it was cannot be told
        return f"one of {listed(folders.values())}"
    return folders.get("output") or (listed(folders.values()) if number in FULL else None)


def _folders(error: BaseException) -> dict[str, str]:
    """What a command writes: its output, the cache of datasets, and temporary files."""
    found = next((one._hf_mlalign_folder for one in _chain(error) if hasattr(one, "_hf_mlalign_folder")), None)
    datasets = sys.modules.get("datasets")
    cache = str(datasets.config.HF_DATASETS_CACHE) if datasets else None
    folders = {"output": found, "cache (HF_HOME)": cache, "temporary files (TMPDIR)": tempfile.gettempdir()}
    return {name: folder for name, folder in folders.items() if folder}


def _nearly_full(folder: str) -> bool:
    path = Path(folder)
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < NEARLY_FULL or (found.f_files > 0 and found.f_favail == 0)


def _redacted(text: str) -> str:
    with suppress(Exception):
        from hf_mlalign.uploads import redacted

        return redacted(text)
    return text
