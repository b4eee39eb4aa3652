"""`ds.map(mdaq_score)` in every form: rows and batches, processes, dicts, streams, the cache, odd rows."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, List, Value, load_dataset
from datasets.fingerprint import Hasher

from hf_mlalign import MDaQScorer, mdaq_score
from hf_mlalign.core.errors import DataError
from tests.mdaq.helpers import LengthScorer

ROWS = {
    "prompt": ["Name a fruit.", "Nenne eine Frucht.", "Name a fruit.", "果物を一つ挙げてください。"],
    "response": ["An apple is a fruit.", "Ein Apfel.", "no", "りんごです。"],
}


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return np.asarray(Dataset.from_dict(ROWS).map(mdaq_score)["quality_score"][:], dtype=np.float32)


def scores(ds) -> np.ndarray:
    return np.asarray(ds["quality_score"][:], dtype=np.float32)


def test_scores_by_hand():
    ds = Dataset.from_dict({"prompt": ["aab", "b"], "response": ["aabbbb", "aaaaa"]})
    mapped = ds.map(MDaQScorer(LengthScorer()), batched=True)
    np.testing.assert_allclose(scores(mapped), [-3.0, -np.hypot(4, 5)])
    assert mapped.features["quality_score"] == Value("float32")


def test_rows_and_batches_agree(expected):
    ds = Dataset.from_dict(ROWS)
    assert ds.map(mdaq_score).features["quality_score"] == Value("float32")
    for batch_size in (1, 3, 1000):
        mapped = ds.map(mdaq_score, batched=True, batch_size=batch_size)
        np.testing.assert_allclose(scores(mapped), expected, atol=1e-5)


def test_vectors_are_remembered_until_forgotten():
    class Counting(LengthScorer):
        encoded = 0

        def encode_instructions(self, texts, *more):
            self.encoded += len(texts)
            return super().encode_instructions(texts, *more)

    scorer = MDaQScorer(Counting())
    for forget, count in ((False, 1), (False, 1), (True, 1), (False, 2)):
        scorer({"prompt": ["a", "a"], "response": ["b", "c"]})
        assert scorer.model.encoded == count
        if forget:
            scorer.forget()


@pytest.mark.parametrize("num_proc", [1, 2, 3, 4])
def test_processes_after_torch_was_used(expected, num_proc):
    mapped = Dataset.from_dict(ROWS).map(mdaq_score, batched=True, batch_size=2, num_proc=num_proc)
    np.testing.assert_allclose(scores(mapped), expected, atol=1e-5)


def test_dataset_dict_and_iterable(expected, tmp_path):
    ds = Dataset.from_dict(ROWS)
    np.testing.assert_allclose(
        scores(DatasetDict({"train": ds}).map(mdaq_score, batched=True)["train"]), expected, atol=1e-5
    )
    for batched in (False, True):
        rows = list(ds.to_iterable_dataset().map(mdaq_score, batched=batched))
        np.testing.assert_allclose([row["quality_score"] for row in rows], expected, atol=1e-5)
    ds.to_parquet(tmp_path / "x.parquet")
    stream = load_dataset("parquet", data_files=str(tmp_path / "x.parquet"), split="train", streaming=True)
    rows = list(stream.map(mdaq_score, batched=True, batch_size=3))
    np.testing.assert_allclose([row["quality_score"] for row in rows], expected, atol=1e-5)
    assert set(rows[0]) == {"prompt", "response", "quality_score"}


def test_messages_batched_or_not():
    turns = [[{"role": "user", "content": p}, {"role": "assistant", "content": r}] for p, r in zip(*ROWS.values())]
    ds = Dataset.from_dict({"messages": turns})
    plain = scores(Dataset.from_dict(ROWS).map(mdaq_score))
    np.testing.assert_allclose(scores(ds.map(mdaq_score)), plain, atol=1e-5)
    np.testing.assert_allclose(scores(ds.map(mdaq_score, batched=True)), plain, atol=1e-5)


def test_no_text_is_encoded_twice():
    scorer = LengthScorer()
    ds = Dataset.from_dict({"prompt": ["q", "x1", "r"] * 40, "response": [f"x{i % 30}" for i in range(120)]})
    ds.map(MDaQScorer(scorer, embeddings=True), batched=True, batch_size=7, load_from_cache_file=False)
    assert sorted(scorer.seen) == sorted(["q", "r", *{f"x{i}" for i in range(30)}])


def test_instruction_vectors_serve_both():
    scorer = MDaQScorer(embeddings=True)
    ds = Dataset.from_dict(ROWS)
    mapped = ds.map(scorer, batched=True, features=scorer.features(ds.features))
    assert mapped.features["embedding"] == List(Value("float32"), length=scorer.embedding_dimension)
    vectors = mapped.with_format("numpy")["embedding"][:]
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] > vectors[0] @ np.roll(vectors[1], 1)


def test_a_separate_encoder_for_the_clusters(counting_encoder):
    scorer = MDaQScorer(LengthScorer(), embeddings=True, encoder=counting_encoder)
    vectors = Dataset.from_dict(ROWS).map(scorer, batched=True).with_format("numpy")["embedding"][:]
    np.testing.assert_array_equal(vectors, counting_encoder.encode(ROWS["prompt"]))


def test_rows_that_cannot_be_scored_get_null():
    ds = Dataset.from_dict({"prompt": ["q", None, "q", " ", "q"], "response": [None, "r", "", "r", "\n\t "]})
    for options in ({"batched": True}, {"batched": True, "batch_size": 1}, {}):
        mapped = ds.map(MDaQScorer(LengthScorer()), **options)
        assert mapped["quality_score"][:] == [None] * 5
        assert mapped.features["quality_score"].dtype in ("float32", "null")
    assert ds.map(MDaQScorer(LengthScorer()), batched=True, batch_size=1).features["quality_score"].dtype == "float32"


def test_empty_dataset():
    ds = Dataset.from_dict({"prompt": [], "response": []})
    assert len(ds.map(mdaq_score, batched=True)) == 0


def test_one_very_long_text_and_surrogates():
    columns = mdaq_score({"prompt": ["q \ud800", "q"], "response": ["word " * 1_000_000, "\udfff r"]})
    assert all(np.isfinite(columns["quality_score"]))


def test_errors_name_column_and_row():
    ds = Dataset.from_dict({"prompt": ["a"], "answer": ["b"]})
    with pytest.raises(DataError, match="columns found: prompt, answer"):
        ds.map(mdaq_score)
    ds = Dataset.from_dict({"prompt": ["a", "b"], "response": [1, 2]})
    with pytest.raises(DataError, match="Column 'response', row 0: expected text, found int"):
        ds.map(mdaq_score, batched=True)
    with pytest.raises(DataError, match="Expected texts or lists of texts"):
        mdaq_score({"prompt": 1, "response": 2})


def test_state_is_stable_and_small():
    before = Hasher.hash(mdaq_score)
    Dataset.from_dict(ROWS).map(mdaq_score)
    assert Hasher.hash(mdaq_score) == before == Hasher.hash(MDaQScorer())
    assert Hasher.hash(MDaQScorer(embeddings=True)) != before
    assert len(pickle.dumps(mdaq_score)) < 2000
    again = pickle.loads(pickle.dumps(mdaq_score))
    np.testing.assert_allclose(again(ROWS)["quality_score"], mdaq_score(ROWS)["quality_score"], atol=1e-5)


def test_second_process_hits_the_cache(tmp_path):
    Dataset.from_dict(ROWS).to_parquet(tmp_path / "x.parquet")
    load = {"path": "parquet", "data_files": str(tmp_path / "x.parquet"), "split": "train",
            "cache_dir": str(tmp_path / "cache")}  # fmt: skip
    scorer = MDaQScorer()
    computed = load_dataset(**load).map(scorer, batched=True)
    assert scorer._memories  # this process encoded texts
    code = f"""
import datasets
from hf_mlalign import mdaq_score
mapped = datasets.load_dataset(**{load!r}).map(mdaq_score, batched=True)
print(mdaq_score._memories == {{}}, mapped.cache_files[0]["filename"])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", computed.cache_files[0]["filename"]]  # the other only read the file
