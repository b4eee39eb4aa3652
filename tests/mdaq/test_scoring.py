"""`score`: same rows with scores and vectors, whole files only, and the same files however often it was stopped."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset

import hf_mlalign.mdaq.scoring as module
from hf_mlalign import load_demo_pool
from hf_mlalign.core.errors import DataError
from hf_mlalign.hub.run_record import read_record
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.mdaq.quality.scorer import QualityScorer
from hf_mlalign.mdaq.scorer import MDaQScorer
from hf_mlalign.mdaq.scoring import score


class Toy:
    """An encoder of four letters: the unit vector of the text's last letter; stops where it is told to."""

    name, content_hash, dimension = "toy", "toy-1", 4

    def __init__(self, stop: str | None = None, scale: float = 1.0):
        self.stop, self.scale, self.seen = stop, scale, []

    def encode(self, texts):
        self.seen += texts
        if self.stop in texts:
            raise KeyboardInterrupt
        return np.float32(self.scale) * np.eye(4, dtype=np.float32)[["abcd".index(text[-1]) for text in texts]]


def toy(**options) -> tuple[Toy, dict]:
    encoder = Toy(**options)
    return encoder, {"model": QualityScorer.load(encoder), "shard_rows": 2, "progress": False}


@pytest.fixture
def source(tmp_path) -> Path:
    rows = {
        "instruction": ["1a", "2b", None, "4d", "5a"],
        "response": ["6a", "7c", "8a", " ", "9b"],
        "language": ["de", "en", "German", "en", None],
        "turns": [[{"who": "x", "n": [1, 2]}], [], None, [{"who": None, "n": []}], []],
        "kind": [0, 1, 1, 0, 1],
    }
    features = Features({
        **{name: Value("string") for name in ("instruction", "response", "language")},
        "turns": List({"who": Value("string"), "n": List(Value("int8"))}), "kind": ClassLabel(names=["x", "y"]),
    })  # fmt: skip
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def stop(*_, **__):
    raise KeyboardInterrupt


