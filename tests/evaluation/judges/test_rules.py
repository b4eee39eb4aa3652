"""Judges that score: similarity, length, language, and scores of your own."""


import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.evaluation.judges.base import (
    load_judge,
)
from hf_mlalign.evaluation.judges.rules import LanguageJudge, LengthJudge, ScoreJudge, SimilarityJudge


class Vowels(ScoreJudge):
    """1 a vowel; NaN for answers that contain "?"."""

    name = "vowels"

    def __init__(self, **options):
        super().__init__(**options)
        self.scored = []

    def scores(self, prompts, answers, languages, references):
        self.scored += answers
        why = ["unreadable" if "?" in answer else "" for answer in answers]
        return np.array([np.nan if "?" in x else sum(c in "aeiou" for c in x) for x in answers], float), why


def test_preferences_from_scores_by_hand():
    judge = Vowels(scale=2.0)
    found = judge.compare(["q"] * 5, ["aa", "b", "x?", "", "same"], ["b", "ae", "a", "a", "same"])
    expected = [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), np.nan, 0.0, 0.5]
    np.testing.assert_allclose(found.preferences, expected)
    np.testing.assert_array_equal(found.predictions, found.swapped_predictions)
    assert found.reasons == ["", "", "candidate: unreadable", "", ""]
    assert sorted(judge.scored) == ["a", "aa", "ae", "b", "x?"]  # each once; settled ones never
    hard = Vowels(hard=True, tie_margin=1.0)
    assert hard(["q"] * 3, ["aaa", "a", "b"], ["b", "b", "eee"]).tolist() == [1.0, 0.5, 0.0]
    assert Vowels(scale=1e-9)(["q"], ["a"], ["b"]).tolist() == [1.0]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), min_size=1, max_size=6))
def test_scores_do_not_look_at_the_order(pairs):
    a, b = map(list, zip(*pairs, strict=True))
    for judge in (LengthJudge(), Vowels(), LengthJudge(hard=True)):
        np.testing.assert_allclose(judge(["q"] * len(a), a, b), 1 - judge(["q"] * len(a), b, a))


def test_length_by_hand():
    assert LengthJudge()(["q"], ["abc"], ["a"]).tolist() == pytest.approx([4 / (4 + 2)])  # σ(ln 4 − ln 2)


def test_similarity_by_hand(counting_encoder):
    """Vectors (length, a's, e's, 1): the prompt "aa" is (2, 2, 0, 1), of length 3."""
    judge = SimilarityJudge(counting_encoder, scale=1.0)
    near, far = (3 * 2 + 2 * 2 + 1) / (3 * 14**0.5), (3 * 2 + 1) / (3 * 14**0.5)  # of (3, 2, 0, 1) and (3, 0, 2, 1)
    assert judge(["aa"], ["aab"], ["bee"]) == pytest.approx(1 / (1 + np.exp(far - near)))
    assert judge(["aa"], [" AA "], ["bee"]) == pytest.approx(1 / (1 + np.exp(far + 1)))  # an echo counts as blank: −1
    told = SimilarityJudge(counting_encoder, {"aa": "bee"})
    assert told(["aa"], ["aab"], ["bee"])[0] < 0.5 < judge(["aa"], ["aab"], ["bee"])[0]
    assert told(["aa"], ["aab"], ["bee"], references=["aab"])[0] > 0.5


def test_similarity_offline_stays_on_the_subject():
    judge = SimilarityJudge()
    prompts = ["Wie koche ich Reis?", "What is the capital of France?"]
    good = ["Reis mit der doppelten Menge Wasser kochen.", "The capital of France is Paris."]
    bad = ["Mein Auto ist rot.", "Bananas grow in bunches."]
    assert (judge(prompts, good, bad) > 0.5).all()
    assert (judge(prompts, bad, good) < 0.5).all()


def test_language_judge():
    judge = LanguageJudge()
    german, english = "Das ist ein ganz gewöhnlicher deutscher Satz.", "This is a perfectly ordinary English sentence."
    found = judge.compare(["q"] * 4, [german, english, german, german], [english, german, german + " Ja.", english],
                          languages=["de", "de", "de", None])  # fmt: skip
    np.testing.assert_array_equal(found.preferences, [1, 0, 0.5, np.nan])
    assert "language of the prompt is not given" in found.reasons[3]
    assert judge.unaided()(["q"] * 2, ["", english], [english, ""], ["de", "de"]).tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.real_data
def test_what_the_offline_judges_see_in_expert_revisions(shared_data):
    """The figures of docs/judges.md: how often the revised answer is preferred to the raw one."""
    import pandas as pd

    table = pd.read_parquet(shared_data / "expert_revisions.parquet")
    raw, revised = table["raw_response"], table["revised_response"]
    table = table[(raw != revised) & (raw != "") & (revised != "")]
    table = table[table["id"].isin(sorted(table["id"].unique())[:300])]
    raw, revised = table["raw_response"].tolist(), table["revised_response"].tolist()
    prompts = [f"{a}\n\n{b}" if b else a
               for a, b in zip(table["revised_instruction"], table["revised_input"], strict=True)]  # fmt: skip
    near = np.array([0.9 < len(x) / len(y) < 1.1 for x, y in zip(raw, revised, strict=True)])
    assert (len(table), near.sum(), table["language"].nunique()) == (3585, 393, 12)
    for name, plain, matched in (("similarity", 58.2, 52.9), ("length", 84.4, 61.3), ("language", 53.7, 50.1)):
        found = load_judge(name, hard=True)(prompts, revised, raw, languages=table["language"].tolist())
        assert 100 * found.mean() == pytest.approx(plain, abs=0.3)
        assert 100 * found[near].mean() == pytest.approx(matched, abs=1.0)
