"""Figures of a run, by hand."""

import numpy as np
import pandas as pd
import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.classification.stats import accuracy_table


def rows(**languages) -> pd.DataFrame:
    """language → string of 1 (right) and 0 (wrong); the prediction is "a" where right and "b" elsewhere."""
    return pd.DataFrame(
        [{"id": str(i), "language": code, "prediction": "ba"[int(c)], "correct": c == "1"}
         for code, marks in languages.items() for i, c in enumerate(marks) if c != " "]
    )  # fmt: skip


def test_accuracy_interval_and_consistency():
    table = accuracy_table(rows(en="1100", de="1010", sw="0000"))
    assert table.loc["de", ["n", "correct", "accuracy"]].tolist() == [4, 2, 0.5]
    z = 1.959963984540054  # Wilson: (k + z²/2 ∓ z·√(k(n−k)/n + z²/4)) / (n + z²)
    half = z * np.sqrt(2 * 2 / 4 + z**2 / 4)
    expected = [(2 + z**2 / 2 + sign * half) / (4 + z**2) for sign in (-1, 1)]
    assert table.loc["de", ["ci_low", "ci_high"]].tolist() == pytest.approx(expected)
    assert table.loc["sw", "ci_low"] == 0
    assert table.loc["de", "consistency_en"] == 0.5  # questions 0 and 3
    assert table.loc["sw", "consistency_en"] == 0.5
    assert np.isnan(table.loc["en", "consistency_en"])
    assert list(table.index) == ["de", "en", "sw", "all"]
    assert table.loc["all", "accuracy"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert table.loc["all", ["n", "correct"]].tolist() == [12, 4]


def test_seen_and_unseen():
    table = accuracy_table(rows(en="1111", de="1100", sw="1000", bn="0000"), seen=["de", "sw"])
    assert table.loc["seen", "accuracy"] == pytest.approx(0.375)
    assert table.loc["unseen", "accuracy"] == 0  # Bengali alone: English is neither
    assert table.loc["all", "accuracy"] == pytest.approx((1 + 0.5 + 0.25) / 4)
    assert accuracy_table(rows(en="11", de="10"), seen=["en"]).loc["seen", "accuracy"] == 1
    assert accuracy_table(rows(en="11", de="10"), seen="de").loc["seen", "accuracy"] == 0.5
    with pytest.raises(DataError, match="no scored rows in 'fr'"):
        accuracy_table(rows(en="11"), seen=["fr"])


def test_paired_gain():
    before, after = rows(de="1100000000", en="1111111111"), rows(de="0111111100", en="1111111111")
    table = accuracy_table(after, before)
    assert table.loc["de", ["n_paired", "baseline", "gain"]].tolist() == pytest.approx([10, 0.2, 0.5])
    # 6 became right, 1 became wrong: 2·(C(7,0) + C(7,1))/2⁷
    assert table.loc["de", "p_value"] == pytest.approx(2 * 8 / 128)
    assert table.loc["en", ["gain", "gain_low", "gain_high", "p_value"]].tolist() == [0, 0, 0, 1]
    assert table.loc["all", "gain"] == pytest.approx(0.25)
    # variance of the mean of ten differences (6 × 1, 1 × −1, 3 × 0)
    spread = np.sqrt((0.7 - 0.5**2) / 10)
    low, high = table.loc["de", ["gain_low", "gain_high"]]
    assert low == pytest.approx(0.5 - 1.96 * spread, abs=0.11)
    assert high == pytest.approx(0.5 + 1.96 * spread, abs=0.11)


def test_pairing_is_by_question():
    """The same accuracies, paired and not, have intervals of different width."""
    half = "10" * 50
    same = accuracy_table(rows(de=half), rows(de=half))
    other = accuracy_table(rows(de=half), rows(de="01" * 50))
    assert same.loc["de", ["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]
    assert other.loc["de", "gain"] == 0
    assert other.loc["de", "gain_high"] > 0.15


def test_the_macro_interval_keeps_a_questions_languages_together():
    """Twenty languages that answer alike say no more than one."""
    marks = "".join(np.random.default_rng(0).choice(["0", "1"], 60))
    one = accuracy_table(rows(de=marks))
    many = accuracy_table(rows(**dict.fromkeys(("de", "sw", "bn", "fr", "it", "ja"), marks)))
    ends = ["ci_low", "ci_high"]
    assert many.loc["all", ends].tolist() == pytest.approx(one.loc["all", ends].tolist())


def test_rows_that_only_one_run_has():
    table = accuracy_table(rows(de="111", sw="11"), rows(de="0  ", bn="1"))
    assert table.loc["de", ["n", "n_paired", "baseline", "gain"]].tolist() == [3, 1, 0, 1]
    assert table.loc["sw", "n_paired"] == 0
    assert np.isnan(table.loc["sw", "gain"])
    assert np.isnan(table.loc["sw", "p_value"])
    assert table.loc["all", ["n_paired", "gain"]].tolist() == [1, 1]
    with pytest.raises(DataError, match="no row .* in common"):
        accuracy_table(rows(de="1"), rows(bn="1"))


def test_the_bootstrap_needs_no_memory_for_all_draws_at_once(monkeypatch):
    import tracemalloc

    from hf_mlalign.spontaneous.classification import stats as classification_stats

    few = rows(de="1100110", en="1000111")
    whole = accuracy_table(few)
    monkeypatch.setattr(classification_stats, "_DRAWN_AT_ONCE", 30)  # blocks of 4 draws
    assert accuracy_table(few).equals(whole)
    monkeypatch.undo()
    many = rows(de="10" * 3000)  # 2,000 × 6,000 counts of 8 bytes: 96 MB
    tracemalloc.start()
    try:
        accuracy_table(many)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_confidence():
    wide, narrow = (accuracy_table(rows(de="1100110"), confidence=c).loc["de"] for c in (0.99, 0.5))
    assert wide["ci_low"] < narrow["ci_low"] < narrow["ci_high"] < wide["ci_high"]
    with pytest.raises(DataError, match="confidence: 95"):
        accuracy_table(rows(de="1"), confidence=95)
