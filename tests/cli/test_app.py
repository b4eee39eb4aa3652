"""The command, run as a user runs it."""

import json
import subprocess
import sys

import pytest
from datasets import Dataset, load_dataset

from hf_mlalign import load_demo_pool
from tests.processes import interruptible

COMMAND = [sys.executable, "-c", "from hf_mlalign.cli.app import main; main()"]


def hf_mlalign(*arguments, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


def test_version_and_help():
    from hf_mlalign import __version__

    assert hf_mlalign("--version").stdout.strip() == __version__
    shown = hf_mlalign("curate", "--help").stdout
    for option in ("--split", "--column-mapping", "--languages", "--n-quality", "--n-diversity", "--model", "--scorer",
                   "--method", "--output", "--push-to-hub"):  # fmt: skip
        assert option in shown


def test_demo_tells_its_story_and_writes_its_files(tmp_path):
    done = hf_mlalign("demo", "--output", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1. The pool: 32 prompts" in done.stdout
    assert "clusters covered" in done.stdout
    assert "3. Did it work?" in done.stdout
    for name in ("data", "README.md", "scores.parquet", "run.json"):
        assert (tmp_path / "here" / "curated" / name).exists()
    record = json.loads((tmp_path / "here" / "curated" / "run.json").read_text())
    assert all(row["quality_after"] > row["quality_before"] for row in record["results"]["per_language"])


def test_curate_a_file_with_foreign_columns(tmp_path):
    pool = load_demo_pool(["fr", "es"]).rename_columns({"prompt": "question", "response": "answer"})
    pool.to_json(tmp_path / "pool.jsonl")
    done = hf_mlalign("curate", "pool.jsonl", "--column-mapping", "question=instruction,answer=response", "--languages",
                      "fr,Spanish", "--n-quality", 6, "--n-diversity", 1, "-o", "out", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    chosen = load_dataset(str(tmp_path / "out"), "fr", split="train")
    assert len(chosen) == 7
    total = hf_mlalign("curate", "pool.jsonl", "--column-mapping", "question=instruction,answer=response", "--budgets",
                       "total", "--n-quality", 6, "--n-diversity", 0, "--method", "random", "-o", "out2",
                       cwd=tmp_path)  # fmt: skip
    assert total.returncode == 0, total.stderr
    assert len(load_dataset(str(tmp_path / "out2"), split="train")) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["curate", "nothing.jsonl"], "no file or folder 'nothing.jsonl'"),
        (["curate", "pool.parquet"], "No known instruction layout in the columns found: a, b"),
        (["curate", "pool.parquet", "--column-mapping", "a"], "not of the form column=role"),
        (
            ["curate", "pool.parquet", "--column-mapping", "a=instruction,b=response"],
            "Column 'b' holds int64 from row 0",
        ),
        (["curate", "pool.parquet", "--column-mapping", "a=instruction,a=response"], "found"),
        (["curate", "pool.parquet", "--languages", "klingonish"], "unknown language 'klingonish'"),
    ],
)
def test_errors_end_with_code_2_and_no_traceback(tmp_path, arguments, message):
    Dataset.from_dict({"a": ["x"], "b": [1]}).to_parquet(tmp_path / "pool.parquet")
    done = hf_mlalign(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupt_ends_with_130_and_goes_on(tmp_path):
    load_demo_pool(["de", "fr"]).to_parquet(tmp_path / "pool.parquet")
    mapping = "prompt=instruction,response=response"
    arguments = ["curate", "pool.parquet", "--column-mapping", mapping, "--n-quality", "3"]
    code = (
        "import os, signal, hf_mlalign.mdaq.curation as c; score = c.score_in_shards\n"
        "def stop(*a, **k): os.kill(os.getpid(), signal.SIGINT); return score(*a, **k)\n"
        "c.score_in_shards = stop\nfrom hf_mlalign.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path,
                          preexec_fn=interruptible)  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "Run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert hf_mlalign(*arguments, cwd=tmp_path).returncode == 0


def test_usage_errors_end_with_2():
    assert hf_mlalign("curate").returncode == 2
    assert hf_mlalign("curate", "x", "--n-quality", "-3").returncode == 2
    assert hf_mlalign("nothing").returncode == 2
