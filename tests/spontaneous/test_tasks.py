"""Task descriptions: the three that ship, and what a YAML file may and may not say."""

import pytest

from hf_mlalign.errors import DataError
from hf_mlalign.languages import SPONTANEOUS_LANGUAGES
from hf_mlalign.spontaneous.tasks import load_task, task_names

TOPIC = """
name: topic
fields: [text]
answer: topic
shots: 2
template: "{text}\\nTopic: \\"{label}\\""
labels:
  en: [sports, politics]
  no: [sport, politikk]
"""


def described(**changes):
    task = {"name": "t", "fields": ["text"], "answer": "a", "template": "{text}: {label}", "labels": {"en": ["x", "y"]}}
    return {**task, **changes}


@pytest.mark.parametrize(("name", "shots", "classes"), [
    ("emotion", 2, ("positive", "negative")),
    ("snli", 6, ("entailment", "neutral", "contradiction")),
    ("paws", 4, ("same", "different")),
])  # fmt: skip
def test_shipped_tasks_cover_the_20_languages(name, shots, classes):
    task = load_task(name)
    assert (task.shots, task.classes) == (shots, classes)
    assert set(task.labels) == set(task.template) == set(SPONTANEOUS_LANGUAGES)
    assert all(len(set(labels)) == len(classes) for labels in task.labels.values())
    assert name in task_names()


def test_prompt_text():
    task = load_task("snli")
    shot = ({"premise": "A", "hypothesis": "B"}, "neutral")
    assert task.prompt("de", [shot], {"premise": "C", "hypothesis": "D"}) == (
        'Prämisse: A\nHypothese: B\nAntwort: "neutral"\nPrämisse: C\nHypothese: D\nAntwort: "'
    )
    assert task.parts("de")[1] == '"'


def test_a_task_of_ones_own(tmp_path):
    assert len(TOPIC.strip().splitlines()) < 15
    (tmp_path / "mine.yaml").write_text(TOPIC, encoding="utf-8")
    task = load_task(tmp_path / "mine.yaml")
    assert task.labels["no"] == ("sport", "politikk")
    assert task.prompt("sw", [], {"text": "T"}) == 'T\nTopic: "'
    assert load_task(task.describe()) == task


def test_the_separator_ends_a_label_where_the_template_does_not():
    task = load_task(described())
    assert task.parts("en") == ("{text}: ", "\n")
    assert task.prompt("en", [({"text": "1"}, "x")], {"text": "2"}) == "1: x\n2: "


def test_braces_in_texts_and_template():
    task = load_task(described(template="{{{text}}} {label}}}"))
    assert task.prompt("en", [({"text": "{label}"}, "x")], {"text": "{0}"}) == "{{label}} x}\n{{0}} "


@pytest.mark.parametrize(("changes", "message"), [
    ({"labels": {"de": ["x", "y"]}}, "no English ones"),
    ({"labels": {"en": ["x"]}}, "Give two or more"),
    ({"labels": {"en": ["x", "y"], "de": ["x"]}}, "'de': x. Give 2 texts"),
    ({"labels": {"en": ["x", "y"], "xx": ["x", "y"]}}, "unknown language 'xx'"),
    ({"template": "{text}"}, "{label} must stand there once"),
    ({"template": "{label} {text}"}, "{label} must stand there once"),
    ({"template": "{txt} {label}"}, "unknown fields txt"),
    ({"template": "so: {label}"}, "shows none of the fields"),
    ({"template": "{text {label}"}, "literal braces"),
    ({"shots": "two"}, "shots is 'two'"),
    ({"shot": 2}, "unknown keys: shot"),
    ({"answer": ""}, "missing keys: answer"),
])  # fmt: skip
def test_descriptions_that_cannot_be_used(changes, message):
    with pytest.raises(DataError) as error:
        load_task(described(**changes))
    assert message in str(error.value)


def test_unknown_tasks_and_files(tmp_path):
    with pytest.raises(DataError, match="Known: emotion, paws, snli"):
        load_task("xnli")
    with pytest.raises(DataError, match="cannot read"):
        load_task(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(DataError, match="cannot read"):
        load_task(tmp_path / "bad.yaml")
    with pytest.raises(DataError, match="no labels in 'fr'"):
        load_task(described()).label_texts("fr")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["emotion", "snli"])
def test_labels_are_those_of_the_data(shared_data, name):
    import pandas as pd

    frame = pd.read_parquet(shared_data / f"{name}_20_languages.parquet")
    for language, rows in frame.groupby("language"):
        assert set(rows["answer"]) == set(load_task(name).labels[language])
