"""Task descriptions: the three that ship, and what a YAML file may and may not say."""

import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import SPONTANEOUS_LANGUAGES
from hf_mlalign.spontaneous.classification.tasks import load_task, task_names

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
    ({"template": "{text}"}, "{label} must occur once"),
    ({"template": "{label} {text}"}, "{label} must occur once"),
    ({"template": "{txt} {label}"}, "unknown fields txt"),
    ({"template": "so: {label}"}, "shows none of the fields"),
    ({"template": "{text {label}"}, "literal braces"),
    ({"shots": "two"}, "shots is 'two'"),
    ({"shot": 2}, "unknown keys: shot"),
    ({"answer": ""}, "missing keys: answer"),
    ({"shots": "²"}, "shots is '²'"),
    ({"name": 3}, "name: 3 is not a text"),
    ({"labels": ["a", "b"]}, "labels: ['a', 'b'] is not a mapping"),
    ({"labels": {"en": ["x", "y"], "de": "ab"}}, "labels, 'de': 'ab' is not a list"),
    ({"labels": {"en": [["a"], "b"]}}, "labels, 'en': ['a'] is not a text"),
    ({"labels": {"en": None}}, "labels, 'en': None is not a list"),
    ({"labels": {"en": ["x", " "]}}, "labels, 'en': ' ' is not a text"),
    ({"labels": {"en": ["x", "y"], "English": ["z", "w"]}}, "labels: 'English' is another key for 'en'"),
    ({"template": ["{text}: {label}"]}, "template: ['{text}: {label}'] is not a mapping"),
    ({"template": {"en": ["{text}: {label}"]}}, "template, 'en': ['{text}: {label}'] is not a text"),
    ({"template": {"*": "{text}: {label}", "de": "{text}: {label}", "German": "x"}}, "another key for 'de'"),
    ({"template": "{text:d} {label}"}, "'text' has a format or conversion. Write {text} alone"),
    ({"template": "{text!r} {label}"}, "'text' has a format or conversion"),
    ({"fields": 5}, "fields: 5 is not a list"),
    ({"fields": {"text": "x"}}, "fields: {'text': 'x'} is not a list"),
    ({"fields": [1]}, "fields: 1 is not a text"),
    ({"fields": ["text", "text"]}, "fields: text, text. Give different names"),
    ({"fields": ["text", "label"]}, "fields: label. Give different names, none of them 'label'"),
    ({"fields": ["0"], "template": "{0} {label}"}, "fields: 0. Give different names"),
    ({"answer": "text"}, "answer: 'text' is a field too"),
    ({"answer": ["a"]}, "answer: ['a'] is not a text"),
    ({"separator": 1}, "separator: 1 is not a text"),
    ({"codes": "01"}, "codes is '01'; give a list"),
    ({"codes": [0, "one"]}, "give a list of whole numbers"),
    ({"codes": [0]}, "codes: 0. Give 2 different numbers"),
    ({"codes": [1, 1]}, "codes: 1, 1. Give 2 different numbers"),
])  # fmt: skip
def test_descriptions_that_cannot_be_used(changes, message):
    with pytest.raises(DataError) as error:
        load_task(described(**changes))
    assert message in str(error.value)


def test_codes():
    assert load_task(described()).codes is None
    assert load_task(described(codes=["-1", "2"])).codes == (-1, 2)
    assert load_task("paws").codes == (1, 0)
    assert load_task(load_task("paws").describe()) == load_task("paws")


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
