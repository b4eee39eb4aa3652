"""`hf-mlalign annotate` and `annotate-export`, run as a user runs them."""

import json
import signal
import subprocess
import time

import pandas as pd
import pytest
from datasets import Dataset

from tests.cli.test_app import COMMAND, hf_mlalign
from tests.evaluation.annotation.human_studies import judge_all, make_items, open_study
from tests.processes import interruptible

PAIRS = {"language": ["de", "sw"] * 3, "question": list("abcdef"), "tuned": list("ghijkl"), "raw": list("mnopqr")}
MAPPING = ["--column-mapping", "question=prompt,tuned=candidate,raw=baseline"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No column for candidate, baseline"),
        (["--column-mapping", "question=prompt,tuned=candidate"], "No column for baseline"),
        ([*MAPPING, "--languages", "fr"], "no pairs in fr. Languages found: de, sw"),
        ([*MAPPING, "-o", "pairs.parquet"], "is a file"),
    ],
)
def test_errors_end_with_2_before_a_server_starts(tmp_path, arguments, message):
    Dataset.from_dict(PAIRS).to_parquet(tmp_path / "pairs.parquet")
    done = hf_mlalign("annotate", "pairs.parquet", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Judge at" not in done.stdout


def test_help_names_the_defaults():
    shown = hf_mlalign("annotate", "--help").stdout
    for part in ("--per-item", "--overlap", "--column-mapping", "127.0.0.1"):
        assert part in shown


def test_start_interrupt_and_start_with_another_seed(tmp_path):
    Dataset.from_dict(PAIRS).to_parquet(tmp_path / "pairs.parquet")
    child = subprocess.Popen([*COMMAND, "annotate", "pairs.parquet", *MAPPING], cwd=tmp_path, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                             preexec_fn=interruptible)  # fmt: skip
    try:
        lines = [child.stdout.readline() for _ in range(2)]
        assert lines[0].startswith("6 items (de 3, sw 3); 0 judgements so far in judgements.")
        assert "Judge at http://127.0.0.1:" in lines[1]
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    finally:
        child.kill()
        child.communicate()
    assert json.loads((tmp_path / "judgements" / "study.json").read_text())["n_items"] == 6
    done = hf_mlalign("annotate", "pairs.parquet", *MAPPING, "--seed", 1, cwd=tmp_path)
    assert (done.returncode, "seed was 0, now 1" in done.stderr) == (2, True)


def test_export(tmp_path):
    with open_study(tmp_path / "judgements", make_items(6), overlap=1.0) as study:
        judge_all(study, "Ana")
        judge_all(study, "Bo", points=((4, 4), (2, 1)))
    done = hf_mlalign("annotate-export", "judgements", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("Krippendorff's alpha", "100.0 %", "judgements.parquet, winrate.json, agreement.csv, summary.csv"):
        assert part in done.stdout
    assert len(pd.read_parquet(tmp_path / "out" / "judgements.parquet")) == 12
    assert hf_mlalign("annotate-export", "nothing", cwd=tmp_path).returncode == 2
