"""Layouts are recognised, mapped, read, and refused with a message that says what to do."""

import pytest
from datasets import Features, List, Value
from hypothesis import given
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import clean_text
from hf_mlalign.data.layouts import check_text_columns, recognise_layout

CONVERSATION = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    ("columns", "layout"),
    [
        (["instruction", "input", "output", "id"], "alpaca"),
        (["instruction", "output"], "instruction/output"),
        (["instruction", "response"], "instruction/response"),
        (["prompt", "completion"], "prompt/completion"),
        (["prompt", "response", "language"], "prompt/response"),
        (["inputs", "targets", "language"], "aya"),
        (["messages", "prompt_id", "prompt"], "messages"),
        (["conversations"], "conversations"),
    ],
)
def test_known_layouts(columns, layout):
    assert recognise_layout(columns).layout == layout


def test_alpaca_appends_the_input():
    schema = recognise_layout(["instruction", "input", "output", "language"])
    batch = {"instruction": ["Add", "Say"], "input": ["1 and 2", " "], "output": ["3", None]}
    assert schema.read(batch) == (["Add\n\n1 and 2", "Say"], ["3", None])
    assert schema.language == "language"


def test_conversational_columns():
    schema = recognise_layout(["prompt", "completion"])
    batch = {"prompt": [CONVERSATION[:1]], "completion": [CONVERSATION[1:]]}
    assert schema.read(batch) == (["Hi"], ["Hello"])


def test_messages_keep_the_context_before_the_last_answer():
    turns = [*CONVERSATION, {"role": "user", "content": "More"}, {"role": "assistant", "content": "Sure"}]
    schema = recognise_layout(["messages"])
    assert schema.read({"messages": [turns, CONVERSATION[:1], None, []]}) == (
        ["Hi\n\nHello\n\nMore", "Hi", None, None],
        ["Sure", None, None, None],
    )


def test_sharegpt_names():
    schema = recognise_layout(["conversations"])
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    assert schema.read_row({"conversations": turns}) == ("Q", "A")


def test_mapping_wins_and_may_name_only_the_language():
    schema = recognise_layout(["question", "answer", "lang"], {"question": "instruction", "answer": "response"})
    assert (schema.instruction, schema.response, schema.language) == ("question", "answer", "lang")
    schema = recognise_layout(["prompt", "response", "tongue"], {"tongue": "language"})
    assert (schema.instruction, schema.language) == ("prompt", "tongue")
    assert recognise_layout(["a", "b"], {"a": "instruction", "b": "response"}).mapping == {
        "a": "instruction",
        "b": "response",
    }


@pytest.mark.parametrize(
    ("columns", "mapping", "message"),
    [
        (["text", "label"], None, r"columns found: text, label\..*column_mapping"),
        (["prompt", "response", "completion"], None, "fit several layouts: prompt/completion, prompt/response"),
        (["a"], {"b": "instruction"}, "missing columns: b. Columns found: a"),
        (["a", "b"], {"a": "question", "b": "response"}, "unknown roles: question. Roles: instruction"),
        (["a", "b"], {"a": "response", "b": "response"}, "maps a, b to the role 'response'. Keep one"),
    ],
)
def test_what_cannot_be_recognised_is_explained(columns, mapping, message):
    with pytest.raises(DataError, match=message):
        recognise_layout(columns, mapping)


def test_wrong_values_name_column_and_row():
    schema = recognise_layout(["prompt", "response"])
    with pytest.raises(DataError, match="Column 'response', row 11: expected text, found int"):
        schema.read({"prompt": ["a", "b"], "response": ["x", 3]}, indices=[10, 11])
    with pytest.raises(DataError, match="Column 'messages', row 0: each message needs role and content"):
        recognise_layout(["messages"]).read({"messages": [[{"text": "x"}]]})
    with pytest.raises(DataError, match="Column 'messages', row 0: expected a list of messages, found str"):
        recognise_layout(["messages"]).read({"messages": ["x"]})


def test_column_types_are_checked_before_any_work():
    schema = recognise_layout(["prompt", "response"])
    with pytest.raises(DataError, match="'response' holds int64 from row 0 on"):
        check_text_columns(["prompt", "response"], {"prompt": Value("string"), "response": Value("int64")}, schema)
    turns = List({"role": Value("string"), "content": Value("string")})
    check_text_columns(["prompt", "response"], Features({"prompt": turns, "response": Value("large_string")}), schema)
    with pytest.raises(DataError, match="Columns not found: response"):
        check_text_columns(["prompt"], None, schema)


@given(st.text(alphabet=st.characters(), max_size=40))
def test_clean_text_is_always_encodable_and_keeps_good_text(text):
    cleaned = clean_text(text)
    cleaned.encode("utf-8")
    if not any("\ud800" <= ch <= "\udfff" for ch in text):
        assert cleaned == text


def test_clean_text_replaces_lone_surrogates_only():
    assert clean_text("a\ud800b\ud83d\ude00") == "a\ufffdb😀"


def test_input_counts_in_every_instruction_layout():
    from hf_mlalign import mdaq_score

    assert recognise_layout(["instruction", "input", "response", "revision"]).input == "input"
    batch = {
        "instruction": ["Summarise."] * 2,
        "input": ["Cats sleep.", "Quantum field theory"],
        "response": ["A text."] * 2,
    }
    one, other = mdaq_score(batch)["quality_score"]
    assert one != other


def test_a_column_of_nulls_is_no_obstacle():
    from datasets import Dataset

    from hf_mlalign.data.layouts import readable

    ds = Dataset.from_dict({"instruction": ["a"], "input": [None], "output": ["b"]})
    ds = ds.cast_column("input", Value("float64"))
    schema = recognise_layout(ds.column_names)
    assert schema.read(readable(ds, schema)[:]) == (["a"], ["b"])
