"""Diversity-aware selection against hand-worked cases and a literal transcription of the paper's algorithm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq.selection import METHODS, Pool, Selection, StreamedDAS, das_select, register_method, select

NAN = float("nan")


def paper_das(scores, clusters, n_quality, n_diversity):
    order = sorted((i for i in range(len(scores)) if scores[i] == scores[i]), key=lambda i: (-scores[i], i))
    chosen, covered, extra = [], set(), 0
    for position, i in enumerate(order):
        if position < n_quality:
            chosen.append(i)
            covered.add(clusters[i])
        elif extra < n_diversity and clusters[i] not in covered:
            chosen.append(i)
            covered.add(clusters[i])
            extra += 1
    return chosen


@st.composite
def pools(draw, distinct=False):
    n = draw(st.integers(0, 40))
    if distinct:
        scores = np.array(draw(st.permutations(range(n))), dtype=np.float64)
    else:
        few = st.sampled_from([0.0, -0.0, 0.5, 1.0, -3.0, NAN, np.inf, -np.inf])
        scores = np.array(draw(st.lists(few, min_size=n, max_size=n)), dtype=draw(st.sampled_from(["f4", "f8"])))
    clusters = draw(hnp.arrays(np.int32, n, elements=st.integers(-2, 8)))
    return scores, clusters, draw(st.integers(0, 20)), draw(st.integers(0, 20))


@given(pools())
def test_das_is_the_papers_algorithm(pool):
    scores, clusters, nq, nd = pool
    assert das_select(scores, clusters, nq, nd).tolist() == paper_das(scores.tolist(), clusters.tolist(), nq, nd)


@given(pools(), st.lists(st.integers(0, 40), max_size=5), st.randoms(use_true_random=False))
def test_das_in_one_pass_over_blocks_in_any_order(pool, cuts, random):
    scores, clusters, nq, nd = pool
    order = np.array(random.sample(range(len(scores)), len(scores)), dtype=np.int64)
    streamed = StreamedDAS(nq, nd)
    for rows in np.split(order, sorted(cut for cut in cuts if cut <= len(order))):
        streamed.add(rows, scores[rows], clusters[rows])
    chosen = streamed.select()
    assert chosen.dtype == np.int64
    assert chosen.tolist() == das_select(*pool).tolist()


def test_das_holds_no_more_than_its_budget_and_the_best_of_each_cluster():
    rng = np.random.default_rng(0)
    streamed = StreamedDAS(30, 10)
    for block in range(20):
        streamed.add(np.arange(100) + 100 * block, rng.random(100), rng.integers(0, 7, 100))
        assert len(streamed._top.rows) == 30
        assert len(streamed._best.rows) == 7


@given(pools())
def test_das_selects_no_row_twice_and_no_row_without_score(pool):
    chosen = das_select(*pool)
    assert chosen.dtype == np.int64
    assert len(set(chosen.tolist())) == len(chosen)
    assert not np.isnan(pool[0][chosen]).any()


@given(pools(distinct=True), st.randoms(use_true_random=False))
def test_das_follows_a_permutation_of_the_rows(pool, random):
    scores, clusters, nq, nd = pool
    order = np.array(random.sample(range(len(scores)), len(scores)), dtype=np.int64)
    permuted = das_select(scores[order], clusters[order], nq, nd)
    assert order[permuted].tolist() == das_select(scores, clusters, nq, nd).tolist()


@given(pools(), st.integers(0, 5), st.integers(0, 5))
def test_larger_budgets_contain_smaller_ones(pool, more_quality, more_diversity):
    scores, clusters, nq, nd = pool
    small = das_select(scores, clusters, nq, nd)
    large = das_select(scores, clusters, nq + more_quality, nd + more_diversity)
    assert set(small.tolist()) <= set(large.tolist())
    longer = das_select(scores, clusters, nq, nd + more_diversity)
    assert longer[: len(small)].tolist() == small.tolist()


@pytest.mark.parametrize(
    ("scores", "clusters", "n_quality", "n_diversity", "expected"),
    [
        # 0.9 and 0.8 are both of cluster 0; the walk skips row 2 (cluster 0) and takes rows 3 and 4
        ([0.9, 0.8, 0.7, 0.6, 0.5], [0, 0, 0, 1, 2], 2, 2, [0, 1, 3, 4]),
        # the quality part covers clusters 5 and 6, so only row 3 (cluster 7) is new
        ([4, 3, 2, 1], [5, 6, 5, 7], 2, 2, [0, 1, 3]),
        # ties: row order; rows 1 and 2 tie for the second place of quality
        ([1.0, 0.5, 0.5, 0.5], [0, 1, 2, 2], 2, 5, [0, 1, 2]),
        ([1, 2, 3], [0, 1, 2], 2, 0, [2, 1]),
        ([1, 2, 3, 4], [0, 0, 1, 1], 0, 2, [3, 1]),
        ([1, 2, 3], [0, 0, 0], 0, 0, []),
        ([NAN, 1.0, NAN, 2.0], [0, 1, 2, 3], 10, 10, [3, 1]),
        ([-np.inf, 0.0, np.inf], [0, 1, 2], 1, 2, [2, 1, 0]),
        ([None, 1.0], [0, 1], 5, 0, [1]),
        ([7.0], [3], 1, 1, [0]),
        ([], [], 3, 3, []),
        ([0.0] * 4, [1, 1, 0, 0], 1, 1, [0, 2]),
    ],
)
def test_das_by_hand(scores, clusters, n_quality, n_diversity, expected):
    chosen = das_select(scores, np.array(clusters, dtype=np.int64), n_quality, n_diversity)
    assert chosen.tolist() == expected


@pytest.mark.parametrize(
    ("scores", "clusters", "nq", "nd", "message"),
    [
        ([[1.0]], [0], 1, 1, "scores has shape"),
        ([1.0, 2.0], [0], 1, 1, "clusters has shape"),
        ([1.0], [0.5], 1, 1, "clusters has dtype float64"),
        (["x"], [0], 1, 1, "scores, row 0: 'x' is not a number"),
        ([1.0], [0], -1, 1, "n_quality: -1"),
        ([1.0], [0], 1, 1.5, "n_diversity: 1.5"),
        ([1.0], [0], True, 1, "n_quality: True"),
    ],
)
def test_das_rejects_bad_input(scores, clusters, nq, nd, message):
    with pytest.raises(DataError, match=message):
        das_select(scores, clusters, nq, nd)


def test_select_gives_reasons():
    got = select("das", Pool([4.0, 3.0, 2.0, 1.0], [0, 0, 0, 1]), 2, 1)
    assert got.indices.tolist() == [0, 1, 3]
    assert got.reasons.tolist() == ["quality", "quality", "diversity"]
    assert got.notes == ()


def test_too_few_uncovered_clusters_is_reported_and_not_filled():
    got = select("das", Pool([4.0, 3.0, 2.0, 1.0], [0, 0, 0, 1]), 1, 2)
    assert got.indices.tolist() == [0, 3]
    assert "only 1 of 2 clusters were uncovered" in got.notes[0]
    assert "selected 2 of 3 requested rows" in got.notes[1]


def test_fill_tops_up_by_score_with_a_note():
    got = select("das", Pool([4.0, 3.0, 2.0, 1.0], [0, 0, 0, 1]), 1, 2, fill=True)
    assert got.indices.tolist() == [0, 3, 1]
    assert got.reasons.tolist() == ["quality", "diversity", "quality"]
    assert "topped up by score with 1 row" in got.notes


@pytest.mark.parametrize("fill", [False, True])
def test_fewer_rows_than_asked_is_reported(fill):
    got = select("das", Pool([1.0, 2.0], [0, 0]), 5, 5, fill=fill)
    assert got.indices.tolist() == [1, 0]
    assert got.notes == ("selected only 2 rows of the 10 requested: no more have a score",)


def test_one_row():
    got = select("das", Pool([1.0], [0]), 1, 0)
    assert got.indices.tolist() == [0]
    assert got.notes == ()


def test_equal_scores_are_reported_and_break_by_row():
    got = select("das", Pool(np.zeros(5), [0, 0, 1, 2, 2]), 1, 2)
    assert got.indices.tolist() == [0, 2, 3]
    assert "all 5 scores are equal" in got.notes[0]


def test_unscored_rows_are_counted_and_never_selected():
    got = select("das", Pool([NAN, 2.0, NAN, 1.0], [0, 1, 2, 3]), 1, 1)
    assert got.indices.tolist() == [1, 3]
    assert got.notes == ("left out 2 rows without a score (of 4)",)


@pytest.mark.parametrize("method", ["das", "random", "longest", "quality", "car", "deita", "mmr"])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_no_method_selects_where_nothing_has_a_score(method, n):
    pool = Pool(np.full(n, NAN), np.zeros(n, dtype=int), np.full((n, 2), NAN), np.ones(n))
    got = select(method, pool, 2, 1)
    assert len(got) == 0
    assert got.indices.dtype == np.int64
    assert "selected only 0 rows of the 3 requested" in got.notes[-1]


@pytest.mark.parametrize("method", ["das", "random", "longest", "quality", "car", "deita", "mmr"])
@given(seed=st.integers(0, 1000), nq=st.integers(0, 12), nd=st.integers(0, 12))
def test_every_method_keeps_the_contract(method, seed, nq, nd):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 25))
    scores = rng.integers(0, 6, n).astype(float)
    scores[rng.random(n) < 0.2] = NAN
    embeddings = rng.standard_normal((n, 3))
    embeddings[np.isnan(scores)] = NAN
    pool = Pool(scores, rng.integers(0, 5, n), embeddings, rng.integers(1, 9, n))
    got, again = select(method, pool, nq, nd, seed=1), select(method, pool, nq, nd, seed=1)
    assert len(got) <= nq + nd
    assert len(set(got.indices.tolist())) == len(got) == len(got.reasons)
    assert not np.isnan(scores[got.indices]).any()
    assert set(got.reasons.tolist()) <= {"quality", "diversity"}
    assert got.indices.tolist() == again.indices.tolist()
    assert len(got) == nq + nd or got.notes
    full = select(method, pool, nq, nd, seed=1, fill=True)
    assert len(full) == min(nq + nd, int((~np.isnan(scores)).sum()))
    assert full.indices[: len(got)].tolist() == got.indices.tolist()


def test_reasons_from_row_numbers_alone():
    pool = Pool([5.0, 4.0, 3.0], lengths=[1, 2, 3])
    assert select("longest", pool, 1, 1).reasons.tolist() == ["diversity", "quality"]


def test_unknown_method_lists_the_known():
    with pytest.raises(DataError, match=r"'best'; known methods are das, car, quality, random, longest, deita, mmr"):
        select("best", Pool([1.0]), 1, 1)


@pytest.mark.parametrize(
    ("method", "message"),
    [("das", "needs scores, clusters; the pool lacks clusters"), ("mmr", "lacks embeddings"), ("longest", "lengths")],
)
def test_missing_field_names_what_the_method_needs(method, message):
    with pytest.raises(DataError, match=message):
        select(method, Pool([1.0]), 1, 1)


def test_car_needs_clusters_or_embeddings():
    with pytest.raises(DataError, match="needs clusters or embeddings"):
        select("car", Pool([1.0]), 1, 1)


def test_unknown_option():
    with pytest.raises(DataError, match="does not take these options.*threshold"):
        select("das", Pool([1.0], [0]), 1, 1, threshold=0.5)


def test_pool_checks_lengths():
    with pytest.raises(DataError, match="embeddings has shape"):
        Pool([1.0, 2.0], embeddings=np.zeros((3, 2)))
    with pytest.raises(DataError, match="lengths has shape"):
        Pool([1.0, 2.0], lengths=[1])
    with pytest.raises(DataError, match="clusters has shape"):
        Pool([1.0, 2.0], clusters=[1])


@pytest.fixture
def scratch_method():
    yield "scratch"
    METHODS.pop("scratch", None)


def test_register_a_method(scratch_method):
    @register_method(scratch_method, needs=("scores", "lengths"))
    def shortest(pool, n_quality, n_diversity, seed):
        return np.argsort(pool.lengths, kind="stable")[: n_quality + n_diversity]

    got = select(scratch_method, Pool([1.0, 2.0, 3.0], lengths=[5, 1, 3]), 1, 1)
    assert got.indices.tolist() == [1, 2]
    assert METHODS[scratch_method].needs == ("scores", "lengths")


@pytest.mark.parametrize("rows", [[0, 0], [5], [-1], [2]])
def test_a_registered_method_that_breaks_the_contract_is_stopped(scratch_method, rows):
    register_method(scratch_method)(lambda pool, n_quality, n_diversity, seed: np.array(rows))
    with pytest.raises(DataError, match="selected a row twice, outside the pool or without a score"):
        select(scratch_method, Pool([1.0, 2.0, NAN]), 1, 1)


def test_a_method_may_return_a_selection(scratch_method):
    def own(pool, n_quality, n_diversity, seed):
        return Selection(np.array([0]), np.array(["diversity"]), ("own note",))

    register_method(scratch_method)(own)
    got = select(scratch_method, Pool([1.0, 2.0]), 1, 0)
    assert got.reasons.tolist() == ["diversity"]
    assert got.notes == ("own note",)


def test_register_rejects_unknown_fields():
    with pytest.raises(DataError, match="needs names colour"):
        register_method("scratch", needs=("colour",))
