"""Codes, names and identification."""

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


def test_unknown_codes_are_named_with_row_and_neighbour():
    with pytest.raises(DataError, match=r"Column 'lang', row 1: unknown language 'germn' \(did you mean 'german'"):
        check_languages(["de", "germn"], "Column 'lang'")
    with pytest.raises(DataError, match="row 0: unknown language None"):
        check_languages([None])


def test_names_and_directions():
    assert language_name("sw") == "Swahili"
    assert language_name("de", "de") == "Deutsch"
    assert language_name("ja", "ja") == "日本語"
    assert [is_right_to_left(code) for code in ("ar", "he", "en", "tl", "tlh")] == [True, True, False, False, False]


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
    with pytest.raises(DataError, match="no language identification for tlh"):
        LanguageIdentifier(["de", "tlh"])


@pytest.mark.real_data
def test_identification_on_real_responses(shared_data):
    import pandas as pd

    rows = pd.read_parquet(shared_data / "expert_revisions.parquet", columns=["language", "revised_response"])
    rows = rows[rows["revised_response"].str.len().between(60, 2000) & ~rows["language"].isin(["ms"])].iloc[::40]
    found = [code for code, _ in LanguageIdentifier().identify(rows["revised_response"])]
    right = rows["language"].to_numpy() == found
    assert right.mean() > 0.95
