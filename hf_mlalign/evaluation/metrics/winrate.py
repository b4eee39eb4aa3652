"""Win rates with intervals and tests: overall, per language, averaged over both orders, and at equal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_list, as_numbers, check_list
from hf_mlalign.data.columns import language_codes
from hf_mlalign.data.languages import check_languages
from hf_mlalign.evaluation.metrics.bootstrap import (
    ClusterSums,
    check_bootstrap,
    percentile_interval,
    prompt_codes,
    resample,
    standard_error,
    unanimous_interval,
)
from hf_mlalign.evaluation.metrics.length_control import LengthControl, length_control, preferences_of

NAN = float("nan")
EXACT_CLUSTERS = 500
"""The sign-flip test is exact for up to this many prompts (*ours*)."""
LEVELS = 50
"""Levels that scores are rounded to for the exact test, unless they are multiples of ¼ (*ours*)."""


def winrate(
    predictions: Sequence[float | None] | np.ndarray,
    languages: Sequence[str] | None = None,
    prompt_ids: Sequence[Any] | None = None,
    swapped_predictions: Sequence[float | None] | np.ndarray | None = None,
    candidate_lengths: Sequence[float | None] | np.ndarray | None = None,
    baseline_lengths: Sequence[float | None] | np.ndarray | None = None,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """How often a candidate is preferred to a baseline. Rates, errors and limits are in per cent.

    Args:
        predictions: (n,) preference for the candidate in [0, 1]: 1 is a win, 0.5 a tie, 0 a loss, NaN or `None` not
            judged.
        languages: (n,) codes or English names.
        prompt_ids: (n,) numbers or texts; the comparisons of one prompt share an id in every language. The bootstrap
            resamples prompts with all their comparisons. Without ids, each comparison counts as independent.
        swapped_predictions: (n,) preference *for the candidate* again, with the answers shown in the other order. (A
            verdict "the first answer" must be translated back to the candidate.)
        candidate_lengths, baseline_lengths: (n,) lengths in characters or tokens, NaN where unknown.
        n_resamples: of the bootstrap (1000, *ours*); 0 leaves the intervals out (NaN).
        confidence: of the intervals; languages are tested at 1 − confidence (0.95, *ours*).
        seed: of the resamples and folds.
    Returns:
        win_rate, standard_error (clustered by prompt), ci_low, ci_high, p_value (against 50 %), n (judged), n_prompts,
        n_wins, n_ties (exactly 0.5), n_losses, n_draws (= n_ties, AlpacaEval's name), n_unjudged, discrete_win_rate;
        macro_win_rate (mean of the languages'), macro_ci_low, macro_ci_high; per_language: for each language the
        first group, adjusted_p_value (Holm), differs_from_50 and length_controlled_win_rate; n_both_orders,
        position_consistency, swap_averaged_win_rate, …_standard_error, …_ci_low, …_ci_high;
        length_controlled_win_rate, length_controlled_standard_error. What cannot be computed is NaN.
    Raises:
        DataError: bad input; see `hf_mlalign.evaluation.metrics.winrate.read_comparisons`.
    """
    check_bootstrap(n_resamples, confidence, seed)
    data = read_comparisons(
        predictions, languages, prompt_ids, swapped_predictions, candidate_lengths, baseline_lengths
    )
    options = (n_resamples, confidence, seed)
    result = _rates(data, *options)
    swapped = np.empty(0) if data.swapped is None else data.swapped
    both = np.flatnonzero(~np.isnan(data.preferences[: len(swapped)] + swapped))
    first, second = data.preferences[both], swapped[both]
    agree = np.sign(first - 0.5) == np.sign(second - 0.5)
    result |= {"n_both_orders": len(both), "position_consistency": 100 * float(agree.mean()) if len(both) else NAN}
    mean = Comparisons((first + second) / 2, np.zeros(len(both), np.int64), [], data.prompts[both])
    averaged = _rates(mean, *options)
    result |= {f"swap_averaged_{key}": averaged[key] for key in ("win_rate", "standard_error", "ci_low", "ci_high")}
    n_groups = max(len(data.names), 1)
    controlled = LengthControl(*np.full((4, n_groups), np.nan))
    if data.length_differences is not None:
        controlled = length_control(data.preferences, data.length_differences, data.languages, data.prompts, n_groups,
                                    seed=seed)  # fmt: skip
    result["length_controlled_win_rate"] = 100 * controlled.overall
    result["length_controlled_standard_error"] = 100 * controlled.overall_standard_error
    for code, name in enumerate(data.names):
        result["per_language"][name]["length_controlled_win_rate"] = 100 * float(controlled.rates[code])
    return result


def _rates(data: Comparisons, n_resamples: int, confidence: float, seed: int) -> dict[str, Any]:
    """Rates of one set of preferences: overall, macro and per language."""
    n_groups = max(len(data.names), 1)
    missing = np.isnan(data.preferences)
    judged = ~missing if missing.any() else slice(None)
    sums = ClusterSums.of(data.preferences[judged], data.prompts[judged], data.languages[judged], n_groups)
    rng = np.random.default_rng(seed)
    bootstrap = _Bootstrap(sums.n_clusters, n_resamples, confidence, rng)
    whole = bootstrap.rate(*sums.all())
    groups = [bootstrap.rate(*sums.group(code)) for code in range(n_groups)] if data.names else [whole]
    macro = bootstrap.macro(sums, groups, whole)
    adjusted = holm(np.array([group["p_value"] for group in groups]))
    kinds = 4 * data.languages + (data.preferences <= 0.5) + (data.preferences < 0.5) + 3 * missing
    counts = np.bincount(kinds, minlength=4 * n_groups).reshape(n_groups, 4)
    per_language = {}
    for code, name in enumerate(data.names):
        differs = bool(adjusted[code] <= 1 - confidence)
        per_language[name] = {**groups[code], **_counts(counts[code]), "adjusted_p_value": float(adjusted[code]),
                              "differs_from_50": differs}  # fmt: skip
    return {**whole, **_counts(counts.sum(0)), **macro, "per_language": per_language}


@dataclass(frozen=True)
class _Bootstrap:
    """Resamples `n_clusters` prompts `n_resamples` times for each figure."""

    n_clusters: int
    n_resamples: int
    confidence: float
    rng: np.random.Generator

    def rate(self, sums: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
        """One rate, from the sums and sizes of the prompts that have any."""
        if not len(sums):
            nothing = dict.fromkeys(("win_rate", "standard_error", "ci_low", "ci_high", "p_value"), NAN)
            return {**nothing, "n_prompts": 0}
        rate, means = float(sums.sum() / sizes.sum()), sums / sizes
        if not self.n_resamples:
            low = high = NAN
        elif np.ptp(means) <= 1e-12:
            low, high = unanimous_interval(rate, len(sums), self.confidence)
        else:
            drawn, size = resample(sums, sizes, self.n_clusters, self.n_resamples, self.rng)
            low, high = percentile_interval(drawn[size > 0] / size[size > 0], self.confidence, len(sums))
        return {
            "win_rate": 100 * rate, "standard_error": 100 * standard_error(sums, sizes), "ci_low": 100 * low,
            "ci_high": 100 * high, "p_value": sign_flip_p_value(sums - sizes / 2), "n_prompts": len(sums),
        }  # fmt: skip

    def macro(self, sums: ClusterSums, groups: list[dict], whole: dict) -> dict[str, float]:
        """Mean of the rates there are.

        Each language's rate is expanded to first order in its resampled sum and size (exact where every prompt has the
        same comparisons in each language); prompts are resampled jointly. The quantiles expand as for the harmonic mean
        of the languages' numbers of prompts.
        """
        known = [code for code, group in enumerate(groups) if group["n_prompts"]]
        mean = float(np.mean([groups[code]["win_rate"] for code in known])) if known else NAN
        cells = np.diff(sums.starts)[known]
        if not known or not self.n_resamples:
            limits = [NAN, NAN]
        elif len(known) == 1 or ((cells == sums.n_clusters).all() and sums.sizes.min() == sums.sizes.max()):
            limits = [whole["ci_low"], whole["ci_high"]]
        elif np.abs(moves := self._macro_moves(sums, known)).max() < 1e-12:
            limits = [float(np.mean([groups[code][side] for code in known])) for side in ("ci_low", "ci_high")]
        else:
            drawn, _ = resample(moves, np.ones(len(moves)), sums.n_clusters, self.n_resamples, self.rng)
            usual = max(len(known) / np.sum(1 / cells), 2.0)
            limits = np.clip(percentile_interval(mean + 100 * drawn, self.confidence, usual), 0, 100).tolist()
        return {"macro_win_rate": mean, "macro_ci_low": limits[0], "macro_ci_high": limits[1]}

    def _macro_moves(self, sums: ClusterSums, known: list[int]) -> np.ndarray:
        """(n_clusters,) by how much the macro rate moves, to first order, for each time a prompt is drawn."""
        moves = np.zeros(len(sums.sums))
        for code in known:
            values, sizes = sums.group(code)
            total = sizes.sum()
            part = slice(sums.starts[code], sums.starts[code + 1])
            moves[part] = (values - sizes * (values.sum() / total)) / (total * len(known))
        return moves if len(moves) == sums.n_clusters else sums.by_cluster(moves)


def _counts(kinds: np.ndarray) -> dict[str, float]:
    """From the numbers of wins, ties, losses and comparisons that were not judged."""
    wins, ties, losses, unjudged = kinds.tolist()
    n = wins + ties + losses
    return {"n": n, "n_wins": wins, "n_ties": ties, "n_losses": losses, "n_draws": ties, "n_unjudged": unjudged,
            "discrete_win_rate": 100 * (wins + ties / 2) / n if n else NAN}  # fmt: skip


def sign_flip_p_value(scores: np.ndarray) -> float:
    """Two-sided p-value of the hypothesis that candidate and baseline are interchangeable.

    Were they, swapping their names within a prompt would only change the sign of the prompt's score
    d_g = Σ (preference − ½). The statistic abs(Σ d_g) is compared with its distribution over all 2^G signs: exactly for
    up to 500 prompts (scores that are not multiples of ¼ are first rounded to 1/50 of the largest, which keeps the test
    valid), by its normal limit Σ d_g / √(Σ d_g²) for more. The test is also valid in the limit where only the mean
    preference is ½ and the prompts are independent.

    Args:
        scores: (G,) float64, one per prompt.
    Returns:
        In (0, 1]; 1 where all scores are 0; NaN without scores.
    Raises:
        DataError: a score is not finite (first row named).
    """
    from scipy.special import ndtr

    scores = as_numbers(scores, "scores")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise DataError(f"scores, row {bad[0]}: {scores[bad[0]]} is not finite. Leave such prompts out.")
    if not len(scores):
        return NAN
    scores = scores[scores != 0]
    if not len(scores):
        return 1.0
    if len(scores) > EXACT_CLUSTERS:
        z = abs(scores.sum()) / np.sqrt(np.sum(scores**2))
        return float(max(2 * ndtr(-z), np.nextafter(0, 1)))
    quarters = 4 * scores
    if (quarters == np.rint(quarters)).all() and np.abs(quarters).max() <= 4 * LEVELS:
        whole = quarters.astype(np.int64)
        whole //= np.gcd.reduce(whole)
    else:
        whole = np.rint(scores * (LEVELS / np.abs(scores).max())).astype(np.int64)
    sizes, reach = np.abs(whole), int(np.abs(whole).sum())
    mass = np.zeros(2 * reach + 1)  # mass[i] is P(Σ = i − reach), adding one score after the other
    mass[reach] = 1
    for size in sizes[sizes > 0]:
        mass = (np.roll(mass, size) + np.roll(mass, -size)) / 2
    seen = abs(int(whole.sum()))
    return float(min(1.0, mass[: reach - seen + 1].sum() + mass[reach + seen :].sum())) if seen else 1.0


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


@dataclass(frozen=True)
class Comparisons:
    """n comparisons of a candidate with a baseline.

    preferences: (n,) float64 in [0, 1], 1 where the candidate is better; NaN where there is no judgement.
    languages: (n,) int64 codes into `names`, sorted ISO 639-1 codes; all 0 and `[]` without languages.
    prompts: (n,) int64 codes; all different without prompt ids.
    swapped: (n,) as preferences, from the other order, or `None`.
    length_differences: (n,) float64 candidate minus baseline, NaN where unknown, or `None`.
    """

    preferences: np.ndarray
    languages: np.ndarray
    names: list[str]
    prompts: np.ndarray
    swapped: np.ndarray | None = None
    length_differences: np.ndarray | None = None


def read_comparisons(
    predictions: Sequence[float | None] | np.ndarray,
    languages: Sequence[str] | None = None,
    prompt_ids: Sequence[Any] | None = None,
    swapped_predictions: Sequence[float | None] | np.ndarray | None = None,
    candidate_lengths: Sequence[float | None] | np.ndarray | None = None,
    baseline_lengths: Sequence[float | None] | np.ndarray | None = None,
) -> Comparisons:
    """Check the columns of `winrate`.

    Raises:
        DataError: no rows, unequal lengths of the columns, a value out of range, an unknown or missing language, a
            missing prompt id, or the lengths of one side only (the first bad row is named).
    """
    preferences = preferences_of(predictions, "predictions")
    n = len(preferences)
    if not n:
        raise DataError("predictions: no rows. Give one preference for each comparison.")
    codes, names = np.zeros(n, np.int64), []
    if languages is not None:
        values = _column(languages, n, "languages")
        try:
            arrow = isinstance(values, (pa.Array, pa.ChunkedArray))
            column = values if arrow else pa.array(values, pa.string(), from_pandas=True)
        except (pa.ArrowException, UnicodeError, TypeError):
            column = pa.array(check_languages(values))
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        codes, found = language_codes(column, "languages")
        names = sorted(found)
        codes = np.searchsorted(names, found)[codes]
    prompts = np.arange(n) if prompt_ids is None else prompt_codes(_column(prompt_ids, n, "prompt_ids"))
    swapped = None
    if swapped_predictions is not None:
        swapped = preferences_of(_column(swapped_predictions, n, "swapped_predictions"), "swapped_predictions")
    if (candidate_lengths is None) != (baseline_lengths is None):
        missing = "candidate_lengths" if candidate_lengths is None else "baseline_lengths"
        raise DataError(f"{missing}: missing. Length control needs the lengths of both sides; give both or neither.")
    differences = None
    if candidate_lengths is not None:
        sides = ("candidate_lengths", candidate_lengths), ("baseline_lengths", baseline_lengths)
        lengths = []
        for name, values in sides:
            numbers = as_numbers(_column(values, n, name), name)
            bad = np.flatnonzero((numbers < 0) | np.isinf(numbers))
            if len(bad):
                raise DataError(f"{name}, row {bad[0]}: {numbers[bad[0]]:g} is not a length in characters or tokens.")
            lengths.append(numbers)
        differences = lengths[0] - lengths[1]
    return Comparisons(preferences, codes, names, prompts, swapped, differences)


def _column(values: Any, n: int, name: str) -> Any:
    check_list(values, name)
    values = values if hasattr(values, "__len__") else as_list(values, name)
    if len(values) != n:
        raise DataError(f"{name} has {len(values)} rows and predictions has {n}. Give one value for each comparison.")
    return values
