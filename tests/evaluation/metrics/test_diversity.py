"""Vendi score, nearest neighbours, clusters covered: by hand, by property, on the demo pool."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign import load_demo_pool
from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.metrics import diversity
from hf_mlalign.evaluation.metrics.diversity import nearest_neighbour_distances, selection_diversity, vendi_score

shapes = st.tuples(st.integers(1, 40), st.integers(1, 24), st.integers(0, 2**32 - 1))


def rows_of(shape) -> np.ndarray:
    n, d, seed = shape
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32) + 0.01


@settings(deadline=None)
@given(shapes)
def test_vendi_is_the_definition(shape):
    """exp(−Σ λ log λ) over the eigenvalues of the n × n matrix of cosines divided by n, whichever side is smaller."""
    rows = rows_of(shape)
    unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(rows))
    values = values[values > 1e-12]
    assert vendi_score(rows) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-4)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.1, 100))
def test_vendi_of_identical_and_of_orthogonal_rows(n, copies, scale):
    assert vendi_score(np.full((n, 8), scale)) == pytest.approx(1)
    assert vendi_score(np.eye(n) * scale) == pytest.approx(n)
    assert vendi_score(np.tile(np.eye(n), (copies, 1))) == pytest.approx(n)


@settings(deadline=None)
@given(shapes)
def test_vendi_bounds_and_invariance(shape):
    rows = rows_of(shape)
    score = vendi_score(rows)
    assert 1 - 1e-6 <= score <= min(rows.shape) + 1e-6
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((rows.shape[1],) * 2))[0]
    assert vendi_score(rows[::-1] @ rotation) == pytest.approx(score, rel=1e-4)


def test_vendi_does_not_depend_on_blocks(monkeypatch):
    rows = rows_of((500, 16, 0))
    whole = vendi_score(rows)
    monkeypatch.setattr(diversity, "BLOCK", 7)
    assert vendi_score(rows) == pytest.approx(whole, rel=1e-12)


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(2, 8), st.integers(0, 1000), st.integers(1, 50))
def test_nearest_neighbours_are_the_definition(n, d, seed, block):
    rows = rows_of((n, d, seed))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit.astype(np.float64) @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "BLOCK", block)
        np.testing.assert_allclose(nearest_neighbour_distances(rows), 1 - cosines.max(1), atol=1e-5)


def test_nearest_neighbours_by_hand():
    found = nearest_neighbour_distances([[1, 0], [2, 0], [0, 1], [-1, 0]])
    np.testing.assert_allclose(found, [0, 0, 1, 1], atol=1e-12)
    assert math.isnan(nearest_neighbour_distances([[1.0, 2.0]])[0])


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Eight rows around each of four axes, and the axis of each."""
    axes = np.repeat(np.arange(4), 8)
    noise = np.random.default_rng(0).standard_normal((32, 4)) * 0.02
    return (np.eye(4)[axes] + noise).astype(np.float32), axes


def test_clusters_covered_by_hand():
    pool, axes = blobs()
    narrow = selection_diversity(pool[axes < 2], pool=pool, n_clusters=4, n_random=0)
    wide = selection_diversity(pool[::8], pool=pool, n_clusters=4, n_random=0)
    assert (narrow["clusters_covered"], narrow["n_clusters"], narrow["cluster_coverage"]) == (2, 4, 0.5)
    assert (wide["clusters_covered"], wide["cluster_coverage"], wide["n_pool"]) == (4, 1.0, 32)
    assert narrow["vendi_score"] == pytest.approx(2, abs=0.05)
    assert wide["vendi_score"] == pytest.approx(4, abs=0.05)
    assert (narrow["near_duplicates"], wide["near_duplicates"]) == (1.0, 0.0)


def test_default_number_of_clusters_is_cars():
    pool, _ = blobs()
    assert selection_diversity(pool, pool=pool, n_random=0)["n_clusters"] == 4


def test_random_selections_are_what_is_expected_of_them():
    """Drawing 1 of 32 rows in 4 equal clusters always covers one; drawing all covers all, and equals the selection."""
    pool, _ = blobs()
    one = selection_diversity(pool[:1], pool=pool, n_clusters=4)
    assert (one["n_random"], one["cluster_coverage_random"], one["cluster_coverage_random_sd"]) == (10, 0.25, 0)
    everything = selection_diversity(pool, pool=pool, n_clusters=4, n_random=3)
    assert everything["vendi_score_random"] == pytest.approx(everything["vendi_score"])
    assert everything["nearest_neighbour_distance_random"] == pytest.approx(everything["nearest_neighbour_distance"])
    narrow = selection_diversity(pool[:8], pool=pool, n_clusters=4, n_random=20)
    assert narrow["vendi_score_random"] > narrow["vendi_score"] + 1


