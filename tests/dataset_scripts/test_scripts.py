"""Every script on small files in its source's layout: as a user runs it, again, damaged, and with one file."""

import json
import os
import re
import subprocess
import sys

import datasets
import pytest

from hf_mlalign.hub.run_record import read_record
from shared.building import RowBuilder
from shared.public_files import Record
from shared.recipes import BuildArguments
from tests.dataset_scripts.layouts import NAMES, SCRIPTS, arguments, dump, run, script, small, write

LAYOUTS = [
    *((name, {}) for name in NAMES),
    ("multilingual_evaluation", {"task": "emotion"}), ("multilingual_evaluation", {"task": "paws"}),
    ("x_alpacaeval", {"content": "prompts"}),
]  # fmt: skip


def language_of(row):
    return row.get("language") or row["source_language"]


def built(folder):
    """The rows of a built set by configuration, columns sorted."""
    names = [name for name in datasets.get_dataset_config_names(str(folder)) if name != "default"]
    found = {}
    for name in names:
        (split,) = datasets.load_dataset(str(folder), name).values()
        found[name] = [dict(sorted(row.items())) for row in split]
    return found


def expected(rows):
    found = {}
    for row in rows:
        found.setdefault(language_of(row), []).append(dict(sorted(row.items())))
    return found


def ordered(table):
    return {code: sorted(rows, key=str) for code, rows in table.items()}


@pytest.mark.parametrize(("name", "layout"), LAYOUTS, ids=lambda value: str(value))
def test_small_sets_are_read_and_open(name, layout, tmp_path, capsys):
    rows = small(name, **layout)
    write(name, tmp_path, rows, **layout)
    command = [*arguments(name, tmp_path, **layout), "--output", tmp_path / "out"]
    assert run(name, *command) == 0
    assert ordered(built(tmp_path / "out")) == ordered(expected(rows))
    assert f"Wrote {len(rows)} rows in 2 languages" in capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("## Sources and licences", "license:", "| de |", f"dataset_scripts/{name}.py --source …"):
        assert part in card
    assert str(tmp_path) not in card + (tmp_path / "out" / "run.json").read_text()

    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert run(name, *command) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert run(name, *command, "--languages", "de") == 2
    assert "other parameters" in capsys.readouterr().err
    assert run(name, *command, "--languages", "German", "--overwrite") == 0
    assert list(built(tmp_path / "out")) == ["de"]


