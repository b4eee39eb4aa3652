"""Requests: messages, instructions, seeds, and what is read from a prompt set."""


import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import MDAQ_LANGUAGES, SPONTANEOUS_LANGUAGES
from hf_mlalign.generation.requests import (
    language_instruction,
    read_prompts,
    request_seed,
    to_messages,
)
from tests.generation.canned import PROMPTS, prompts


def test_messages_carry_system_prompt_and_language_instruction():
    assert to_messages("Wie?", "de", "Be short.") == (
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Wie?\n\nAntworte auf Deutsch."},
    )
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]
    assert [t["content"] for t in to_messages(turns, "ja")] == ["1", "2", "3\n\n日本語で答えてください。"]
    assert turns[-1]["content"] == "3"
    assert to_messages("x", "de", answer_in_language=False) == ({"role": "user", "content": "x"},)


def test_every_language_of_the_papers_has_its_own_instruction():
    texts = {code: language_instruction(code) for code in {*MDAQ_LANGUAGES, *SPONTANEOUS_LANGUAGES, "zh", "it", "id"}}
    assert len(texts) >= 18
    assert len(set(texts.values())) == len(texts)
    assert [code for code, text in texts.items() if text.startswith("Answer in")] == ["en"]
    assert language_instruction("yo") == "Answer in Yoruba."


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3), st.sampled_from("ab"), st.integers(0, 9)), unique=True)
)
def test_seeds_depend_on_their_request_alone(keys):
    seeds = {key: request_seed(*key) for key in keys}
    assert all(0 <= s < 2**31 for s in seeds.values())
    assert seeds == {key: request_seed(*key) for key in reversed(keys)}
    assert len(set(seeds.values())) == len(keys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": ["x", None, "y", "z"]}, "'prompt', row 1"),
        ({"prompt": ["x", "y", " ", "z"]}, "'prompt', row 2"),
        ({"language": ["en", "de", "en", "qqq"]}, "'language', row 3: unknown language 'qqq'"),
        ({"prompt_id": ["a", "a", "b", None]}, "'prompt_id', row 3"),
        ({"language": ["en", "de", "en", "en"]}, "row 3: prompt 'b' in 'en' is already in row 2"),
    ],
)
def test_bad_prompts_are_named(changes, message):
    with pytest.raises(DataError, match=message):
        read_prompts(prompts(**changes))


def test_missing_columns_and_bad_last_turn():
    message = "No column for id. Columns found: language, prompt. .*The same prompt needs the same id"
    with pytest.raises(DataError, match=message):
        read_prompts(prompts().remove_columns("prompt_id"))
    table = read_prompts(prompts().rename_column("prompt_id", "q"), {"q": "prompt_id"})
    assert table.ids == PROMPTS["prompt_id"]
    assert table.languages == ["en", "de", "en", "de"]
    turns = [{"role": "assistant", "content": "x"}]
    with pytest.raises(DataError, match="the last message must be the user's"):
        read_prompts(Dataset.from_list([{"prompt_id": 1, "language": "en", "prompt": turns}]))
    with pytest.raises(DataError, match="Expected a datasets.Dataset, got dict"):
        read_prompts({"train": prompts()})
