"""`hf-mlalign lens`, run as a user runs it: before and after an adapter, resumed, and with bad input."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.lens.parallel_prompts import read_parallel
from hf_mlalign.spontaneous.lens.result import Geometry, LensResult
from hf_mlalign.spontaneous.lens.run import run_lens
from tests.tiny_models import saved, tiny_llama

COMMAND = [sys.executable, "-c", "from hf_mlalign.cli.app import main; main()", "lens"]
ROWS = [
    {"id": i, "language": language, "prompt": prompt.format(word), "answer": answers[i]}
    for language, prompt, answers in (
        ("en", "The opposite of {}:", ("big", "cold", "old")),
        ("de", "Das Gegenteil von {}:", ("groß", "kalt", "alt")),
        ("sw", "Kinyume cha {}:", ("kubwa", "baridi", "zee")),
    )
    for i, word in enumerate(("1", "2", "3"))
]


def run_command(*arguments, cwd) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, an adapter that does something, and the table of prompts."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("lens")
    saved(tiny_llama(), folder / "model")
    adapted = get_peft_model(tiny_llama(), LoraConfig(target_modules=["q_proj", "v_proj"], r=2))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    adapted.save_pretrained(folder / "adapter")
    Dataset.from_list(ROWS).to_json(folder / "prompts.jsonl")
    return folder


def test_before_and_after(place):
    done = run_command("model", "--data", "prompts.jsonl", "--adapter", "adapter", "-o", "out", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "Read 9 prompts in 3 languages" in done.stdout
    assert "Before → after." in done.stdout
    values = pd.read_csv(place / "out" / "summary.csv", index_col="language").loc["sw"]
    assert f"{values['own_last']:.3f} → {values['own_last_after']:.3f}" in done.stdout
    out = place / "out"
    before, after = LensResult.load(out / "lens_before.npz"), LensResult.load(out / "lens_after.npz")
    assert abs(before.probabilities[:, -1] - after.probabilities[:, -1])[:, 0].max() > 1e-4
    np.testing.assert_allclose(before.probabilities[:, 0], after.probabilities[:, 0], rtol=1e-5)
    np.testing.assert_allclose(before.in_english[3:6], before.probabilities[3:6, :, 0])
    plain, tuned = Geometry.load(out / "geometry_before.npz"), Geometry.load(out / "geometry_after.npz")
    np.testing.assert_array_equal(plain.axes, tuned.axes)
    assert plain.pairs.tolist() == [3, 3, 3]
    pictures = {path.stem for path in out.glob("*.png")}
    assert {"lens_own", "lens_english", "lens_curves", "geometry_scatter", "geometry_distance"} <= pictures
    assert pictures == {path.stem for path in out.glob("*_*.csv")}
    frame = pd.read_parquet(out / "lens.parquet")
    assert set(frame["when"]) == {"before", "after"}
    assert frame[frame["row"] == 4]["id"].unique().tolist() == [1]
    assert len(pd.read_parquet(out / "geometry.parquet")) == 2 * 3 * 3
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "finished"
    assert [row["language"] for row in record["results"]["per_language"]] == ["en", "de", "sw"]
    assert str(place) not in (out / "run.json").read_text()


def test_a_stopped_run_goes_on(place, tmp_path):
    given = {"model": place / "model", "source": place / "prompts.jsonl", "output": tmp_path / "out",
             "adapter": place / "adapter", "device": "cpu"}  # fmt: skip
    whole = run_lens(**given).result
    times = {path.name: path.stat().st_mtime_ns for path in given["output"].glob("*_before.npz")}
    for name in ("lens_after.npz", "geometry_after.npz"):
        (given["output"] / name).unlink()
    said = []
    again = run_lens(**given, on_step=said.append).result
    assert {path.name: path.stat().st_mtime_ns for path in given["output"].glob("*_before.npz")} == times
    assert said[1:3] == ["lens_before.npz is already finished.", "geometry_before.npz is already finished."]
    np.testing.assert_array_equal(whole.lens_after.probabilities, again.lens_after.probabilities)
    np.testing.assert_array_equal(whole.geometry_after.points, again.geometry_after.points)
    with pytest.raises(DataError, match="span was 'first', now 'word'"):
        run_lens(**given, span="word")


def test_without_adapter_and_without_answers(place, tmp_path):
    table = Dataset.from_list(ROWS).remove_columns("answer").rename_column("prompt", "sentence")
    with pytest.raises(DataError, match="cannot load"):  # leaves nothing that another model would be mixed with
        run_lens(table, tmp_path / "out", model=place / "no-model", column_mapping={"sentence": "prompt"})
    found = run_lens(table, tmp_path / "out", model=place / "model", column_mapping={"sentence": "prompt"},
                     languages=["de"], limit=2, pooling="last", device="cpu").result  # fmt: skip
    assert found.lens_before is None
    assert found.geometry_after is None
    assert found.geometry_before.languages == ("en", "en", "de", "de")
    assert not list((tmp_path / "out").glob("lens_*"))
    assert (tmp_path / "out" / "geometry_scatter.png").is_file()
    other = run_lens(table, tmp_path / "out", model=place / "model", column_mapping={"sentence": "prompt"},
                     overwrite=True, device="cpu").result  # fmt: skip
    assert len(other.geometry_before.languages) == 9


def test_english_answers_by_id_or_column():
    rows = [row for row in ROWS if row["language"] == "de" or row["id"] != 2]
    table = read_parallel(Dataset.from_list(rows))
    assert table.without_english == 1
    assert table.answers["en"] == ["big", "cold", "big", "cold", None, "big", "cold"]
    assert table.answers["de"] == [None, None, "groß", "kalt", "alt", None, None]
    given = [{**row, "english_answer": "aged" if row["id"] == 2 else ""} for row in rows]
    assert read_parallel(Dataset.from_list(given)).answers["en"][4] == "aged"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.remove_columns("id"), "No column for id. Columns found: language, prompt, answer"),
        (lambda t: t.select([0, 0, 1]), "row 1: 0 in 'en' is already in row 0"),
        (lambda t: t.select(range(3, 9)), "no 'en' row is left"),
        (lambda t: t.map(lambda row: {"answer": "" if row["id"] == 1 else "a"}), "Column 'answer', row 1: no answer"),
        (lambda t: t.map(lambda row: {"language": "xx"}), "unknown language 'xx'"),
        (lambda t: t.map(lambda row: {"prompt": 1}, remove_columns="prompt"), "'prompt' holds int64, not texts"),
    ],
)
def test_bad_tables_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        read_parallel(change(Dataset.from_list(ROWS)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "no-such-model"}, "model: cannot load 'no-such-model'"),
        ({"adapter": "model"}, "adapter: cannot load 'model'"),
        ({"pooling": "max"}, "pooling: unknown 'max'. Known: mean, last"),
        ({"limit": 0}, "limit: 0 is out of range"),
    ],
)
def test_bad_arguments_are_refused(place, change, message, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    given = {"model": "model", "source": "prompts.jsonl", "output": tmp_path / "out"} | change
    with pytest.raises(DataError, match=message):
        run_lens(**given)
    assert not list((tmp_path / "out").glob("*.npz"))


def test_errors_end_with_2(place, tmp_path):
    done = run_command("model", "--data", "prompts.jsonl", "--span", "all", "-o", tmp_path / "out", cwd=place)
    assert done.returncode == 2
    assert "'all' is not one of 'first', 'word'" in done.stderr
    assert "Traceback" not in done.stderr