def test_languages_are_measured_apart_and_depend_on_themselves_only():
    pool, axes = blobs()
    languages = np.asarray(["de", "sw"], dtype=object)[axes // 2]
    chosen = np.arange(0, 32, 3)
    both = selection_diversity(pool[chosen], languages=languages[chosen], pool=pool, pool_languages=languages)
    german = chosen[languages[chosen] == "de"]
    names = ["German"] * 16
    alone = selection_diversity(pool[german], languages=languages[german], pool=pool[:16], pool_languages=names)
    assert both["per_language"]["de"] == alone["per_language"]["de"]
    assert both["n_clusters"] == sum(row["n_clusters"] for row in both["per_language"].values())
    assert both["n"] == 11


def test_a_pool_language_that_was_not_selected_counts_as_uncovered():
    pool, axes = blobs()
    languages = np.asarray(["de", "sw"], dtype=object)[axes // 2]
    found = selection_diversity(pool[:16], languages=languages[:16], pool=pool, pool_languages=languages, n_clusters=2)
    assert (found["clusters_covered"], found["n_clusters"]) == (2, 4)
    assert found["per_language"]["de"]["cluster_coverage"] == 1


def test_texts_are_encoded_once_and_empty_ones_left_out(counting_encoder):
    texts = ["banana", "banana", "tree", "a pear"]
    found = selection_diversity(texts, pool=[*texts, "fig"], model=counting_encoder, n_random=0)
    assert sorted(counting_encoder.seen) == ["a pear", "banana", "fig", "tree"]
    assert found["n_empty"] == 0
    with_empty = selection_diversity([*texts[:3], ""])
    assert (with_empty["n"], with_empty["n_empty"]) == (4, 1)
    assert with_empty["near_duplicates"] == pytest.approx(2 / 3)


def test_rows_selected_for_diversity_cover_more_than_random_ones():
    from hf_mlalign import MDaQScorer, MDaQSelector

    pool = load_demo_pool(["en", "de"])
    selector = MDaQSelector(n_quality=0, n_diversity=8, n_clusters=8)
    chosen = selector.select(pool.map(MDaQScorer(), batched=True))
    texts = {"data": list(chosen["prompt"]), "pool": list(pool["prompt"])}
    found = selection_diversity(**texts, languages=list(chosen["language"]), pool_languages=list(pool["language"]))
    assert found["n"] == 16
    assert found["cluster_coverage"] > found["cluster_coverage_random"] + found["cluster_coverage_random_sd"]
    assert found["vendi_score"] > found["vendi_score_random"]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "data: no rows"),
        (["a", None], {}, "data, row 1: NoneType"),
        (np.asarray([[1.0, math.nan]]), {}, "data, row 0: holds NaN"),
        (np.eye(2), {"languages": ["de"]}, "languages has 1 entries for 2 rows"),
        (np.eye(2), {"languages": ["de", "xx1"]}, "row 1: unknown language"),
        (np.eye(2), {"pool": np.eye(3)}, "vectors of length 3, data of length 2"),
        (np.eye(2), {"pool": np.eye(2), "languages": ["de", "de"]}, "give languages for both"),
        (np.eye(2), {"pool": np.eye(2), "languages": ["de", "sw"], "pool_languages": ["de", "de"]}, "no rows in sw"),
        (np.eye(2), {"pool": np.eye(2)[:1]}, "data: 2 rows, the pool has 1"),
        (np.eye(2), {"pool": np.zeros((2, 2))}, "pool: no rows with a direction"),
        (np.eye(2), {"pool": np.eye(2), "n_clusters": 0}, "n_clusters"),
        (np.eye(2), {"pool": np.eye(2), "n_random": -1}, "n_random: -1"),
        (np.eye(2), {"pool": np.eye(2), "n_random": 1.5}, "n_random: 1.5"),
        (np.eye(2), {"seed": -1}, "seed: -1"),
        (np.eye(2), {"pool_languages": ["de", "de"]}, "pool_languages: given without a pool"),
        (["a", "b"], {"pool": "abc"}, "pool: 'abc' is not a list"),
        ("abc", {}, "data: 'abc' is not a list"),
    ],
)
def test_bad_input(data, options, message):
    with pytest.raises(DataError, match=message):
        selection_diversity(data, **options)


def test_rows_of_zeros_have_no_vendi_score():
    with pytest.raises(DataError, match="embeddings, row 1: zero"):
        vendi_score([[1, 0], [0, 0]])
