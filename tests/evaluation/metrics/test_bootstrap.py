"""Cluster bootstrap: exact where it can be worked out, and its intervals cover what they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.metrics.bootstrap import (
    ClusterSums,
    _types,
    check_bootstrap,
    percentile_interval,
    resample,
    share_interval,
    standard_error,
    unanimous_interval,
)


def test_cells_add_up_by_group_and_cluster():
    data = ClusterSums.of(np.array([1.0, 0.5, 0.0, 1.0]), np.array([7, 7, 2, 7]), np.array([1, 0, 1, 1]), 3)
    assert data.n_clusters == 2
    assert [part.tolist() for part in data.group(0)] == [[0.5], [1.0]]
    assert [part.tolist() for part in data.group(1)] == [[0.0, 2.0], [1.0, 2.0]]
    assert [part.tolist() for part in data.group(2)] == [[], []]
    assert [part.tolist() for part in data.all()] == [[0.0, 2.5], [1.0, 3.0]]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=60))
def test_cells_keep_every_value(rows):
    values, clusters, groups = (np.array(column) for column in zip(*rows))
    data = ClusterSums.of(values, clusters, groups, 4)
    for code in range(4):
        sums, sizes = data.group(code)
        assert sums.sum() == pytest.approx(values[groups == code].sum())
        assert sizes.sum() == np.sum(groups == code)
        assert len(sums) == len(set(clusters[groups == code]))
    assert data.all()[0].sum() == pytest.approx(values.sum())
    assert data.n_clusters == len(set(clusters))


def test_standard_error_of_single_values_is_the_usual_one():
    values = np.array([0.0, 1.0, 1.0, 0.5])
    assert standard_error(values, np.ones(4)) == pytest.approx(values.std(ddof=1) / 2)
    assert np.isnan(standard_error(np.ones(1), np.ones(1)))


def test_standard_error_of_two_clusters_by_hand():
    """Sums 2 of 2 and 0 of 1: mean 2/3, residuals ±2/3, √(2 · 2 · 4/9)/3."""
    assert standard_error(np.array([2.0, 0.0]), np.array([2.0, 1.0])) == pytest.approx(np.sqrt(2 * 8 / 9) / 3)


def test_resamples_of_two_clusters_have_the_binomial_distribution():
    sums, sizes = resample(np.array([1.0, 0.0]), np.array([1.0, 3.0]), 2, 40_000, np.random.default_rng(0))
    assert set(zip(sums, sizes)) == {(2, 2), (1, 4), (0, 6)}
    assert [np.mean(sums == k) for k in (0, 1, 2)] == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_clusters_without_values_take_part_in_the_draw():
    _, sizes = resample(np.array([1.0]), np.array([1.0]), 4, 40_000, np.random.default_rng(0))
    assert np.mean(sizes == 0) == pytest.approx(0.75**4, abs=0.01)


@pytest.mark.parametrize("kind", ["few values", "many values", "uneven sizes"])
def test_replicates_spread_like_draws_one_by_one(kind):
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 5, size=2000).astype(float) if kind == "uneven sizes" else np.ones(2000)
    sums = sizes * (rng.random(2000) if kind == "many values" else rng.choice([0, 0.5, 1], size=2000))
    drawn, size = resample(sums, sizes, 2000, 4000, rng)
    rows = rng.integers(0, 2000, size=(4000, 2000))
    wanted = sums[rows].sum(1) / sizes[rows].sum(1)
    assert (drawn / size).mean() == pytest.approx(wanted.mean(), abs=4e-4)
    assert (drawn / size).std() == pytest.approx(wanted.std(), rel=0.05)
    assert (drawn / size).std() == pytest.approx(standard_error(sums, sizes), rel=0.05)


def test_values_in_one_bin_keep_their_spread():
    """All but one of the clusters lie within few bins of the range; these would take most of their variance away."""
    values = np.append(np.random.default_rng(0).normal(0, 1 / 300, 199_999), 1.0)
    sums, _, counts = _types(values, np.ones(200_000))
    assert np.average((sums - values.mean()) ** 2, weights=counts) == pytest.approx(values.var(), rel=1e-3)
    spread_out = np.random.default_rng(0).random(200_000)
    sums, _, counts = _types(spread_out, np.ones(200_000))
    assert len(sums) == 64
    assert sums @ counts == pytest.approx(spread_out.sum())
    assert np.average((sums - spread_out.mean()) ** 2, weights=counts) == pytest.approx(spread_out.var(), rel=1e-3)


@settings(max_examples=20)
@given(st.integers(2, 400), st.integers(0, 5))
def test_the_order_of_clusters_does_not_matter(n, seed):
    rng = np.random.default_rng(seed)
    sums, sizes = rng.choice([0.0, 0.5, 1.0, 2.0], size=n), rng.choice([2.0, 3.0], size=n)
    order = rng.permutation(n)
    one = resample(sums, sizes, n, 20, np.random.default_rng(0))
    other = resample(sums[order], sizes[order], n, 20, np.random.default_rng(0))
    np.testing.assert_allclose(one, other)


def test_percentile_interval_widens_for_few_clusters():
    replicates = np.linspace(0, 1, 100_001)
    assert percentile_interval(replicates, 0.95, 10**6) == pytest.approx((0.025, 0.975), abs=1e-4)
    low, high = percentile_interval(replicates, 0.95, 10)
    assert (low, 1 - high) == pytest.approx((0.00854, 0.00854), abs=2e-4)  # Φ(−√(10/9)·2.2622)
    assert all(np.isnan(percentile_interval(replicates, 0.95, 1)))
    assert all(np.isnan(percentile_interval(np.array([]), 0.95, 10)))


def test_unanimous_interval_is_clopper_pearson():
    from scipy.stats import binomtest

    for n in (1, 5, 40):
        exact = binomtest(n, n).proportion_ci(0.95, "exact")
        assert unanimous_interval(1.0, n, 0.95) == pytest.approx((exact.low, exact.high))
    low, high = unanimous_interval(0.5, 5, 0.95)
    assert 1 - high == pytest.approx(low)


def test_share_interval_is_clopper_pearson_near_the_ends():
    from scipy.stats import binomtest

    for hits, n in ((30, 30), (29, 30), (93, 100), (3, 200), (0, 4)):
        exact = binomtest(hits, n).proportion_ci(0.95, "exact")
        assert share_interval(hits / n, n, 0.95) == pytest.approx((exact.low, exact.high))
    for share, n in ((0.5, 20), (0.89, 100), (0.11, 100), (float("nan"), 10)):
        assert np.isnan(share_interval(share, n, 0.95)).all()
    assert share_interval(1.0, 7, 0.9) == pytest.approx(unanimous_interval(1.0, 7, 0.9))


def covered(clustered: bool, n_clusters: int, trials: int = 2000) -> tuple[float, float]:
    """Share of trials whose 95 % interval holds the true mean 0.5, and the same if each row counts as a cluster.

    Each prompt has 5 languages and a lift of its own (or none); a verdict is a win, tie or loss.
    """
    rng = np.random.default_rng(3)
    hits = np.zeros(2)
    prompts = np.repeat(np.arange(n_clusters), 5)
    for _ in range(trials):
        latent = rng.normal(size=(n_clusters, 5)) + clustered * rng.normal(size=(n_clusters, 1))
        values = (np.digitize(latent, [-0.2, 0.2]) / 2).ravel()
        for way, clusters in enumerate((prompts, np.arange(len(values)))):
            data = ClusterSums.of(values, clusters, np.zeros(len(values), np.int64), 1)
            drawn, size = resample(*data.all(), data.n_clusters, 400, rng)
            low, high = percentile_interval(drawn / size, 0.95, data.n_clusters)
            hits[way] += low <= 0.5 <= high
    return tuple(hits / trials)


@pytest.mark.parametrize("n_clusters", [15, 60])
def test_coverage_of_clustered_data(n_clusters):
    with_clusters, without = covered(True, n_clusters)
    assert 0.93 <= with_clusters <= 0.97
    assert without < 0.85


def test_coverage_of_independent_data():
    with_clusters, without = covered(False, 40)
    assert 0.93 <= with_clusters <= 0.97
    assert 0.93 <= without <= 0.97


def test_options_are_checked():
    for n_resamples, confidence in ((-1, 0.95), (2.5, 0.95), (True, 0.95), (10, 0.0), (10, 1.0), (10, "0.95")):
        with pytest.raises(DataError, match="n_resamples|confidence"):
            check_bootstrap(n_resamples, confidence)
    for seed in (-1, 1.5, "0", None):
        with pytest.raises(DataError, match="seed"):
            check_bootstrap(10, 0.95, seed)
