"""Win rates: figures worked out by hand, bad input named, AlpacaEval's leaderboard to the digit; tests of significance
against enumeration and by simulation."""

import math
import os
import subprocess
import sys
import uuid
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.metrics.winrate import holm, sign_flip_p_value, winrate

BOTH = {
    "languages": ["de", "de", "de", "sw", "sw", "sw"],
    "prompt_ids": ["a", "b", "c", "a", "b", "c"],
}


def test_counts_and_rates_by_hand():
    result = winrate([1, 0.9, 0.5, None, 0, float("nan")])
    assert result["win_rate"] == pytest.approx(60)
    assert result["standard_error"] == pytest.approx(100 * np.std([1, 0.9, 0.5, 0], ddof=1) / 2)
    assert [result[k] for k in ("n", "n_prompts", "n_wins", "n_ties", "n_draws", "n_losses", "n_unjudged")] == [
        4, 4, 2, 1, 1, 1, 2]  # fmt: skip
    assert result["discrete_win_rate"] == pytest.approx(62.5)
    assert result["ci_low"] < 60 < result["ci_high"]
    assert result["macro_win_rate"] == result["win_rate"]
    assert result["macro_ci_low"] == result["ci_low"]
    assert result["per_language"] == {}
    for key in ("position_consistency", "swap_averaged_win_rate", "length_controlled_win_rate"):
        assert math.isnan(result[key])


def test_languages_macro_and_clusters_by_hand():
    result = winrate([1, 1, 0, 1, None, 0.5], **BOTH)
    german, swahili = result["per_language"]["de"], result["per_language"]["sw"]
    assert german["win_rate"] == pytest.approx(200 / 3)
    assert swahili["win_rate"] == pytest.approx(75)
    assert (swahili["n"], swahili["n_unjudged"], swahili["n_prompts"]) == (2, 1, 2)
    assert result["win_rate"] == pytest.approx(70)
    assert result["macro_win_rate"] == pytest.approx((200 / 3 + 75) / 2)
    assert result["n_prompts"] == 3
    sums, sizes = np.array([2, 1, 0.5]), np.array([2, 1, 2])  # of prompts a, b, c
    residuals = sums - 0.7 * sizes
    assert result["standard_error"] == pytest.approx(100 * np.sqrt(3 / 2 * (residuals**2).sum()) / 5)


def test_language_names_and_codes_are_one_language():
    result = winrate([1, 0, 1], languages=["German", "de", "deu"])
    assert list(result["per_language"]) == ["de"]
    assert result["macro_ci_low"] == result["ci_low"]


def test_both_orders_by_hand():
    result = winrate([1, 1, 0.5, 0, None, 1], swapped_predictions=[0.8, 0, 0.5, 0, 1, None])
    assert result["n_both_orders"] == 4
    assert result["position_consistency"] == 75
    assert result["swap_averaged_win_rate"] == pytest.approx(100 * (0.9 + 0.5 + 0.5 + 0) / 4)
    assert result["swap_averaged_ci_low"] < result["swap_averaged_win_rate"] < result["swap_averaged_ci_high"]
    assert result["win_rate"] == pytest.approx(70)


def test_a_judge_that_always_prefers_the_first_answer():
    result = winrate([1.0] * 20, swapped_predictions=[0.0] * 20)
    assert (result["win_rate"], result["swap_averaged_win_rate"], result["position_consistency"]) == (100, 50, 0)


def test_prompts_shared_by_languages_widen_the_interval():
    """Every prompt has the same verdict in 10 languages: 40 prompts, not 400 comparisons, are what there is."""
    verdicts = np.repeat(np.arange(40) % 2, 10).astype(float)
    clustered = winrate(verdicts, prompt_ids=np.repeat(np.arange(40), 10))
    apart = winrate(verdicts)
    ratio = (clustered["ci_high"] - clustered["ci_low"]) / (apart["ci_high"] - apart["ci_low"])
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)
    assert clustered["standard_error"] == pytest.approx(apart["standard_error"] * np.sqrt(10), rel=0.02)


def test_macro_interval_resamples_prompts_jointly():
    """One language has half as many prompts; draws one by one give the same width."""
    rng = np.random.default_rng(0)
    lift = rng.normal(size=300)
    languages = np.repeat(["de", "sw"], [300, 150])
    prompts = np.concatenate([np.arange(300), np.arange(150)])
    values = (lift[prompts] + rng.normal(size=450) > 0).astype(float)
    result = winrate(values, languages, prompts, n_resamples=4000)
    german, swahili = values[:300], np.append(values[300:], np.full(150, np.nan))
    rows = rng.integers(0, 300, size=(4000, 300))
    draws = (german[rows].mean(1) + np.nanmean(swahili[rows], axis=1)) / 2
    low, high = 100 * np.quantile(draws, [0.025, 0.975])
    assert result["macro_ci_high"] - result["macro_ci_low"] == pytest.approx(high - low, rel=0.06)
    assert result["macro_ci_low"] == pytest.approx(low, abs=0.6)


