"""Every command that reads data, with files that nobody can read, odd columns, and odd option values.

Each command runs in a forked child with 4 GB of memory to spare and must end within a minute: with code 0, or with code
2 and one line that was meant for this fault (not the last resort for errors nobody foresaw).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_app import COMMAND
from tests.reliability.broken_files import BUILDERS, parquet
from tests.reliability.forked import UNEXPECTED, Ended, hf_mlalign_forked
from tests.reliability.fuzzed_commands import COMMANDS, TABLES, arguments, tiny_model

SECONDS, GIGABYTES = 60, 4
READ = ("mixed-folder", "null-line.jsonl")
"""Odd, but they can be read."""
CONTENT = [name for name in BUILDERS if name.endswith((" for text", " for language")) or "in parquet" in name]
FILES = [name for name in BUILDERS if name not in CONTENT]
SHARE = 8
"""A command other than `curate` gets every so-many-th broken file, each another one."""


class Faults:
    """Collects what is wrong, so that one run shows all of it."""

    def __init__(self):
        self.found: list[str] = []

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace) -> bool:
        if kind is AssertionError:
            self.found.append(str(error).split("\nassert")[0][:500])
        return kind is AssertionError

    def none(self) -> None:
        assert not self.found, "\n\n".join(self.found)


@pytest.fixture
def faults():
    collected = Faults()
    yield collected
    collected.none()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def check(ended: Ended, folder: Path, name: str, output: str = "out") -> None:
    """What holds however odd the input was."""
    assert ended.code in (0, 2), f"{name}: {ended.code} {ended.printed[-800:]}"
    assert ended.seconds < SECONDS, name
    assert ended.peak < GIGABYTES * 2**30, name
    assert UNEXPECTED not in ended.stderr, f"{name}: {ended.message}"
    assert "Traceback" not in ended.stderr, f"{name}: {ended.stderr}"
    if ended.code == 2:
        assert "Error: " in ended.stderr, f"{name}: {ended.stderr}"
        assert len(ended.message) < 4000, name
        assert ended.message.isprintable(), f"{name}: {ended.message!r}"
        half_written(folder / output, name)


def half_written(output: Path, name: str) -> None:
    """A failed command leaves nothing that looks finished."""
    assert not (output / "data").exists(), name
    record = output / "run.json"
    assert not record.exists() or json.loads(record.read_text())["state"] == "running", name


def run(command: str, name: str, folder: Path, model: Path) -> Ended:
    folder.mkdir(parents=True)
    path = BUILDERS[name](TABLES[command], folder)
    line = arguments(command, path.relative_to(folder), "out", model)
    return hf_mlalign_forked(*line, cwd=folder, seconds=SECONDS, gigabytes=GIGABYTES)


@pytest.mark.parametrize("name", FILES)
def test_broken_files(name, model, faults, tmp_path):
    """Each broken file with `curate` and with one or two of the other commands by turns."""
    others = [c for i, c in enumerate(COMMANDS[1:]) if (FILES.index(name) + i) % SHARE == 0]
    others = [c for c in others if c != "annotate" or name not in READ]  # it would serve
    for command in ("curate", *others):
        ended = run(command, name, tmp_path / command, model)
        with faults:
            check(ended, tmp_path / command, f"{command} {name}")
            if name not in READ:
                assert ended.code == 2, f"{command} {name}: {ended.printed[-300:]}"
        shutil.rmtree(tmp_path / command)


@pytest.mark.parametrize("command", COMMANDS)
def test_odd_columns(command, model, faults, tmp_path):
    """Null, binary, nested, dictionary and other columns where a text or a language is expected."""
    for i, name in enumerate(CONTENT):
        if command in ("annotate", "lens", "build-pairs", "score") and i % 3:
            continue  # these take seconds where they succeed
        if command == "annotate" and ("language" in name or "dictionary" in name or "large" in name or "view" in name):
            continue  # it would serve
        ended = run(command, name, tmp_path / str(i), model)
        with faults:
            check(ended, tmp_path / str(i), f"{command} {name}")
        shutil.rmtree(tmp_path / str(i))


LONG = "x" * 5000
OPTIONS = {
    "curate": [("--n-quality", -1), ("--n-quality", 10**30), ("--n-clusters", 0), ("--n-clusters", 10**12),
               ("--seed", -1), ("--seed", 10**40), ("--languages", ",,"), ("--languages", "../.."), ("--split", "../x"),
               ("--split", "train[:0]"), ("--split", "train[5:2]"), ("--split", "train[x]"), ("--config", "../../x"),
               ("--column-mapping", "="), ("--column-mapping", "prompt=prompt"), ("--model", "../nothing"),
               ("--model", ""), ("--model", "x.parquet"), ("--model", "\0"), ("--scorer", "/etc"), ("--method", "best"),
               ("--output", "x.parquet/out"), ("--output", LONG), ("--output", "a\0b"), ("--report-to", "nobody"),
               ("--column-mapping", "prompt=instruction,response=response,\x1b[31m=language")],
    "sample": [("--n", 0), ("--top-p", 0), ("--top-p", "nan"), ("--temperature", "inf"), ("--max-tokens", 10**9),
               ("--model", "../../etc"), ("--base-url", "not a url"), ("--base-url", ""), ("--model", ""),
               ("--base-url", "file:///etc/passwd"), ("--limit", 0), ("--batch-size", 0), ("--device", "tpu:9"),
               ("--seed", -5), ("--timeout", -1), ("--timeout", "nan"), ("--languages", "xx"), ("--n", "x")],
    "build-pairs": [("--min-margin", "nan"), ("--max-length-ratio", -1), ("--max-length-ratio", "nan"),
                    ("--test-size", 2), ("--test-size", "nan"), ("--policy", ""), ("--reward", "../x"),
                    ("--min-reference-consistency", "nan"), ("--min-chars", 10**18), ("--seed", -1),
                    ("--output-format", "xml"), ("--model", "x.parquet"), ("--reward", "hidden_state")],
    "judge": [("--judge", "os:system"), ("--judge", "no.such.module:x"), ("--judge", ""), ("--judge", "x:y:z"),
              ("--judge", "json:loads"), ("--baseline", "../x"), ("--baseline", ""), ("--limit", 0),
              ("--judge", "human"), ("--timeout", -1), ("--template", "/etc/passwd"), ("--model", "../x")],
    "questions": [("--mix", "de=nan"), ("--mix", "de=-1"), ("--mix", "="), ("--templates", "x.parquet"),
                  ("--templates", "/dev/zero"), ("--template", "../x"), ("--test-size", 1), ("--n-per-language", -1),
                  ("--direction", ""), ("--form", "x"), ("--translator", "../x"), ("--languages", "")],
    "classify": [("--task", "../x.yaml"), ("--task", "x.parquet"), ("--task", "/dev/zero"), ("--task", ""),
                 ("--n-shots", -1), ("--n-shots", 10**9), ("--max-length", 1), ("--batch-tokens", 0),
                 ("--dtype", "float8"), ("--device", "x"), ("--baseline", "x.parquet"), ("--adapter", "x.parquet")],
    "lens": [("--span", ""), ("--pooling", "x"), ("--english", "xx"), ("--limit", 0), ("--adapter", "/etc"),
             ("--device", "x"), ("--dtype", "x"), ("--max-length", 0), ("--languages", "de,de")],
    "lint": [("--split", "no"), ("--split", "train[:0]"), ("--config", "\0")],
    "annotate": [("--overlap", "nan"), ("--per-item", 0), ("--port", 0), ("--host", "256.0.0.1"), ("--limit", 0),
                 ("--languages", "../..")],
    "score": [("--batch-size", 0), ("--shard-rows", 0), ("--model", "../x"), ("--encoder", "x.parquet"),
              ("--world-size", 7)],
}  # fmt: skip


@pytest.mark.parametrize("command", OPTIONS)
def test_odd_options(command, model, faults, tmp_path):
    for i, (option, value) in enumerate(OPTIONS[command]):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "x.parquet").write_bytes(parquet(TABLES[command]))
        line = [*arguments(command, "x.parquet", "out", model), option, value]
        ended = hf_mlalign_forked(*line, cwd=folder, seconds=SECONDS, gigabytes=GIGABYTES)
        with faults:
            check(ended, folder, f"{command} {option} {str(value)[:50]!r}")
            assert {p.name for p in folder.iterdir()} <= {"x.parquet", "out", ".out", ".err"}
            assert {p.name for p in tmp_path.iterdir()} == {str(i)}
        shutil.rmtree(folder)


SOURCES = (
    "", ".", "..", "~", "\0", LONG, "/" * 5000, "*", "[", "?", "x y", "user/../..", "http://127.0.0.1:1/x.csv",
    "file:///etc/passwd", "s3://bucket/x.csv", "hf://datasets/a/b", "zip://x::y.zip", "/proc/self/mem", "/dev/stdin",
    "\x1b[31m.csv", "\udcff.csv", "\u202egnp.parquet", "x.parquet/..", "x.parquet/y",
)  # fmt: skip


@pytest.mark.parametrize("command", ["curate", "lint", "judge", "report", "push", "annotate-export"])
def test_odd_sources(command, model, faults, tmp_path):
    for i, source in enumerate(SOURCES):
        folder = tmp_path / str(i)
        folder.mkdir()
        ended = hf_mlalign_forked(*arguments(command, source, "out", model), cwd=folder, seconds=SECONDS)
        with faults:
            check(ended, folder, f"{command} {source[:50]!r}")
            assert ended.code == 2, f"{command} {source[:50]!r}: {ended.printed[-300:]}"
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_file_that_may_not_be_read(model, tmp_path):
    (tmp_path / "x.parquet").write_bytes(parquet(TABLES["curate"]))
    (tmp_path / "x.parquet").chmod(0)
    ended = hf_mlalign_forked(*arguments("curate", "x.parquet", "out", model), cwd=tmp_path)
    check(ended, tmp_path, "unreadable")
    assert ended.code == 2


@pytest.mark.parametrize("name", ["half.parquet", "deep.jsonl", "fifo", "wide.csv"])
def test_as_a_user_runs_it(name, tmp_path):
    """The same in processes of their own."""
    path = BUILDERS[name](TABLES["curate"], tmp_path)
    done = subprocess.run([*COMMAND, "curate", path, "-o", tmp_path / "out"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=SECONDS * 2)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: source: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
