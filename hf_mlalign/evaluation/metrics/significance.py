"""Does a win rate differ from 50 %? A sign-flip test over prompts, and Holm's correction over languages."""

from __future__ import annotations

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_numbers

EXACT_CLUSTERS = 500
LEVELS = 50


def sign_flip_p_value(scores: np.ndarray) -> float:
    """Two-sided p-value of the hypothesis that candidate and baseline are interchangeable.

    Were they, exchanging their names within a prompt would change nothing but the sign of the prompt's score
    d_g = Σ (preference − ½). The statistic abs(Σ d_g) is compared with its distribution over all 2^G signs: exactly for
    up to 500 prompts (scores that are no multiples of ¼ are rounded to 1/50 of the largest first, which keeps
    the test valid), by its normal limit Σ d_g / √(Σ d_g²) for more. It is also valid in the limit where only the mean
    preference is ½ and the prompts are independent.

    Args:
        scores: (G,) float64, one a prompt.
    Returns:
        In (0, 1]; 1 where all scores are 0; NaN for no scores.
    Raises:
        DataError: a score is no finite number (first row named).
    """
    from scipy.special import ndtr

    scores = as_numbers(scores, "scores")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise DataError(f"scores, row {bad[0]}: {scores[bad[0]]} is not finite. Leave such prompts out.")
    if not len(scores):
        return float("nan")
    scores = scores[scores != 0]
    if not len(scores):
        return 1.0
    if len(scores) > EXACT_CLUSTERS:
        z = abs(scores.sum()) / np.sqrt(np.sum(scores**2))
        return float(max(2 * ndtr(-z), np.nextafter(0, 1)))
    return _exact(_whole(scores))


def _whole(scores: np.ndarray) -> np.ndarray:
    quarters = 4 * scores
    if (quarters == np.rint(quarters)).all() and np.abs(quarters).max() <= 4 * LEVELS:
        whole = quarters.astype(np.int64)
        return whole // np.gcd.reduce(whole)
    return np.rint(scores * (LEVELS / np.abs(scores).max())).astype(np.int64)


def _exact(scores: np.ndarray) -> float:
    """P(|Σ ±d| ≥ |Σ d|) by adding up one score after the other; `mass[i]` is P(Σ = i − reach)."""
    sizes, reach = np.abs(scores), int(np.abs(scores).sum())
    mass = np.zeros(2 * reach + 1)
    mass[reach] = 1
    for size in sizes[sizes > 0]:
        mass = (np.roll(mass, size) + np.roll(mass, -size)) / 2
    seen = abs(int(scores.sum()))
    if not seen:
        return 1.0
    return float(min(1.0, mass[: reach - seen + 1].sum() + mass[reach + seen :].sum()))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values; NaN stays NaN and does not count.

    The i-th smallest of m becomes max over j ≤ i of min(1, (m − j + 1)·p_(j)). Rejecting where it is at most α keeps
    the probability of any false rejection at most α, whatever the dependence (Holm 1979).
    """
    p_values = as_numbers(p_values, "p_values")
    bad = np.flatnonzero((p_values < 0) | (p_values > 1))
    if len(bad):
        raise DataError(f"p_values, row {bad[0]}: {p_values[bad[0]]} is not in [0, 1].")
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order]))
    return adjusted
