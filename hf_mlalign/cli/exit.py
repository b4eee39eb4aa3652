"""How a command ends: one line on stderr, signals as exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hf_mlalign.core.errors import printable
from hf_mlalign.core.system_errors import AGAIN, explain

FAILED = 2
"""Exit code of every error."""
SIGNAL = 128
"""Added to the number of a signal for its exit code: 130 for Ctrl-C, 143 for SIGTERM."""
LONGEST = 2000
"""Most characters of an error that are printed (*ours*)."""


def exit_code_of(command: Callable[[], Any], debug: bool = False) -> int:
    """Call the command and return the exit code of the process.

    0 or what the command returns; 2 for every error, with one line on stderr (and, with `debug`, the traceback);
    130 after Ctrl-C and 143 after SIGTERM; 0 if the reader of stdout stops reading (`… | head`).
    """
    with _stoppable() as came:
        try:
            code = command()
            sys.stdout.flush()
        except BrokenPipeError:
            if debug:
                traceback.print_exc()
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
            if isinstance(stop.code, str):
                _tell(stop.code)
                code = 1
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


def _tell(text: str) -> None:
    """Print to stderr, as `printable`, errors in red on a terminal; ignore that nobody reads it."""
    text = printable(text)
    with suppress(OSError, ValueError):
        red = text.startswith("Error") and sys.stderr.isatty()
        print(f"\033[31m{text}\033[0m" if red else text, file=sys.stderr, flush=True)


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM raise `KeyboardInterrupt`; yields the list of the signals received.

    Forked workers end silently. After the command, when nothing is left to save, signals have their default effect.
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
