"""Functions of one text or value, put to any text: control characters, lone surrogates, overrides of the direction,
code, YAML and Markdown."""

import json
import math

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError, listed, printable
from hf_mlalign.core.validation import clean_text, shown
from hf_mlalign.data.answers.extract import (
    KINDS,
    answer_spans,
    extract_answers,
    find_options,
    last_number,
    parse_number,
)
from hf_mlalign.data.languages import LanguageIdentifier, is_right_to_left, known_code, language_name, normalise
from hf_mlalign.evaluation.judges.prompts import read_verdict
from hf_mlalign.hub.card import markdown_table, metadata_block
from hf_mlalign.hub.run_record import to_json

SETTINGS = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
ODD = [
    "---\nlicense: mit\n---",
    "a: b",
    "- x",
    "!!python/object/apply:os.system ['true']",
    "&a *a",
    "null",
    "yes",
    "1e3",
    "\u202eabc\u202c",
    "\x1b[2J",
    "|",
    "a|b\nc",
    "{{ 1 }}",
    "<script>",
    "\ud800",
    "\0",
    "9" * 5000,
    "1/0",
    "١٢٣",
    "𝟙",
    "Answer: " * 50,
    "\\boxed{" * 50,
    "{" * 200,
    "٪",
    "½",
    "1,000,000.5",
    "A. x\nB. y",
    "\x85",
    "\u2028",
    "~",
    "0x1f",
    "2020-01-01",
    " lead",
    "#c",
    "%TAG",
    "`",
    "'",
    '"',
]
TEXTS = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(), max_size=60), st.text("0123456789.,/ -ABI()\n:=", max_size=40)
)
CODES = st.sampled_from([None, "de", "en", "ar", "hi", "xx", "", "zh-Hans"])


@SETTINGS
@given(text=TEXTS, language=CODES, prompt=st.one_of(st.none(), TEXTS), kind=st.sampled_from(KINDS))
def test_answers(text, language, prompt, kind):
    (found,) = extract_answers([text], [language], [prompt], kind)
    assert found is None or isinstance(found, str)
    assert all(isinstance(n, (str, type(None))) for n in (parse_number(text, language), last_number(text, language)))
    assert isinstance(answer_spans([text])[0], str)
    assert set(find_options(text)) <= set("ABCDEFGHIJ")


@pytest.mark.parametrize(
    "text", ["1" * 10**6, "Answer: " * 10**5, "A. " * 10**5, "\\boxed{" * 10**5, "," * 10**6, "=" * 10**6]
)
def test_answers_of_very_long_texts(text):
    """None takes time that grows faster than the text; a test that hangs is ended by the time limit of CI."""
    for kind in KINDS:
        assert len(extract_answers([text], "en", [text], kind)) == 1


@SETTINGS
@given(text=TEXTS)
def test_languages(text):
    code = normalise(text)
    assert code is None or normalise(code) == code
    assert isinstance(language_name(text), str)
    assert isinstance(is_right_to_left(text), bool)
    if code is None:
        with pytest.raises(DataError, match="here: unknown language") as error:
            known_code(text, "here")
        assert len(str(error.value)) < 400


def test_unknown_language_of_a_megabyte():
    with pytest.raises(DataError, match="row 3: unknown language") as error:
        known_code("x" * 10**6, "row 3")
    assert len(str(error.value)) < 400


@SETTINGS
@given(text=TEXTS)
def test_language_identification(text):
    ((code, probability),) = IDENTIFIER.identify([text])
    assert (code is None) == (probability == 0.0)
    assert 0 <= probability <= 1


IDENTIFIER = LanguageIdentifier(["de", "en", "ar"])


@SETTINGS
@given(text=TEXTS)
def test_texts_for_tokenizers_and_terminals(text):
    assert clean_text(text).encode("utf-8").decode("utf-8") == clean_text(text)
    assert clean_text(clean_text(text)) == clean_text(text)
    assert not set(printable(text)) & set("\x1b\u202e\0\ud800")
    assert len(shown(text)) <= 61
    assert listed([text] * 30).count("more") >= 1


JSON_LIKE = st.recursive(
    st.one_of(
        TEXTS,
        st.integers(),
        st.floats(),
        st.booleans(),
        st.none(),
        st.floats(width=32).map(np.float32),
        st.integers(-9, 9).map(np.int64),
        st.booleans().map(np.bool_),
        st.lists(st.floats(), max_size=3).map(np.array),
        st.just(np.datetime64("2020-01-01")),
        st.just(np.datetime64("NaT")),
        st.binary(max_size=4),
        st.complex_numbers(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@SETTINGS
@given(values=st.dictionaries(st.one_of(TEXTS, st.integers()), JSON_LIKE, max_size=4))
def test_plain_values_are_strict_json(values):
    text = json.dumps(to_json(values), allow_nan=False)
    assert json.loads(text) == to_json(values)
    assert to_json(to_json(values)) == to_json(values)


@SETTINGS
@given(
    metadata=st.dictionaries(
        TEXTS.map(clean_text),
        st.one_of(
            TEXTS.map(clean_text), st.integers(), st.booleans(), st.none(), st.lists(TEXTS.map(clean_text), max_size=3)
        ),
        max_size=4,
    )
)
@example(metadata={"title": "a\n---\nlicense: mit"})
def test_metadata_cannot_be_broken_out_of(metadata):
    block = f"---\n{metadata_block(metadata)}\n---\n"
    marks = [line for line in block.split("\n") if line == "---"]
    assert len(marks) == 2
    assert yaml.safe_load(block.split("---\n", 1)[1].rsplit("---\n", 1)[0]) == metadata or not metadata


@SETTINGS
@given(rows=st.lists(st.tuples(TEXTS, st.floats(), st.integers()), max_size=4))
def test_markdown_tables_keep_their_shape(rows):
    table = markdown_table([dict(zip("abc", row)) for row in rows], {"a": "A", "b": "B", "c": "C"})
    lines = table.splitlines()
    assert len(lines) == len(rows) + 2
    assert all(line.replace("\\|", "").count("|") == 4 for line in lines)


@SETTINGS
@given(reply=st.one_of(TEXTS, st.tuples(TEXTS, TEXTS).map(lambda t: f'{t[0]}{{"code": "{CODE}", "verdict": {t[1]}}}')))
def test_verdicts(reply):
    grade, why = read_verdict(reply, CODE)
    assert (grade in range(1, 6)) != bool(why)


CODE = "0123456789abcdef"


@pytest.mark.parametrize("reply", ["{" * 20000, '{"code":' * 20000, "[" * 10**5 + CODE, "<think>" * 10**5])
def test_verdicts_of_bombs(reply):
    assert read_verdict(reply, CODE)[0] is None


def test_plain_of_deep_nesting():
    deep: list = []
    for _ in range(200):
        deep = [deep]
    assert to_json({"a": deep})
    assert to_json({"a": math.inf}) == {"a": None}
