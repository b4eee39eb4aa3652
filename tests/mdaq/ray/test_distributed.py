"""The Ray engine's own arithmetic, with tasks run in this process; Ray itself is in tests/reliability."""

import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_mlalign import distributed
from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder
from hf_mlalign.cmalign.ray import pairing
from hf_mlalign.core.errors import DataError
from hf_mlalign.data import ray_tables as tables
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.mdaq.ray import engine, selecting
from hf_mlalign.mdaq.selector import MDaQSelector
from tests.reliability.ray_parts import HashEncoder


class Kept:
    """`session.Held` without Ray."""

    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value


def run_here(function, *arguments, parts=1, **options):
    found = function(*arguments)
    return list(found) if parts > 1 else [found]


@pytest.fixture
def in_process(monkeypatch):
    """Tasks run at once, references are the tables, and a Ray dataset is a list of tables."""
    ray = SimpleNamespace(get=lambda values: values, put=lambda value: value,
                          data=SimpleNamespace(from_arrow_refs=list))  # fmt: skip
    for module in (tables, selecting, pairing):
        monkeypatch.setattr(module, "import_ray", lambda: ray)
        monkeypatch.setattr(module, "submit", run_here)
        monkeypatch.setattr(module, "plain_errors", nullcontext)
    for module in (selecting, pairing):
        monkeypatch.setattr(module, "table_references", list)
        monkeypatch.setattr(module, "column_names", lambda blocks: blocks[0].column_names)
    monkeypatch.setattr(pairing, "Held", Kept)


def blocks_of(ds, n):
    """The rows as n Arrow tables, some of them empty where there are few rows."""
    table = ds.data.table.combine_chunks()
    ends = np.linspace(0, len(ds), n + 1).astype(int)
    return [table.slice(a, b - a) for a, b in pairwise(ends)]


def joined(parts):
    return pa.concat_tables(parts)


TEXTS = st.sampled_from(["one two", "Answer: 1", "so it is.\nAnswer: 2", "drei", "", "   ", None, "four four four"])
ROW = st.tuples(st.integers(0, 3), st.sampled_from(["en", "de", "sw"]), TEXTS, st.integers(0, 40))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROW, min_size=1, max_size=30, unique_by=lambda row: (row[0], row[1], row[3])),
    blocks=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    reward=st.sampled_from(["auto", "embedding", "vote", "first_english", "length", "random"]),
    policy=st.sampled_from(["best_worst", "all_pairs", "best_random", "random_pair"]),
    test_size=st.sampled_from([0.0, 0.5]),
    numbered=st.booleans(),
)
def test_blocks_of_prompts_give_the_pairs_of_one_pool(in_process, rows, blocks, reward, policy, test_size, numbered):
    columns = {
        "prompt_id": [f"p{row[0]}" for row in rows], "language": [row[1] for row in rows],
        "prompt": [f"question {row[0]}" + "?" * (row[3] == 0) for row in rows],
        "response": pa.array([row[2] for row in rows], pa.string()), "sample_id": [row[3] for row in rows],
    }  # fmt: skip
    ds = Dataset(pa.table(columns if numbered else {k: v for k, v in columns.items() if k != "sample_id"}))
    options = {"reward": reward, "policy": policy, "test_size": test_size, "model": HashEncoder(), "seed": 3,
               "include_english": len(rows) % 2 == 0, "min_chars": 1 + len(rows) % 5}  # fmt: skip
    one, other = (CMAlignPreferenceBuilder(**options) for _ in range(2))
    outcomes = []
    for build in (lambda: one.build(ds), lambda: distributed.build_pairs(blocks_of(ds, blocks[0]), other,
                                                                          blocks=blocks[1])):  # fmt: skip
        try:
            outcomes.append(build())
        except DataError as error:
            outcomes.append(str(error))
    expected, found = outcomes
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    pairs = [(expected, found)] if not test_size else [(expected[name], found[name]) for name in ("train", "test")]
    for local, parts in pairs:
        assert joined(parts).to_pylist() == local.data.table.to_pylist()
        assert joined(parts).schema.equals(local.data.table.schema)
    assert other.result_.summary() == one.result_.summary()
    assert other.result_.per_language().equals(one.result_.per_language())
    assert np.array_equal(other.result_.scores, one.result_.scores, equal_nan=True)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    blocks=st.integers(1, 5),
    budgets=st.sampled_from([None, "total", "proportional"]),
    method=st.sampled_from(["das", "random", "quality", "mmr", "car"]),
    languages=st.sampled_from([None, ["de", "sw"]]),
    given_clusters=st.booleans(),
    per_language=st.booleans(),
)
def test_languages_apart_give_the_selection_of_one_pool(
    in_process, seed, n, blocks, budgets, method, languages, given_clusters, per_language
):
    rng = np.random.default_rng(seed)
    scores = np.where(rng.random(n) < 0.1, np.nan, rng.integers(-5, 0, n)).astype(np.float32)
    columns = {
        "quality_score": pa.array(scores, from_pandas=True),
        "embedding": tables.vectors_column(rng.standard_normal((n, 4)).astype(np.float32)),
        "language": rng.choice(["de", "en", "sw"], n).tolist(),
    }
    if given_clusters:
        columns["cluster"] = rng.integers(3, 9, n)
    ds = Dataset(pa.table(columns))
    options = {"n_quality": int(rng.integers(0, 9)), "n_diversity": int(rng.integers(0, 9)), "budgets": budgets,
               "method": method, "seed": seed, "n_clusters": 3, "per_language": per_language,
               "languages": languages if per_language else None}  # fmt: skip
    selector = MDaQSelector(**options).fit(ds)
    found = joined(distributed.select(blocks_of(ds, blocks), MDaQSelector(**options)))
    assert found["row"].to_pylist() == list(range(n))
    assert found["cluster"].to_pylist() == selector.result_.clusters.tolist()
    assert found["selection_reason"].to_pylist() == selector.result_.reasons.tolist()
    chosen = joined(distributed.select(blocks_of(ds, blocks), MDaQSelector(**options), only_selected=True))
    assert chosen["row"].to_pylist() == selector.result_.selected.tolist()


