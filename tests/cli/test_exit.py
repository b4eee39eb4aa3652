"""How a command ends: exit codes, one line that says what to do, and no traceback unless asked for."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from hf_mlalign.cli.exit import exit_code_of as ended
from hf_mlalign.core import system_errors as faults
from hf_mlalign.core.errors import DataError
from hf_mlalign.core.system_errors import ALWAYS, REMEDIES, explain, note_folder
from tests.processes import interruptible

TOKEN = "hf_" + "t" * 34


def raised(function, *arguments):
    try:
        function(*arguments)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def wrapped(inner, outer, hidden=False):
    """`outer`, raised from `inner`, or while it was handled and `from None`."""
    try:
        try:
            raise inner
        except BaseException as error:
            raise outer from (None if hidden else error)
    except BaseException as error:
        return error


@pytest.fixture(autouse=True)
def _enough_space(monkeypatch):
    monkeypatch.setattr(faults, "_nearly_full", lambda folder: False)


@pytest.mark.parametrize("number", sorted(REMEDIES))
def test_every_number_has_a_remedy_and_names_the_file(number):
    text = explain(OSError(number, os.strerror(number), "/data/out/run.json"))
    assert REMEDIES[number][1:] in text
    assert "/data/out/run.json" in text or number in (errno.ENOMEM, errno.EMFILE)
    assert "debug" not in text
    assert "\n" not in text


@pytest.mark.parametrize("number", ALWAYS)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_full_disk_is_told_whatever_was_raised_from_it(number, hidden):
    from datasets.exceptions import DatasetGenerationError

    for outer in (DatasetGenerationError("An error occurred while generating the dataset"), KeyError("x"),
                  DataError("source: cannot read 'pool.json'")):  # fmt: skip
        text = explain(wrapped(OSError(number, os.strerror(number)), outer, hidden))
        assert REMEDIES[number][1:] in text


def test_other_numbers_under_an_error_do_not_hide_it():
    missing = FileNotFoundError(errno.ENOENT, "No such file", "x")
    assert explain(wrapped(missing, DataError("column 'a': gone"))) == "column 'a': gone"
    assert explain(wrapped(missing, KeyError("a"))).startswith("KeyError: 'a' (hf-mlalign --debug")


def test_the_words_of_libraries():
    import pyarrow as pa
    from safetensors import SafetensorError

    for error, number in [
        (SafetensorError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (OSError("4096 requested and 512 written"), errno.ENOSPC),
        (OSError("Not enough disk space. Needed: 3 GiB"), errno.ENOSPC),
        (sqlite3.OperationalError("database or disk is full"), errno.ENOSPC),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), errno.ENOSPC),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), errno.ENOMEM),
        (pa.ArrowMemoryError("malloc of size 8 failed"), errno.ENOMEM),
        (MemoryError(), errno.ENOMEM),
        (raised(np.empty, 2**50), errno.ENOMEM),
    ]:
        assert REMEDIES[number][1:] in explain(error), error


def test_what_pyarrow_raises_on_a_full_disk(tmp_path):
    import resource

    import pyarrow as pa
    import pyarrow.parquet as pq

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        error = raised(pq.write_table, pa.table({"a": [1]}), tmp_path / "x.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    note_folder(error, tmp_path / "out")
    note_folder(error, tmp_path)  # the first note counts
    assert explain(error) == f"output {str(tmp_path / 'out')!r}: {REMEDIES[errno.EFBIG]}"


def test_the_full_disk_is_the_one_that_is_named(monkeypatch, tmp_path):
    error = OSError(errno.ENOSPC, "No space left on device")
    note_folder(error, tmp_path / "out")
    monkeypatch.setattr(faults, "_nearly_full", lambda folder: folder == tempfile.gettempdir())
    assert explain(error).startswith(f"temporary files (TMPDIR) {tempfile.gettempdir()!r}: no space")


def test_nothing_is_known_of_an_error_but_its_kind():
    text = explain(RuntimeError(f"line 1\nline 2 {TOKEN}"))
    assert text == "RuntimeError: line 1 line 2 *** (hf-mlalign --debug shows the traceback)"
    assert explain(DataError("n: 0 answers.")) == "n: 0 answers."
    loop = RuntimeError("a")
    loop.__context__ = ValueError("b")
    loop.__context__.__context__ = loop
    assert explain(loop).startswith("RuntimeError: a")


def test_codes(capsys):
    def fails(error):
        def command():
            raise error

        return command

    assert ended(lambda: None) == 0
    assert ended(lambda: 3) == 3
    assert ended(fails(SystemExit(4))) == 4
    assert ended(fails(SystemExit())) == 0
    assert capsys.readouterr().err == ""
    assert ended(fails(DataError("bad"))) == 2
    assert capsys.readouterr().err == "Error: bad\n"
    assert ended(fails(ZeroDivisionError("x")), debug=True) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("Error: ZeroDivisionError: x (hf-mlalign --debug shows the traceback)\n")
    assert ended(fails(KeyboardInterrupt())) == 130
    assert "Interrupted. Run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(number, code, capsys):
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background it is ignored
    try:
        assert ended(lambda: os.kill(os.getpid(), number)) == code
        assert "Interrupted." in capsys.readouterr().err

        def swallowed():
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt:
                raise ImportError("half imported") from None  # as C extensions do

        assert ended(swallowed) == code
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def shown(code: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    command = f"from hf_mlalign.cli.app import app, main\n@app.command()\ndef odd() -> None:\n    {code}\nmain()"
    return subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True,
                          preexec_fn=interruptible, **options)  # fmt: skip


def test_any_other_error_ends_with_2_and_one_line():
    for arguments in (["odd"], ["--debug", "odd"], ["odd", "--debug"]):
        done = shown("raise RecursionError('too deep')", *arguments)
        assert done.returncode == 2
        lines = done.stderr.splitlines()
        assert lines[-1] == "Error: RecursionError: too deep (hf-mlalign --debug shows the traceback)"
        assert ("Traceback (most recent call last):" in lines) == ("--debug" in arguments)


def test_a_reader_that_goes_away_is_no_error():
    code = "import sys, typer\n    for i in range(100_000): typer.echo('x' * 100)"
    command = f"from hf_mlalign.cli.app import app, main\n@app.command()\ndef odd() -> None:\n    {code}\nmain()"
    for run in (command, command.replace("100_000", "1")):
        child = subprocess.Popen([sys.executable, "-c", run, "odd"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait() in (0, 1)


def test_forked_workers_end_silently():
    code = (
        "import multiprocessing as m, os, signal, time\n"
        "    child = m.get_context('fork').Process(target=time.sleep, args=(60,)); child.start()\n"
        "    time.sleep(0.2); os.kill(child.pid, signal.SIGTERM); child.join(); print(child.exitcode)"
    )
    done = shown(code, "odd")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{-signal.SIGTERM}\n", "")


def test_a_second_interrupt_at_the_way_out():
    code = (
        "import os, signal\n    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    finally: os.kill(os.getpid(), signal.SIGINT)"
    )
    done = shown(code, "odd")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
