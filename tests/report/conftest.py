"""Run folders as the commands write them, made once and copied for each test that changes something."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from hf_mlalign import load_demo_pool
from hf_mlalign.cmalign.build import build_pairs
from hf_mlalign.evaluation.judges.rules import LengthJudge
from hf_mlalign.evaluation.judges.run import judge
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.mdaq.scaling import scale_curve
from hf_mlalign.report import write_report

LANGUAGES = ["ar", "en", "ja"]
ATTACK = '<script>document.title = "taken"</script><img src=x onerror="document.title = \'taken\'">'
LOG = [
    {"loss": 0.7, "rewards/accuracies": 0.5, "rewards/margins": 0.0, "consistency/cosine_ja": 0.2, "step": 1},
    {"loss": 0.5, "rewards/accuracies": 0.75, "rewards/margins": 0.4, "consistency/cosine_ja": 0.6, "step": 2},
    {"eval_ja_loss": 0.6, "eval_ja_rewards/accuracies": 0.8, "eval_ja_runtime": 1.0, "step": 2},
    {"eval_loss": 0.55, "step": 2},
]


def pool() -> Dataset:
    """The demo pool in three languages; the best answer of each prompt carries a script."""
    ds = load_demo_pool(LANGUAGES)
    return ds.map(lambda row: {"response": row["response"] + (ATTACK if row["grade"] == 3 else "")})


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """curated, pairs, judged, tuned and scale, below one folder."""
    folder = tmp_path_factory.mktemp("report") / "project"
    folder.mkdir()
    rows = pool()
    rows.to_json(folder.parent / "pool.jsonl")
    curate(folder.parent / "pool.jsonl", folder / "curated", n_quality=12, n_diversity=2, progress=False)
    build_pairs(rows, folder / "pairs", test_size=0.25)
    rng = np.random.default_rng(0)
    answers = [
        {"prompt_id": i, "language": code, "prompt": f"Q{i}", "candidate": "x" * int(rng.integers(1, 40)),
         "baseline": "y" * int(rng.integers(1, 20))} for i in range(12) for code in LANGUAGES
    ]  # fmt: skip
    Dataset.from_list(answers).to_json(folder.parent / "answers.jsonl")
    judge(folder.parent / "answers.jsonl", folder / "judged", LengthJudge())
    (folder / "tuned").mkdir()
    (folder / "tuned" / "trainer_state.json").write_text(json.dumps({"log_history": LOG}))
    records = [
        {"method": method, "language": code, "size": size, "win_rate": rate, "standard_error": 1.0}
        for method, rate in (("das", 50.0), ("random", 51.0)) for code in ("de", "no") for size in (1000, 52_000)
    ]  # fmt: skip
    scale_curve(records).save(folder / "scale")
    return folder


@pytest.fixture(scope="session")
def written(made, tmp_path_factory) -> Path:
    """The page about all of it."""
    return write_report(made, tmp_path_factory.mktemp("page"))


@pytest.fixture
def project(made, tmp_path) -> Path:
    """A copy of `made` for a test to change."""
    shutil.copy(made.parent / "pool.jsonl", tmp_path / "pool.jsonl")
    return Path(shutil.copytree(made, tmp_path / "project"))
