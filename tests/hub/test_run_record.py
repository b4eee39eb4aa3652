"""Run folders: what is written, when a rerun has nothing to do, when it refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.hub.run_record import PREVIOUS, RECORD, Run, describe_source, read_record, to_json, write_record


def finished(folder, **parameters):
    run = Run(folder, "curate", parameters)
    with run.open():
        assert read_record(folder).state == "running"
        run.timed("score", lambda: None)
        run.finish({"rows": np.int64(3), "mean": float("nan")}, ["one note"])
    return run


def test_a_finished_run_is_read_back_and_found_done(tmp_path):
    finished(tmp_path, n=5, languages=("de", "ja"))
    record = read_record(tmp_path)
    assert (record.command, record.state, record.notes) == ("curate", "finished", ["one note"])
    assert record.parameters == {"n": 5, "languages": ["de", "ja"]}
    assert record.results == {"rows": 3, "mean": None}
    assert record.finished >= record.started
    assert set(record.seconds) == {"score"}
    assert "hf_mlalign" in record.versions
    assert Run(tmp_path, "curate", {"n": 5, "languages": ["de", "ja"]}).is_finished


def test_other_parameters_sources_and_commands_are_not_mixed(tmp_path):
    finished(tmp_path, n=5)
    with pytest.raises(DataError, match=r"other parameters \(n was 5, now 6\)"):
        Run(tmp_path, "curate", {"n": 6})
    with pytest.raises(DataError, match="source was None, now 'a Dataset in memory'"):
        Run(tmp_path, "curate", {"n": 5}, describe_source(Dataset.from_dict({"a": [1]})))
    with pytest.raises(DataError, match="holds a run of 'curate'"):
        Run(tmp_path, "sample", {"n": 5})
    assert not Run(tmp_path, "curate", {"n": 6}, grows=["n"]).is_finished
    source = describe_source(Dataset.from_dict({"a": [1]}))
    assert Run(tmp_path, "curate", {"n": 5}, source, grows=["source"]).is_finished
    assert not Run(tmp_path, "curate", {"n": 6}, overwrite=True).is_finished


def test_an_unfinished_run_goes_on(tmp_path):
    run = Run(tmp_path, "curate", {"n": 5})
    with run.open():
        run.timed("load", lambda: None)
        write_record(tmp_path, run.record)
    again = Run(tmp_path, "curate", {"n": 5})
    assert not again.is_finished
    assert again.record.started == run.record.started
    assert set(again.record.seconds) == {"load"}


def old_result(folder):
    finished(folder, n=5)
    (folder / "data").mkdir()
    (folder / "data" / "rows").write_text("old")
    (folder / "mine.txt").write_text("the user's")
    finished(folder / "pairs", n=1)


def test_what_is_overwritten_stays_until_the_new_is_finished(tmp_path):
    old_result(tmp_path)
    with Run(tmp_path, "curate", {"n": 6}, overwrite=True).open() as run:
        assert read_record(tmp_path).state == "running"
        assert not (tmp_path / "data").exists()
        assert (tmp_path / PREVIOUS / "data" / "rows").read_text() == "old"
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "rows").write_text("new")
        run.finish({})
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "data", "mine.txt", "pairs", "run.json"}
    assert (tmp_path / "data" / "rows").read_text() == "new"
    assert Run(tmp_path, "curate", {"n": 6}).is_finished


def test_a_run_that_fails_before_it_writes_puts_the_old_result_back(tmp_path):
    old_result(tmp_path)
    run = Run(tmp_path, "curate", {"n": 6}, overwrite=True)
    with pytest.raises(KeyboardInterrupt), run.open():  # noqa: PT012
        (tmp_path / "data").mkdir()
        (tmp_path / "rows.jsonl").touch()
        raise KeyboardInterrupt
    assert Run(tmp_path, "curate", {"n": 5}).is_finished
    assert (tmp_path / "data" / "rows").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "data", "mine.txt", "pairs", "run.json"}


def test_a_run_that_fails_after_it_wrote_goes_on_and_keeps_the_old_result_until_then(tmp_path):
    old_result(tmp_path)
    with pytest.raises(OSError), Run(tmp_path, "curate", {"n": 6}, overwrite=True).open():  # noqa: PT012
        (tmp_path / "half").write_text("new")
        raise OSError
    for overwrite in (False, True):
        again = Run(tmp_path, "curate", {"n": 6}, overwrite=overwrite)
        assert not again.is_finished
        with pytest.raises(OSError), again.open():  # noqa: PT012
            assert (tmp_path / "half").read_text() == "new"
            raise OSError
        assert read_record(tmp_path).state == "running"
        assert (tmp_path / PREVIOUS / "data" / "rows").read_text() == "old"
    with again.open():
        again.finish({})
    assert not (tmp_path / PREVIOUS).exists()


@pytest.mark.parametrize("moved", [1, 2, 3])
def test_a_kill_while_the_old_result_is_moved_loses_nothing(tmp_path, moved):
    old_result(tmp_path)
    (tmp_path / PREVIOUS).mkdir()
    for name in [RECORD, "data", "mine.txt"][:moved]:
        (tmp_path / name).rename(tmp_path / PREVIOUS / name)
    assert Run(tmp_path, "curate", {"n": 5}).is_finished
    assert (tmp_path / "data" / "rows").read_text() == "old"
    assert not (tmp_path / PREVIOUS).exists()


def test_folders_that_hold_something_else(tmp_path):
    (tmp_path / "letter.txt").write_text("keep me")
    with pytest.raises(DataError, match="not empty and holds no curate run"):
        Run(tmp_path, "curate", {})
    assert not Run(tmp_path, "curate", {}, own=["letter.txt"]).is_finished
    with pytest.raises(DataError, match="is a file"):
        Run(tmp_path / "letter.txt", "curate", {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a run record: the file: Invalid JSON"),
        ("{}", "is not a run record: command: Field required"),
        (json.dumps({"command": "curate", "parameters": {}, "extra": 1}), "extra: Extra inputs are not permitted"),
        (json.dumps({"command": "curate", "parameters": {}, "state": "lost"}), "state: Input should be 'running'"),
    ],
)
def test_damaged_records_name_the_field(tmp_path, content, message):
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(DataError, match=message):
        read_record(tmp_path)


def test_one_process_at_a_time(tmp_path):
    run = Run(tmp_path / "out", "curate", {})
    (tmp_path / "out").mkdir()
    held = f"""
