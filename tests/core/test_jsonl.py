"""The append-only log: torn and damaged lines, threads, and disks that are full."""

import json
import os
import resource
from concurrent.futures import ThreadPoolExecutor

import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.jsonl import RecordLog, damaged, read_log, to_line

ROWS = [{"a": 1}, {"b": "Grüße 日本"}]


def written(path, rows, **options):
    log = RecordLog(path, **options)
    with log.open():
        log.append(rows)
    return path


def test_rows_come_back(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == ([], 0)
    log = RecordLog(path)
    assert not log.is_open
    with log.open() as rows:
        assert rows == []
        assert log.is_open
        log.append(ROWS[:1])
        assert read_log(path)[0] == ROWS[:1]  # at once
        log.append(iter(ROWS[1:]))
        log.append([])
    assert not log.is_open
    assert path.read_text(encoding="utf-8") == '{"a": 1}\n{"b": "Grüße 日本"}\n'
    assert read_log(path) == (ROWS, len(path.read_bytes()))
    with log.open() as rows:
        assert rows == ROWS
        log.append([{"c": 3}])
    assert read_log(path)[0] == [*ROWS, {"c": 3}]
    with pytest.raises(OSError, match=r"log.jsonl' is closed"):
        log.append(ROWS)


def test_fresh_drops_what_is_there(tmp_path):
    path = written(tmp_path / "log.jsonl", ROWS)
    log = RecordLog(path)
    with log.open(fresh=True) as rows:
        assert rows == []
        assert path.read_bytes() == b""
        log.append(ROWS[1:])
    assert read_log(path)[0] == ROWS[1:]
    path.write_text("not JSON\n")
    with log.open(fresh=True) as rows:
        assert rows == []


def test_without_a_file():
    log = RecordLog(None)
    with log.open() as rows:
        log.append(ROWS)
        assert rows == []
    assert not log.is_open


@pytest.mark.parametrize("cut", range(1, len(to_line(ROWS[1]).encode())))
def test_a_torn_last_line_is_cut_off(tmp_path, cut):
    whole = to_line(ROWS[0]).encode()
    path = tmp_path / "log.jsonl"
    path.write_bytes(whole + to_line(ROWS[1]).encode()[:cut])
    assert read_log(path) == (ROWS[:1], len(whole))
    log = RecordLog(path)
    with log.open() as rows:
        assert rows == ROWS[:1]
        assert path.read_bytes() == whole
        log.append(ROWS[1:])
    assert read_log(path)[0] == ROWS


@pytest.mark.parametrize("line", ["{", "[1]", "1", "", "\x00", '{"a": 1} x', "[" * 100_000])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    for read in (lambda: read_log(path, "answers"), lambda: RecordLog(path, role="answers").open().__enter__()):
        with pytest.raises(DataError, match=r"^answers: '.*log.jsonl', line 2 is damaged. Remove this line.$"):
            read()
    assert path.read_text() == f'{{"a": 1}}\n{line}\n{{"a": 2}}\n'  # nothing was changed
    assert str(damaged(path, 7)) == f"output: {str(path)!r}, line 7 is damaged. Remove this line."


def test_threads_write_whole_lines(tmp_path):
    log = RecordLog(tmp_path / "log.jsonl", sync=True)
    with log.open(), ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.append([{"n": n, "text": "x" * 5000}, {"n": n, "text": "y"}]), range(60)))
    rows = read_log(log.path)[0]
    assert sorted(row["n"] for row in rows) == sorted([*range(60)] * 2)
    assert all(rows[i]["n"] == rows[i + 1]["n"] for i in range(0, 120, 2))  # the rows of one call stay together


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    path = written(tmp_path / "log.jsonl", ROWS)
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = RecordLog(path)
    with log.open():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                log.append([{"c": 1}, {"d": "x" * 100}])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.stat().st_size == size
        log.append([{"c": 1}])
    assert read_log(path)[0] == [*ROWS, {"c": 1}]


def test_writes_that_are_cut_short_or_fail(tmp_path, monkeypatch):
    """A file system may write a part of what it was given, and then the rest or nothing."""
    write, left = os.write, [3, 1, 10**6]
    log = RecordLog(tmp_path / "log.jsonl")

    def short(descriptor, data):
        return write(descriptor, data[: left.pop(0)])

    with log.open():
        monkeypatch.setattr(os, "write", short)
        log.append(ROWS)
        left[:] = [5]
        with pytest.raises(IndexError):
            log.append([{"lost": 1}])
        monkeypatch.undo()
    assert read_log(log.path)[0] == ROWS


def test_a_lone_surrogate_is_replaced(tmp_path):
    assert read_log(written(tmp_path / "log.jsonl", [{"a": "x\ud800y"}]))[0] == [{"a": "x?y"}]
    assert json.loads(to_line({"a": "\n\u2028"})) == {"a": "\n\u2028"}
    assert to_line({"a": "\n"}).count("\n") == 1
