"""Commands in forks of one process that has everything imported, and faults that hit them at a chosen step."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.commands import HUB

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
EVENTS = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1}
"""Audit event → how many of its arguments are paths."""
PIPE_BYTES = 2**20


@dataclass(frozen=True)
class Fault:
    """What happens to a command.

    Attributes:
        step: after so many steps …
        signal: … it gets this signal,
        often: and again before every further step.
        size: no file may be larger than so many bytes;
        kills: and the process is killed if one would be, in the middle of the write, instead of getting an error.
    """

    step: int | None = None
    signal: int = signal.SIGKILL
    often: bool = False
    size: int | None = None
    kills: bool = True


@dataclass
class Outcome:
    """How an attempt ended: its exit code (the negative signal where one killed it), what it printed, the steps it
    took and the modules it had imported."""

    code: int
    log: str
    steps: int = 0
    modules: tuple[str, ...] = ()


NONE = Fault()


class Steps:
    """Counts this process's steps below `root`, and signals it as the fault says.

    A step is what changes a file or folder: open for writing, write, rename, mkdir, rmdir, remove, truncate, fsync; of
    a client of the Hub, a request before it is sent and after its reply.
    """

    def __init__(self, root: Path, fault: Fault):
        self.root, self.fault, self.taken, self.lock = str(root), fault, 0, threading.Lock()

    def step(self) -> None:
        with self.lock:
            self.taken += 1
            last = self.fault.step
            due = last is not None and (self.taken == last + 1 or (self.fault.often and self.taken > last))
        if due:
            os.kill(os.getpid(), self.fault.signal)

    def install(self) -> None:
        sys.addaudithook(self._audit)
        for name in ("write", "fsync", "ftruncate"):
            setattr(os, name, self._counted(getattr(os, name)))

    def around_requests(self) -> None:
        from huggingface_hub.utils import get_session

        client = type(get_session())
        send = client.send

        def counted(*values, **options):
            self.step()
            reply = send(*values, **options)
            self.step()
            return reply

        client.send = counted

    def _counted(self, function: Callable) -> Callable:
        def counted(descriptor: int, *values):
            if self._inside(_path_of(descriptor)):
                self.step()
            return function(descriptor, *values)

        return counted

    def _audit(self, event: str, values: tuple) -> None:
        if event == "open":
            path, _, flags = values
            if isinstance(path, (str, bytes)) and flags & WRITING and self._inside(os.fsdecode(path)):
                self.step()
        elif event in EVENTS:
            paths = [os.fsdecode(path) for path in values[: EVENTS[event]] if isinstance(path, (str, bytes))]
            folder = next((_path_of(v) for v in values[EVENTS[event] :] if isinstance(v, int) and v > 2), "")
            if any(self._inside(os.path.join(folder, path)) for path in paths):
                self.step()

    def _inside(self, path: str) -> bool:
        return os.path.abspath(path).startswith(self.root)


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def load_everything() -> None:
    """Import what the commands need; nothing is computed, so that a fork finds no threads."""
    import datasets  # noqa: F401
    import faiss  # noqa: F401
    import sentence_transformers  # noqa: F401
    import transformers  # noqa: F401

    import hf_mlalign.cli.app
    import hf_mlalign.cmalign.build
    import hf_mlalign.evaluation.judges.run
    import hf_mlalign.generation.sampler
    import hf_mlalign.hub.publish
    import hf_mlalign.mdaq.curation
    import hf_mlalign.mdaq.scoring  # noqa: F401


class Attempt:
    """A command that runs in a fork, in a folder whose `run` holds all that it writes."""

    def __init__(self, folder: Path, command: list[str], fault: Fault = NONE):
        self.folder = folder
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.pid = os.fork()
        if not self.pid:
            try:
                _become(folder, command, fault, write)
            finally:
                os._exit(99)
        os.close(write)
        self._log = read

    def wait(self) -> Outcome:
        status = os.waitpid(self.pid, 0)[1]
        with open(self._log, "rb") as log:
            text = log.read().decode(errors="replace")
        shown, _, found = text.partition("\0")
        taken, *modules = json.loads(found) if found else [0]
        return Outcome(os.waitstatus_to_exitcode(status), shown, taken, tuple(modules))


def _become(folder: Path, command: list[str], fault: Fault, log: int) -> None:
    import datasets

    from hf_mlalign.cli.app import main

    os.chdir(folder)
    datasets.config.HF_DATASETS_CACHE = folder / "run" / "cache"
    tempfile.tempdir = str(folder / "run" / "tmp")
    os.dup2(log, 1)
    os.dup2(log, 2)
    if fault.size is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fault.kills else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.size, resource.RLIM_INFINITY))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork of a job in the background ignores it
    counter = Steps(folder / "run", fault)
    counter.around_requests() if command[0] in HUB else counter.install()
    sys.argv = ["hf-mlalign", *command]
    code: object = 99
    try:
        main()
    except SystemExit as stop:
        code = stop.code or 0
    sys.stdout.flush()
    os.write(log, b"\0" + json.dumps([counter.taken, *sys.modules]).encode())
    os._exit(code if isinstance(code, int) else 1)
