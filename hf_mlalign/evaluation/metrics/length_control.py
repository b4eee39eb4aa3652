"""Length-controlled win rates (Dubois et al. 2024, arXiv 2404.04475): what would be preferred at equal length.

A logistic model of the preference of group m's answer to prompt x over the baseline's,

    logit P = θ_m + φ_m · tanh(Δ_mx / sd_m(Δ)) + ψ_m · γ_x,

Δ the difference of lengths and γ_x the difficulty of the prompt. The length-controlled rate is the mean of P over the
group's prompts with Δ = 0. Groups are the models of a leaderboard, or the languages of one model's comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_codes, as_numbers, check_whole, shown

SHARED_WEIGHT = 1.0
"""Total weight of the other groups' rows in a group's fit, relative to its own rows (*ours*: as much)."""
RIDGE = 0.01
VARIANCES = (0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 5
CV_PROMPTS = 1000


@dataclass(frozen=True)
class LengthControl:
    """Fitted length control of M groups.

    rates, standard_errors: (M,) float64 in [0, 1]; NaN where a group's length differences do not vary.
    length_effects: (M,) φ; positive where longer answers are preferred.
    difficulty_weights: (M,) ψ; 0 where no prompt is shared.
    difficulty_variance: τ², chosen by cross-validation; 0 if no prompt is shared by two groups.
    overall, overall_standard_error: mean over all rows of the groups that have a rate.
    """

    rates: np.ndarray
    standard_errors: np.ndarray
    length_effects: np.ndarray
    difficulty_weights: np.ndarray
    difficulty_variance: float = 0.0
    overall: float = float("nan")
    overall_standard_error: float = float("nan")


@dataclass(frozen=True)
class _Rows:
    y: np.ndarray
    length: np.ndarray
    group: np.ndarray
    prompt: np.ndarray
    n_groups: int
    difficulty: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def of(self, rows: np.ndarray) -> _Rows:
        return _Rows(self.y[rows], self.length[rows], self.group[rows], self.prompt[rows], self.n_groups)


def length_control(
    preferences: np.ndarray,
    length_differences: np.ndarray,
    groups: np.ndarray,
    prompts: np.ndarray,
    n_groups: int,
    *,
    shared_weight: float = SHARED_WEIGHT,
    seed: int = 0,
) -> LengthControl:
    """Fit the model above in AlpacaEval's two steps.

    First all groups jointly, with ψ = 1 (*paper*) and γ_x ~ N(0, τ²), τ² chosen by 5-fold cross-validation over rows
    (*ours*); this gives γ. Then each group's θ, φ and ψ given γ, where the rows of the other groups, each group with
    an intercept of its own, take part with the total weight `shared_weight` × the group's rows. They stand in for the
    answers of AlpacaEval's two length-gamed baselines (weight 0.2 there; here the others count as much as the group
    itself, *ours*) and keep the length effect from being extrapolated. A ridge of 0.01 (*ours*) keeps coefficients
    finite.

    Args:
        preferences: (n,) float64 in [0, 1]; rows with NaN here or in `length_differences` take no part.
        length_differences: (n,) float64, candidate minus baseline, in any unit.
        groups, prompts: (n,) integers; one group and prompt a row. `prompts` also clusters the standard errors.
        n_groups: M.
        shared_weight: at least 0; 0 fits each group by itself.
        seed: of the folds.
    Raises:
        DataError: `shared_weight` is negative or not finite.
    """
    if not isinstance(shared_weight, Real) or not 0 <= shared_weight < np.inf:
        raise DataError(f"shared_weight: {shown(shared_weight)}. Give a number of at least 0.")
    check_whole(n_groups, "n_groups")
    check_whole(seed, "seed")
    preferences = preferences_of(preferences, "preferences")
    length_differences = as_numbers(length_differences, "length_differences", len(preferences), "preferences")
    bad = np.flatnonzero(np.isinf(length_differences))
    if len(bad):
        raise DataError(f"length_differences, row {bad[0]}: infinite. Give NaN where a length is unknown.")
    groups = as_codes(groups, len(preferences), "groups", below=n_groups)
    prompts = np.unique(as_codes(prompts, len(preferences), "prompts"), return_inverse=True)[1]
    rows = _rows(preferences, length_differences, groups, prompts, n_groups)
    out = np.full((4, n_groups), np.nan)
    present = np.unique(rows.group)
    if not len(present):
        return LengthControl(*out)
    difficulty, variance = np.zeros(len(rows.y)), 0.0
    pairs = np.unique(rows.prompt.astype(np.int64) * n_groups + rows.group) // n_groups
    if (np.bincount(pairs) > 1).any():  # else no prompt has rows of two groups
        variance = _choose_variance(rows, np.random.default_rng(seed))
        difficulty = _fit_joint(rows, np.ones(len(rows.y)), variance)[2 * n_groups :][rows.prompt]
    rows = replace(rows, difficulty=difficulty)
    total, overall = np.zeros(len(rows.y)), 0.0
    for group in present:
        *out[:, group], influence = _fit_group(rows, int(group), shared_weight)
        share = np.mean(rows.group == group)
        total += share * influence
        overall += share * out[0, group]
    return LengthControl(*out, variance, float(overall), _clustered(total, rows.prompt))


def _rows(y: np.ndarray, differences: np.ndarray, groups: np.ndarray, prompts: np.ndarray, n_groups: int) -> _Rows:
    """The rows that take part, with tanh of the length difference over its standard deviation in the group."""
    known = np.flatnonzero(~(np.isnan(y) | np.isnan(differences)))
    spread = np.full(n_groups, np.nan)
    for group in np.unique(groups[known]):
        own = differences[known][groups[known] == group]
        spread[group] = own.std(ddof=1) if len(own) > 1 else 0
    known = known[spread[groups[known]] > 0]
    length = np.tanh(differences[known] / spread[groups[known]])
    return _Rows(y[known], length, groups[known], np.unique(prompts[known], return_inverse=True)[1], n_groups)


def _choose_variance(rows: _Rows, rng: np.random.Generator) -> float:
    """τ² with the least log loss on held-out rows, on at most 1,000 prompts."""
    n_prompts = int(rows.prompt.max()) + 1
    if n_prompts > CV_PROMPTS:
        chosen = np.zeros(n_prompts, bool)
        chosen[rng.choice(n_prompts, CV_PROMPTS, replace=False)] = True
        rows = rows.of(chosen[rows.prompt])
        rows = replace(rows, prompt=np.unique(rows.prompt, return_inverse=True)[1])
    folds = rng.permutation(np.arange(len(rows.y)) % FOLDS)
    design, losses = _joint_design(rows), []
    for variance in VARIANCES:
        fits = (_fit_joint(rows, (folds != fold).astype(np.float64), variance) for fold in range(FOLDS))
        losses.append(sum(_log_loss(design @ fit, rows.y)[folds == fold].sum() for fold, fit in enumerate(fits)))
    return VARIANCES[int(np.argmin(losses))]


def _joint_design(rows: _Rows) -> sparse.csr_matrix:
    """(n, 2M + P): θ of the group, φ of the group, γ of the prompt."""
    n, m = len(rows.y), rows.n_groups
    columns = np.column_stack([rows.group, m + rows.group, 2 * m + rows.prompt])
    values = np.column_stack([np.ones(n), rows.length, np.ones(n)])
    shape = (n, 2 * m + int(rows.prompt.max()) + 1)
    return sparse.csr_matrix((values.ravel(), columns.ravel(), np.arange(0, 3 * n + 1, 3)), shape=shape)


def _fit_joint(rows: _Rows, weights: np.ndarray, variance: float) -> np.ndarray:
    design = _joint_design(rows)
    penalty = np.full(design.shape[1], 1 / variance)
    penalty[: 2 * rows.n_groups] = RIDGE
    return fit_logistic(design, rows.y, weights, penalty)


def _fit_group(rows: _Rows, group: int, shared_weight: float) -> tuple[float, float, float, float, np.ndarray]:
    """Rate, its standard error, φ, ψ and the (n,) influence of each row on the rate."""
    own = rows.group == group
    sizes = np.bincount(rows.group, minlength=rows.n_groups)
    others = max(np.count_nonzero(sizes) - 1, 1)
    weights = np.where(own, 1.0, shared_weight * sizes[group] / (others * sizes[rows.group]))
    n, m = len(rows.y), rows.n_groups
    columns = np.column_stack([rows.group, np.full(n, m), np.full(n, m + 1)])
    values = np.column_stack([np.ones(n), rows.length, rows.difficulty])
    design = sparse.csr_matrix((values.ravel(), columns.ravel(), np.arange(0, 3 * n + 1, 3)), shape=(n, m + 2))
    penalty = np.full(m + 2, RIDGE)
    fitted = fit_logistic(design, rows.y, weights, penalty)
    at_equal_length = expit(fitted[group] + fitted[-1] * rows.difficulty[own])
    rate, slope = at_equal_length.mean(), at_equal_length * (1 - at_equal_length)
    gradient = np.zeros(m + 2)
    gradient[group], gradient[-1] = slope.mean(), (slope * rows.difficulty[own]).mean()
    p = expit(design @ fitted)
    hessian = (design.T @ sparse.diags(weights * p * (1 - p)) @ design).toarray() + np.diag(penalty)
    influence = weights * (rows.y - p) * (design @ np.linalg.solve(hessian, gradient))
    influence[own] += (at_equal_length - rate) / sizes[group]
    return rate, _clustered(influence, rows.prompt), fitted[-2], fitted[-1], influence


def _clustered(influence: np.ndarray, prompts: np.ndarray) -> float:
    """Standard error from (n,) influences, summed by prompt; NaN for one prompt."""
    sums = np.bincount(prompts, weights=influence)[np.bincount(prompts) > 0]
    n = np.count_nonzero(sums)
    return float(np.sqrt(n / (n - 1) * np.sum(sums**2))) if n > 1 else float("nan")


def _log_loss(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, logits) - y * logits


def fit_logistic(design: sparse.csr_matrix, y: np.ndarray, weights: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """(k,) coefficients b that minimise Σ w·logloss(y, σ(Xb)) + ½ Σ penalty·b², by Newton's method.

    y may be any probabilities in [0, 1]. All penalties must be above 0. Each Newton step is solved by conjugate
    gradients with the diagonal as preconditioner and halved until the objective falls.
    """
    from scipy.sparse.linalg import LinearOperator, cg

    transposed, squared = design.T.tocsr(), design.multiply(design).T.tocsr()
    fitted, shape = np.zeros(design.shape[1]), (design.shape[1], design.shape[1])

    def objective(b: np.ndarray) -> float:
        return float(weights @ _log_loss(design @ b, y) + penalty @ b**2 / 2)

    value = objective(fitted)
    for _ in range(100):
        p = expit(design @ fitted)
        curvature = weights * p * (1 - p)
        gradient = transposed @ (weights * (y - p)) - penalty * fitted
        diagonal = squared @ curvature + penalty
        hessian = LinearOperator(shape, matvec=lambda v, c=curvature: transposed @ (c * (design @ v)) + penalty * v)
        inverse = LinearOperator(shape, matvec=lambda v, d=diagonal: v / d)
        step = cg(hessian, gradient, rtol=1e-6, M=inverse, maxiter=500)[0]
        while (tried := objective(fitted + step)) > value and np.abs(step).max() > 1e-10:
            step = step / 2
        fitted, value = fitted + step, min(tried, value)
        if np.abs(step).max() < 1e-7:
            break
    return fitted


def preferences_of(values: Any, name: str) -> np.ndarray:
    """`values` as (n,) float64 in [0, 1] or NaN; `None` becomes NaN. DataError otherwise (first bad row named)."""
    numbers = as_numbers(values, name)
    bad = np.flatnonzero((numbers < 0) | (numbers > 1))
    if len(bad):
        raise DataError(
            f"{name}, row {bad[0]}: {numbers[bad[0]]:g} is not in [0, 1]. Give 1 for a win of the candidate, 0.5 for a "
            "tie, 0 for a loss and NaN for not judged; of AlpacaEval's preferences (1 to 2) subtract 1."
        )
    return numbers
