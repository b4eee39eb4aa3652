"""MDaQSelector on datasets: per language, precomputed columns, marks on every row, and what it refuses."""

import numpy as np
import pytest
from datasets import Dataset

from hf_mlalign import MDaQSelector
from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq.selection import METHODS, register_method
from tests.mdaq.helpers import LengthScorer

# Per language by hand, n_quality 2 and n_diversity 1: de takes rows 0, 2 (best), then 6 (cluster 7, row 4 is in
# cluster 5 which row 0 covers); ja takes 1, 3, then 7 (row 5 is in cluster 8, covered by row 1).
POOL = {
    "prompt": [f"p{i}" for i in range(8)],
    "response": [f"r{i}" for i in range(8)],
    "language": ["de", "ja"] * 4,
    "quality_score": [0.9, 0.9, 0.8, 0.8, 0.7, 0.7, 0.6, 0.6],
    "cluster": [5, 8, 6, 9, 5, 8, 7, 4],
}


@pytest.fixture
def pool() -> Dataset:
    return Dataset.from_dict(POOL)


def test_by_hand_from_given_scores_and_clusters(pool):
    selector = MDaQSelector(n_quality=2, n_diversity=1)
    chosen = selector.select(pool)
    assert chosen["prompt"][:] == ["p0", "p1", "p2", "p3", "p6", "p7"]
    assert chosen["selection_reason"][:] == ["quality"] * 4 + ["diversity"] * 2
    assert chosen.column_names[-3:] == ["quality_score", "cluster", "selection_reason"]
    result = selector.result_
    assert result.selected.tolist() == [0, 1, 2, 3, 6, 7]
    assert result.rejected.tolist() == [4, 5]
    table = result.per_language().set_index("language")
    counted = ["pool", "selected", "by_quality", "by_diversity", "clusters", "clusters_covered"]
    assert table.loc["de", counted].tolist() == [4, 3, 2, 1, 3, 3]
    assert table.loc["de", "quality_before"] == pytest.approx(0.75)
    assert table.loc["all", "quality_after"] == pytest.approx((0.9 + 0.8 + 0.6) / 3)


def test_marks_on_every_row(pool):
    selector = MDaQSelector(n_quality=2, n_diversity=1).fit(pool)
    for options in ({"batched": True, "batch_size": 3}, {}, {"batched": True, "num_proc": 2}):
        marked = pool.select_columns(["prompt"]).map(selector, with_indices=True, **options)
        assert np.flatnonzero(marked["selected"][:]).tolist() == [0, 1, 2, 3, 6, 7]
        assert marked["selection_reason"][4] == ""
    assert marked.features["quality_score"].dtype == "float32"
    assert marked.features["cluster"].dtype == "int32"


def test_scores_and_clusters_are_computed_where_missing():
    texts = {k: POOL[k] for k in ("prompt", "response", "language")}
    selector = MDaQSelector(n_quality=1, n_diversity=1, n_clusters=2, model=LengthScorer())
    chosen = selector.select(Dataset.from_dict(texts))
    assert len(chosen) == 2 + int((selector.result_.reasons == "diversity").sum())
    assert (selector.result_.clusters >= 0).all()
    german, japanese = (set(selector.result_.clusters[i::2].tolist()) for i in (0, 1))
    assert not german & japanese


def test_real_models_end_to_end():
    good = ["Apples, pears and plums are three fruits that grow in Europe.", "Berlin is the capital of Germany."]
    ds = Dataset.from_dict({
        "instruction": ["Name three fruits.", "What is the capital of Germany?"] * 2,
        "response": [*good, "no", "I"],
    })  # fmt: skip
    assert set(MDaQSelector(2, 0).select(ds)["response"][:]) == set(good)


@pytest.mark.parametrize("method", ["random", "longest", "quality", "car", "deita", "mmr"])
def test_baselines_on_the_one_interface(method):
    rng = np.random.default_rng(0)
    ds = Dataset.from_dict({
        "prompt": [f"prompt {i}" for i in range(40)],
        "response": ["x" * int(n) for n in rng.permutation(40) + 1],
        "quality_score": rng.random(40).tolist(),
        "embedding": rng.normal(size=(40, 4)).tolist(),
    })  # fmt: skip
    selector = MDaQSelector(6, 2, method=method, model=LengthScorer(), n_clusters=10)
    assert len(selector.select(ds)) in (range(6, 9) if method in ("car", "deita") else (8,))
    if method == "longest":
        assert sorted(len(r) for r in selector.select(ds)["response"]) == list(range(33, 41))


def test_budgets_and_languages(pool):
    given = MDaQSelector(budgets={"de": (1, 0), "ja": (2, 1)})
    assert given.select(pool)["prompt"][:] == ["p0", "p1", "p3", "p7"]
    some = MDaQSelector(1, 0, languages=["German"])
    assert some.select(pool)["prompt"][:] == ["p0"]
    assert "left out 4 rows in other or unknown languages" in some.result_.notes
    assert MDaQSelector(2, 0, per_language=False).select(pool)["prompt"][:] == ["p0", "p1"]


def test_rows_without_score_are_counted_never_selected(pool):
    ds = pool.remove_columns("quality_score").add_column("quality_score", [None, 0.9, 0.8, 0.8, 0.7, 0.7, 0.6, 0.6])
    selector = MDaQSelector(4, 4)
    assert "p0" not in selector.select(ds)["prompt"][:]
    assert selector.result_.per_language().set_index("language").loc["de", "unscored"] == 1
    assert "de: left out 1 row without a score" in selector.result_.notes


