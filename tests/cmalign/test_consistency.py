"""Self-consistency, cross-lingual consistency, agreement: worked by hand and against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.cmalign.consistency import agreement, cross_consistency, language_means, self_consistency
from hf_mlalign.core.errors import DataError


def cosine(a, b):
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else 0.0


def test_self_consistency_by_hand():
    vectors = [[1, 0], [0, 2], [3, 3], [5, 0], [0, 0], [1, 0]]
    found = self_consistency(vectors, [7, 7, 7, 3, 4, 4])
    half = np.sqrt(0.5)
    assert found[:3] == pytest.approx([half / 2, half / 2, half], abs=1e-6)
    assert np.isnan(found[3])
    assert found[4:].tolist() == [0, 0]


def test_means_are_subtracted():
    found = self_consistency([[2.0, 1], [2, 3], [2, 1]], [0, 0, 0], means=np.array([2.0, 2], np.float32))
    assert found.tolist() == [0, -1, 0]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 10**6))
def test_against_loops(n, n_prompts, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 5)).astype(np.float32)
    prompts = rng.integers(0, n_prompts, n)
    references = rng.standard_normal((n_prompts, 5)).astype(np.float32)
    own = self_consistency(vectors, prompts)
    cross = cross_consistency(vectors, references, prompts)
    for i in range(n):
        others = [cosine(vectors[i], vectors[j]) for j in range(n) if j != i and prompts[j] == prompts[i]]
        assert np.isnan(own[i]) if not others else own[i] == pytest.approx(np.mean(others), abs=1e-4)
        assert cross[i] == pytest.approx(cosine(vectors[i], references[prompts[i]]), abs=1e-5)


def test_regular_and_irregular_layouts_agree():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((24, 8)).astype(np.float32)
    prompts = np.repeat(np.arange(4), 6)
    languages = np.tile([0, 0, 1, 1, 2, 2], 4)
    references = rng.standard_normal((4, 8)).astype(np.float32)
    means = language_means(vectors, languages, 3)
    regular = cross_consistency(vectors, references, prompts, languages=languages, means=means)
    shuffle = rng.permutation(24)
    mixed = cross_consistency(
        vectors, references, prompts[shuffle], rows=shuffle, languages=languages[shuffle], means=means
    )
    assert mixed == pytest.approx(regular[shuffle], abs=1e-6)


def test_missing_references_and_bad_vectors():
    references = np.array([[1, 0], [np.nan, np.nan]], np.float32)
    found = cross_consistency([[1, 0], [1, 0], [0, 0]], references, [0, 1, 0])
    assert found[0] == 1
    assert np.isnan(found[1])
    assert found[2] == 0
    with pytest.raises(DataError, match="NaN or infinity"):
        cross_consistency([[np.nan, 0]], references, [0])
    with pytest.raises(DataError, match="NaN or infinity"):
        self_consistency([[np.inf, 0], [1, 0]], [0, 0])
    with pytest.raises(DataError, match="references has shape"):
        cross_consistency([[1, 0]], [[1, 0, 0]], [0])
    with pytest.raises(DataError, match="pass 2 integers"):
        self_consistency([[1, 0], [1, 0]], [0])
    with pytest.raises(DataError, match="2-D array"):
        self_consistency([1, 0], [0, 1])


def test_language_means():
    means = language_means([[1.0, 1], [3, 1], [5, 5]], np.array([0, 0, 2]), 3)
    assert means.tolist() == [[2, 1], [0, 0], [5, 5]]


def test_agreement_by_hand():
    answers = np.array([0, 0, 1, -1, 0, 2, -1, -1, 3])
    prompts = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
    voters = np.array([1, 1, 1, 1, 0, 0, 1, 1, 0], bool)
    found = agreement(answers, prompts, voters)
    assert found[:6].tolist() == [0.5, 0.5, 0.25, 0, 0.5, 0]
    assert np.isnan(found[6:]).all()


def test_language_means_reach_the_last_row():
    means = language_means(np.arange(5_000, dtype=np.float32)[:, None], np.zeros(5_000, np.int32), 1)
    assert means[0, 0] == pytest.approx(2499.5, abs=1)
