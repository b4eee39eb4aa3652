"""Several processes under a launcher, none of which outlives the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def environment(folder: Path) -> dict[str, str]:
    """Variables of a child: this repository, one thread, offline, caches in `folder`."""
    return {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(REPO), "HF_HOME": str(folder / "home"),
    }  # fmt: skip


def run_group(arguments: list[str], folder: Path, timeout: float = 300.0) -> None:
    """Run `python -m …` in `folder`, offline, with one thread; fails with the end of its error output.

    After `timeout` seconds the command and its children are killed.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environment(folder), cwd=folder, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        errors = child.communicate(timeout=timeout)[1]
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    assert child.returncode == 0, errors[-3000:]


def interruptible() -> None:
    """For `preexec_fn`: Ctrl-C reaches the child even where the tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