def files(folder: Path) -> dict[str, bytes]:
    """Everything but the lock and the record, which holds times."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "run.json")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_rows_scores_and_vectors(source, tmp_path):
    done = score(source, tmp_path / "out", **toy()[1])
    names = [f"data/train-0000{i}-of-00003.parquet" for i in range(3)]
    assert sorted(files(tmp_path / "out")) == ["README.md", *names]
    assert [pq.read_metadata(tmp_path / "out" / name).num_rows for name in names] == [2, 2, 1]
    before, after = Dataset.from_parquet(str(source)), load_dataset(str(tmp_path / "out"), split="train")
    new = {"quality_score": Value("float32"), "embedding": List(Value("float16"), length=4)}
    assert after.features == Features({**before.features, **new})
    assert after.remove_columns(list(new)).to_list() == before.to_list()
    far = -float(np.sqrt(np.float32(2)))
    assert after["quality_score"][:] == [0.0, far, None, None, far]
    vectors = np.eye(4)[[0, 1, 0, 3, 0]] * [[1], [1], [0], [1], [1]]
    assert np.array_equal(after.with_format("numpy")["embedding"][:], vectors)
    assert done.dataset.to_list() == after.to_list()


def test_figures_and_card(source, tmp_path):
    record = score(source, tmp_path / "out", **toy()[1]).record
    far = pytest.approx(-np.sqrt(2))
    none = {"mean_quality": None, "lowest": None, "highest": None}
    assert record.results["per_language"] == {
        "de": {"rows": 2, "unscored": 1, "mean_quality": 0.0, "lowest": 0.0, "highest": 0.0},
        "en": {"rows": 2, "unscored": 1, "mean_quality": far, "lowest": far, "highest": far},
        "none": {"rows": 1, "unscored": 0, "mean_quality": far, "lowest": far, "highest": far},
        "all": {"rows": 5, "unscored": 2, "mean_quality": pytest.approx(-2 / 3 * np.sqrt(2)), "lowest": far,
                "highest": 0.0},
    }  # fmt: skip
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| de | 2 | 1 | 0.000 |" in card
    assert "language:\n- de\n- en\nlicense" in card
    assert "Source: `pairs.parquet`. Columns read: instruction, response." in card
    blank = Dataset.from_dict({"instruction": ["1a"], "response": [None]})
    empty = score(blank, tmp_path / "blank", **toy()[1])
    assert empty.record.results["per_language"] == {"all": {"rows": 1, "unscored": 1, **none}}
    assert empty.dataset["quality_score"][:] == [None]
    assert "| all | 1 | 1 | – | – | – |" in (tmp_path / "blank" / "README.md").read_text()


def test_the_bundled_model_gives_what_the_transform_gives(tmp_path):
    pool = load_demo_pool(["sw"]).select_columns(["prompt", "response", "language"]).select(range(60))
    scored = score(pool, tmp_path / "out", shard_rows=25, progress=False).dataset.with_format("numpy")
    direct = pool.map(MDaQScorer(embeddings=True), batched=True).with_format("numpy")
    assert np.array_equal(scored["quality_score"][:], direct["quality_score"][:])
    assert np.array_equal(scored["embedding"][:], direct["embedding"][:].astype(np.float16))


def test_curate_selects_the_same_from_scored_pairs(tmp_path):
    pool = load_demo_pool(["de", "en"]).select_columns(["prompt", "response", "language"])
    options = {"n_quality": 9, "n_diversity": 4, "progress": False}
    scored = score(pool, tmp_path / "scored", shard_rows=70, progress=False)
    one, two = (curate(source, tmp_path / name, **options).result
                for name, source in (("direct", pool), ("again", scored.folder)))  # fmt: skip
    assert np.array_equal(one.scores, two.scores)
    assert np.array_equal(one.selected, two.selected)
    assert one.reasons.tolist() == two.reasons.tolist()


def test_without_embeddings(source, tmp_path):
    done = score(source, tmp_path / "out", embeddings=False, **toy()[1])
    assert done.dataset.column_names[-1] == "quality_score"
    assert "embedding" not in done.dataset.column_names
    assert "embedding` (float16)" not in (tmp_path / "out" / "README.md").read_text()


def test_another_encoder_makes_the_embeddings(source, tmp_path):
    done = score(source, tmp_path / "out", encoder=Toy(scale=0.5), **toy()[1])
    assert max(max(row) for row in done.dataset["embedding"]) == 0.5
    assert done.dataset["quality_score"][0] == 0.0


def test_own_columns_are_replaced_and_this_is_told(source, tmp_path):
    again = score(score(source, tmp_path / "one", **toy()[1]).dataset, tmp_path / "two", **toy()[1])
    assert again.dataset.to_list() == load_dataset(str(tmp_path / "one"), split="train").to_list()
    assert again.record.notes == [
        f"The source's own column {name!r} was replaced." for name in ("quality_score", "embedding")
    ]


def test_raw_and_revised_responses_are_pooled(tmp_path):
    rows = {"raw_instruction": ["1a", "2b"], "raw_response": ["3a", "4c"], "revised_response": ["5b", "4c"]}
    done = score(Dataset.from_dict(rows), tmp_path / "out", **toy()[1])
    assert done.dataset["revision"][:] == ["raw", "raw", "revised"]
    assert [round(s, 3) for s in done.dataset["quality_score"]] == [0.0, -1.414, -1.414]


def test_indices_of_a_selection_are_followed(source, tmp_path):
    chosen = Dataset.from_parquet(str(source)).select([4, 0, 1])
    assert score(chosen, tmp_path / "out", **toy()[1]).dataset["instruction"][:] == ["5a", "1a", "2b"]


# Stopped and called again


def test_a_rerun_does_nothing_and_other_parameters_are_refused(source, tmp_path):
    score(source, tmp_path / "out", **toy()[1])
    before, said = files(tmp_path / "out"), []
    encoder, options = toy()
    done = score(source, tmp_path / "out", on_step=said.append, **options)
    assert encoder.seen == []
    assert said[0].startswith("Nothing to do")
    assert done.record.results["shards"] == 3
    with pytest.raises(DataError, match="shard_rows was 2, now 3"):
        score(source, tmp_path / "out", **{**options, "shard_rows": 3})
    score(source, tmp_path / "out", overwrite=True, **options)
    assert encoder.seen
    assert files(tmp_path / "out") == before


def test_stopped_runs_score_only_what_is_missing_and_end_the_same(source, tmp_path):
    score(source, tmp_path / "whole", **toy()[1])
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        score(source, folder, **toy(stop="9b")[1])
    assert read_record(folder).state == "running"
    assert not (folder / "data").exists()
    (work,) = [path for path in (folder / ".work").iterdir() if path.is_dir()]
    names = [f"rows-{begin:010d}-{begin + 2:010d}.arrow" for begin in (0, 2)]
    assert [path.name for path in sorted(work.iterdir())] == names
    (work / names[1]).write_bytes(b"ARROW1 cut off")
    (work / "rows-0000000004-0000000005.arrow.1.partial").write_bytes(b"ARROW1")
    encoder, options = toy()
    score(source, folder, **options)
    assert set(encoder.seen) == {"4d", "5a", "9b"}
    assert files(folder) == files(tmp_path / "whole")
    assert not (folder / ".work").exists()


@pytest.mark.parametrize("step", ["score_table", "write_card"])
def test_stopped_after_the_last_shard(source, tmp_path, monkeypatch, step):
    score(source, tmp_path / "whole", **toy()[1])
    with monkeypatch.context() as patched:
        patched.setattr(module, step, stop)
        with pytest.raises(KeyboardInterrupt):
            score(source, tmp_path / "out", **toy()[1])
    encoder, options = toy()
    score(source, tmp_path / "out", **options)
    assert encoder.seen == []
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_files_of_an_unfinished_run_are_not_taken_for_those_of_another(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(module, "write_card", stop)
        with pytest.raises(KeyboardInterrupt):
            score(source, tmp_path / "out", embeddings=False, **toy()[1])
    assert (tmp_path / "out" / "data").is_dir()
    score(source, tmp_path / "out", overwrite=True, **toy()[1])
    score(source, tmp_path / "whole", **toy()[1])
    assert files(tmp_path / "out") == files(tmp_path / "whole")


# Errors


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ({"x": ["a"], "y": ["b"]}, {}, "No known instruction layout in the columns found: x, y"),
        ({"instruction": ["1a"], "response": [3]}, {}, "Column 'response' holds int64 from row 0"),
        ({"instruction": [], "response": []}, {}, "The dataset is empty"),
        ({"messages": [[{"role": "user", "content": "1a"}], [{"role": None, "content": "x"}]]}, {},
         "Column 'messages', row 1: each message needs role and content"),
        ({"instruction": ["1a"], "response": ["2b"]}, {"shard_rows": 0}, "shard_rows: 0 is out of range"),
        ({"instruction": ["1a"], "response": ["2b"]}, {"batch_size": 0}, "batch_size: 0 is out of range"),
        ({"instruction": ["1a"], "response": ["2b"]}, {"world_size": 2}, "2 processes were asked for, 1 are running"),
        ({"instruction": ["1a"], "response": ["2b"]}, {"embeddings": False, "encoder": Toy()}, "encoder makes the"),
    ],
)  # fmt: skip
def test_errors_come_before_anything_is_encoded(tmp_path, rows, options, message):
    encoder, usual = toy()
    with pytest.raises(DataError, match=message):
        score(Dataset.from_dict(rows), tmp_path / "out", **{**usual, **options})
    assert encoder.seen == []
    assert not (tmp_path / "out" / "data").exists()


def test_numbers_beyond_float16_name_their_row(source, tmp_path):
    with pytest.raises(DataError, match="embedding, row 0: a number does not fit float16"):
        score(source, tmp_path / "out", **toy(scale=1e5)[1])
    whole = Dataset.from_parquet(str(source)).select([2, 2, 2, 0])
    with pytest.raises(DataError, match="embedding, row 3:"):
        score(whole, tmp_path / "other", **toy(scale=1e5)[1])


def test_source_and_output_do_not_hold_each_other(source, tmp_path):
    (tmp_path / "data").mkdir()
    source.rename(tmp_path / "data" / "pairs.parquet")
    for output in (tmp_path / "data", tmp_path / "data" / "out", tmp_path):
        with pytest.raises(DataError, match="overlap"):
            score(tmp_path / "data", output, **toy()[1])


def test_record(source, tmp_path):
    score(source, tmp_path / "out", **toy()[1])
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["command"] == "score"
    assert record["parameters"]["embeddings"] is True
    assert set(record["seconds"]) == {"load", "score"}


def test_texts_that_no_one_expects(tmp_path):
    """Megabyte lines, control characters, right-to-left overrides, HTML: every row gets a score, and stays as it is."""
    html = "<script>alert(1)</script>"
    odd = ["x" * 10**6, "\x00\x07\x1b[31m", "‮abc‬", html, "\ud7ff\ue000", "👩‍👩‍👧" * 3000, "\n" * 9]
    pairs = Dataset.from_dict({"instruction": ["Why?"] * len(odd) + odd, "response": odd + ["Because."] * len(odd)})
    found = score(pairs, tmp_path / "out", shard_rows=3, progress=False).dataset
    assert found.select_columns(["instruction", "response"]).to_list() == pairs.to_list()
    scores = found["quality_score"][:]
    blank = [len(odd) - 1, 2 * len(odd) - 1]
    assert [i for i, value in enumerate(scores) if value is None] == blank
    assert all(np.isfinite(value) for i, value in enumerate(scores) if i not in blank)
