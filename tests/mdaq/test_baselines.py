"""Each baseline against a brute-force transcription or a case worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq import baselines
from hf_mlalign.mdaq.selection import Pool, das_select, select

NAN = float("nan")


def unit(x):
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)


def brute_deita(scores, vectors, n, threshold):
    x, kept = unit(vectors), []
    for i in sorted((i for i in range(len(scores)) if scores[i] == scores[i]), key=lambda i: (-scores[i], i)):
        if len(kept) < n and all(x[i] @ x[j] <= threshold for j in kept):
            kept.append(i)
    return kept


def brute_mmr(scores, vectors, n, trade_off):
    x = unit(vectors)
    rows = [i for i in range(len(scores)) if scores[i] == scores[i]]
    low, high = min(scores[rows]), max(scores[rows])
    quality = (scores - low) / ((high - low) or 1.0)
    chosen = []
    while len(chosen) < min(n, len(rows)):
        best, best_value = None, -np.inf
        for i in rows:
            redundancy = max((x[i] @ x[j] for j in chosen), default=0.0)
            value = trade_off * quality[i] - (1 - trade_off) * redundancy
            if i not in chosen and value > best_value:
                best, best_value = i, value
        chosen.append(best)
    return chosen


def random_pool(seed, n=60, d=6):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(n)
    scores[rng.random(n) < 0.1] = NAN
    return scores, rng.standard_normal((n, d)) * rng.uniform(0.1, 10, (n, 1))


@given(st.integers(0, 10_000), st.integers(0, 70), st.sampled_from([0.0, 0.3, 0.6, 0.9]))
def test_deita_is_the_greedy_filter(seed, n, threshold):
    scores, vectors = random_pool(seed)
    expected = brute_deita(scores, vectors, n, threshold)
    assert baselines.deita_select(scores, vectors, n, threshold).tolist() == expected


def test_deita_across_blocks(monkeypatch):
    scores, vectors = random_pool(3, n=200)
    expected = brute_deita(scores, vectors, 200, 0.7)
    monkeypatch.setattr(baselines, "BLOCK", 7)
    assert baselines.deita_select(scores, vectors, 200, 0.7).tolist() == expected


def test_deita_by_hand():
    vectors = np.array([[1, 0], [2, 0], [1, 1], [0, 0], [0, 3]], dtype=np.float32)
    scores = [5.0, 4.0, 3.0, 2.0, 1.0]
    # row 1 points where row 0 does; cos(row 2, row 0) = 0.707; the zero vector is similar to nothing
    assert baselines.deita_select(scores, vectors, 5).tolist() == [0, 2, 3, 4]
    assert baselines.deita_select(scores, vectors, 5, threshold=0.5).tolist() == [0, 3, 4]
    assert baselines.deita_select(scores, vectors, 2).tolist() == [0, 2]
    assert baselines.deita_select(scores, vectors, 5, threshold=1.0).tolist() == [0, 1, 2, 3, 4]


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 70), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_mmr_is_exact(seed, n, trade_off):
    scores, vectors = random_pool(seed)
    assert baselines.mmr_select(scores, vectors, n, trade_off).tolist() == brute_mmr(scores, vectors, n, trade_off)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 70), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]), st.integers(1, 70))
def test_mmr_is_exact_for_any_window(seed, n, trade_off, window):
    scores, vectors = random_pool(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "WINDOW", window)
        patch.setattr(baselines, "BLOCK", 5)
        got = baselines.mmr_select(scores, vectors, n, trade_off)
    assert got.tolist() == brute_mmr(scores, vectors, n, trade_off)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
def test_mmr_breaks_ties_by_row_for_any_window(seed, n, window):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, 40).astype(float)
    vectors = np.concatenate([np.eye(4), -np.eye(4), np.zeros((1, 4))])[rng.integers(0, 9, 40)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "WINDOW", window)
        got = baselines.mmr_select(scores, vectors, n)
    assert got.tolist() == brute_mmr(scores, vectors, n, 0.5)


def test_mmr_by_hand():
    # quality 1, 0.75, 0.5, 0; after row 0: row 1 → 0.375 − 0.5, row 2 → 0.25 − 0, row 3 → 0 − 0.5·(−1)
    vectors = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    assert baselines.mmr_select([4.0, 3.0, 2.0, 0.0], vectors, 4).tolist() == [0, 3, 2, 1]


def test_mmr_with_quality_only_is_top_k_with_ties_by_row():
    scores, vectors = random_pool(1)
    scores = np.round(scores)
    assert (
        baselines.mmr_select(scores, vectors, 20, trade_off=1.0).tolist()
        == baselines.quality_select(scores, 20).tolist()
    )


def test_mmr_with_equal_or_infinite_scores():
    vectors = np.eye(3, dtype=np.float32)
    assert baselines.mmr_select([1.0, 1.0, 1.0], vectors, 3).tolist() == [0, 1, 2]
    assert baselines.mmr_select([-np.inf, np.inf, 0.0], vectors, 3).tolist() == [0, 1, 2]
    assert baselines.mmr_select([-np.inf, np.inf, -np.inf], vectors, 3).tolist() == [1, 0, 2]


@pytest.mark.parametrize("select_rows", [baselines.deita_select, baselines.mmr_select])
def test_bad_embeddings_name_the_row(select_rows):
    vectors = np.ones((4, 2))
    vectors[[1, 2]] = NAN
    assert 1 not in select_rows([1.0, NAN, NAN, 2.0], vectors, 4).tolist()
    with pytest.raises(DataError, match="embeddings, row 2: holds NaN or infinity"):
        select_rows([1.0, NAN, 3.0, 2.0], vectors, 4)
    with pytest.raises(DataError, match=r"shape \(3, 2\) for 4 scores"):
        select_rows([1.0, 2.0, 3.0, 4.0], vectors[:3], 4)


def test_mmr_trade_off_range():
    with pytest.raises(DataError, match="trade_off is 1.5"):
        baselines.mmr_select([1.0], np.ones((1, 2)), 1, trade_off=1.5)


def test_quality_and_longest_by_hand():
    scores = [0.5, NAN, 2.0, 0.5, np.inf]
    assert baselines.quality_select(scores, 3).tolist() == [4, 2, 0]
    assert baselines.longest_select(scores, [7, 99, 7, 8, 1], 3).tolist() == [3, 0, 2]
    assert baselines.longest_select(scores, [7, 99, None, 8, 1], 5).tolist() == [3, 0, 4]


def test_random_is_seeded_uniform_and_nested():
    scores = np.array([1.0, NAN, 2.0, 3.0, 4.0])
    first = baselines.random_select(scores, 4, seed=3)
    assert sorted(first.tolist()) == [0, 2, 3, 4]
    assert baselines.random_select(scores, 2, seed=3).tolist() == first[:2].tolist()
    counts = np.zeros(5)
    for seed in range(2000):
        counts[baselines.random_select(scores, 1, seed)] += 1
    assert counts[1] == 0
    assert np.abs(counts[[0, 2, 3, 4]] - 500).max() < 100  # five standard deviations of Binomial(2000, 1/4)


def test_principal_components_match_scikit_learn():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 12)) @ np.diag(np.linspace(3, 0.1, 12)) + 5
    expected = PCA(n_components=0.95, svd_solver="full").fit_transform(x)
    got = baselines.principal_components(x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=1e-3)


def test_principal_components_of_equal_rows():
    assert baselines.principal_components(np.ones((5, 3))).tolist() == [[0.0]] * 5
    with pytest.raises(DataError, match="variance is 0"):
        baselines.principal_components(np.ones((5, 3)), 0)


def test_car_clusters_find_separated_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 8)
    x = 10 * np.eye(6)[groups] + 0.01 * rng.standard_normal((32, 6))
    labels = baselines.car_clusters(x)  # k = ⌊√(32/2)⌋ = 4
    assert labels.tolist() == groups.tolist()


@given(st.integers(0, 1000))
def test_car_is_the_top_and_the_best_of_each_cluster(seed):
    rng = np.random.default_rng(seed)
    scores, clusters = rng.permutation(40).astype(float), rng.integers(0, 8, 40)
    best = {int(np.flatnonzero(clusters == c)[np.argmax(scores[clusters == c])]) for c in np.unique(clusters)}
    top = set(np.argsort(-scores)[:10].tolist())
    got = select("car", Pool(scores, clusters), 10, 8)
    assert set(got.indices.tolist()) == top | best
    assert got.reasons.tolist() == ["quality"] * 10 + ["diversity"] * (len(got) - 10)


def test_car_clusters_the_embeddings_when_the_pool_has_no_clusters():
    rng = np.random.default_rng(0)
    scores = rng.permutation(32).astype(float)
    scores[0] = NAN
    vectors = 10 * np.eye(4)[np.repeat(np.arange(4), 8)] + 0.01 * rng.standard_normal((32, 4))
    vectors[0] = NAN
    got = select("car", Pool(scores, embeddings=vectors), 2, 3, n_clusters=4)
    assert got.indices.tolist() == das_select(scores, np.repeat(np.arange(4), 8), 2, 3).tolist()