from filelock import FileLock
with FileLock({str(tmp_path / "out" / ".lock")!r}):
    print("held", flush=True)
    input()
"""
    other = subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="another process is writing"), run.open():
            pass
    finally:
        other.communicate("\n", timeout=10)
    with run.open():
        assert isinstance(FileLock(tmp_path / "out" / ".lock"), FileLock)


def test_sources_are_told_apart_by_content_and_named_without_their_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name, text in (("a", "x"), ("b", "x")):
        (tmp_path / name / "rows.jsonl").write_text(text)
    first, second = (describe_source(tmp_path / name / "rows.jsonl", split=None, config="c") for name in "ab")
    assert first == second == {"name": "rows.jsonl", "digest": first["digest"], "config": "c"}
    assert describe_source(tmp_path / "a")["digest"] == describe_source(tmp_path / "b")["digest"]
    (tmp_path / "b" / "rows.jsonl").write_text("y")
    assert describe_source(tmp_path / "a")["digest"] != describe_source(tmp_path / "b")["digest"]
    assert describe_source("user/set") != describe_source("user/other")
    assert (
        describe_source(Dataset.from_dict({"a": [1]}))["digest"]
        != describe_source(Dataset.from_dict({"a": [2]}))["digest"]
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_plain_values_survive_json_twice(mapping):
    once = to_json(mapping)
    assert to_json(once) == once
    assert json.loads(json.dumps(once)) == once


def test_plain_by_hand(tmp_path):
    given = {1: np.float32(0.5), "a": np.arange(2), "p": tmp_path, "n": [float("nan"), float("-inf")]}
    assert to_json(given) == {"1": 0.5, "a": [0, 1], "p": str(tmp_path), "n": [None, None]}


def test_a_record_without_a_newer_option_had_its_default(tmp_path):
    with Run(tmp_path, "curate", {"n": 5}).open() as run:
        run.finish({})
    assert Run(tmp_path, "curate", {"n": 5, "points": 64}, defaults={"points": 64, "other": 1}).is_finished
    with pytest.raises(DataError, match=r"other parameters \(points was 64, now 8\)"):
        Run(tmp_path, "curate", {"n": 5, "points": 8}, defaults={"points": 64})
    with pytest.raises(DataError, match=r"other parameters \(points was None, now 64\)"):
        Run(tmp_path, "curate", {"n": 5, "points": 64})
