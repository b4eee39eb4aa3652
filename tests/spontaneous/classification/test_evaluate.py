"""Few-shot evaluation: known models, shots, calibration, runs on disk, bad input, real rows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.classification.evaluate import evaluate_classification
from hf_mlalign.spontaneous.classification.result import ClassificationResult, RowStore
from hf_mlalign.spontaneous.classification.rows import read_questions
from hf_mlalign.spontaneous.classification.tasks import load_task
from tests.spontaneous.label_models import plain_scores, prefers, reviews
from tests.tiny_models import byte_tokenizer, tiny_gpt2, tiny_llama

REPO = Path(__file__).resolve().parents[3]
TOKENIZER = byte_tokenizer()


def evaluate(ds, task="emotion", model=None, **options):
    options.setdefault("progress", False)
    return evaluate_classification(model or tiny_llama(context=4096), TOKENIZER, ds, task, **options)


def scores(result) -> dict:
    return {(row["id"], row["language"]): row["label_logprobs"] for row in result.rows}


def by_language(result):
    return result.per_language().set_index("language")


def prompt_of(result, ds, row):
    """The prompt of a scored row, made anew from the settings of the run."""
    task = load_task(result.settings["task"])
    texts = {(str(r["id"]), r["language"]): r for r in ds}
    language = row["language"]
    names = result.settings["shots"][language][result.settings["n_shots"] - row["shots"] :]
    shots = [(texts[name, language], texts[name, language][task.answer]) for name in names]
    return task.prompt(language, shots, texts[row["id"], language])


def test_equal_to_a_pass_per_label():
    for model in (tiny_llama(context=4096), tiny_gpt2(context=4096)):
        ds = reviews(8)
        result = evaluate(ds, model=model)
        assert len(result.rows) == 2 * (8 - 2)
        for row in result.rows:
            labels = load_task("emotion").labels[row["language"]]
            expected = plain_scores(model, TOKENIZER, prompt_of(result, ds, row), labels, '"')
            assert row["label_logprobs"] == pytest.approx(expected, abs=1e-4)
            best = int(np.argmax(expected))
            assert row["prediction"] == ("positive", "negative")[best]
            assert row["correct"] == (row["label"] == row["prediction"])


@pytest.mark.parametrize(("preferred", "share"), [("positive", 8 / 11), ("negative", 3 / 11)])
def test_a_model_that_prefers_one_label_has_that_labels_share(preferred, share):
    ds = reviews(13, ("en",)).map(lambda row: {"answer": "negative" if row["id"] % 3 == 2 else "positive"})
    result = evaluate(ds, model=prefers(preferred, TOKENIZER), n_shots=2)
    assert set(result.rows["prediction"]) == {preferred}
    assert by_language(result).loc["en", "accuracy"] == pytest.approx(share)


def test_no_translation_of_an_example_is_scored():
    ds = reviews(12, ("en", "de", "sw"))
    own = evaluate(ds, same_shots=False, seed=3)
    shown = {name for names in own.settings["shots"].values() for name in names}
    assert len(shown) > 2
    assert not shown & set(own.rows["id"])
    assert len(own.rows) == 3 * (12 - len(shown))


def test_examples_from_elsewhere():
    elsewhere = reviews(20).map(lambda row: {"input": row["input"] + " elsewhere"})
    assert len(evaluate(reviews(), shots_from=elsewhere).rows) == 24
    shared = evaluate(reviews(), shots_from=reviews())
    assert len(shared.rows) == 24 - 4  # the same texts are not scored


def test_independent_of_batches_and_row_order():
    ds = reviews()
    whole, small = evaluate(ds, batch_tokens=4096), evaluate(ds.select(range(len(ds))[::-1]), batch_tokens=1)
    assert scores(whole).keys() == scores(small).keys()
    for key, values in scores(whole).items():
        assert values == pytest.approx(scores(small)[key], abs=1e-4)


def test_labels_in_english():
    ds = reviews()
    result = evaluate(ds, labels_in="english", n_shots=0, languages=["de"])
    row = result.rows[0]
    labels = ("positive", "negative")
    expected = plain_scores(tiny_llama(context=4096), TOKENIZER, prompt_of(result, ds, row), labels, '"')
    assert row["label_logprobs"] == pytest.approx(expected, abs=1e-4)
    english = ds.map(lambda row: {"answer": labels[row["id"] % 2]})
    assert evaluate(english, n_shots=0, languages=["de"]).rows["label"] == result.rows["label"]


def test_normalised_and_calibrated():
    ds = reviews(6, ("de",))
    model = tiny_llama(context=4096)
    plain = evaluate(ds, n_shots=0)
    lengths = np.array([len("positiv") + 1, len("negativ") + 1])
    free = [plain_scores(model, TOKENIZER, f'{text}\nEmotion: "', ("positiv", "negativ"), '"') for text in ("N/A", "…")]
    normal = evaluate(ds, n_shots=0, normalise=True)
    both = evaluate(ds, n_shots=0, normalise=True, calibrate=True, content_free=("N/A", "…"))
    mean = np.log(np.mean(np.exp(np.array(free) / lengths), axis=0))
    for a, b, c in zip(plain.rows, normal.rows, both.rows):
        assert a["scores"] == a["label_logprobs"] == pytest.approx(c["label_logprobs"], abs=1e-4)
        assert b["scores"] == pytest.approx(np.array(a["label_logprobs"]) / lengths, abs=1e-5)
        assert c["scores"] == pytest.approx(b["scores"] - mean, abs=1e-4)


def test_classes_come_from_the_gold_language():
    task = {**load_task("emotion").describe(), "gold_language": "en"}
    ds = reviews().map(lambda row: {"answer": "negativ" if row["answer"] == "positiv" else row["answer"]})
    result = evaluate(ds, task, languages=["de"], n_shots=0)
    assert result.rows["label"] == ["positive", "negative"] * 6
    note = "de: the labels of 6 of 12 scored rows differ from those of the same ids in 'en', which were taken"
    assert note in result.notes
    assert set(evaluate(ds, languages=["de"], n_shots=0).rows["label"]) == {"negative"}


def test_long_prompts_lose_their_first_examples():
    ds = reviews(12, ("en",))
    whole = evaluate(ds, n_shots=4)
    lengths = [len(prompt_of(whole, ds, row)) + len('negative"') for row in whole.rows]
    limit = int(np.median(lengths))
    cut = evaluate(ds, n_shots=4, max_length=limit)
    assert {row["shots"] for row in cut.rows} == {3, 4}
    model = tiny_llama(context=4096)
    for row in cut.rows:
        prompt = prompt_of(cut, ds, row)
        assert len(prompt) + len('negative"') <= limit
        assert row["label_logprobs"] == pytest.approx(
            plain_scores(model, TOKENIZER, prompt, ("positive", "negative"), '"'), abs=1e-4
        )
    n = sum(length > limit for length in lengths)
    assert f"{n} prompts were too long and lost the first examples (column `shots`): en {n}" in cut.notes
    assert {row["shots"] for row in evaluate(ds, n_shots=4, model=tiny_llama(context=limit)).rows} == {3, 4}


def test_questions_too_long_alone_are_left_out_in_every_language():
    ds = reviews(12).map(lambda row: {"input": row["input"] + "!" * 99 * (row["id"] == 5 and row["language"] == "de")})
    result = evaluate(ds, n_shots=0, max_length=100, drop_long=True)
    assert sorted(map(int, result.rows["id"])) == sorted(2 * [i for i in range(12) if i != 5])
    assert "1 question is too long without examples in some language and left out in all" in result.notes
    assert result.settings["n_rows"] == 22
    with pytest.raises(DataError, match="no question fits"):
        evaluate(ds, n_shots=0, max_length=20, drop_long=True)


def test_seen_baseline_and_saved_runs(tmp_path):
    ds = reviews(12, ("en", "de", "sw"))
    before = evaluate(ds, output=tmp_path / "before", seen=["de"])
    after = evaluate(ds, model=tiny_llama(1, context=4096), baseline=tmp_path / "before", seen=["de"])
    table = by_language(after)
    assert list(table.index) == ["de", "en", "sw", "seen", "unseen", "all"]
    old, new = by_language(before), table
    for code in ("de", "en", "sw", "all"):
        assert new.loc[code, "gain"] == pytest.approx(new.loc[code, "accuracy"] - old.loc[code, "accuracy"])
    loaded = ClassificationResult.load(tmp_path / "before")
    assert loaded.rows.to_list() == before.rows.to_list()
    assert loaded.seen == ("de",)
    assert loaded.per_language().equals(before.per_language())
    assert ClassificationResult.load(after.save(tmp_path / "after")).rows.to_list() == after.rows.to_list()
    other = evaluate(ds, baseline=before, n_shots=0)
    assert any("other settings (n_shots, shots" in note for note in other.notes)
    assert "6 of 36 rows are not in the baseline and do not count for the gain" in other.notes


def test_a_finished_run_is_not_scored_again(tmp_path, monkeypatch):
    from hf_mlalign.spontaneous.classification.label_scoring import LabelScorer

    first = evaluate(reviews(), output=tmp_path / "run")
    monkeypatch.setattr(LabelScorer, "score", lambda *a: (_ for _ in ()).throw(AssertionError))
    assert evaluate(reviews(), output=tmp_path / "run").rows.to_list() == first.rows.to_list()
    for options, named in [({"seed": 1}, "seed"), ({"normalise": True}, "normalise"),
                           ({"model": tiny_llama(5, context=4096)}, "model")]:  # fmt: skip
        with pytest.raises(DataError, match=f"with other parameters .*{named}"):
            evaluate(reviews(), output=tmp_path / "run", **options)
    with pytest.raises(DataError, match=r"with other parameters \(data"):
        evaluate(reviews().map(lambda row: {"input": row["input"] + "."}), output=tmp_path / "run")


def test_overwrite(tmp_path):
    evaluate(reviews(), output=tmp_path / "run")
    again = evaluate(reviews(), output=tmp_path / "run", seed=1, overwrite=True)
    assert ClassificationResult.load(tmp_path / "run").rows.to_list() == again.rows.to_list()


def test_an_unfinished_line_is_cut_off_before_rows_are_added(tmp_path):
    result = evaluate(reviews(), output=tmp_path / "run")
    path, rows = tmp_path / "run" / "rows.jsonl", result.rows.to_list()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    store = RowStore(tmp_path / "run", result.settings)
    with store.open():
        assert list(store.done) == [(row["id"], row["language"]) for row in rows[:3]]
        store.add(rows[3:5])
    assert path.read_bytes() == b"".join(lines[:5])
    assert ClassificationResult.load(tmp_path / "run").rows.to_list() == rows[:5]


CHILD = """
import sys, time
from tests.spontaneous.classification.test_evaluate import evaluate
from tests.spontaneous.label_models import reviews
from hf_mlalign.spontaneous.classification.label_scoring import LabelScorer
score = LabelScorer._score_pack
LabelScorer._score_pack = lambda *a: (time.sleep(0.1), score(*a))[1]
evaluate(reviews(40), output=sys.argv[1], batch_tokens=1)
"""


def test_goes_on_after_kill_9(tmp_path):
    folder = tmp_path / "run"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], cwd=REPO, stderr=subprocess.DEVNULL,
                             env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    rows = folder / "rows.jsonl"
    deadline = time.monotonic() + 120
    while not (rows.is_file() and rows.read_bytes().count(b"\n") >= 5) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    held = rows.read_bytes()
    n = held.count(b"\n")
    assert 5 <= n < 76
    rows.write_bytes(held + b'{"id": "7", "langu')
    assert f"stopped after {n} of 76 rows" in ClassificationResult.load(folder).notes
    resumed = evaluate(reviews(40), output=folder, batch_tokens=1)
    finished = rows.read_bytes().splitlines()
    assert len(finished) == 76
    assert set(held.splitlines()) <= set(finished)
    whole = evaluate(reviews(40))
    assert [row["id"] for row in resumed.rows] == [row["id"] for row in whole.rows]
    for key, values in scores(whole).items():
        assert values == pytest.approx(scores(resumed)[key], abs=1e-4)


def test_without_padding_token():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    found = evaluate_classification(tiny_llama(context=4096), tokenizer, reviews(), "emotion", progress=False)
    assert scores(found) == scores(evaluate(reviews()))


def bad(ds, **changes) -> Dataset:
    return ds.map(lambda row, i: {k: v for k, (at, v) in changes.items() if i == at}, with_indices=True)


@pytest.mark.parametrize(("change", "options", "message"), [
    ({"answer": (3, "so-so")}, {}, "Column 'answer', row 3: label 'so-so' is unknown in 'en'. Known: positive, neg"),
    ({"input": (4, " ")}, {}, "Column 'input', row 4"),
    ({"id": (2, 1)}, {}, "Column 'id', row 2: question '1' in 'en' is already in row 1"),
    ({"language": (2, "xx")}, {}, "row 2: unknown language 'xx'"),
    ({}, {"languages": ["sw"]}, "languages: no rows in sw. Languages found: de, en"),
    ({}, {"seen": ["sw"]}, "seen: 'sw' is not evaluated"),
    ({}, {"n_shots": 30}, "label 0 has 6 questions to draw 15 examples"),
    ({}, {"n_shots": 12}, "no question of 'en' is left to score"),
    ({}, {"labels_in": "german"}, "labels_in: unknown 'german'"),
    ({}, {"max_length": 20}, "too long for 20 tokens even without examples (24 such rows)"),
    ({}, {"max_length": 0}, "max_length: 0"),
    ({}, {"limit": 0}, "limit: 0"),
    ({}, {"calibrate": True, "content_free": ()}, "content_free: none given"),
    ({}, {"column_mapping": {"input": "text"}}, "unknown roles: text. Roles: input, answer, id, language"),
    ({}, {"task": "snli"}, "No column for premise, hypothesis. Columns found: id, language, input, answer"),
])  # fmt: skip
def test_input_that_cannot_be_used(change, options, message, tmp_path):
    with pytest.raises(DataError) as error:
        evaluate(bad(reviews(), **change), **{"n_shots": 0, "output": tmp_path / "run", **options})
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_labels_that_cannot_be_told_apart_or_are_missing():
    task = load_task("emotion").describe()
    twin = {**task, "labels": {**task["labels"], "de": ["gut", "gut"]}}
    with pytest.raises(DataError, match="labels in 'de': 'gut', 'gut' are the same text"):
        evaluate(reviews().map(lambda row: {"answer": ("positive", "negative")[row["id"] % 2]}), twin)
    few = {**task, "labels": {"en": task["labels"]["en"]}}
    with pytest.raises(DataError, match="no labels in 'de'"):
        evaluate(reviews().map(lambda row: {"answer": ("positive", "negative")[row["id"] % 2]}), few)


def test_one_language_without_a_column_and_numbered_labels():
    ds = reviews(8, ("en",)).remove_columns("language").rename_column("input", "text")
    ds = Dataset.from_dict({**ds.to_dict(), "answer": [i % 2 for i in range(8)]})
    task = {**load_task("emotion").describe(), "codes": [1, 0]}
    for languages in (["English"], "en"):
        result = evaluate(ds, task, languages=languages, column_mapping={"text": "input"}, n_shots=0)
        assert result.rows["label"] == ["negative", "positive"] * 4
    with pytest.raises(DataError, match=r"label 0 is unknown .* `codes: \[...\]`, a number for each of positive, n"):
        evaluate(ds, languages=["en"], column_mapping={"text": "input"}, n_shots=0)
    with pytest.raises(DataError, match="language: no such column"):
        evaluate(ds, column_mapping={"text": "input"})


def labelled(names, answers, **columns) -> Dataset:
    """Rows of a dataset whose labels are a ClassLabel."""
    n = len(answers)
    texts = columns or {"input": [f"text {i}" for i in range(n)]}
    features = Features({"id": Value("int64"), "language": Value("string"), "answer": ClassLabel(names=names)}
                        | {name: Value("string") for name in texts})  # fmt: skip
    return Dataset.from_dict({"id": range(n), "language": ["en"] * n, "answer": answers, **texts}, features=features)


def test_the_names_of_a_class_label_count_and_not_its_numbers():
    found = evaluate(labelled(["negative", "positive"], [0, 1, 0, 1]), n_shots=0)  # as in amazon_polarity
    assert found.rows["label"] == ["negative", "positive"] * 2
    with pytest.raises(DataError, match="label 'neg' is unknown in 'en'. Known: positive, negative"):
        evaluate(labelled(["neg", "pos"], [0, 1]), n_shots=0)
    with pytest.raises(DataError, match="row 1: label None is unknown .* Drop rows without a label"):
        evaluate(labelled(["negative", "positive"], [0, -1]), n_shots=0)


@pytest.mark.parametrize("answers", [[0, 1, 0, 1], ["0", "1", "0", "1"]])
def test_numbers_of_paws_x(answers):
    texts = {"sentence1": [f"a {i}" for i in range(4)], "sentence2": [f"b {i}" for i in range(4)]}
    hub = labelled(["0", "1"], [0, 1, 0, 1], **texts)  # 1: a paraphrase
    plain = Dataset.from_dict({**hub.to_dict(), "answer": answers})
    for ds in (hub, plain):
        assert evaluate(ds, "paws", n_shots=0).rows["label"] == ["different", "same"] * 2
    with pytest.raises(DataError, match="label 2 is unknown in 'en'. Known: same, different, 1, 0"):
        evaluate(Dataset.from_dict({**hub.to_dict(), "answer": [0, 1, 2, 0]}), "paws", n_shots=0)


def test_another_tokenizer_is_another_run(tmp_path):
    from tokenizers import processors

    evaluate(reviews(), output=tmp_path / "run")
    other = byte_tokenizer()
    other.backend_tokenizer.post_processor = processors.TemplateProcessing("</s> $A", special_tokens=[("</s>", 2)])
    assert other("a")["input_ids"] != TOKENIZER("a")["input_ids"]
    with pytest.raises(DataError, match=r"with other parameters \(tokens"):
        evaluate_classification(tiny_llama(context=4096), other, reviews(), "emotion", output=tmp_path / "run",
                                progress=False)  # fmt: skip


def test_a_model_on_disk_is_said_not_to_be_compared(tmp_path):
    from accelerate import disk_offload

    model = tiny_llama(context=4096)
    disk_offload(model, str(tmp_path / "weights"))
    result = evaluate(reviews(6), model=model)
    assert result.settings["model"]["weights"] is None
    assert any(note.startswith("weights on disk are not compared") for note in result.notes)
    assert not any("on disk" in note for note in evaluate(reviews(6)).notes)


@pytest.mark.parametrize(("texts", "message"), [
    (["N/A", 3], "content_free: expected a text, got 3."),
    ([" "], "content_free, entry 0: ' ' is not a text"),
    (["N/A", "x" * 6000], "content_free, entry 1 ('xxxxxxxxxxxxxxxxxxxx'): too long in 'de' with 2 examples (6,"),
])  # fmt: skip
def test_content_free_texts_that_cannot_be_used(texts, message, tmp_path):
    with pytest.raises(DataError) as error:
        evaluate(reviews(), calibrate=True, content_free=texts, output=tmp_path / "run")
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_one_content_free_text_is_one_text():
    found = evaluate(reviews(), calibrate=True, content_free="N/A")
    assert found.settings["content_free"] == ["N/A"]
    assert found.rows["scores"] == evaluate(reviews(), calibrate=True).rows["scores"]


def apart(n: int = 8) -> Dataset:
    """English and German rows with no id in common."""
    return reviews(n).map(lambda row: {"id": row["id"] + 100 * (row["language"] == "de")})


def test_a_language_whose_questions_are_all_too_long(tmp_path):
    ds = apart().map(lambda row: {"input": row["input"] + "!" * 300 * (row["language"] == "de")})
    options = {"n_shots": 0, "max_length": 200, "drop_long": True, "output": tmp_path / "run"}
    with pytest.raises(DataError, match="seen: no question in 'de' is left after --drop-long"):
        evaluate(ds, seen=["de"], **options)
    assert not (tmp_path / "run").exists()
    found = evaluate(ds, seen=["en"], **options)
    assert "no question is left in de: not scored" in found.notes
    assert found.settings["languages"] == ["en"]
    assert found.per_language()["language"].tolist() == ["en", "seen", "all"]


def test_one_seen_language_as_a_text():
    found = evaluate(reviews(6), seen="de")
    assert found.seen == ("de",)
    assert found.compare(found, seen="en").seen == ("en",)
    with pytest.raises(DataError, match="seen, row 0: unknown language 'de,en'"):
        evaluate(reviews(6), seen="de,en")


def test_limit_takes_questions_that_are_there_in_every_language():
    ds = reviews(12).filter(lambda row: row["language"] == "en" or row["id"] >= 6)
    found = evaluate(ds, n_shots=0, limit=2)
    assert [(row["id"], row["language"]) for row in found.rows] == [("6", "de"), ("7", "de"), ("6", "en"), ("7", "en")]
    assert len(evaluate(ds, n_shots=0).rows) == 18
    with pytest.raises(DataError, match="limit: no question exists in every language. Leave --limit out"):
        evaluate(apart(), n_shots=0, limit=3)


def test_the_table_is_computed_once(monkeypatch):
    from hf_mlalign.spontaneous.classification import result as classification_result

    found, calls = evaluate(reviews(6)), []
    table = classification_result.accuracy_table
    monkeypatch.setattr(classification_result, "accuracy_table", lambda *a: (calls.append(a), table(*a))[1])
    first = found.per_language()
    first["accuracy"] = 7.0
    assert found.per_language()["accuracy"].max() <= 1
    assert len(calls) == 1
    found.per_language(0.5)
    found.seen = ("de",)
    assert "seen" in set(found.per_language()["language"])
    assert len(calls) == 3


def test_runs_of_two_tasks_are_not_compared(tmp_path):
    evaluate(reviews(), output=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["parameters"]["task"]["name"] = "other"
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="a run of task 'other', this one of 'emotion'"):
        evaluate(reviews(), baseline=tmp_path / "run", output=tmp_path / "second")
    with pytest.raises(DataError, match="no row .* in common"):
        evaluate(reviews(languages=("sw",)), baseline=evaluate(reviews()), output=tmp_path / "second")
    assert not (tmp_path / "second").exists()  # refused before anything was scored
    with pytest.raises(DataError, match="holds no classification run"):
        evaluate(reviews(), baseline=tmp_path)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "n_shots"), [("emotion", 2), ("snli", 6)])
def test_real_rows_of_20_languages(shared_data, name, n_shots):
    ds = Dataset.from_parquet(str(shared_data / f"{name}_20_languages.parquet"))
    texts = {(str(row["id"]), row["language"]): row for row in ds}
    model, task = tiny_llama(context=32_768), load_task(name)
    result = evaluate(ds, name, model=model, limit=1)
    assert result.settings["n_shots"] == n_shots
    assert len(result.rows) == 20
    for row in result.rows:
        language, labels = row["language"], task.labels[row["language"]]
        # gold classes are those of the English rows
        shots = [(texts[i, language], labels[task.classes.index(texts[i, "en"]["answer"])])
                 for i in result.settings["shots"][language]]  # fmt: skip
        prompt = task.prompt(language, shots, texts[row["id"], language])
        expected = plain_scores(model, TOKENIZER, prompt, labels, '"')
        assert row["label_logprobs"] == pytest.approx(expected, abs=1e-4)
        assert row["label"] == texts[row["id"], "en"]["answer"]


@pytest.mark.real_data
def test_a_preferred_label_in_each_of_20_languages(shared_data):
    ds = Dataset.from_parquet(str(shared_data / "snli_20_languages.parquet")).filter(lambda row: row["id"] < 7)
    share = sum(row["answer"] == "neutral" for row in ds if row["language"] == "en") / 7
    for language, labels in load_task("snli").labels.items():
        model = prefers(labels[1], TOKENIZER, 2048)
        found = evaluate(ds, "snli", model=model, languages=[language], n_shots=0, method="trie")
        assert by_language(found).loc[language, ["n", "accuracy"]].tolist() == pytest.approx([7, share])
        assert set(found.rows["prediction"]) == {"neutral"}


@pytest.mark.real_data
def test_norwegian_words_for_neutral_and_contradiction_are_interchanged_in_the_data(shared_data):
    ds = Dataset.from_parquet(str(shared_data / "snli_20_languages.parquet"))
    questions = read_questions(ds, load_task("snli"), ["no", "sv"])
    assert [questions.languages[row] for row in questions.disagreeing] == ["no"] * 400
    result = evaluate(ds, "snli", languages=["no", "sv"], n_shots=0, limit=4)
    scored = {(row["id"], row["language"]) for row in result.rows}
    n = sum((questions.ids[row], questions.languages[row]) in scored for row in questions.disagreeing)
    note = f"no: the labels of {n} of 4 scored rows differ from those of the same ids in 'en', which were taken"
    assert 0 < n < 4
    assert [text for text in result.notes if text[:3] in ("no:", "sv:")] == [note]