@pytest.mark.parametrize("name", NAMES)
def test_as_a_user_runs_it(name, tmp_path):
    write(name, tmp_path, small(name))
    command = [sys.executable, SCRIPTS / f"{name}.py", *arguments(name, tmp_path), "--output", "out"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Generating" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("Wrote ")
    record = read_record(tmp_path / "out")
    assert (record.command, record.state, record.parameters["script"]) == ("build-dataset", "finished", name)
    assert set(datasets.load_dataset(str(tmp_path / "out"), "de").column_names) == {script_split(name)}


def script_split(name):
    return script(name).recipe(arguments_of(name)).split


def arguments_of(name):
    return getattr(script(name), "Arguments", BuildArguments)(source="s", output="o")


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_typed_and_explained(name):
    recipe = script(name).recipe(arguments_of(name))
    assert recipe.name == name
    assert set(recipe.features) <= set(recipe.columns)
    assert recipe.features["id"].dtype == "int64"
    assert recipe.limits
    assert all(origin.licence for origin in recipe.origins)
    assert recipe.language_column in recipe.features


def test_row_functions_by_hand():
    mgsm, qt, calm, x = map(script, ("mgsm", "question_translation", "xcsqa_samples", "x_alpacaeval"))
    assert mgsm.row(Record({"question": "1+1?", "answer": " 1,000\r"}, 7)) == {
        "id": 7, "query": "1+1?", "response": "1,000",
    }  # fmt: skip
    assert qt.gsm8k_row(Record({"source": " Was? ", "target": "What?"}, 3)) == {
        "id": 3, "source": "Was?", "target": "What?",
    }  # fmt: skip
    assert qt.gsm8k_row(Record({"source": "Was?", "target": "  "})) is None
    assert calm.row(Record({"instruction": "a", "input": "b", "output": "E", "pred": ["", "x"]}, 2)) == {
        "id": 2, "instruction": "a", "input": "b", "gold": "E", "samples": ["", "x"],
    }  # fmt: skip
    assert x.prompt_row(Record({"id": "12", "dataset": "koala", "instruction": "Wer?"})) == {
        "id": 12, "subset": "koala", "prompt": "Wer?",
    }  # fmt: skip


def test_revisions_are_aligned_by_their_distances():
    """Worked out by hand: German lacks sample 2, Italian has a row that no sample has."""
    def table(*distances):
        return [{"id": i, "distance": d, "raw_response": f"r{d}"} for i, d in enumerate(distances)]

    arrange = script("expert_revisions").arrange
    english = table(640, 47, 34, 71, 259, 661, 314, 387, 49, 135, 856, 362)
    found = arrange({
        "de": table(640, 47, 71, 259, 661, 314, 387, 49, 135, 856, 362), "en": english,
        "it": table(640, 47, 34, 71, 259, 999, 661, 314, 387, 49, 135, 856, 362),
    })  # fmt: skip
    assert [row["id"] for row in found["de"]] == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert found["en"] == english
    assert found["it"] == english
    without_english = arrange({"de": english[:-1], "fr": english})
    assert [row["id"] for row in without_english["de"]] == list(range(11))


def test_ids_are_the_same_whatever_languages_are_built(tmp_path):
    rows = [row for row in small("expert_revisions", n=12) if (row["language"], row["id"]) != ("de", 4)]
    for row in rows:
        row["distance"] = (640, 47, 34, 71, 259, 661, 314, 387, 49, 135, 856, 362)[row["id"]]
    write("expert_revisions", tmp_path, rows)
    command = arguments("expert_revisions", tmp_path)
    assert run("expert_revisions", *command, "--output", tmp_path / "all") == 0
    assert run("expert_revisions", *command, "--output", tmp_path / "de", "--languages", "de") == 0
    assert built(tmp_path / "de") == {"de": built(tmp_path / "all")["de"]}
    assert [row["id"] for row in built(tmp_path / "de")["de"]] == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]


def test_other_revisions_are_refused(tmp_path, capsys):
    rows = small("expert_revisions", n=20)
    for row in rows:
        row["distance"] += row["id"] * 10 if row["language"] == "de" else 0
    write("expert_revisions", tmp_path, rows)
    assert run("expert_revisions", *arguments("expert_revisions", tmp_path), "--output", tmp_path / "out") == 2
    assert "German: the distances of only" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_the_second_source(tmp_path, capsys):
    write("expert_revisions", tmp_path, small("expert_revisions"))
    assert run("expert_revisions", "--source", tmp_path / "source", "--output", tmp_path / "out") == 0
    assert list(built(tmp_path / "out")) == ["de"]
    assert "Not in the source: Expert Revision Dataset.json" in capsys.readouterr().out
    command = ["--source", tmp_path / "source", "--output", tmp_path / "en", "--languages", "en"]
    assert run("expert_revisions", *command) == 2
    assert "no file for en" in capsys.readouterr().err


def test_blank_lines_are_left_out_and_counted(tmp_path, capsys):
    rows = small("question_translation")
    rows[3]["target"] = " "
    write("question_translation", tmp_path, rows)
    assert run("question_translation", *arguments("question_translation", tmp_path), "--output", tmp_path / "out") == 0
    assert "Note: de: 1 records left out." in capsys.readouterr().out
    gsm8k = [row["id"] for row in built(tmp_path / "out")["de"] if row["task"] == "gsm8k"]
    assert gsm8k == [0, 2, 3]
    assert {"language": "de", "rows": 7, "left_out": 1} in read_record(tmp_path / "out").results["per_language"]


