"""What the tests of the commands' faults share; two files of tests, so that they run side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.processes import REPO
from tests.reliability.commands import environment, write_inputs
from tests.reliability.trials import KINDS

MOST = 8
"""Steps at which a command is killed; `python -m tests.reliability.trials` tries as many as one wants."""


def tried_on(name: str, folder: Path) -> dict:
    """Everything that is tried on a command, in a process of its own."""
    write_inputs(folder)
    command = [sys.executable, "-m", "tests.reliability.trials", name, str(folder), str(MOST), "0"]
    done = subprocess.run(command, cwd=REPO, env=environment(folder), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(found: dict, name: str) -> None:
    """No fault was lost on the command, and the faults were real."""
    for kind in KINDS:
        if kind in found:
            assert found[kind]["faults"] == [], (name, kind)
    assert found["steps"] > 20
    assert found["killed"]["tried"] == MOST
    assert found["killed"]["hit"] >= MOST // 2  # threads do not take the same number of steps each time
    assert found["interrupted"]["hit"] >= found["interrupted"]["tried"] - 2
    for kind in ("torn", "limited", "full"):
        if kind in found and name != "push":
            assert found[kind]["hit"] > 0, kind
