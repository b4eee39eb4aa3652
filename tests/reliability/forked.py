"""Commands in forked children of a process that has imported everything once: real exit codes, in milliseconds.

That process, `python -m tests.reliability.forked`, does nothing else: the threads of torch do not survive a fork, so
children of a pytest process that has used torch would crash.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from huggingface_hub import constants

import hf_mlalign
from tests.processes import REPO, interruptible

LEFT_OUT = ("demo", "launch", "distributed")
"""Parts that no command of these tests loads."""
UNEXPECTED = "--debug shows the traceback"
"""What the last line of an error that nobody foresaw ends with."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: killed by this signal), what it printed, seconds, and peak bytes."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    peak: int

    @property
    def printed(self) -> str:
        return self.stdout + self.stderr

    @property
    def message(self) -> str:
        """The error's line."""
        return next((line for line in self.stderr.splitlines() if line.startswith("Error")), self.stderr[-400:])


@cache
def imported() -> None:
    """Import what the commands load when they need it."""
    for module in pkgutil.walk_packages(hf_mlalign.__path__, "hf_mlalign."):
        if not any(f".{part}" in module.name for part in LEFT_OUT):
            importlib.import_module(module.name)
    for name in ("datasets", "sentence_transformers", "transformers", "pyarrow.parquet", "pyarrow.json", "pyarrow.csv",
                 "pandas", "faiss", "peft", "matplotlib.pyplot", "scipy.optimize", "rich.console", "rich.table",
                 "transformers.models.llama.modeling_llama", "py3langid"):  # fmt: skip
        importlib.import_module(name)
    from hf_mlalign.data.languages import LanguageIdentifier

    LanguageIdentifier().identify(["warm"])


def hf_mlalign_forked(*arguments: object, cwd: Path, seconds: float = 60.0, gigabytes: float = 4.0, **environment: str):
    """Run `hf-mlalign ARGUMENTS` in a forked child; `Ended`.

    Args:
        cwd: where it runs; its output is kept there in `.out` and `.err`.
        seconds: it is killed after so many.
        gigabytes: of address space beyond what the parent has.
        environment: variables that are set for it.
    """
    request = {"line": list(map(str, arguments)), "cwd": str(cwd), "seconds": seconds, "gigabytes": gigabytes,
               "environment": {**os.environ, **environment}}  # fmt: skip
    server = _server()
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer, f"the forking process ended with {server.wait(10)}"
    logs = {name: (cwd / f".{name[3:]}").read_text(encoding="utf-8", errors="surrogateescape")
            for name in ("stdout", "stderr")}  # fmt: skip
    return Ended(**json.loads(answer), **logs)


@cache
def _server() -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.reliability.forked"]
    return subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            preexec_fn=interruptible)  # fmt: skip


def _serve() -> None:
    """Fork a child for each request on stdin, and answer how it ended, until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    imported()
    for line in sys.stdin:
        request = json.loads(line)
        cwd = Path(request["cwd"])
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            _run(request["line"], cwd, (cwd / ".out", cwd / ".err"), request["gigabytes"], request["environment"])
        status, usage = _wait(child, began + request["seconds"])
        ended = {"code": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - began,
                 "peak": usage.ru_maxrss * 1024}  # fmt: skip
        answers.write(json.dumps(ended) + "\n")
        answers.flush()


def _wait(child: int, deadline: float):
    while time.perf_counter() < deadline:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return status, usage
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    return os.wait4(child, 0)[1:]


def _run(arguments: list[str], cwd: Path, logs: tuple[Path, Path], gigabytes: float, environment: dict[str, str]):
    code = 99
    try:
        os.setsid()
        os.chdir(cwd)
        for number, path in ((0, os.devnull), (1, logs[0]), (2, logs[1])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if number else 0)), number)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(i, "w" if i else "r", encoding="utf-8") for i in range(3))
        sys.argv = ["hf-mlalign", *arguments]
        os.environ.clear()
        os.environ.update(environment)
        constants.HF_HUB_OFFLINE = environment.get("HF_HUB_OFFLINE") == "1"  # read from the environment at import
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own + int(gigabytes * 2**30),) * 2)
        from hf_mlalign.cli.app import main

        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 98
        os._exit(code)


if __name__ == "__main__":
    _serve()
