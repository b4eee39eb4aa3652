"""The options of selection, `curate` and `score`: defaults, origins, and what is refused."""

import inspect

import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.mdaq.options import CurateOptions, ScoreOptions, SelectionOptions
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
    assert paper == {"n_quality", "n_diversity", "method", "fill"}
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
