"""Final answers: letters, numbers of many scripts, boxes, languages."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.answers.extract import (
    answer_codes,
    answer_spans,
    decimal_sign,
    extract_answers,
    find_options,
    parse_number,
)

MARKED = [
    ("en", "Explanation: because.\nAnswer: B. national park", "B"),
    ("en", "**Answer:** (C)", "C"),
    ("en", "The correct answer is **D**.", "D"),
    ("de", "Erklärung: …\nAntwort: A", "A"),
    ("es", "Respuesta: B) parque", "B"),
    ("fr", "Réponse : C. désert", "C"),
    ("it", "Risposta: D.", "D"),
    ("pt", "Resposta: E", "E"),
    ("nl", "Antwoord: B.", "B"),
    ("pl", "Odpowiedź: C", "C"),
    ("tr", "Cevap: D", "D"),
    ("ru", "Ответ: B.", "B"),
    ("el", "Απάντηση: B.", "B"),
    ("ar", "الإجابة: B.", "B"),
    ("hi", "उत्तर: C.", "C"),
    ("bn", "উত্তর: D", "D"),
    ("th", "คำตอบ: A", "A"),
    ("vi", "Đáp án: B", "B"),
    ("ms", "Jawapan: C", "C"),
    ("id", "Jawaban: C", "C"),
    ("tl", "Sagot: D", "D"),
    ("sw", "Jibu: A", "A"),
    ("ja", "説明：…\n答え：B", "B"),
    ("ja", "答えはCです。", None),
    ("zh", "正确答案是D。", "D"),
    ("zh", "答案：A、", "A"),
    ("ko", "정답: B", "B"),
    ("cs", "Odpověď: A", "A"),
]


@pytest.mark.parametrize(("language", "text", "expected"), MARKED)
def test_marked_letters(language, text, expected):
    assert extract_answers([text], language) == [expected]


def test_letters_between_other_letters_need_the_question():
    question = "どれですか。\nA. 一\nB. 二\nC. 三"
    assert extract_answers(["答えはCです。"], "ja", [question]) == ["C"]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Answer: 540 meters", "540"),
        ("en", "Answer: 3 × 60 = 180", "180"),
        ("en", "The answer is $1,234.50.", "2469/2"),
        ("de", "Antwort: 1.234,5 km", "2469/2"),
        ("de", "Antwort: 5.600", "5600"),
        ("fr", "Réponse : 12 345 €", "12345"),
        ("hi", "उत्तर: १२३", "123"),
        ("ar", "الإجابة: ١٬٢٣٤٫٥", "2469/2"),
        ("fa", "پاسخ: ۴۲", "42"),
        ("bn", "উত্তর: ৫৪০", "540"),
        ("th", "คำตอบ: ๗๒", "72"),
        ("te", "సమాధానం: ౫౪", "54"),
        ("ja", "答え：１８０メートル", "180"),
        ("zh", "答案是 42。", "42"),
        ("ko", "정답: 7개", "7"),
        ("en", "so \\boxed{\\frac{3}{4}}", "3/4"),
        ("en", "Therefore \\boxed{\\text{B}}", "B"),
        ("en", "reasoning\n#### 1,000", "1000"),
        ("en", "Answer: -7", "-7"),
        ("en", "−7", "-7"),
    ],
)
def test_marked_numbers(language, text, expected):
    assert extract_answers([text], language) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "I have 3 cats and 4 dogs, and they are all very friendly.",
        "",
        None,
        "Answer: I think so.",
        "A cat sat.",
        "None",
    ],
)
def test_no_answer(text):
    assert extract_answers([text], "en") == [None]


def test_number_kind_takes_the_last_number():
    assert extract_answers(["He runs 3 × 60 = 180 meters, 540 in a week."], "en", kind="number") == ["540"]
    assert extract_answers(["no number at all"], "en", kind="number") == [None]


def test_options_of_the_question():
    question = "Where?\nA. park\nB. national park\nC. desert"
    assert find_options(question) == {"A": "park", "B": "national park", "C": "desert"}
    answers = extract_answers(
        ["Answer: national park", "C", "It is (B), surely.", "Answer: D", "Answer: none of these"], "en", [question] * 5
    )
    assert answers == ["B", "C", "B", None, None]


def test_options_in_other_scripts():
    russian = "Где?\nА) парк\nБ) лес\nВ) город"
    assert find_options(russian) == {"A": "парк", "B": "лес", "C": "город"}
    assert extract_answers(["Ответ: В"], "ru", [russian]) == ["C"]
    latin = "Где?\nA. парк\nB. лес\nC. город"
    assert extract_answers(["Ответ: В."], "ru", [latin]) == ["B"]  # a Cyrillic letter that looks like a B
    thai = "ที่ไหน\nก. สวน\nข. ป่า\nค. เมือง"
    assert extract_answers(["คำตอบ: ข."], "th", [thai]) == ["B"]
    arabic = "أين؟\nأ. حديقة\nب. غابة\nج. مدينة"
    assert extract_answers(["الإجابة: ج."], "ar", [arabic]) == ["C"]


def test_few_shot_questions_use_the_last_list():
    question = "Q1\nA. x\nB. y\nAnswer: A\n\nQ2\nA. one\nB. two\nC. three"
    assert find_options(question) == {"A": "one", "B": "two", "C": "three"}


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("1,234,567", None, "1234567"),
        ("1.234.567,8", "de", "6172839/5"),
        ("0.125", None, "1/8"),
        ("3.142", "en", "1571/500"),
        ("12,5", "de", "25/2"),
        ("1,23,456", "hi", "123456"),
        ("1'000", "de", "1000"),
        ("6/8", None, "3/4"),
        ("1/0", None, None),
        ("none", None, None),
        ("9" * 5000, None, None),
    ],
)
def test_parse_number(text, language, expected):
    assert parse_number(text, language) == expected


@given(st.integers(-(10**9), 10**9), st.sampled_from("0٠०๐০０۰"))
def test_integers_in_any_digits(value, zero):
    digits = {str(d): chr(ord(zero) + d) for d in range(10)}
    text = "".join(digits.get(c, c) for c in str(value))
    assert parse_number(text) == str(value)


@given(st.text())
def test_any_text_is_read_without_errors(text):
    answer = extract_answers([text], "en")[0]
    assert answer is None or isinstance(answer, str)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{1{,}234}", "1234"),
        ("so \\boxed{10^6}", None),
        ("Answer: \\boxed{2\\sqrt{3}}", None),
        ("\\boxed{1\\frac{1}{2}}", None),
        ("\\boxed{90^\\circ}", "90"),
        ("\\boxed{12\\text{ cm}^2}", "12"),
        ("#### 3 ways\nto cook it", None),
        ("#### 1. Introduction\nLong text.\n#### 42\n", "42"),
    ],
)
def test_boxes_and_last_lines(text, expected):
    assert extract_answers([text], "en") == [expected]


def test_formulas_give_no_number_of_the_kind_number_either():
    assert extract_answers(["\\boxed{10^6}"], "en", kind="number") == [None]


def test_lower_case_labels_of_listed_options():
    question = "Where?\nA. park\nB. national park\nC. desert"
    texts = ["Answer: b", "The answer is (c).", "\\boxed{a}", "Answer: a desert", "Answer: e.g. this"]
    assert extract_answers(texts, "en", [question] * 5) == ["B", "C", "A", "C", None]
    assert extract_answers(["Answer: b"], "en") == [None]


def test_codes_and_spans():
    assert answer_codes(["A", None, "B", "A"]).tolist() == [0, -1, 1, 0]
    assert answer_spans(["Because.\nAnswer: B. park\nbye", "the answer was long", None]) == ["B. park", "", ""]


def test_bad_arguments():
    with pytest.raises(DataError, match="kind"):
        extract_answers(["x"], kind="letters")
    with pytest.raises(DataError, match="2 and 1 entries for 1 texts"):
        extract_answers(["x"], ["en", "de"])


@pytest.mark.real_data
def test_xcsqa_answers_are_found(shared_data):
    table = pd.read_parquet(shared_data / "xcsqa_samples.parquet").iloc[::7]
    rows = table.explode("samples")
    found = extract_answers(
        rows.samples.tolist(), rows.language.tolist(), (rows.instruction + "\n" + rows.input).tolist()
    )
    assert np.mean([a is not None for a in found]) > 0.97
    assert set(found) <= {*"ABCDE", None}


@pytest.mark.real_data
def test_mgsm_gold_numbers_are_read(shared_data):
    table = pd.read_parquet(shared_data / "mgsm.parquet")
    found = extract_answers(table.response.tolist(), table.language.tolist())
    assert found == [gold.replace(",", "") for gold in table.response]


def test_decimal_signs_are_those_of_cldr():
    babel = pytest.importorskip("babel")
    for code in sorted(code for code in babel.Locale("en").languages if code.isalpha()):
        try:
            sign = babel.Locale.parse("fil" if code == "tl" else code).number_symbols["latn"]["decimal"]
        except (babel.UnknownLocaleError, ValueError, KeyError):
            sign = "."
        assert (decimal_sign(code) == ".") == (sign == "."), code
    assert [decimal_sign(code) for code in ("de", "en", "fr", "ja", None, "xx")] == [",", ".", ",", ".", ".", "."]
