"""Codes, names and identification."""

from itertools import product
from string import ascii_lowercase

import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import (
    MDAQ_LANGUAGES,
    SPONTANEOUS_LANGUAGES,
    LanguageIdentifier,
    check_languages,
    is_right_to_left,
    language_name,
    normalise,
    usual_script,
)


def test_paper_lists():
    assert len(set(MDAQ_LANGUAGES)) == 18
    assert len(set(SPONTANEOUS_LANGUAGES)) == 20
    assert check_languages([*MDAQ_LANGUAGES, *SPONTANEOUS_LANGUAGES]) == [*MDAQ_LANGUAGES, *SPONTANEOUS_LANGUAGES]


@pytest.mark.parametrize(
    ("given", "code"),
    [("de", "de"), ("DEU", "de"), ("pt-BR", "pt"), ("zh_Hans", "zh"), ("Swahili", "sw"), ("swh", "sw"), ("fil", "tl"),
     ("tgl", "tl"), ("nb", "no"), ("zsm", "ms"), ("ell", "el"), ("cmn", "zh"), ("klingon", "tlh"), ("xx", None),
     ("und", None), ("mul", None), ("", None)],
)  # fmt: skip
def test_normalise(given, code):
    assert normalise(given) == code


@pytest.mark.parametrize(
    ("given", "code"),
    [("ga", "ga"), ("kom", "kv"), ("ajp", "ajp"), ("apc_Arab", "apc"), ("quy_Latn", "quy"), ("prs_Arab", "prs"),
     ("arz_Arab", "arz"), ("zho_Hant", "zh"), ("arb_Arab", "ar"), ("knc", "kr"), ("twi_Latn", "tw"), ("fat", "fat"),
     ("hbs", "sh"), ("zh-yue", "yue"), ("en_US.UTF-8", "en"), ("ca-ES-valencia", "ca"), ("en-uk", "en"), ("iw", "he"),
     ("nno_Latn", "no"), ("tgl_Latn", "tl"), ("nan", "nan"), ("NO", "no"), ("qaa", None), ("zxx", None)],
)  # fmt: skip
def test_codes_come_before_names(given, code):
    assert normalise(given) == code


@pytest.mark.parametrize(
    ("given", "code"),
    [("Türkçe", "tr"), ("Deutsch", "de"), ("中文", "zh"), ("日本語", "ja"), ("العربية", "ar"), ("हिन्दी", "hi"),
     ("Kiswahili", "sw"), ("ไทย", "th"), ("Chinese (Simplified)", "zh"), ("Brazilian Portuguese", "pt"),
     ("Bangla", "bn"), ("Farsi", "fa"), ("Central Kanuri", "kr"), ("Irish", "ga"), ("Old-English", "ang"),
     ("Norsk bokmål", "no"), ("Filipino", "tl"), ("Toki Pona", "tok"), ("Yorùbá", "yo"), ("Yoru\u0300ba\u0301", "yo"),
     ("English (US)", "en"), ("Nepali (individual language)", "ne"), ("HINDI", "hi"),
     ("português brasileiro", "pt"), ("Chinese, Simplified", "zh"), ("Bahasa Melayu", "ms"), ("Ojibwa", "oj"),
     ("Frenchy", None), ("French cooking", None), ("Germany", None), ("klingonish", None), ("README", None),
     ("a", None), ("null", None),
     ("de\0", None), ("\ud800", None)],
)  # fmt: skip
def test_names_in_english_and_in_the_language_itself(given, code):
    assert normalise(given) == code


def test_every_code_is_read_once_and_for_all():
    """No code of two or three letters becomes another one when it is read a second time."""
    codes = ["".join(letters) for n in (2, 3) for letters in product(ascii_lowercase, repeat=n)]
    read = {code: normalise(code) for code in codes}
    known = {code for code in read.values() if code}
    assert len(known) > 8000
    assert {code: normalise(code) for code in known} == {code: code for code in known}
    two_letters = "de en fr es ga kv sh tw ak no tl zh ar fa"
    assert [read[code] for code in two_letters.split()] == two_letters.split()


def test_unknown_codes_are_named_with_row_and_neighbour():
    with pytest.raises(DataError, match=r"Column 'lang', row 1: unknown language 'germn' \(did you mean 'german'"):
        check_languages(["de", "germn"], "Column 'lang'")
    with pytest.raises(DataError, match="row 0: unknown language None"):
        check_languages([None])


def test_names_and_directions():
    assert language_name("sw") == "Swahili"
    two_letters = {normalise(a + b) for a in ascii_lowercase for b in ascii_lowercase} - {None}
    assert {code: normalise(language_name(code)) for code in two_letters} == {code: code for code in two_letters}
    assert language_name("de", "de") == "Deutsch"
    assert language_name("ja", "ja") == "日本語"
    assert [language_name(code, code) for code in ("id", "ms", "tl")] == ["Indonesia", "Melayu", "Filipino"]
    names = {"sh": "Serbo-Croatian", "prs": "Dari", "xx": "xx", "pt-BR": "Portuguese"}
    assert {code: language_name(code) for code in names} == names
    assert language_name("de", "no such language") == "German"
    assert [usual_script(code) for code in ("no", "zh", "sr", "ar", "xx")] == ["Latn", "Hans", "Cyrl", "Arab", ""]
    right_to_left = ("ar", "he", "arz", "ary", "azb", "pnb", "prs", "dv", "yi", "fa", "ur")
    assert all(map(is_right_to_left, right_to_left))
    assert not any(map(is_right_to_left, ("en", "tl", "tlh", "de", "xx")))


def test_identification():
    identifier = LanguageIdentifier()
    texts = [
        "Wie spät ist es gerade in Berlin?",
        "どうもありがとうございます",
        None,
        "  ",
        "12345",
        "Ninapenda kusoma vitabu vizuri sana",
    ]
    assert [code for code, _ in identifier.identify(texts)] == ["de", "ja", None, None, None, "sw"]
    assert all(0 <= p <= 1 for _, p in identifier.identify(texts))
    with pytest.raises(DataError, match="tlh cannot be identified"):
        LanguageIdentifier(["de", "tlh"])


@pytest.mark.real_data
def test_identification_on_real_responses(shared_data):
    import pandas as pd

    rows = pd.read_parquet(shared_data / "expert_revisions.parquet", columns=["language", "revised_response"])
    rows = rows[rows["revised_response"].str.len().between(60, 2000) & ~rows["language"].isin(["ms"])].iloc[::40]
    found = [code for code, _ in LanguageIdentifier().identify(rows["revised_response"])]
    right = rows["language"].to_numpy() == found
    assert right.mean() > 0.95
