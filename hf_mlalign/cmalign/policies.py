"""Policies: which of a group's scored samples become pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import as_codes, as_numbers, shown

CELLS = 2**22
"""Largest number of array cells a block of groups may take."""

Policy = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
POLICIES: dict[str, Policy] = {}


def register_policy(name: str) -> Callable[[Policy], Policy]:
    """Add a policy under `name`: a function of (g, m) scores and (g, m) random numbers in [0, 1), for g groups of m ≥ 2
    samples, that returns three (k,) integer arrays: the group of each pair, its chosen and its rejected column."""

    def add(policy: Policy) -> Policy:
        POLICIES[name] = policy
        return policy

    return add


def choose_pairs(
    policy: str | Policy, scores: np.ndarray, groups: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Chosen and rejected samples of every group with at least two.

    Args:
        policy: "best_worst", "all_pairs", "best_random", "random_pair", a registered name or a function (see
            `register_policy`).
        scores: (n,) numbers, NaN for samples that must not be used.
        groups: (n,) ascending integers.
        keys: (n,) random numbers in [0, 1), fixed for each sample.
    Returns:
        Two (k,) int64 arrays of sample numbers, pairs in the order of their groups.
    Raises:
        DataError: unknown policy, arrays of unequal length, groups that do not ascend (first row named).
    """
    run = load_policy(policy)
    scores = as_numbers(scores, "scores")
    groups, keys = as_codes(groups, len(scores), "groups", -(2**63)), as_numbers(keys, "keys", len(scores), "scores")
    if (groups[1:] < groups[:-1]).any():
        raise DataError(f"groups, row {np.argmax(groups[1:] < groups[:-1]) + 1}: less than before. Sort them first.")
    bad = np.flatnonzero(~((keys >= 0) & (keys < 1)))
    if len(bad):
        raise DataError(f"keys, row {bad[0]}: {keys[bad[0]]}. Give a number in [0, 1).")
    rows = np.flatnonzero(~np.isnan(scores))
    if not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.flatnonzero(np.diff(groups[rows], prepend=groups[rows[0]] - 1))
    sizes = np.diff(starts, append=len(rows))
    chosen, rejected = [], []
    for size in np.unique(sizes[sizes > 1]):
        first = starts[sizes == size]
        step = max(1, CELLS // int(size) ** 2)
        for begin in range(0, len(first), step):
            members = rows[first[begin : begin + step, None] + np.arange(size)]
            group, best, worst = run(scores[members], keys[members])
            chosen.append(members[group, best])
            rejected.append(members[group, worst])
    if not chosen:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    chosen, rejected = np.concatenate(chosen), np.concatenate(rejected)
    order = np.argsort(groups[chosen], kind="stable")
    return chosen[order], rejected[order]


def load_policy(policy: str | Policy) -> Policy:
    """The policy called `policy`; DataError for an unknown name."""
    if isinstance(policy, str) and policy not in POLICIES:
        raise DataError(f"policy: unknown {policy!r}. Known: {listed(POLICIES)}; or pass your own function.")
    if not isinstance(policy, str) and not callable(policy):
        raise DataError(f"policy: {shown(policy)} is no function. Known: {listed(POLICIES)}.")
    return POLICIES[policy] if isinstance(policy, str) else policy


@register_policy("best_worst")
def best_worst(scores: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best against the worst (CM-Align, *paper*); of equals the first sample is chosen and the last rejected."""
    m = scores.shape[1]
    return np.arange(len(scores)), scores.argmax(axis=1), m - 1 - scores[:, ::-1].argmin(axis=1)


@register_policy("best_random")
def best_random(scores: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best against one of the others, drawn uniformly."""
    best = scores.argmax(axis=1)
    keys = keys.copy()
    keys[np.arange(len(keys)), best] = 2
    return np.arange(len(scores)), best, keys.argmin(axis=1)


@register_policy("random_pair")
def random_pair(scores: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two samples drawn uniformly, the better one chosen."""
    row = np.arange(len(scores))
    two = np.sort(np.argpartition(keys, 1, axis=1)[:, :2], axis=1)
    swap = scores[row, two[:, 1]] > scores[row, two[:, 0]]
    return row, np.where(swap, two[:, 1], two[:, 0]), np.where(swap, two[:, 0], two[:, 1])


@register_policy("all_pairs")
def all_pairs(scores: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of samples, the better one chosen, largest differences first within a group."""
    i, j = np.triu_indices(scores.shape[1], 1)
    swap = scores[:, j] > scores[:, i]
    better, worse = np.where(swap, j, i), np.where(swap, i, j)
    gap = np.abs(scores[:, i] - scores[:, j])
    order = np.argsort(-gap, axis=1, kind="stable")
    groups = np.repeat(np.arange(len(scores)), len(i))
    return (groups, np.take_along_axis(better, order, 1).ravel(), np.take_along_axis(worse, order, 1).ravel())
