"""Sampling: rows, the store on disk, runs that are killed, the record and the card."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.generation.requests import (
    Request,
    Sampling,
)
from hf_mlalign.generation.sampler import ResponseSampler, sample
from hf_mlalign.generation.store import AnswerStore
from tests.generation.canned import PROMPTS, CannedBackend, prompts, sampler
from tests.servers import ChatServer
from tests.tiny_models import saved, tiny_llama

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 0}, "n: 0"), ({"temperature": -1}, "temperature"), ({"top_p": 0}, "top_p"), ({"max_tokens": 0}, "max_tok")],
)
def test_options_out_of_range(options, message):
    with pytest.raises(DataError, match=message):
        sampler(**options)
    with pytest.raises(DataError, match="backend: int"):
        ResponseSampler(3)


def test_rows_and_order():
    ds = sampler().sample(prompts())
    assert ds.column_names == ["prompt_id", "language", "prompt", "sample", "response", "finish_reason", "model"]
    assert ds["response"][:] == ["a/en/0", "a/en/1", "a/de/0", "a/de/1", "b/en/0", "b/en/1", "b/de/0", "b/de/1"]
    assert ds["prompt"][2] == "Wie geht es dir?"
    assert ds.features["sample"].dtype == "int32"
    assert set(ds["model"]) == {"canned"}


def test_rows_of_conversational_prompts_are_kept():
    turns = [{"role": "user", "content": "Hi"}]
    ds = sampler().sample(Dataset.from_list([{"prompt_id": 7, "language": "en", "prompt": turns}]))
    assert ds[0]["prompt"] == turns
    assert ds[0]["prompt_id"] == 7


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    first = CannedBackend(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        sampler(first).sample(prompts(), tmp_path)
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 3
    second = CannedBackend()
    ds = sampler(second).sample(prompts(), tmp_path)
    assert [r.key for r in second.asked] == [
        ("a", "de", 1),
        ("b", "en", 0),
        ("b", "en", 1),
        ("b", "de", 0),
        ("b", "de", 1),
    ]
    third = CannedBackend()
    assert sampler(third).sample(prompts(), tmp_path)[:] == ds[:]
    assert third.asked == []
    more = CannedBackend()
    assert len(sampler(more, n=3).sample(prompts(), tmp_path)) == 12
    assert {r.sample for r in more.asked} == {2}
    assert load_dataset(str(tmp_path), split="train").num_rows == 12


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(1, 400))
def test_a_torn_last_line_is_asked_again(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("torn")
    whole = sampler(CannedBackend(lambda r: "ü" * (r.sample + 1))).sample(prompts(), folder)
    path = folder / "answers.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    backend = CannedBackend(lambda r: "ü" * (r.sample + 1))
    assert sampler(backend).sample(prompts(), folder)[:] == whole[:]
    assert len(backend.asked) == 8 - data[:-cut].count(b"\n")
    assert sorted(path.read_bytes().splitlines()) == sorted(data.splitlines())


def test_other_parameters_are_not_mixed(tmp_path):
    sampler().sample(prompts(), tmp_path)
    for changed in ({"temperature": 0.5}, {"system_prompt": "x"}, {"seed": 1}, {"answer_in_language": False}):
        backend = CannedBackend()
        with pytest.raises(DataError, match=f"other parameters \\({next(iter(changed))} was"):
            sampler(backend, **changed).sample(prompts(), tmp_path)
        assert backend.asked == []
    with pytest.raises(DataError, match=r"another text of prompt 'a' in 'en'"):
        sampler().sample(prompts(prompt=["New?", *PROMPTS["prompt"][1:]]), tmp_path)


def test_folders_that_hold_something_else(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        sampler().sample(prompts(), tmp_path / "file")
    with pytest.raises(DataError, match="is not empty and holds no samples"):
        sampler().sample(prompts(), tmp_path)
    sampler().sample(prompts(), tmp_path / "run")
    path = tmp_path / "run" / "answers.jsonl"
    path.write_text("{damaged}\n" + path.read_text())
    with pytest.raises(DataError, match="line 1 is damaged"):
        sampler().sample(prompts(), tmp_path / "run")


def test_two_runs_in_one_folder(tmp_path):
    store = AnswerStore(tmp_path, sampler().parameters)
    with store.open(), pytest.raises(DataError, match="another process is writing"):
        sampler().sample(prompts(), tmp_path)


def test_surrogates_reach_the_disk_as_replacement_characters(tmp_path):
    ds = sampler(CannedBackend(lambda r: "a\ud800b")).sample(prompts(), tmp_path)
    assert set(ds["response"]) == {"a\ufffdb"}


def test_failed_answers(tmp_path):
    backend = CannedBackend(fail=lambda r: "too long" if r.key == ("b", "en", 1) else None)
    with pytest.raises(DataError, match=r"1 of 8 answers failed, first sample 1 of prompt 'b' in 'en': too long"):
        sampler(backend).sample(prompts(), tmp_path)
    ds = sampler(backend, allow_missing=True).sample(prompts(), tmp_path)
    assert len(ds) == 7
    assert len(backend.asked) == 9
    with pytest.raises(DataError, match="every request failed"):
        sampler(CannedBackend(fail=lambda r: "no"), allow_missing=True).sample(prompts())


def test_kill_9_asks_nothing_twice_but_what_was_under_way(tmp_path):
    source, output, concurrency = tmp_path / "prompts.jsonl", tmp_path / "out", 4
    rows = [{"prompt_id": i, "language": code, "prompt": f"Q{i}"} for i in range(10) for code in ("en", "de")]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = textwrap.dedent("""
        import sys
        from hf_mlalign.generation.sampler import sample
        source, output, url = sys.argv[1:]
        done = sample(source, output, model="tiny", base_url=url, n=5, concurrency=4, progress=False)
        print(len(done.dataset))
    """)
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(REPO), "HF_HOME": str(tmp_path / "home")}
    with ChatServer(lambda body: "é" * 2000, delay=0.05) as server:
        command = [sys.executable, "-c", code, str(source), str(output), server.base_url]
        child = subprocess.Popen(command, env=environment)
        while server.answered < 40 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        time.sleep(0.2)
        before = server.requests
        assert before < 100
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "100"
    asked = Counter((b["messages"][0]["content"], b["seed"]) for b in server.bodies)
    assert len(asked) == 100
    assert server.requests - 100 <= concurrency
    lines = [json.loads(line) for line in (output / "answers.jsonl").read_text().splitlines()]
    assert len({(r["prompt_id"], r["language"], r["sample"]) for r in lines}) == len(lines) == 100
    assert load_dataset(str(output), split="train").num_rows == 100


def test_sample_by_file(tmp_path):
    name = saved(tiny_llama(), tmp_path / "model")
    prompts().to_parquet(str(tmp_path / "prompts.parquet"))
    options = {"model": name, "n": 2, "max_tokens": 4, "progress": False}
    done = sample(tmp_path / "prompts.parquet", tmp_path / "out", languages=["German"], limit=1, **options)
    assert [(r["prompt_id"], r["language"]) for r in done.dataset] == [("a", "de"), ("a", "de")]
    assert (done.fresh, done.folder, done.record.state) == (True, tmp_path / "out", "finished")
    assert done.record.results["drawn"] == 2
    counts = {"language": "de", "answers": 2, "prompts": 1, "failed": 0}
    assert counts.items() <= done.per_language().to_dict("records")[0].items()
    again = sample(tmp_path / "prompts.parquet", tmp_path / "out", languages=["German"], limit=1, **options)
    assert (again.fresh, again.dataset[:]) == (False, done.dataset[:])
    more = sample(tmp_path / "prompts.parquet", tmp_path / "out", languages=["German"], **options)
    assert (more.fresh, len(more.dataset), more.record.results["drawn"]) == (True, 4, 2)
    with pytest.raises(DataError, match=r"no prompts in fr\. There are: de, en"):
        sample(tmp_path / "prompts.parquet", tmp_path / "out", languages=["fr"], **options)
    with pytest.raises(DataError, match="model: name a causal LM"):
        sample(tmp_path / "prompts.parquet", tmp_path / "out")
    with pytest.raises(DataError, match="sample: unknown option 'temprature'. Did you mean 'temperature'"):
        sample(tmp_path / "prompts.parquet", tmp_path / "out", temprature=1.0, **options)


def test_the_card_shows_parameters_and_origins(tmp_path):
    sampler(n=3).sample(prompts(), tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "12 answers to 2 prompts in 2 languages, drawn with\nhf_mlalign" in card
    assert "| temperature | `0.9` | authors' script |" in card
    assert "| n | `3` | given |" in card
    assert "license: unknown" in card
    assert "- n<1K" in card
    assert "- sampled-responses" in card


def test_settings_reach_a_backend_of_ones_own():
    seen = []

    class Own(CannedBackend):
        def run(self, requests, settings, on_answer, on_failure):
            seen.append(settings)
            super().run(requests, settings, on_answer, on_failure)

    sampler(Own(), temperature=0.1, top_p=0.2, max_tokens=3).sample(prompts())
    assert seen == [Sampling(0.1, 0.2, 3)]
    assert isinstance(Request("a", "en", 0, (), 1, "x").key, tuple)
