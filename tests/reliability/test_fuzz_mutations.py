"""Good files and finished run folders with random damage: flipped bytes, cuts, swapped and repeated pieces."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability.broken_files import WRITERS
from tests.reliability.forked import hf_mlalign_forked
from tests.reliability.fuzzed_commands import ANSWERS, INSTRUCTIONS, TABLES, arguments, tiny_model
from tests.reliability.test_fuzz_commands import Faults, check

EXAMPLES = 20
COMMANDS = {"parquet": "lint", "jsonl": "questions", "csv": "curate", "tsv": "judge", "arrow": "lint", "json": "sample"}
"""Each format with another command."""

damage = st.lists(
    st.tuples(st.sampled_from(("flip", "cut", "drop", "repeat", "insert", "swap")), st.floats(0, 1, exclude_max=True),
              st.integers(0, 255), st.integers(1, 64)), min_size=1, max_size=4,
)  # fmt: skip


def damaged(data: bytes, steps: list[tuple[str, float, int, int]]) -> bytes:
    """`data` after each step (kind, place as a share of the length, byte, length of the piece)."""
    for kind, place, byte, length in steps:
        at = int(place * len(data))
        piece = data[at : at + length]
        if kind == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (byte or 1)]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + length :]
        elif kind == "repeat":
            data = data[:at] + piece * 3 + data[at + length :]
        elif kind == "insert":
            data = data[:at] + bytes([byte]) * length + data[at:]
        elif kind == "swap":
            data = piece + data[:at] + data[at + length :]
    return data


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("ending", WRITERS)
def test_damaged_files(ending, model, tmp_path_factory):
    """Whatever the damage: read, or refused by a message."""
    command = COMMANDS[ending]
    good = WRITERS[ending](TABLES[command])

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(damage)
    def one(steps):
        folder = tmp_path_factory.mktemp("damaged")
        (folder / f"x.{ending}").write_bytes(damaged(good, steps))
        ended = hf_mlalign_forked(*arguments(command, f"x.{ending}", "out", model), cwd=folder)
        check(ended, folder, f"{command} {ending} {steps}")
        shutil.rmtree(folder)

    one()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model) -> Path:
    """A folder with a finished curation, judgement and annotation."""
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("finished")
    pq.write_table(INSTRUCTIONS, folder / "pool.parquet")
    pq.write_table(ANSWERS, folder / "answers.parquet")
    for command, source in (("curate", "pool.parquet"), ("judge", "answers.parquet")):
        ended = hf_mlalign_forked(*arguments(command, source, command, model), cwd=folder)
        assert ended.code == 0, ended.stderr
    return folder


RECORDS = [
    b"", b"{", b"null", b"[]", b"5", b'"x"', b"{}", b"\xff\xfe", b"[" * 100_000, b'{"command":' * 50_000, b"\0" * 100,
    b'{"command": 5}', b'{"command": "curate", "parameters": {}, "state": "done"}',
    b'{"command": "curate", "parameters": {}, "state": "finished", "results": {"per_language": 5}}',
    b'{"command": "curate", "parameters": {}, "state": "finished", "results": {"per_language": []}}',
    b'{"command": "curate", "parameters": {}, "state": "finished", "results": {"per_language": [{"language": 5}]}}',
    b'{"command": "curate", "parameters": {}, "state": "finished", "source": {"name": "../../../etc/passwd"}}',
    b'{"command": "judge", "parameters": {}, "state": "finished", "results": {"per_language": {"de": 1}}}',
    b'{"command": "sft", "parameters": {"output_dir": "/etc"}, "state": "finished", "results": {"per_language": [1]}}',
    b'{"command": "<script>alert(1)</script>", "parameters": {}, "state": "finished"}',
    b'{"command": "curate", "parameters": {}, "state": "finished", "notes": ["\\u001b[31m[red]\\ud800"]}',
]  # fmt: skip


@pytest.mark.parametrize("command", ["report", "push", "annotate-export", "curate", "judge"])
def test_damaged_records(command, finished, model, tmp_path):
    """Whatever `run.json` holds."""
    faults = Faults()
    for i, record in enumerate(RECORDS):
        which = "judge" if command == "judge" else "curate"
        folder = tmp_path / str(i)
        shutil.copytree(finished / which, folder / "run")
        (folder / "run" / "run.json").write_bytes(record)
        if command in ("curate", "judge"):
            line = arguments(command, finished / ("pool.parquet" if command == "curate" else "answers.parquet"), "run",
                             model)  # fmt: skip
        else:
            line = arguments(command, "run", "out", model)
        ended = hf_mlalign_forked(*line, cwd=folder)
        with faults:
            check(ended, folder, f"{command} {record[:90]!r}")
            assert command == "report" or ended.code == 2, f"{command} {record[:90]!r}: {ended.printed[-200:]}"
        shutil.rmtree(folder)
    faults.none()


@pytest.mark.parametrize(("command", "which"), [("report", "curate"), ("report", "judge"), ("push", "curate")])
def test_damaged_run_folders(command, which, finished, model, tmp_path):
    """Each file of a finished folder cut, emptied, full of NULs, a folder, a pipe, or a link that leads nowhere."""
    faults = Faults()
    files = [path.relative_to(finished / which) for path in sorted((finished / which).rglob("*"))]
    kinds = ("cut", "empty", "nul", "folder", "pipe", "nowhere", "loop")
    for i, (path, kind) in enumerate((path, kind) for path in files for kind in kinds):
        if (finished / which / path).is_dir() or path.name in (".lock", "run.json") or (i + len(path.name)) % 3:
            continue
        folder = tmp_path / str(i)
        target = shutil.copytree(finished / which, folder / "run") / path
        content = target.read_bytes()
        target.unlink()
        if kind in ("cut", "empty", "nul"):
            target.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "nul": bytes(len(content))}[kind])
        elif kind == "folder":
            target.mkdir()
        elif kind == "pipe":
            os.mkfifo(target)
        else:
            os.symlink("nothing" if kind == "nowhere" else path.name, target)
        ended = hf_mlalign_forked(*arguments(command, "run", "out", model), cwd=folder, seconds=20)
        with faults:
            check(ended, folder, f"{command} {path} {kind}")
        shutil.rmtree(folder)
    faults.none()


def test_damaged_annotations(tmp_path, model):
    """`annotate-export` on stores with damaged lines and studies."""
    from tests.evaluation.annotation.human_studies import judge_all, make_items, open_study

    with open_study(tmp_path / "store", make_items(4)) as study:
        judge_all(study, "me")
    faults, drawn = Faults(), random.Random(0)
    for path in sorted(p for p in (tmp_path / "store").iterdir() if p.is_file() and not p.name.startswith(".")):
        for i in range(12):
            folder = tmp_path / f"{path.name}-{i}"
            shutil.copytree(tmp_path / "store", folder / "run")
            steps = [(drawn.choice(("flip", "cut", "insert", "repeat")), drawn.random(), drawn.randrange(256), 8)]
            (folder / "run" / path.name).write_bytes(damaged(path.read_bytes(), steps))
            ended = hf_mlalign_forked(*arguments("annotate-export", "run", "out", model), cwd=folder)
            with faults:
                check(ended, folder, f"annotate-export {path.name} {steps}")
            shutil.rmtree(folder)
    faults.none()


def test_the_damage_is_damage():
    """What these tests rest on: steps change the bytes, and a good file passes."""
    data = json.dumps({"a": 1}).encode()
    assert damaged(data, [("flip", 0.5, 1, 1)]) != data
    assert damaged(data, [("cut", 0.5, 0, 1)]) == data[:4]
