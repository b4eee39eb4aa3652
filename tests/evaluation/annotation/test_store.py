"""Judgements on disk: nothing lost by a kill or a full disk, and folders that are refused."""

import json
import os
import signal
import subprocess
import sys

import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.annotation.store import JUDGEMENTS, JudgementStore, read_judgements
from hf_mlalign.evaluation.annotation.study import Verdict
from tests.evaluation.annotation.human_studies import GOOD, judge_all, make_items, open_study

KILLED = """
import os, signal, sys
sys.path.insert(0, {repo!r})
from tests.evaluation.annotation.human_studies import *
with open_study({folder!r}, make_items(50), overlap=1.0) as study:
    for _ in range(7):
        study.save("Ana", study.next("Ana", ["de"]).token, Verdict("a", GOOD))
        print("saved", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_lost_by_a_kill(tmp_path):
    folder = tmp_path / "j"
    code = KILLED.format(repo=os.getcwd(), folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with open(folder / JUDGEMENTS, "ab") as file:
        file.write(b'{"item": "torn')
    assert done.stdout.count("saved") == len(read_judgements(folder)) == 7
    with open_study(folder, make_items(50), overlap=1.0) as study:
        assert study.progress("Ana", ["de"]) == (7, 50)
        judge_all(study, "Ana")
    assert len(read_judgements(folder)) == 50


def test_a_full_disk_is_told_and_leaves_the_file_whole(tmp_path):
    import resource

    with open_study(tmp_path / "j", make_items(9), overlap=1.0) as study:
        token = study.next("Ana", ["de"]).token
        study.save("Ana", token, Verdict("a", GOOD))
        size = (tmp_path / "j" / JUDGEMENTS).stat().st_size
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, old[1]))
            with pytest.raises(OSError):
                study.save("Ana", study.next("Ana", ["de"]).token, Verdict("b", GOOD))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, handler)
        assert (tmp_path / "j" / JUDGEMENTS).stat().st_size == size
        assert study.progress("Ana", ["de"]) == (1, 9)
        judge_all(study, "Ana")
    assert len(read_judgements(tmp_path / "j")) == 9


def test_folders_that_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    for name, message in (("file", "is a file"), ("other", "something else")):
        with pytest.raises(DataError, match=message):
            JudgementStore(tmp_path / name, {})
    store = JudgementStore(tmp_path / "j", {"seed": 0})
    with store.open(), pytest.raises(DataError, match="is writing"), JudgementStore(tmp_path / "j", {"seed": 0}).open():
        pass
    with pytest.raises(DataError, match="seed was 0, now 1"), JudgementStore(tmp_path / "j", {"seed": 1}).open():
        pass
    (tmp_path / "j" / JUDGEMENTS).write_text('{"half": \n')
    with pytest.raises(DataError, match="line 1 is damaged"):
        read_judgements(tmp_path / "j")
    with pytest.raises(DataError, match="no judgements.jsonl"):
        read_judgements(tmp_path)


def test_a_line_of_another_kind_is_named(tmp_path):
    with open_study(tmp_path / "j", make_items(2), overlap=1.0) as study:
        judge_all(study, "Ana")
    with open(tmp_path / "j" / JUDGEMENTS, "a") as lines:
        lines.write(json.dumps({"item": "x", "mood": "good"}) + "\n")
    with pytest.raises(DataError, match="^judgements: .*, line 3 is damaged"):
        read_judgements(tmp_path / "j")
    with pytest.raises(DataError, match="line 3 is damaged"), open_study(tmp_path / "j", make_items(2)):
        pass


def test_nothing_can_be_added_to_a_closed_store(tmp_path):
    with open_study(tmp_path / "j", make_items(1)) as study:
        shown = study.next("Ana", ["de"])
    with pytest.raises(OSError, match="is closed"):
        study.save("Ana", shown.token, Verdict("a", GOOD))
    assert read_judgements(tmp_path / "j") == []
