"""`hf-mlalign classify`: a run, an adapter beside it, and errors."""

import json

import pandas as pd
import pytest
from datasets import Dataset
from typer.testing import CliRunner

from hf_mlalign.cli.app import app
from hf_mlalign.core.errors import DataError
from tests.spontaneous.label_models import reviews
from tests.tiny_models import saved, tiny_llama


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    reviews(12, ("en", "de", "sw")).to_parquet("reviews.parquet")
    saved(tiny_llama(context=2048), tmp_path / "model")
    return tmp_path


def run(*arguments):
    given = ["classify", "reviews.parquet", "--task", "emotion", "--model", "model", *map(str, arguments)]
    return CliRunner().invoke(app, given)


def test_before_and_after_an_adapter(folder):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        tiny_llama(context=2048), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained("adapter")
    first = run("-o", "before")
    assert first.exit_code == 0, first.output
    assert "Saved to before" in first.output
    second = run("--adapter", "adapter", "-o", "after", "--baseline", "before", "--seen", "de,sw")
    assert second.exit_code == 0, second.output
    assert "gain" in second.output
    table = pd.read_csv("after/table.csv", index_col="language")
    assert list(table.index) == ["de", "en", "sw", "seen", "all"]
    assert table.loc["all", "n_paired"] == 30
    rows = [pd.read_json(f"{name}/rows.jsonl", lines=True) for name in ("before", "after")]
    assert rows[0]["id"].tolist() == rows[1]["id"].tolist()
    assert rows[0]["label_logprobs"].tolist() != rows[1]["label_logprobs"].tolist()
    assert Dataset.from_json("after/rows.jsonl").num_rows == 30


def test_options_reach_the_run(folder):
    done = run("--languages", "en,de", "--n-shots", 4, "--labels-in", "english", "--normalise", "--calibrate",
               "--limit", 3, "--no-same-shots", "--seed", 2, "--max-length", 300, "--dtype", "bfloat16")  # fmt: skip
    assert done.exit_code == 0, done.output
    settings = json.loads((folder / "classification" / "run.json").read_text())["parameters"]
    expected = {"languages": ["de", "en"], "n_shots": 4, "labels_in": "english", "normalise": True, "calibrate": True,
                "same_shots": False, "seed": 2, "max_length": 300, "n_rows": 6}  # fmt: skip
    assert {name: settings[name] for name in expected} == expected
    assert settings["model"]["dtype"] == "torch.bfloat16"


@pytest.mark.parametrize(("arguments", "message"), [
    (["--adapter", "none"], "adapter: cannot load 'none'"),
    (["--task", "xnli"], "Known: emotion, paws, snli"),
    (["--dtype", "int4"], "dtype: 'int4'"),
    (["--model", "none"], "model: cannot load 'none'"),
    (["--baseline", "reviews.parquet"], "cannot be read"),
])  # fmt: skip
def test_errors(folder, arguments, message):
    done = run(*arguments)
    assert isinstance(done.exception, DataError)
    assert message in str(done.exception)
