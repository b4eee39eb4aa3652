"""The options of selection, `curate` and `score` (defaults, origins, refusals), and budgets per language by hand and by
properties that hold for any pool."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.mdaq.options import CurateOptions, ScoreOptions, SelectionOptions, allocate, share
from hf_mlalign.mdaq.scoring import score
from hf_mlalign.mdaq.selector import MDaQSelector


def test_one_class_gives_the_options_of_function_and_selector():
    for function, options in ((curate, CurateOptions), (score, ScoreOptions)):
        shown = inspect.signature(function).parameters
        assert [*shown][:2] == ["source", "output"]
        assert {n: shown[n].default for n in options.defaults()} == options.defaults()
    selector = MDaQSelector(5, n_diversity=2, budgets="each", seed=3)
    assert {n: getattr(selector, n) for n in SelectionOptions.defaults()} == {
        **SelectionOptions.defaults(), "n_quality": 5, "n_diversity": 2, "seed": 3
    }  # fmt: skip


def test_origins():
    paper = {name for name, origin in CurateOptions.origins().items() if origin == "paper"}
    assert paper == {"method", "fill"}
    assert set(ScoreOptions.origins().values()) == {"ours"}


def test_what_decides_the_result_stands_in_the_record():
    assert set(CurateOptions().parameters()) == {
        "column_mapping", "n_quality", "n_diversity", "budgets", "per_language", "method", "n_clusters",
        "max_points_per_centroid", "fill", "seed", "languages", "model", "scorer",
    }  # fmt: skip
    assert set(ScoreOptions().parameters()) == {
        "column_mapping", "model", "encoder", "embeddings", "batch_size", "shard_rows"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MDaQSelector(n_qualty=3), "Unknown option 'n_qualty'. Did you mean 'n_quality'?"),
        (lambda: MDaQSelector(-1), "n_quality: -1 is out of range. Use a number of at least 0"),
        (lambda: MDaQSelector(threshold=0.5), "Unknown option 'threshold'"),
        (lambda: MDaQSelector(method="beam"), "method: unknown 'beam'. Known: das, car, quality, random"),
        (lambda: MDaQSelector(budgets="half"), "budgets: unknown 'half'.*Known: each, total, proportional"),
        (lambda: curate("x", "y", n_divers=1), "curate: unknown option 'n_divers'. Did you mean 'n_diversity'?"),
        (lambda: curate("x", "y", address="auto"), "use it with --engine ray"),
        (lambda: score("x", "y", embedings=False), "score: unknown option 'embedings'. Did you mean 'embeddings'?"),
    ],
)
def test_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_a_method_gets_its_own_options():
    assert MDaQSelector(method="deita", threshold=0.5).method_options == {"threshold": 0.5}
    with pytest.raises(TypeError, match="only n_quality, n_diversity go without a name"):
        MDaQSelector(5, n_quality=6)


COUNTS = {"de": 100, "ar": 100, "sw": 4}


@pytest.mark.parametrize("budgets", [None, "each"])
def test_each_language_gets_the_same(budgets):
    shares, notes = allocate(COUNTS, 6, 1, budgets)
    assert shares == {"de": (6, 1), "ar": (6, 1), "sw": (6, 1)}
    assert list(shares) == ["de", "ar", "sw"]
    assert notes == ("sw: the budget is 7 rows, but the pool has only 4",)


def test_total_is_shared_equally_and_leftovers_go_to_the_others():
    # 31 rows: 10 each, sw has only 4 → 27 for two → ar 14, de 13 (alphabetical tie); 24 of 28 are quality:
    # 24·14/31 = 10.84, 24·13/31 = 10.06, 24·4/31 = 3.10 → floors 10, 10, 3, the one left goes to ar
    shares, notes = allocate(COUNTS, 24, 7, "total")
    assert shares == {"de": (10, 3), "ar": (11, 3), "sw": (3, 1)}
    assert notes == ("sw: 4 rows of an equal share of 10; the rest went to other languages",)


def test_total_over_the_papers_languages():
    shares, notes = allocate({f"l{i:02}": 52_000 for i in range(18)}, 6000, 1000, "total")
    assert sum(q for q, _ in shares.values()) == 6000
    assert sum(d for _, d in shares.values()) == 1000
    assert {q + d for q, d in shares.values()} == {388, 389}
    assert notes == ()


def test_proportional():
    # 14 rows for 100:100:80 → 5, 5, 4; 12 of 14 are quality: 12·5/14 = 4.29, 4.29, 12·4/14 = 3.43 → 4, 4, 4
    shares, notes = allocate({"a": 100, "b": 100, "c": 80}, 12, 2, "proportional")
    assert shares == {"a": (4, 1), "b": (4, 1), "c": (4, 0)}
    assert notes == ()


@pytest.mark.parametrize("budgets", ["total", "proportional"])
def test_more_than_the_pool_has(budgets):
    shares, notes = allocate({"a": 3, "b": 0, "c": 4}, 60, 10, budgets)
    assert {name: sum(pair) for name, pair in shares.items()} == {"a": 3, "b": 0, "c": 4}
    assert notes == ("the total is 70 rows, but the pool has only 7: all are taken",)


def test_given_numbers_are_split_by_the_ratio():
    shares, notes = allocate(COUNTS, budgets={"de": 70, "ar": np.int64(10), "sw": 1})
    assert shares == {"de": (60, 10), "ar": (9, 1), "sw": (1, 0)}
    assert notes == ()
    assert allocate({"de": 9}, 1, 1, {"de": 9})[0] == {"de": (5, 4)}
    assert allocate({"de": 9}, 0, 0, {"de": 7})[0] == {"de": (6, 1)}


def test_given_pairs_are_kept():
    assert allocate(COUNTS, budgets={"de": (5, 2), "ar": [0, 3], "sw": 0})[0] == {
        "de": (5, 2),
        "ar": (0, 3),
        "sw": (0, 0),
    }


def test_missing_and_unknown_languages_are_named():
    with pytest.raises(DataError, match=r"has no entry for ar, sw and names fr.*the data has ar, de, sw"):
        allocate(COUNTS, budgets={"de": 3, "fr": 3})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 1, None), "n_quality: -1"),
        ((1, 0.5, None), r"n_diversity: 0\.5"),
        ((1, 1, "equal"), r'budgets is \'equal\'; use None, "each", "total", "proportional"'),
        ((1, 1, 7), "budgets is 7"),
        ((1, 1, {"de": -1}), r"budgets\['de'\]: -1"),
        ((1, 1, {"de": (1, 2, 3)}), "give one number or"),
        ((1, 1, {"de": (1, "2")}), r"budgets\['de'\]\[1\]: '2'"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(DataError, match=message):
        allocate({"de": 5}, *arguments)


def test_no_languages():
    assert allocate({}, 3, 1, "total")[0] == {}
    assert allocate({}, 3, 1)[0] == {}


names = st.sampled_from(["ar", "de", "el", "es", "fr", "hi"])


@given(
    st.dictionaries(names, st.integers(0, 50), min_size=1),
    st.integers(0, 120),
    st.integers(0, 60),
    st.sampled_from(["total", "proportional"]),
)
def test_totals_add_up_and_stay_within_the_pool(counts, nq, nd, mode):
    shares, _ = allocate(counts, nq, nd, mode)
    assert sum(map(sum, shares.values())) == min(nq + nd, sum(counts.values()))
    assert all(q >= 0 and d >= 0 and q + d <= counts[name] for name, (q, d) in shares.items())
    if nq + nd <= sum(counts.values()):
        assert sum(q for q, _ in shares.values()) == nq
    backwards = allocate(dict(reversed(counts.items())), nq, nd, mode)[0]
    assert backwards == shares
    if mode == "total":
        rows = {name: sum(pair) for name, pair in shares.items()}
        unfilled = [rows[name] for name in rows if rows[name] < counts[name]]
        assert not unfilled or max(rows.values()) - min(unfilled) <= 1


@given(st.dictionaries(names, st.integers(0, 9), min_size=1), st.integers(0, 100))
def test_share_is_within_one_of_the_exact_quota(weights, total):
    got = share(total, weights, dict.fromkeys(weights, total))
    if sum(weights.values()):
        assert sum(got.values()) == total
        for name, weight in weights.items():
            assert abs(got[name] - total * weight / sum(weights.values())) < 1
