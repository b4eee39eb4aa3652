"""Columns may be left out in compute, add_batch and add, in one process and in several."""

import multiprocessing

import numpy as np
import pytest

import hf_mlalign

ROWS = {
    "languages": ["en", "de", "en", "de", "en", "de"],
    "prompt_ids": [1, 1, 2, 2, 3, 3],
    "answers": ["A", "A", "B", None, "C", "A"],
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)


def figures(metric, **options) -> tuple:
    found = metric.compute(n_resamples=0, **options)
    return found["n_responses"], found["n_read"], found["agreement"]


def test_three_ways_to_give_rows():
    metric = hf_mlalign.load_metric("crosslingual_consistency")
    expected = (6, 5, 0.5)
    assert figures(metric, **ROWS) == expected
    for start in (0, 3):
        metric.add_batch(**{name: values[start : start + 3] for name, values in ROWS.items()})
    assert figures(metric) == expected
    for row in zip(*ROWS.values()):
        metric.add(**dict(zip(ROWS, row)))
    assert len(metric) == 6
    assert figures(metric) == expected


def test_add_takes_the_singular_of_predictions():
    metric = hf_mlalign.load_metric("crosslingual_consistency")
    for language in ("en", "de"):
        metric.add(prediction="Answer: A", languages=language, prompt_ids="p")
    assert figures(metric, embeddings=False) == (2, 2, 1.0)


def test_identifiers_of_any_kind():
    metric = hf_mlalign.load_metric("crosslingual_consistency")
    assert figures(metric, **{**ROWS, "prompt_ids": np.asarray(ROWS["prompt_ids"])}) == (6, 5, 0.5)


def test_required_columns_are_still_required():
    metric = hf_mlalign.load_metric("crosslingual_consistency")
    with pytest.raises(ValueError, match=r"inputs are missing: \['prompt_ids'\]"):
        metric.compute(answers=["A"], languages=["en"])
    with pytest.raises(ValueError):
        metric.compute(answers=["A", "B"], languages=["en"], prompt_ids=[1])


def _part(process_id: int, folder: str, results) -> None:
    metric = hf_mlalign.load_metric("crosslingual_consistency", num_process=2, process_id=process_id, cache_dir=folder,
                                    experiment_id="two")  # fmt: skip
    rows = {name: values[3 * process_id : 3 * process_id + 3] for name, values in ROWS.items()}
    found = metric.compute(n_resamples=0, **rows)
    results.put((process_id, found and (found["n_responses"], found["n_read"], found["agreement"])))


def test_several_processes(tmp_path):
    import evaluate  # noqa: F401 (once, before the forks)

    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    children = [context.Process(target=_part, args=(i, str(tmp_path), results)) for i in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    assert dict(results.get() for _ in children) == {0: (6, 5, 0.5), 1: None}