def test_a_killed_build_goes_on(tmp_path):
    write("mgsm", tmp_path, small("mgsm"))
    command = [*arguments("mgsm", tmp_path), "--output", tmp_path / "out"]
    assert run("mgsm", *command) == 0
    whole = built(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    (tmp_path / "out" / "run.json").write_text(json.dumps({**record, "state": "running"}))
    (tmp_path / "out" / "data" / "de.parquet").unlink()
    (tmp_path / "out" / ".work" / "data").mkdir(parents=True)
    (tmp_path / "out" / ".work" / "data" / "de.parquet").write_bytes(b"half")
    assert run("mgsm", *command) == 0
    assert built(tmp_path / "out") == whole
    assert not (tmp_path / "out" / ".work").exists()


def test_prepared_rows_come_from_the_cache_unless_they_changed(tmp_path, monkeypatch):
    prepared = []
    real = RowBuilder._generate_examples
    monkeypatch.setattr(
        RowBuilder, "_generate_examples", lambda self: prepared.append(self.config.name) or real(self)
    )
    rows = small("mgsm")
    write("mgsm", tmp_path, rows)
    command = [*arguments("mgsm", tmp_path), "--cache-dir", tmp_path / "cache"]
    for output in ("one", "two"):
        assert run("mgsm", *command, "--output", tmp_path / output) == 0
        assert prepared == ["de", "zh"]
    rows[0]["query"] = "Andere Frage?"
    write("mgsm", tmp_path, rows)
    assert run("mgsm", *command, "--output", tmp_path / "three") == 0
    assert prepared == ["de", "zh"] * 2
    assert built(tmp_path / "three")["de"][0]["query"] == "Andere Frage?"


def test_a_source_that_is_one_file(tmp_path, capsys):
    write("mgsm", tmp_path, small("mgsm"))
    file = tmp_path / "source" / "mgsm" / "mgsm_de.tsv"
    assert run("mgsm", "--source", file, "--output", tmp_path / "out") == 2
    assert "'mgsm_de.tsv' is one file, but 11 are needed, such as mgsm/mgsm_bn.tsv" in capsys.readouterr().err
    assert run("mgsm", "--source", file, "--output", tmp_path / "out", "--languages", "de") == 0
    assert len(built(tmp_path / "out")["de"]) == 4
    assert run("mgsm", "--source", file.parent, "--output", tmp_path / "flat") == 0
    assert list(built(tmp_path / "flat")) == ["de", "zh"]
    write("xcsqa_samples", tmp_path, small("xcsqa_samples"))
    answers = next((tmp_path / "source").rglob("x_csqa_de*"))
    assert run("xcsqa_samples", "--source", answers, "--languages", "de", "--output", tmp_path / "one") == 2
    assert "is one file, but 2 are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "nowhere"], "source: 'nowhere' does not exist"),
        (["--source", "."], "has no file for any language. Looked for mgsm/mgsm_bn.tsv"),
        (["--source", ".", "--languages", "xx"], "unknown language 'xx'"),
        (["--source", ".", "--languages", "pt"], "has no file for pt"),
    ],
)
def test_what_cannot_be_found_says_so(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("mgsm", *options, "--output", "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def edit_json(change):
    def damage(path):
        rows = json.loads(path.read_text())
        dump(path, change(rows) or rows)
    return damage


def edit_text(change):
    def damage(path):
        path.write_bytes(change(path.read_bytes()))
    return damage


GERMAN = {
    "expert_revisions": "source/data/MIDB_train/German.json",
    "x_alpacaeval": "source/results/base_model/x-alpacaeval/gpt-4-0613/de.jsonl",
    "xcsqa_samples": "source/data/xcsqa/samples/x_csqa_de_train_sampled.json",
    "multilingual_evaluation": "source/data/snli/snli_de600_test.json",
    "question_translation": "second/data/gsmtrans/gsm8kinstruct_question/de-en/train.de",
    "mgsm": "source/mgsm/mgsm_de.tsv",
}
DAMAGE = [
    ("expert_revisions", edit_text(lambda b: b[:-200]), r"German.json, line 3\d: broken or cut off \("),
    ("expert_revisions", edit_json(lambda r: r[1].pop("Revised Response") and None),
     r"German.json, row 1: no 'Revised Response' \(there are: Raw Instruction"),
    ("expert_revisions", edit_json(lambda r: r[2].update({"Raw Input": None})), "row 2: 'Raw Input' is null, not text"),
    ("expert_revisions", edit_json(lambda r: r[0].update(Distance=1.5)), "row 0: 'Distance' is 1.5, not a whole num"),
    ("x_alpacaeval", edit_text(lambda b: b.replace(b'"id": 2', b'"id": 1')), r"line 2: id 1 is also at .*line 1\."),
    ("x_alpacaeval", edit_text(lambda b: b[:-30]), r"de.jsonl, line 4: broken or cut off"),
    ("x_alpacaeval", edit_text(lambda b: b + b"[1]\n"), r"de.jsonl, line 5: is a list, not an object"),
    ("x_alpacaeval", edit_text(lambda b: b.replace(b'"id": 2', b'"id": true')), "line 2: 'id' is True, not a whole"),
    ("xcsqa_samples", edit_json(lambda r: r[3].update(pred="A")), "row 3: 'pred' is not a list of texts"),
    ("xcsqa_samples", edit_json(lambda r: r[3].update(output="F")), "row 3: 'output' is 'F', not an option A to E"),
    ("xcsqa_samples", edit_json(lambda r: r[:3]), r"de_train_sampled.json has 3 rows, .*cn_train_sampled.json 4"),
    ("multilingual_evaluation", edit_json(lambda r: [*r, "x"]), "row 4: is text, not an object"),
    ("multilingual_evaluation", edit_json(lambda r: {"rows": r}), "snli_de600_test.json: holds no JSON array"),
    ("multilingual_evaluation", edit_text(lambda b: b"[]"), "snli_de600_test.json: holds no rows"),
    ("multilingual_evaluation", edit_text(lambda b: b"<!DOCTYPE html>"), "is a web page, not JSON"),
    ("multilingual_evaluation", edit_json(lambda r: r[0].update(premise=" ")), "row 0: 'premise' is blank"),
    ("question_translation", edit_text(lambda b: b + b"noch eine\n"), r"train.de has 5 lines, .*train.en 4: line n"),
    ("mgsm", edit_text(lambda b: b""), "mgsm_de.tsv: is empty"),
    ("mgsm", edit_text(lambda b: b.replace(b"\t2,", b"\t\t2,")), "line 3: 3 tab-separated columns, not 2"),
    ("mgsm", edit_text(lambda b: b.replace(b"2,000", b"zwei")), "line 3: the answer 'zwei' is not a number"),
    ("mgsm", edit_text(lambda b: b.replace(b"ge 1", b"ge \xe9")), "line 2: is not UTF-8"),
    ("mgsm", edit_text(lambda b: b.split(b"\n", 1)[1]), r"mgsm_de.tsv has 3 rows, .*mgsm_zh.tsv 4"),
    ("mgsm", edit_text(lambda b: b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer.*git lfs pull"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGE)
def test_damaged_files_are_refused_before_anything_is_written(name, damage, message, tmp_path, capsys):
    write(name, tmp_path, small(name))
    damage(tmp_path / GERMAN[name])
    assert run(name, *arguments(name, tmp_path), "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_byte_order_marks_and_windows_line_ends_change_nothing(name, tmp_path):
    write(name, tmp_path, small(name))
    assert run(name, *arguments(name, tmp_path), "--output", tmp_path / "plain") == 0
    for path in [*(tmp_path / "source").rglob("*.*"), *(tmp_path / "second").rglob("*.*")]:
        if path.is_file():
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert run(name, *arguments(name, tmp_path), "--output", tmp_path / "windows") == 0
    assert built(tmp_path / "windows") == built(tmp_path / "plain")
