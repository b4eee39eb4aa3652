"""Length control: rates that made the data are found again, and what length alone explains is taken away."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.metrics.length_control import RIDGE, fit_logistic, length_control
from hf_mlalign.evaluation.metrics.winrate import winrate


def made(theta, phi, psi, n_prompts=3000, seed=0):
    """Verdicts of len(theta) models on prompts of a shared difficulty; models of higher number answer longer."""
    rng = np.random.default_rng(seed)
    models, prompts = np.repeat(np.arange(len(theta)), n_prompts), np.tile(np.arange(n_prompts), len(theta))
    difficulty = rng.normal(size=n_prompts)
    differences = rng.normal(size=len(models)) * 300 + 150 * models
    scale = np.array([differences[models == m].std(ddof=1) for m in range(len(theta))])
    logits = np.array(theta)[models] + np.array(phi)[models] * np.tanh(differences / scale[models])
    logits += np.array(psi)[models] * difficulty[prompts]
    verdicts = (rng.random(len(models)) < expit(logits)).astype(float)
    true = [expit(t + p * difficulty).mean() for t, p in zip(theta, psi)]
    return verdicts, differences, models, prompts, np.array(true)


def test_newton_finds_the_minimum():
    rng = np.random.default_rng(0)
    design, y, weights = rng.normal(size=(200, 3)), rng.random(200), rng.random(200)
    penalty = np.array([0.1, 1.0, 5.0])

    def loss(b):
        logits = design @ b
        return weights @ (np.logaddexp(0, logits) - y * logits) + penalty @ b**2 / 2

    wanted = minimize(loss, np.zeros(3), tol=1e-12).x
    assert fit_logistic(sparse.csr_matrix(design), y, weights, penalty) == pytest.approx(wanted, abs=1e-4)


def test_newton_stays_finite_where_all_are_won():
    design = sparse.csr_matrix(np.ones((50, 1)))
    fitted = fit_logistic(design, np.ones(50), np.ones(50), np.array([RIDGE]))
    assert 50 * (1 - expit(fitted[0])) == pytest.approx(RIDGE * fitted[0], rel=1e-4)


def test_rates_at_equal_length_are_found_again():
    verdicts, differences, models, prompts, true = made([-1.0, 0.0, 0.5, 1.0], [1.5] * 4, [1.0] * 4)
    fit = length_control(verdicts, differences, models, prompts, 4)
    assert fit.rates == pytest.approx(true, abs=0.035)
    assert ((fit.length_effects > 1.2) & (fit.length_effects < 2.5)).all()
    assert fit.difficulty_variance > 0
    raw = np.array([verdicts[models == m].mean() for m in range(4)])
    assert np.abs(raw - true).max() > 0.1


def test_standard_errors_match_repetition():
    fits = []
    for seed in range(40):
        verdicts, differences, models, prompts, _ = made([0.3], [1.0], [0.0], n_prompts=400, seed=seed)
        fits.append(length_control(verdicts, differences, models, prompts, 1))
    spread = np.std([fit.rates[0] for fit in fits], ddof=1)
    assert np.mean([fit.standard_errors[0] for fit in fits]) == pytest.approx(spread, rel=0.3)
    assert fits[0].overall == pytest.approx(fits[0].rates[0])
    assert fits[0].overall_standard_error == pytest.approx(fits[0].standard_errors[0])


def test_other_groups_pull_the_length_effect():
    verdicts, differences, models, prompts, _ = made([0.0, 0.0, 0.0], [0.0, 2.0, 2.0], [0.0] * 3, n_prompts=1000)
    effects = [length_control(verdicts, differences, models, prompts, 3, shared_weight=w).length_effects[0]
               for w in (0, 0.2, 1, 10)]  # fmt: skip
    assert effects == sorted(effects)
    assert abs(effects[0]) < 0.3
    assert effects[-1] > 1


def test_exchanging_the_sides_turns_the_rate_around():
    verdicts, differences, models, prompts, _ = made([0.4, -0.2], [1.0, 1.0], [0.5, 0.5], n_prompts=300)
    one = length_control(verdicts, differences, models, prompts, 2)
    other = length_control(1 - verdicts, -differences, models, prompts, 2)
    assert other.rates == pytest.approx(1 - one.rates, abs=1e-4)


def test_rows_without_judgement_or_length_take_no_part():
    verdicts, differences, models, prompts, _ = made([0.4, -0.2], [1.0, 1.0], [0.5, 0.5], n_prompts=200)
    more = [np.append(verdicts, [np.nan, 1]), np.append(differences, [5, np.nan]), np.append(models, [0, 1]),
            np.append(prompts, [0, 900])]  # fmt: skip
    np.testing.assert_array_equal(
        length_control(*more, 2).rates, length_control(verdicts, differences, models, prompts, 2).rates
    )


def test_lengths_that_do_not_vary_give_nan():
    fit = length_control(np.array([1.0, 0, 1, 0]), np.array([5.0, 5, 1, 9]), np.array([0, 0, 1, 1]), np.arange(4), 2)
    assert np.isnan(fit.rates[0])
    assert 0 < fit.rates[1] < 1
    with pytest.raises(DataError, match="shared_weight"):
        length_control(np.ones(2), np.ones(2), np.zeros(2, int), np.arange(2), 1, shared_weight=-1)


def test_winrate_controls_length_over_its_languages():
    verdicts, differences, models, prompts, true = made([0.0, 0.8], [1.5, 1.5], [1.0, 1.0])
    result = winrate(verdicts, np.array(["de", "sw"])[models], prompts, n_resamples=0,
                     candidate_lengths=2000 + differences, baseline_lengths=np.full(len(verdicts), 2000))  # fmt: skip
    found = [result["per_language"][code]["length_controlled_win_rate"] for code in ("de", "sw")]
    assert found == pytest.approx(100 * true, abs=4)
    assert result["length_controlled_win_rate"] == pytest.approx(np.mean(found))
    assert 0 < result["length_controlled_standard_error"] < 3
