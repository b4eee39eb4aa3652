"""The main job from end to end: what is written, what is refused, and that a killed run goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from datasets import Dataset, load_dataset

from hf_mlalign import load_demo_pool
from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.mdaq.shards import ShardStore

MAPPING = {"prompt": "instruction", "response": "response"}


@pytest.fixture(scope="module")
def pool() -> Dataset:
    return load_demo_pool(["de", "en", "sw"])


@pytest.fixture(scope="module")
def curated(pool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curate") / "out"
    return curate(pool, folder, column_mapping=MAPPING, n_quality=12, n_diversity=2)


def test_folder_opens_as_a_dataset(curated):
    everything = load_dataset(str(curated.folder), split="train")
    german = load_dataset(str(curated.folder), "de", split="train")
    assert len(everything) == len(curated.dataset) == len(curated.result.selected)
    assert set(german["language"]) == {"de"}
    assert {"quality_score", "cluster", "selection_reason", "prompt", "response"} <= set(german.column_names)
    assert german.features["quality_score"].dtype == "float32"
    assert german.features["cluster"].dtype == "int32"


def test_card_and_record_tell_how(curated):
    card = (curated.folder / "README.md").read_text()
    assert "Diversity-Aware Selection" in card
    assert "| n_quality | `12` | given |" in card
    assert "| fill | `False` | paper |" in card
    record = json.loads((curated.folder / "run.json").read_text())
    assert record["command"] == "curate"
    assert record["state"] == "finished"
    assert record["parameters"]["n_diversity"] == 2
    assert {row["language"] for row in record["results"]["per_language"]} == {"de", "en", "sw", "all"}
    assert set(record["seconds"]) >= {"score", "select", "save"}
    scores = load_dataset("parquet", data_files=str(curated.folder / "scores.parquet"), split="train")
    assert np.flatnonzero(scores["selected"][:]).tolist() == curated.result.selected.tolist()
    assert not (curated.folder / ".work").exists()


def test_selection_is_better_than_the_pool(pool, curated):
    grades = np.asarray(pool["grade"])
    assert grades[curated.result.selected].mean() > grades.mean() + 0.3
    table = curated.result.per_language().set_index("language")
    assert (table["quality_after"] > table["quality_before"]).all()


def test_language_is_identified_where_no_column_tells(pool, tmp_path):
    texts = pool.select_columns(["prompt", "response"])
    done = curate(texts, tmp_path / "out", column_mapping=MAPPING, n_quality=5, n_diversity=1, languages=["de", "sw"])
    assert set(done.dataset["language"]) == {"de", "sw"}
    assert "identified" in (tmp_path / "out" / "README.md").read_text()


def test_same_input_same_output(pool, curated, tmp_path):
    again = curate(pool, tmp_path / "out", column_mapping=MAPPING, n_quality=12, n_diversity=2, shard_rows=50)
    np.testing.assert_array_equal(again.result.selected, curated.result.selected)
    np.testing.assert_array_equal(again.result.clusters, curated.result.clusters)


def test_the_same_again_reads_what_is_there_and_other_parameters_are_refused(pool, curated, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr("hf_mlalign.mdaq.curation.score_in_shards", lambda *a, **k: pytest.fail("scored again"))
    again = curate(
        pool, curated.folder, column_mapping=MAPPING, n_quality=12, n_diversity=2, on_step=lines.append
    )
    assert lines == [f"Nothing to do: {str(curated.folder)!r} already holds this curation. --overwrite "
                     "(overwrite=True) repeats it."]  # fmt: skip
    assert again.dataset.to_list() == curated.dataset.to_list()
    for name in ("selected", "scores", "clusters", "reasons", "languages"):
        np.testing.assert_array_equal(getattr(again.result, name), getattr(curated.result, name))
    assert again.result.per_language().equals(curated.result.per_language())
    with pytest.raises(DataError, match=r"other parameters \(n_quality was 12, now 11\)"):
        curate(pool, curated.folder, column_mapping=MAPPING, n_quality=11, n_diversity=2)
    with pytest.raises(DataError, match="other parameters .source was"):
        curate(pool.select(range(50)), curated.folder, column_mapping=MAPPING, n_quality=12, n_diversity=2)


def test_output_is_guarded(pool, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("…")
    with pytest.raises(DataError, match="is not empty and holds no curate run"):
        curate(pool, tmp_path / "thesis", column_mapping=MAPPING)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        curate(pool, tmp_path / "file", column_mapping=MAPPING)
    from filelock import FileLock

    (tmp_path / "busy" / ".work").mkdir(parents=True)
    with FileLock(tmp_path / "busy" / ".lock"), pytest.raises(DataError, match="another process is writing"):
        curate(pool, tmp_path / "busy", column_mapping=MAPPING)


def test_killed_run_loses_at_most_one_shard(pool, tmp_path, monkeypatch):
    """SIGKILL between shards; the rerun scores only what is missing and selects the same."""
    source = tmp_path / "pool.parquet"
    pool.to_parquet(source)
    options = {"column_mapping": MAPPING, "n_quality": 9, "n_diversity": 1}
    code = f"""
