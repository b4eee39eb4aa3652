"""Ctrl-C in the real command, while it imports and while its workers are at work."""

import signal
import subprocess

import pytest

from tests.processes import interruptible
from tests.reliability.commands import RUN, arguments, differences, environment, result, write_inputs

HOOK = """
import os, signal, sys
came = []
def hook(event, values):
    if event == "import" and values[0] == {module!r} and not came:
        came.append(1)
        os.kill(os.getpid(), signal.SIGINT)
from hf_mlalign.__main__ import main
sys.addaudithook(hook)
main()
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.mark.parametrize(
    "module", ["typer", "numpy", "pyarrow", "torch", "datasets", "sentence_transformers", "faiss"]
)
def test_while_it_imports(module, inputs, tmp_path):
    command = [RUN[0], "-c", HOOK.format(module=module), *arguments("curate", output=str(tmp_path / "out"))]
    done = subprocess.run(command, cwd=inputs, env=environment(tmp_path), capture_output=True, text=True,
                          preexec_fn=interruptible)  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "Interrupted. Run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


def test_while_workers_are_at_work(tmp_path):
    """SIGINT goes to the whole group, as from a terminal: no worker prints a traceback, none is left behind."""
    code = """
import os, signal, threading, time
from hf_mlalign.cli.app import app, main
def slow(row):
    time.sleep(0.5)
    return row
@app.command()
def odd() -> None:
    from datasets import Dataset
    rows = Dataset.from_dict({"a": list(range(40))})
    threading.Timer(2, os.killpg, (os.getpgid(0), signal.SIGINT)).start()
    rows.map(slow, num_proc=2)
main()
"""
    child = subprocess.Popen([RUN[0], "-c", code, "odd"], env=environment(tmp_path), stderr=subprocess.PIPE, text=True,
                             stdout=subprocess.DEVNULL, start_new_session=True, preexec_fn=interruptible)  # fmt: skip
    errors = child.communicate(timeout=120)[1]
    assert child.returncode == 130, errors
    assert "Interrupted." in errors
    assert "Traceback" not in errors
    alive = subprocess.run(["pgrep", "-g", str(child.pid)], capture_output=True, text=True).stdout
    assert alive == ""


def test_terminated_by_a_batch_system_and_started_again(inputs, tmp_path):
    command = [*RUN, *arguments("build-pairs", output=str(tmp_path / "out"))]
    options = {"cwd": inputs, "env": environment(tmp_path), "text": True, "stderr": subprocess.PIPE}
    child = subprocess.Popen(command, preexec_fn=interruptible, **options)
    with pytest.raises(subprocess.TimeoutExpired):
        child.communicate(timeout=1.5)
    child.send_signal(signal.SIGTERM)
    errors = child.communicate(timeout=60)[1]
    assert child.returncode == 143, errors
    assert "Interrupted." in errors
    assert subprocess.run(command, **options).returncode == 0
    different = differences(result(tmp_path / "out"), result(inputs / "pairs"))
    assert set(different) <= {"README.md", "run.json"}  # the source goes by another name