def test_everything_unscorable():
    ds = Dataset.from_dict({"prompt": ["q", "q"], "response": [None, " "]})
    selector = MDaQSelector(2, 1, model=LengthScorer())
    assert len(selector.select(ds)) == 0
    assert selector.result_.notes


def test_same_seed_same_selection_whatever_the_row_order_of_languages(pool):
    texts = pool.select_columns(["prompt", "response", "language"])
    runs = [MDaQSelector(1, 2, n_clusters=3, model=LengthScorer(), seed=3).fit(texts).result_ for _ in range(2)]
    np.testing.assert_array_equal(runs[0].selected, runs[1].selected)
    np.testing.assert_array_equal(runs[0].clusters, runs[1].clusters)


def test_own_method(pool):
    @register_method("shortest", needs=("scores", "lengths"))
    def shortest(pool, n_quality, n_diversity, seed):
        return np.argsort(pool.lengths, kind="stable")[: n_quality + n_diversity]

    try:
        chosen = MDaQSelector(1, 0, method="shortest", per_language=False).select(
            Dataset.from_dict(
                {**{k: POOL[k][:2] for k in ("prompt", "quality_score", "cluster")}, "response": ["xx", "x"]}
            )
        )
        assert chosen["prompt"][:] == ["p1"]
    finally:
        del METHODS["shortest"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ds: MDaQSelector(method="best").select(ds), "unknown 'best'. Known: .*das"),
        (lambda ds: MDaQSelector(languages=["qq"]).select(ds), "languages, row 0: unknown language 'qq'"),
        (lambda ds: MDaQSelector(languages=["de"]).select(ds.remove_columns("language")), "no language column among"),
        (lambda ds: MDaQSelector(budgets={"fr": 3}).select(ds), "fr"),
        (lambda ds: MDaQSelector(-1, 0).select(ds), "n_quality"),
        (lambda ds: MDaQSelector().select(ds.select([])), "dataset is empty"),
        (lambda ds: MDaQSelector()({"prompt": ["x"]}, [0]), "not fitted"),
        (lambda ds: MDaQSelector(1, 0).fit(ds).select(ds.select([0])), "fitted on 8 rows, but the dataset has 1"),
        (lambda ds: MDaQSelector(1, 0).fit(ds.select([0])).select(ds), "fitted on 1 row, but the dataset has 8"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_explained(pool, make, message):
    with pytest.raises(DataError, match=message):
        make(pool)


def test_unknown_language_in_the_data_names_column_and_row(pool):
    ds = pool.remove_columns("language").add_column("lang", ["de", "ja", "xx", *["de"] * 5])
    with pytest.raises(DataError, match="Column 'lang', row 2: unknown language 'xx'"):
        MDaQSelector(1, 0).select(ds)
    ds = pool.remove_columns("language").add_column("lang", ["de", None, *["de"] * 6])
    with pytest.raises(DataError, match="Column 'lang', row 1: missing"):
        MDaQSelector(1, 0).select(ds)


def test_given_clusters_are_checked_and_renumbered(pool):
    ds = pool.remove_columns("cluster").add_column("cluster", [2**40 + 5, 8, 6, 9, 2**40 + 5, 8, 7, 4])
    selector = MDaQSelector(2, 1)
    assert selector.select(ds)["prompt"][:] == ["p0", "p1", "p2", "p3", "p6", "p7"]
    noisy = pool.remove_columns("cluster").add_column("cluster", [5, 8, -1, 9, 5, 8, 7, 4])
    with pytest.raises(DataError, match="Column 'cluster', row 2: -1 is not a whole number"):
        MDaQSelector(2, 1).select(noisy)


def test_another_order_of_the_rows_is_refused(pool):
    selector = MDaQSelector(2, 1).fit(pool)
    with pytest.raises(DataError, match="fitted on another dataset"):
        selector.select(pool.shuffle(seed=1))


def test_totals_go_to_rows_that_can_be_selected(pool):
    ds = pool.remove_columns("quality_score").add_column("quality_score", [None, 0.9] * 4)
    selector = MDaQSelector(4, 0, budgets="total")
    assert selector.select(ds)["language"][:] == ["ja"] * 4


def test_left_out_languages_do_not_count_in_the_total_row(pool):
    selector = MDaQSelector(1, 0, languages=["de", "sw"])
    selector.select(pool)
    assert selector.result_.per_language()["pool"].tolist() == [4]
    assert "no rows in sw" in selector.result_.notes


def test_class_labels_and_long_names_as_languages(pool):
    from datasets import ClassLabel

    ds = pool.cast_column("language", ClassLabel(names=["de", "ja"]))
    assert MDaQSelector(2, 1).select(ds)["prompt"][:] == ["p0", "p1", "p2", "p3", "p6", "p7"]
    aya = pool.remove_columns("language").add_column("language", ["Standard Arabic", "Japanese"] * 4)
    assert set(MDaQSelector(2, 1).fit(aya).result_.languages) == {"ar", "ja"}


def test_car_takes_the_number_of_clusters():
    rng = np.random.default_rng(0)
    ds = Dataset.from_dict({
        "prompt": [f"p{i}" for i in range(60)], "response": ["r"] * 60, "quality_score": rng.random(60).tolist(),
        "embedding": rng.normal(size=(60, 4)).tolist(),
    })  # fmt: skip
    few, many = (len(MDaQSelector(2, 40, method="car", n_clusters=k).select(ds)) for k in (3, 30))
    assert few <= 5
    assert many > 15