def test_rows_keep_the_numbers_they_have(in_process):
    columns = {"row": [7, 2, 9], "quality_score": [0.5, 0.9, 0.1], "cluster": [1, 1, 2], "language": ["de"] * 3}
    shuffled = pa.table(columns)
    shuffled = shuffled.append_column("embedding", tables.vectors_column(np.eye(3, dtype=np.float16)))
    found = joined(distributed.select([shuffled.slice(0, 1), shuffled.slice(1)], MDaQSelector(1, 1)))
    assert found["row"].to_pylist() == [7, 2, 9]
    assert found["selection_reason"].to_pylist() == ["", "quality", "diversity"]
    for rows, message in (([1, 1], "'row': 1 occurs twice"), (["a", "b"], "holds string, not whole numbers")):
        with pytest.raises(DataError, match=message):
            distributed.select([pa.table({"row": rows, "quality_score": [0.5, 0.6], "cluster": [1, 2]})])


def test_importing_it_loads_neither_ray_nor_models():
    code = "import sys, hf_mlalign.distributed; print([m for m in ('ray', 'torch', 'datasets') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_without_ray_the_message_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    pool = Dataset.from_dict({"prompt": ["a"], "response": ["b"], "language": ["en"]})
    for call in (
        lambda: distributed.score(None), lambda: distributed.select(None), lambda: distributed.build_pairs(None),
        lambda: distributed.cluster(None), engine.RayEngine, lambda: curate(pool, tmp_path / "out", engine="ray"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=r"Ray is not installed. Run: pip install 'hf-mlalign\[ray\]'"):
            call()
    assert not (tmp_path / "out").exists()


def test_bad_arguments(tmp_path):
    pool = Dataset.from_dict({"prompt": ["a"], "response": ["b"], "language": ["en"]})
    with pytest.raises(DataError, match="engine: unknown 'spark'. Known: local, ray"):
        curate(pool, tmp_path / "out", engine="spark")
    with pytest.raises(DataError, match="address names a Ray cluster"):
        curate(pool, tmp_path / "out", address="auto")
    with pytest.raises(DataError, match="blocks is 0"):
        distributed.build_pairs(None, blocks=0)
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(DataError, match="Expected a ray.data.Dataset, got datasets.Dataset"):
        distributed.score(pool)
    with pytest.raises(DataError, match="embedding_dtype is 'int8'"):
        distributed.score(pool, embedding_dtype="int8")
    with pytest.raises(DataError, match="batch_size is 0"):
        distributed.score(pool, batch_size=0)