def test_which_languages_differ():
    values = np.concatenate([np.tile([1, 1, 1, 0], 25), np.tile([1, 0], 50), np.tile([1, 1, 0, 1, 0], 20)])
    languages = ["de"] * 100 + ["fr"] * 100 + ["sw"] * 100
    found = winrate(values, languages)["per_language"]
    assert [found[code]["differs_from_50"] for code in ("de", "fr", "sw")] == [True, False, False]
    from scipy.stats import binomtest

    assert found["sw"]["p_value"] == pytest.approx(binomtest(60, 100).pvalue)
    assert found["sw"]["adjusted_p_value"] == pytest.approx(2 * found["sw"]["p_value"])
    assert winrate(values[200:], languages[200:], confidence=0.9)["per_language"]["sw"]["differs_from_50"]


def test_unanimous_verdicts_do_not_give_an_empty_interval():
    result = winrate([1.0] * 5, languages=["de"] * 5)
    assert result["ci_low"] == pytest.approx(100 * 0.025 ** (1 / 5))
    assert result["ci_high"] == 100
    assert not result["per_language"]["de"]["differs_from_50"]
    two = winrate([1.0] * 10, languages=["de", "sw"] * 5)
    assert two["macro_ci_low"] == pytest.approx(result["ci_low"])


def test_equal_means_of_prompts_of_other_sizes_are_unanimous():
    """0.7 + 0.7 + 0.7 is not 3 · 0.7 to the last bit; the interval must not shrink to nothing for that."""
    ids = [i // 3 if i < 30 else i for i in range(60)]
    result = winrate([0.7] * 60, prompt_ids=ids)
    unseen = 1 - 0.025 ** (1 / 40)
    assert (result["ci_low"], result["ci_high"]) == pytest.approx((70 * (1 - unseen), 70 + 30 * unseen))


def test_nothing_judged_gives_nan():
    result = winrate([None, None], languages=["de", "sw"], swapped_predictions=[1, 0], candidate_lengths=[1, 2],
                     baseline_lengths=[2, 1])  # fmt: skip
    assert (result["n"], result["n_unjudged"], result["n_prompts"]) == (0, 2, 0)
    assert math.isnan(result["win_rate"])
    assert math.isnan(result["macro_ci_low"])
    assert not result["per_language"]["de"]["differs_from_50"]


def test_no_resamples_no_intervals():
    result = winrate([1, 0, 1], languages=["de", "sw", "sw"], n_resamples=0)
    assert math.isnan(result["ci_low"])
    assert math.isnan(result["macro_ci_high"])
    assert result["p_value"] == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 0.3, 0.5, 1, None]), st.sampled_from(["de", "sw"]), st.integers(0, 6)),
                min_size=1, max_size=40), st.integers(0, 3))  # fmt: skip
def test_order_of_rows_and_exchange_of_sides(rows, seed):
    values, languages, prompts = map(list, zip(*rows))
    one = winrate(values, languages, prompts, n_resamples=60, seed=seed)
    backwards = winrate(values[::-1], languages[::-1], prompts[::-1], n_resamples=60, seed=seed)
    for key in ("win_rate", "standard_error", "p_value", "macro_win_rate", "ci_low", "ci_high"):
        assert backwards[key] == pytest.approx(one[key], nan_ok=True, abs=1e-9), key
    other = winrate([None if v is None else 1 - v for v in values], languages, prompts, n_resamples=0)
    assert other["win_rate"] == pytest.approx(100 - one["win_rate"], nan_ok=True)
    assert other["p_value"] == pytest.approx(one["p_value"], nan_ok=True)
    assert (other["n_wins"], other["n_losses"]) == (one["n_losses"], one["n_wins"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"predictions": []}, "no rows"),
        ({"predictions": [1, 1.5]}, r"predictions, row 1: 1.5 is not in \[0, 1\].*subtract 1"),
        ({"predictions": [1, "good"]}, "predictions, row 1: 'good' is not a number"),
        ({"predictions": [[1, 0], [0, 1]]}, "shape"),
        ({"predictions": [1, 0], "languages": ["de", "qqq"]}, "'languages', row 1: unknown language 'qqq'"),
        ({"predictions": [1, 0], "languages": ["de", None]}, "'languages', row 1: missing"),
        ({"predictions": [1, 0], "languages": "de"}, "languages: 'de' is not a list"),
        ({"predictions": [1, 0], "prompt_ids": [1]}, "prompt_ids has 1 rows and predictions has 2"),
        ({"predictions": [1, 0], "prompt_ids": [None, "x"]}, "'prompt_ids', row 0: missing"),
        ({"predictions": [1, 0], "swapped_predictions": [0, -1]}, "swapped_predictions, row 1: -1"),
        ({"predictions": [1, 0], "candidate_lengths": [1, 2]}, "baseline_lengths: missing"),
        ({"predictions": [1, 0], "candidate_lengths": [1, 2], "baseline_lengths": [1, -2]}, "baseline_lengths, row 1"),
        ({"predictions": [1, 0], "n_resamples": -1}, "n_resamples"),
        ({"predictions": [1, 0], "confidence": 95}, "confidence"),
        ({"predictions": [1, 0], "confidence": "0.95"}, "confidence: '0.95' is not a number"),
        ({"predictions": [1, 0], "seed": -1}, "seed: -1"),
        ({"predictions": [1, 0], "prompt_ids": [2**70, None]}, "'prompt_ids', row 1: missing"),
        ({"predictions": [1, 0], "prompt_ids": [uuid.UUID(int=1), float("nan")]}, "'prompt_ids', row 1: missing"),
    ],
)
def test_bad_input_is_named(columns, message):
    with pytest.raises(DataError, match=message):
        winrate(**columns)


