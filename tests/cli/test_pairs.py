"""`hf-mlalign sample`, `build-pairs` and `lint`, run as a user runs them."""

import json

import pytest
from datasets import Dataset, load_dataset

from hf_mlalign import load_demo_pool
from hf_mlalign.cmalign.build import build_pairs
from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder
from hf_mlalign.cmalign.pairs import best_worst
from hf_mlalign.core.errors import DataError
from tests.cli.test_app import hf_mlalign
from tests.servers import ChatServer


def test_from_prompts_to_linted_pairs(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    prompts = load_demo_pool(["en", "de"]).to_pandas().drop_duplicates(["prompt_id", "language"]).head(64)
    Dataset.from_pandas(prompts[["prompt_id", "language", "prompt"]], preserve_index=False).to_json(
        tmp_path / "p.jsonl"
    )
    with ChatServer() as server:
        done = hf_mlalign("sample", "p.jsonl", "--model", "tiny", "--base-url", server.base_url, "--n", 3, "--limit", 4,
                          "-o", "samples", cwd=tmp_path)  # fmt: skip
        again = hf_mlalign("sample", "p.jsonl", "--model", "tiny", "--base-url", server.base_url, "--n", 3, "--limit",
                           4, "-o", "samples", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "24 answers were sampled now." in done.stdout
    assert "Nothing to do" in again.stdout, again.stderr
    record = json.loads((tmp_path / "samples" / "run.json").read_text())
    assert (record["command"], record["parameters"]["n"]) == ("sample", 3)
    assert record["results"]["per_language"]["de"] == {"answers": 12, "prompts": 4, "failed": 0, "truncated": 0}
    answers = load_dataset(str(tmp_path / "samples"), split="train")
    assert len(answers) == 4 * 2 * 3
    assert set(answers["language"]) == {"en", "de"}


def test_pairs_and_lint(tmp_path):
    load_demo_pool(["en", "de", "hi"]).to_parquet(tmp_path / "pool.parquet")
    done = hf_mlalign("build-pairs", "pool.parquet", "--test-size", 0.25, "-o", "pairs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "margin" in done.stdout
    record = json.loads((tmp_path / "pairs" / "run.json").read_text())
    pairs = load_dataset(str(tmp_path / "pairs"))
    assert record["results"]["per_language"]["all"]["pairs"] == sum(map(len, pairs.values()))
    assert not set(pairs["train"]["prompt_id"]) & set(pairs["test"]["prompt_id"])
    assert set(load_dataset(str(tmp_path / "pairs"), "hi", split="train")["language"]) == {"hi"}
    again = hf_mlalign("build-pairs", "pool.parquet", "--test-size", 0.25, "-o", "pairs", cwd=tmp_path)
    assert "Nothing to do" in again.stdout, again.stderr
    assert done.stdout in again.stdout.partition("\n")[2]
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


def test_lint_sees_leaks_between_the_splits_of_a_folder(tmp_path):
    rows = {"prompt": ["Wie geht es?"], "chosen": ["Gut, danke."], "rejected": ["Ganz schlecht."]}
    for split in ("train", "test"):
        Dataset.from_dict(rows).to_parquet(tmp_path / "leaky" / f"{split}.parquet")
    done = hf_mlalign("lint", "leaky", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "split-leak" in done.stdout
    assert "split-leak" not in hf_mlalign("lint", "leaky", "--split", "train", cwd=tmp_path).stdout


def test_options_reach_the_builder(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from hf_mlalign.cli.app import app
    from hf_mlalign.cmalign import build as source

    seen = {}

    def build(*paths, **options):
        seen.update(options)
        raise DataError("enough")

    monkeypatch.setattr(source, "build_pairs", build)
    CliRunner().invoke(app, ["build-pairs", "x", "--reward", "implicit", "--reward-model", "a",
                             "--reward-reference-model", "b", "--keep-same-answer"])  # fmt: skip
    assert seen["options"].reward_options == {"model": "a", "reference_model": "b"}
    assert seen["options"].drop_same_answer is False


def test_records_name_what_decides_the_pairs(tmp_path):
    class Best:
        def __call__(self, scores, keys):
            return best_worst(scores, keys)

    pool = load_demo_pool(["en", "de"]).rename_column("language", "lang_code")
    made = [
        build_pairs(pool, tmp_path / str(i), reward="random", policy=Best(), seed=3,
                                column_mapping={"lang_code": "language"})
        for i in range(2)
    ]  # fmt: skip
    options = json.loads((tmp_path / "0" / "run.json").read_text())["parameters"]
    assert (options["policy"], options["model"], options["seed"]) == ("Best", None, 3)
    assert options["reward_options"] == {"seed": 3}
    assert options["column_mapping"] == {"lang_code": "language"}
    assert len({built.dataset["train"]._fingerprint for built in made}) == 1


def test_an_interrupted_write_is_done_again(tmp_path, monkeypatch):
    pool = load_demo_pool(["en", "de"])
    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "to_parquet", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_pairs(pool, tmp_path / "pairs", reward="length")
    with pytest.raises(DataError, match="reward was 'length', now 'random'"):
        build_pairs(pool, tmp_path / "pairs", reward="random")
    built = build_pairs(pool, tmp_path / "pairs", reward="length")
    assert len(load_dataset(str(built.folder), split="train")) == len(built.dataset["train"])


def test_input_refused_before_anything_is_scored():
    def never(samples):
        raise AssertionError

    with pytest.raises(DataError, match="seed: -1"):
        CMAlignPreferenceBuilder(seed=-1)
    with pytest.raises(DataError, match="only English samples. Add other languages"):
        CMAlignPreferenceBuilder(never).build(load_demo_pool(["en"]))
    pool = load_demo_pool(["en", "de"])
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]
    pool = pool.remove_columns("prompt").add_column("prompt", [turns] * len(pool))
    with pytest.raises(DataError, match='have no "standard" form'):
        CMAlignPreferenceBuilder(never, output_format="standard").build(pool)
