"""`python -m hf_mlalign.launch.train_qsm`: a head on the bundled encoder, a tiny transformer, bad input."""

import json

import numpy as np
import pandas as pd
import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.launch.train_qsm import main, read_revisions
from hf_mlalign.mdaq.quality.scorer import QualityScorer
from tests.tiny_models import byte_tokenizer


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    rows = []
    for i in range(60):
        for language, words in (
            ("en", ("Tell me about", "Here is what I know")),
            ("de", ("Erzähl von", "Das weiß ich")),
        ):
            rows.append(
                {
                    "id": i, "language": language, "raw_instruction": f"{words[0]} topic {i}.",
                    "raw_input": "now" if i % 2 else "", "raw_response": f"{i} ok",
                    "revised_response": f"{words[1]} about {i}:\n\n- one thing.\n\n- another thing.",
                }
            )  # fmt: skip
    path = tmp_path_factory.mktemp("data") / "pairs.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return str(path)


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory) -> str:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=262, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config).save_pretrained(folder)
    tokenizer = byte_tokenizer(template=None)
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_read_pairs(data):
    pairs = read_revisions(data)
    assert len(pairs) == 120
    assert pairs["instruction"][2] == "Tell me about topic 1.\n\nnow"
    assert set(pairs.loc[pairs["held_out"], "id"]) == {3, 13, 23, 33, 43, 53}


def test_same_and_blank_pairs_are_dropped(tmp_path):
    rows = [("q", "a", "a"), ("q", " ", "b"), ("q", "a", "b")]
    pd.DataFrame(rows, columns=["raw_instruction", "raw_response", "revised_response"]).to_json(
        tmp_path / "x.jsonl", orient="records", lines=True
    )
    pairs = read_revisions(tmp_path / "x.jsonl")
    assert pairs[["positive", "negative"]].to_numpy().tolist() == [["b", "a"]]


def test_missing_column(tmp_path):
    pd.DataFrame({"raw_instruction": ["a"]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"raw_response, revised_response.*found: raw_instruction"):
        read_revisions(tmp_path / "x.parquet")


def test_head_on_the_bundled_encoder(data, tmp_path, capsys):
    result = main(
        ["--data", data, "--output", str(tmp_path), "--leave-out-languages", "de", "--epochs", "12", "--device", "cpu"]
    )
    assert result["pairs"]["all"]["n"] == 12
    assert result["pairs"]["en"]["accuracy"] == 1.0
    assert "de *" in result["pairs"]
    assert "| de * |" in capsys.readouterr().out
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-nc-4.0" in card
    assert "CoachLM" in card
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["encoder"] is None
    assert QualityScorer.load(tmp_path).score(["q"], ["r"]).shape == (1,)


def test_the_same_seed_gives_the_same_files(data, tmp_path):
    for name in ("a", "b"):
        main(["--data", data, "--output", str(tmp_path / name), "--epochs", "1", "--seed", "5", "--device", "cpu"])
    weights = [(tmp_path / name / "quality.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


def test_a_transformer_is_fine_tuned(data, tiny_encoder, tmp_path):
    before = QualityScorer.load(tiny_encoder, device="cpu")
    result = main(
        [
            "--data", data, "--output", str(tmp_path / "q"), "--encoder", tiny_encoder, "--max-steps", "30",
            "--lr", "1e-3", "--batch-size", "16", "--device", "cpu",
        ]
    )  # fmt: skip
    after = QualityScorer.load(tmp_path / "q", device="cpu")
    assert not after.has_head
    assert result["pairs"]["all"]["accuracy"] >= 0.9
    texts = ["Tell me about topic 3."], ["3 ok"]
    assert abs(float(after.score(*texts)[0] - before.score(*texts)[0])) > 1e-3
    vectors = after.encoder.encode(["Tell me about topic 3.", "3 ok"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(after.score(*texts), -np.linalg.norm(vectors[0] - vectors[1]), atol=1e-5)
    assert (tmp_path / "q" / "README.md").is_file()


def test_finetuning_is_decided_by_the_seed(data, tiny_encoder, tmp_path):
    scores = []
    for name in ("a", "b"):
        main(
            [
                "--data", data, "--output", str(tmp_path / name), "--encoder", tiny_encoder, "--max-steps", "2",
                "--device", "cpu",
            ]
        )  # fmt: skip
        scores.append(QualityScorer.load(tmp_path / name, device="cpu").score(["a"], ["b"]))
    np.testing.assert_array_equal(*scores)
