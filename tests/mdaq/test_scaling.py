"""Nested subsets and the scale curve."""

import numpy as np
import pytest
from datasets import Dataset, get_dataset_config_names, load_dataset

from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq.scaling import nested_subsets, scale_curve, split_size
from tests.mdaq.helpers import LengthScorer


@pytest.fixture(scope="module")
def subsets():
    rng = np.random.default_rng(1)
    n = 300
    ds = Dataset.from_dict({
        "prompt": [f"prompt {i}" for i in range(n)],
        "response": ["y" * int(k) for k in rng.permutation(n) + 1],
        "language": ["de", "th", "sw"] * (n // 3),
        "quality_score": rng.random(n).tolist(),
        "embedding": rng.normal(size=(n, 8)).tolist(),
    })  # fmt: skip
    methods = ("das", "quality", "random", "longest", "deita", "mmr")
    return nested_subsets(ds, sizes=(7, 14, 35, 70), methods=methods, n_clusters=20, model=LengthScorer())


def test_ratio_of_the_paper():
    assert split_size(7000) == (6000, 1000)
    assert split_size(1) == (1, 0)


def test_nested_and_of_the_size_asked_for(subsets):
    for by_size in subsets.rows.values():
        for small, large in zip((7, 14, 35), (14, 35, 70)):
            assert not np.setdiff1d(by_size[small], by_size[large]).size
    counts = subsets.counts()
    assert (counts["rows"] == counts["size"]).all()
    assert len(counts) == 6 * 4 * 3


def test_saved_as_one_dataset_with_configs(subsets, tmp_path):
    folder = subsets.save(tmp_path / "scaling")
    names = get_dataset_config_names(str(folder))
    assert {"das-7", "das-7-de", "random-70", "random-70-sw"} <= set(names)
    small = load_dataset(str(folder), "das-7", split="train")
    large = load_dataset(str(folder), "das-70", split="train")
    assert len(small) == 21
    assert len(large) == 210
    assert set(small["prompt"]) < set(large["prompt"])
    assert set(load_dataset(str(folder), "das-35-th", split="train")["language"]) == {"th"}
    with pytest.raises(DataError, match="is not empty"):
        subsets.save(folder)


def test_sizes_are_checked(subsets):
    with pytest.raises(DataError, match="positive whole numbers"):
        nested_subsets(subsets.dataset, sizes=(0, 5))


RESULTS = [
    {"method": "das", "language": language, "size": size, "win_rate": rate}
    for language, rates in {"de": (55, 60, 54), "th": (45, 58, 50)}.items()
    for size, rate in zip((1000, 5000, 52_000), rates)
]


def test_curve_table_and_answer(tmp_path):
    curve = scale_curve(RESULTS)
    macro = curve.table[curve.table["language"] == "macro"].set_index("size")["win_rate"]
    assert macro.to_dict() == {1000: 50.0, 5000: 59.0, 52_000: 52.0}
    answer = curve.smallest_winner(than=52_000).set_index("language")["size"]
    assert answer.to_dict() == {"de": 1000, "macro": 5000, "th": 5000}
    paths = curve.save(tmp_path)
    assert [p.name for p in paths] == ["scale_curve.csv", "scale_curve_das.png"]
    assert paths[1].read_bytes()[:4] == b"\x89PNG"
    lines = curve.plot("das").axes[0].get_lines()
    assert [line.get_xydata()[:, 1].tolist() for line in lines[:3]] == [[55, 60, 54], [50, 59, 52], [45, 58, 50]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: [{k: v for k, v in x.items() if k != "size"} for x in r], "columns size are missing"),
        (lambda r: [*r[:1], {**r[1], "win_rate": 101}], "record 1: 101"),
        (lambda r: [*r, r[0]], "record 6 repeats"),
    ],
)
def test_bad_results_are_named(change, message):
    with pytest.raises(DataError, match=message):
        scale_curve(change(RESULTS))


def test_card_of_subsets(subsets, tmp_path):
    card = (subsets.save(tmp_path / "scaling") / "README.md").read_text()
    assert "language:\n- de\n- sw\n- th\nlicense: unknown\nsize_categories:\n- n<1K\n" in card
    assert "| method | size | de | sw | th |\n|---|---|---|---|---|\n| das | 7 | 7 | 7 | 7 |\n" in card
    assert "| n_clusters | `20` | given |" in card
    assert "| model | `LengthScorer` | given |" in card
    assert "Source: `a Dataset in memory`." in card