import time
from hf_mlalign.mdaq import shards
write = shards.ShardStore.write
def slow(*arguments):
    write(*arguments); print("shard", flush=True); time.sleep(0.3)
shards.ShardStore.write = slow
from hf_mlalign.mdaq.curation import curate
curate({str(source)!r}, {str(tmp_path / "out")!r}, shard_rows=40, **{options!r})
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    for _ in range(3):
        assert process.stdout.readline() == "shard\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = list((tmp_path / "out" / ".work").rglob("*.arrow"))
    assert len(done) >= 3
    written: list[int] = []
    write = ShardStore.write
    monkeypatch.setattr(ShardStore, "write", lambda store, begin, *arrays: (
        written.append(begin), write(store, begin, *arrays)))  # fmt: skip
    again = curate(str(source), tmp_path / "out", shard_rows=40, **options)
    assert len(written) == -(-len(pool) // 40) - len(done)
    fresh = curate(str(source), tmp_path / "fresh", **options)
    assert again.result.selected.tolist() == fresh.result.selected.tolist()


def test_interrupted_process_leaves_no_lock(pool, tmp_path):
    """The lock belongs to the process, not to the file it leaves behind."""
    code = f"from filelock import FileLock; FileLock({str(tmp_path / '.lock')!r}).acquire(); import os; os._exit(1)"
    (tmp_path / ".work").mkdir()
    subprocess.run([sys.executable, "-c", code], check=False)
    start = time.monotonic()
    curate(pool, tmp_path, column_mapping=MAPPING, n_quality=1, n_diversity=0)
    assert time.monotonic() - start < 60


@pytest.mark.real_data
@pytest.mark.slow
def test_revised_responses_are_preferred(shared_data, tmp_path):
    """Raw and revised responses of the experts pooled: the selection is mostly revised ones, in every language."""
    ds = load_dataset("parquet", data_files=str(shared_data / "expert_revisions.parquet"), split="train")
    held_out = ds.filter(lambda row: row["id"] % 10 == 3)  # no translation of these was trained on
    lines: list[str] = []
    done = curate(held_out, tmp_path / "out", n_quality=60, n_diversity=10, on_step=lines.append)
    shares = done.dataset.to_pandas().groupby("language")["revision"].apply(lambda kinds: (kinds == "revised").mean())
    assert shares.mean() > 0.8
    assert shares.min() > 0.65
    assert any(line.startswith("Revised responses: 4") for line in lines)


def test_unclear_languages_are_left_out_and_told(pool, tmp_path):
    texts = pool.select_columns(["prompt", "response"]).to_list()
    texts += [{"prompt": "12 + 5 =", "response": "17"}, {"prompt": None, "response": None}]
    lines: list[str] = []
    done = curate(Dataset.from_list(texts), tmp_path / "out", n_quality=5, n_diversity=1, on_step=lines.append)
    assert set(done.dataset["language"]) == {"de", "en", "sw"}
    assert any("und" in line for line in lines)
    assert any("left out" in note for note in done.result.notes)


def test_nothing_selected_is_an_error(pool, tmp_path):
    with pytest.raises(DataError, match="Nothing was selected.*no rows in ja"):
        curate(pool, tmp_path / "out", languages=["ja"])
