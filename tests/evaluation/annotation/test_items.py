"""Reading the pairs that people judge, and what is wrong with them, before a server starts."""

import pytest
from datasets import Dataset

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.annotation.items import digest, prompt_turns, read_items, turns_digest

ROWS = {"prompt_id": [7, 8], "language": ["German", "ar"], "prompt": ["Was?", "ماذا؟"], "candidate": ["A", "ب"],
        "baseline": ["B", ""]}  # fmt: skip


def pairs(**changes):
    columns = {**ROWS, **changes}
    return Dataset.from_dict({name: values for name, values in columns.items() if values is not None})


def test_a_plain_table():
    first, second = read_items(pairs())
    assert (first.prompt_id, first.language, first.turns) == ("7", "de", (("user", "Was?"),))
    assert (first.candidate, first.baseline, second.baseline) == ("A", "B", "")
    assert first.key != second.key


@pytest.mark.parametrize(("candidate", "baseline"), [("response_a", "response_b"), ("answer_a", "answer_b"),
                                                     ("chosen", "rejected")])  # fmt: skip
def test_known_answer_columns(candidate, baseline):
    item = read_items(pairs().rename_columns({"candidate": candidate, "baseline": baseline}))[0]
    assert (item.candidate, item.baseline) == ("A", "B")


def test_messages_and_missing_ids():
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"},
             {"role": "user", "content": "He?"}]  # fmt: skip
    ds = pairs(prompt_id=None, prompt=[turns, turns], candidate=[[{"role": "assistant", "content": "x"}]] * 2,
               baseline=[[{"role": "assistant", "content": "y"}]] * 2)  # fmt: skip
    german, arabic = read_items(ds)
    assert german.turns == (("user", "Hi"), ("assistant", "Ho"), ("user", "He?"))
    assert (german.candidate, german.baseline) == ("x", "y")
    assert german.prompt_id == arabic.prompt_id == turns_digest(german.turns)


def test_repeated_rows_are_shown_once():
    ds = pairs()
    assert len(read_items(ds.select([0, 1, 0]))) == 2


def test_mapping_and_one_language():
    ds = pairs(language=None).rename_columns({"prompt": "q", "candidate": "tuned", "baseline": "raw"})
    items = read_items(ds, {"q": "prompt", "tuned": "candidate", "raw": "baseline"}, "sw")
    assert [item.language for item in items] == ["sw", "sw"]
    assert items[0].candidate == "A"


@pytest.mark.parametrize(
    ("changes", "mapping", "message"),
    [
        ({"prompt": ["ok", "  "]}, None, "Column 'prompt', row 1: the prompt is missing or blank"),
        ({"candidate": ["ok", None]}, None, "Column 'candidate', row 1: the answer is missing"),
        ({"baseline": [1, 2]}, None, "Column 'baseline', row 0: expected a text or a list of messages, found 1"),
        ({"language": ["de", "xx-klingon"]}, None, "Column 'language', row 1: unknown language"),
        ({"prompt_id": ["p", None]}, None, "Column 'prompt_id', row 1: missing"),
        ({"language": None}, None, "--language de"),
        ({"prompt": None}, None, "No column for prompt"),
        ({"baseline": None}, None, "No column for baseline"),
        ({"chosen": ["x", "y"], "rejected": ["x", "y"]}, None, "several pairs of answers"),
        ({}, {"candidate": "winner"}, "unknown roles: winner"),
        ({}, {"prompt": "candidate"}, "No column for prompt"),
        ({"prompt": [[{"role": "user", "content": None}]] * 2}, None, "row 0: expected a text or role/content"),
    ],
)
def test_what_cannot_be_used(changes, mapping, message):
    with pytest.raises(DataError, match=message):
        read_items(pairs(**changes), mapping)


def test_no_rows():
    with pytest.raises(DataError, match="The dataset is empty"):
        read_items(pairs().select([]))


def test_digests_keep_parts_apart():
    assert digest("ab", "c") != digest("a", "bc")
    assert turns_digest(prompt_turns("x", "p")) == turns_digest(
        prompt_turns([{"from": "human", "value": "x"}], "p")
    )