def test_prompt_ids_without_a_type_of_arrow():
    for ids in ([2**70, 2**70, 2**71], [uuid.UUID(int=i) for i in (1, 1, 2)]):
        assert winrate([1, 0, 1], prompt_ids=ids)["n_prompts"] == 2


def test_mixed_prompt_ids_are_taken_as_texts():
    assert winrate([1, 0, 1], prompt_ids=[1, "1", "a"])["n_prompts"] == 2


def test_results_do_not_depend_on_threads():
    code = """
import numpy as np; from hf_mlalign.evaluation.metrics.winrate import winrate
rng = np.random.default_rng(0); n = 4000
print(winrate(rng.random(n), rng.choice(["de", "sw"], n), rng.integers(0, 900, n), n_resamples=200,
              candidate_lengths=rng.integers(1, 99, n), baseline_lengths=rng.integers(1, 99, n)))"""  # fmt: skip
    outs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}).stdout
            for threads in ("1", "2")]  # fmt: skip
    assert outs[0] == outs[1]
    assert "win_rate" in outs[0]


@settings(deadline=None)
@given(st.lists(st.sampled_from([-2.5, -1.0, -0.5, -0.25, 0.0, 0.5, 0.75, 1.0]), min_size=1, max_size=10))
def test_equals_the_enumeration_of_all_signs(scores):
    scores = np.array(scores)
    sums = np.array([scores @ signs for signs in product([-1, 1], repeat=len(scores))])
    assert sign_flip_p_value(scores) == pytest.approx(np.mean(np.abs(sums) >= abs(scores.sum()) - 1e-9))


@pytest.mark.parametrize(("wins", "n"), [(5, 5), (14, 19), (60, 100), (480, 500)])
def test_single_verdicts_give_the_sign_test(wins, n):
    scores = np.repeat([0.5, -0.5, 0.0], [wins, n - wins, 7])
    assert sign_flip_p_value(scores) == pytest.approx(binomtest(wins, n).pvalue)


def test_many_prompts_take_the_normal_limit():
    scores = np.repeat([0.5, -0.5], [5150, 4850])
    assert sign_flip_p_value(scores) == pytest.approx(binomtest(5150, 10_000).pvalue, rel=0.05)
    assert 0 < sign_flip_p_value(np.full(10**6, 0.5)) < 1e-300


def test_edges():
    assert np.isnan(sign_flip_p_value(np.array([])))
    assert sign_flip_p_value(np.zeros(3)) == 1
    assert sign_flip_p_value(np.array([0.123])) == 1
    assert sign_flip_p_value(np.array([1.0, -1.0])) == 1


def test_holm_by_hand():
    adjusted = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.5]))
    assert adjusted[[0, 1, 3, 4]] == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert np.isnan(adjusted[2])
    assert holm(np.array([])).tolist() == []
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]


def rejections(shared_lift: float, languages: int = 6, prompts: int = 25, trials: int = 800) -> tuple[float, float]:
    """How often any language is found to differ though none does: corrected, and if each were tested alone."""
    rng = np.random.default_rng(0)
    any_holm = any_alone = 0
    for _ in range(trials):
        latent = rng.normal(size=(languages, prompts, 3)) + shared_lift * rng.normal(size=(1, prompts, 1))
        p = np.array([sign_flip_p_value((row > 0).sum(1) - 1.5) for row in latent])
        any_holm += bool((holm(p) <= 0.05).any())
        any_alone += bool((p <= 0.05).any())
    return any_holm / trials, any_alone / trials


@pytest.mark.parametrize("shared_lift", [0.0, 1.5])
def test_false_claims_stay_below_the_level_under_clustering(shared_lift):
    corrected, alone = rejections(shared_lift)
    assert corrected <= 0.065  # 0.05 and two standard errors
    assert alone > 0.08
