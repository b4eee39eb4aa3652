"""Policies: exact pairs on small groups, properties on random ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mlalign.cmalign.pairs import POLICIES, choose_pairs, register_policy
from hf_mlalign.core.errors import DataError

NAN = np.nan
SCORES = np.array([0.1, 0.9, 0.6, NAN, 0.3, 0.7, 0.7, NAN])
GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 2])
KEYS = np.array([0.5, 0.1, 0.2, 0, 0.3, 0.9, 0.4, 0])


def pairs(policy):
    return [tuple(map(int, pair)) for pair in zip(*choose_pairs(policy, SCORES, GROUPS, KEYS), strict=True)]


def test_best_worst():
    assert pairs("best_worst") == [(1, 0), (5, 6)]  # equal scores: the first is chosen, the last rejected


def test_best_random():
    assert pairs("best_random") == [(1, 2), (5, 6)]


def test_random_pair():
    assert pairs("random_pair") == [(1, 2), (5, 6)]


def test_all_pairs():
    assert pairs("all_pairs") == [(1, 0), (2, 0), (1, 2), (5, 6)]


def test_own_policy():
    @register_policy("second_best")
    def second_best(scores, keys):
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.arange(len(scores)), order[:, 0], order[:, 1]

    try:
        assert pairs("second_best") == [(1, 2), (5, 6)]
    finally:
        del POLICIES["second_best"]


def test_unknown_policy():
    with pytest.raises(DataError, match="policy: unknown 'best'"):
        choose_pairs("best", SCORES, GROUPS, KEYS)


def test_nothing_to_choose():
    chosen, rejected = choose_pairs("best_worst", np.array([NAN, 1.0]), np.array([0, 1]), np.zeros(2))
    assert len(chosen) == len(rejected) == 0


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 1)), min_size=1, max_size=40), st.sampled_from(sorted(POLICIES))
)
def test_pairs_stay_in_their_group_and_order(rows, policy):
    groups = np.array(sorted(g for g, _ in rows))
    scores = np.array([s for _, s in rows])
    keys = np.random.default_rng(0).random(len(rows))
    chosen, rejected = choose_pairs(policy, scores, groups, keys)
    assert (groups[chosen] == groups[rejected]).all()
    assert (scores[chosen] >= scores[rejected]).all()
    assert (chosen != rejected).all()
    sizes = np.bincount(groups)
    expected = (sizes * (sizes - 1) // 2).sum() if policy == "all_pairs" else (sizes > 1).sum()
    assert len(chosen) == expected
