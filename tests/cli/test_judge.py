"""`hf-mlalign judge`, run as a user runs it: win rates, two sources, self-tests, a kill in mid-run."""

import json
import os
import signal
import subprocess
import time
from collections import Counter

import pytest
from datasets import Dataset, load_dataset

from hf_mlalign.evaluation.judges import run as judging
from hf_mlalign.evaluation.judges.llm import LLMJudge
from hf_mlalign.hub.run_record import read_record, write_record
from tests.cli.test_app import COMMAND, hf_mlalign
from tests.evaluation.judges.judge_models import grading, longer
from tests.servers import ChatServer


@pytest.fixture
def online(monkeypatch):
    """huggingface_hub refuses loopback, too, in offline mode."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


def write_rows(path, n: int) -> None:
    rows = [{"prompt_id": i, "language": code, "prompt": f"Q{i} {code}", "candidate": "long answer" if i % 4 else "x",
             "baseline": "short"} for i in range(n) for code in ("en", "de")]  # fmt: skip
    Dataset.from_list(rows).to_json(path)


def llm(server: ChatServer) -> list:
    return ["--judge", "llm", "--model", "tiny", "--base-url", server.base_url, "--concurrency", 4]


def test_win_rates_by_language(tmp_path, online):
    write_rows(tmp_path / "rows.jsonl", 12)
    with ChatServer(grading(longer)) as server:
        command = ("judge", "rows.jsonl", *llm(server), "--template", "multilingual", "-o", "out")
        done = hf_mlalign(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert server.requests == 48
        again = hf_mlalign(*command, cwd=tmp_path)
        assert server.requests == 48
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    for name in ("de", "en", "all"):
        assert "75.0" in lines[name]
    assert "48 requests (0 more were in the cache), 48 prompt and 48 completion tokens" in done.stdout
    assert "Nothing to do" in again.stdout
    assert done.stdout in again.stdout.partition("\n")[2]
    assert "German" in server.bodies[-1]["messages"][0]["content"] + server.bodies[0]["messages"][0]["content"]
    judged = load_dataset(str(tmp_path / "out"), split="train")
    assert sum(judged["prediction"]) == sum(judged["swapped_prediction"]) == 18
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["parameters"]["judge"]["template"] == "multilingual"
    other = hf_mlalign(*command[:-4], "--template", "general", "-o", "out", cwd=tmp_path)
    assert other.returncode == 2
    assert "other parameters (judge was" in other.stderr


def test_kill_9_asks_nothing_twice_but_what_was_under_way(tmp_path, online):
    write_rows(tmp_path / "rows.jsonl", 30)
    with ChatServer(grading(longer), delay=0.05) as server:
        command = [*COMMAND, "judge", "rows.jsonl", *map(str, llm(server)), "-o", "out"]
        child = subprocess.Popen(command, cwd=tmp_path, env=os.environ, stderr=subprocess.DEVNULL)
        while server.answered < 40 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        time.sleep(0.2)
        assert server.requests < 120
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    asked = Counter(body["messages"][0]["content"] for body in server.bodies)
    assert len(asked) == 120
    assert server.requests - 120 <= 4
    assert load_dataset(str(tmp_path / "out"), split="train").num_rows == 60


def test_a_killed_run_asks_no_more_often_than_an_unbroken_one(tmp_path, monkeypatch):
    """Replies without a verdict: two attempts, also where the run was killed after them; two more in the next run."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    write_rows(tmp_path / "rows.jsonl", 1)
    with ChatServer(lambda body: "I cannot say.") as server:

        def judged(requests: int):
            judge = LLMJudge("tiny", server.base_url, cache=tmp_path / "out" / "replies", progress=False)
            done = judging.judge(tmp_path / "rows.jsonl", tmp_path / "out", judge)
            assert len(done.result.judgements.reasons) == 2
            assert all(done.result.judgements.reasons)
            assert server.requests == requests

        def killed():
            record = read_record(tmp_path / "out")
            record.state, record.results = "running", {}
            write_record(tmp_path / "out", record)

        judged(8)
        killed()
        judged(8)
        judged(16)
        assert read_record(tmp_path / "out").results["rounds"] == 2


def test_two_sources_offline(tmp_path):
    for name, text in (("ours", "Reis kocht man mit Wasser."), ("theirs", "Mein Auto ist rot.")):
        rows = {"prompt_id": [1, 2], "language": ["de", "de"], "question": ["Wie kocht man Reis?", "Reis?"],
                "response": [text, "x" if name == "ours" else ""]}  # fmt: skip
        Dataset.from_dict(rows).to_json(tmp_path / f"{name}.jsonl")
    done = hf_mlalign("judge", "ours.jsonl", "--baseline", "theirs.jsonl", "--judge", "length", "--hard",
                      "--column-mapping", "question=prompt", "-o", "out", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "100.0" in done.stdout
    assert load_dataset(str(tmp_path / "out"), split="train")["prediction"][:] == [1.0, 1.0]


def test_self_test(tmp_path, online):
    done = hf_mlalign("judge", "--judge", "length", "--self-test", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Self-test: passed" in done.stdout
    assert json.loads((tmp_path / "out" / "self-test.json").read_text())["passed"] is True
    with ChatServer(grading(lambda first, second: 1)) as server:
        failed = hf_mlalign("judge", *llm(server), "--self-test", "-o", "out2", cwd=tmp_path)
    assert failed.returncode == 1, failed.stderr
    assert "agrees under swap" in failed.stdout
    write_rows(tmp_path / "rows.jsonl", 3)
    own = hf_mlalign("judge", "rows.jsonl", "--judge", "length", "--self-test", "-o", "out", cwd=tmp_path)
    assert own.returncode == 0, own.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["judge"], "source: name a file"),
        (["judge", "rows.jsonl", "--judge", "llm"], "the judge 'llm' needs --model"),
        (["judge", "rows.jsonl", "--judge", "human"], "the judge 'human' needs --judgements"),
        (["judge", "rows.jsonl", "--judge", "worst"], "unknown 'worst'"),
        (["judge", "rows.jsonl", "--judge", "length", "--model", "x"],
         "model: the judge 'length' has no option --model. It has --hard."),
        (["judge", "rows.jsonl", "--judge", "llm", "--model", "x", "--hard"],
         "hard: the judge 'llm' has no option --hard"),
        (["judge", "rows.jsonl", "--one-order"], "one-order: the judge 'similarity' has no option --one-order"),
        (["judge", "rows.jsonl", "--judge", "mine:ok", "--hard"], "judge 'mine:ok': it has no option 'hard'"),
        (["judge", "rows.jsonl", "--judge", "mine:bad"], "judge mine.bad: it raised ZeroDivisionError"),
        (["judge", "rows.jsonl", "--judge", "llm", "--model", "/no/model"], "cannot load '/no/model'"),
        (["judge", "rows.jsonl", "--judge", "llm", "--model", "x", "--base-url", "http://127.0.0.1:9/v1", "--template",
          "nice"], "template: no file 'nice'"),
        (["judge", "rows.jsonl", "--column-mapping", "candidate=winner"], "unknown roles: winner"),
        (["judge", "nothing.jsonl"], "no file or folder 'nothing.jsonl'"),
    ],
)  # fmt: skip
def test_errors_end_with_2(tmp_path, arguments, message):
    write_rows(tmp_path / "rows.jsonl", 1)
    (tmp_path / "mine.py").write_text("def ok(prompts, a, b):\n    return [1.0] * len(a)\n\n"
                                      "def bad(prompts, a, b):\n    return 1 / 0\n")  # fmt: skip
    done = hf_mlalign(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
