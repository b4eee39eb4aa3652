"""`hf-mlalign sample`, `build-pairs` and `lint`, run as a user runs them."""

import json

import pytest
from datasets import Dataset, load_dataset

from hf_mlalign.demo import load_demo_pool
from tests.servers import ChatServer
from tests.test_cli import hf_mlalign


def test_from_prompts_to_linted_pairs(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    prompts = load_demo_pool(["en", "de"]).to_pandas().drop_duplicates(["prompt_id", "language"]).head(64)
    Dataset.from_pandas(prompts[["prompt_id", "language", "prompt"]], preserve_index=False).to_json(
        tmp_path / "p.jsonl"
    )
    with ChatServer() as server:
        done = hf_mlalign("sample", "p.jsonl", "--model", "tiny", "--base-url", server.base_url, "--n", 3, "--limit", 4,
                          "-o", "samples", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = load_dataset(str(tmp_path / "samples"), split="train")
    assert len(answers) == 4 * 2 * 3
    assert set(answers["language"]) == {"en", "de"}


def test_pairs_and_lint(tmp_path):
    load_demo_pool(["en", "de", "hi"]).to_parquet(tmp_path / "pool.parquet")
    done = hf_mlalign("build-pairs", "pool.parquet", "--test-size", 0.25, "-o", "pairs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "margin" in done.stdout
    record = json.loads((tmp_path / "pairs" / "pairs.json").read_text())
    pairs = load_dataset(str(tmp_path / "pairs"))
    assert record["per_language"]["all"]["pairs"] == sum(map(len, pairs.values()))
    assert not set(pairs["train"]["prompt_id"]) & set(pairs["test"]["prompt_id"])
    linted = hf_mlalign("lint", "pairs", "--split", "train", cwd=tmp_path)
    assert linted.returncode == 0, linted.stderr
    assert "length" in linted.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build-pairs", "pool.parquet", "--reward", "best"], "best"),
        (["build-pairs", "pool.parquet", "--policy", "best"], "best"),
        (["build-pairs", "pool.parquet"], "there are none (languages found: de)"),
        (["sample", "pool.parquet", "--model", "tiny"], "prompt 'p01' in 'de' is already in row 0"),
        (["sample", "prompts.parquet", "--model", "/no/such/model"], "/no/such/model"),
    ],
)
def test_errors_end_with_2(tmp_path, arguments, message):
    pool = load_demo_pool(["de"])
    pool.to_parquet(tmp_path / "pool.parquet")
    pool.filter(lambda row: row["sample"] == 0).to_parquet(tmp_path / "prompts.parquet")
    done = hf_mlalign(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
