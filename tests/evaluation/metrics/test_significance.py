"""Sign-flip tests and Holm's correction, against enumeration and by simulation."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from hf_mlalign.evaluation.metrics.winrate import holm, sign_flip_p_value


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
