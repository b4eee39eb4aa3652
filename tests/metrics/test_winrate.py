"""The winrate module of evaluate: every way in gives what the plain function gives."""

import multiprocessing
from pathlib import Path

import evaluate
import numpy as np
import pytest

from hf_mlalign.evaluation.metrics.winrate import winrate

MODULE = Path(__file__).resolve().parents[2] / "metrics" / "winrate"
PREDICTIONS = [1.0, 0.5, 0.0, 1.0, 1.0, None]
COLUMNS = {
    "languages": ["de", "sw", "de", "sw", "de", "sw"],
    "prompt_ids": [1, 1, 2, 2, 3, 3],
    "swapped_predictions": [1.0, 0.0, 0.0, None, 1.0, 1.0],
    "candidate_lengths": [10, 20, 15, 40, 33, 12],
    "baseline_lengths": [12, 10, 19, 30, 25, 18],
}


@pytest.fixture
def metric(tmp_path):
    return evaluate.load(str(MODULE), cache_dir=str(tmp_path))


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, dict):
            same(found[key], value)
        else:
            assert found[key] == pytest.approx(value, nan_ok=True), key


def test_compute_gives_what_the_function_gives(metric):
    same(metric.compute(predictions=PREDICTIONS, **COLUMNS), winrate(PREDICTIONS, **COLUMNS))
    same(metric.compute(predictions=PREDICTIONS), winrate(PREDICTIONS))
    options = {"n_resamples": 50, "confidence": 0.8, "seed": 3}
    same(metric.compute(predictions=PREDICTIONS, **COLUMNS, **options), winrate(PREDICTIONS, **COLUMNS, **options))


def test_arrays_are_taken(metric):
    arrays = {name: np.array(values, dtype=object if None in values else None) for name, values in COLUMNS.items()}
    arrays["swapped_predictions"] = arrays["swapped_predictions"].astype(np.float64)
    found = metric.compute(predictions=np.array(PREDICTIONS, dtype=np.float64), **arrays)
    same(found, winrate(PREDICTIONS, **COLUMNS))


def test_rows_and_batches(metric):
    for i, prediction in enumerate(PREDICTIONS):
        metric.add(prediction=prediction, **{name: values[i] for name, values in COLUMNS.items()})
    same(metric.compute(), winrate(PREDICTIONS, **COLUMNS))
    for part in (slice(0, 4), slice(4, 6)):
        batch = {name: values[part] for name, values in COLUMNS.items()}
        metric.add_batch(predictions=PREDICTIONS[part], **batch)
    same(metric.compute(), winrate(PREDICTIONS, **COLUMNS))
    metric.add_batch(predictions=PREDICTIONS)
    same(metric.compute(n_resamples=20), winrate(PREDICTIONS, n_resamples=20))


def half(process_id, cache_dir, ready):
    metric = evaluate.load(str(MODULE), cache_dir=cache_dir, num_process=2, process_id=process_id, experiment_id="two")
    part = slice(process_id * 3, process_id * 3 + 3)
    metric.add_batch(predictions=PREDICTIONS[part], **{name: values[part] for name, values in COLUMNS.items()})
    ready.wait()
    return metric.compute()


def test_two_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager, context.Pool(2) as pool:
        ready = manager.Barrier(2)
        first, second = pool.starmap(half, [(0, str(tmp_path), ready), (1, str(tmp_path), ready)], chunksize=1)
    same(first, winrate(PREDICTIONS, **COLUMNS))
    assert second is None


def test_combine(tmp_path):
    parts = {name: evaluate.load(str(MODULE), cache_dir=str(tmp_path / name)) for name in ("judge", "again")}
    found = evaluate.combine(parts).compute(predictions=[1.0, 0.0, 1.0])
    assert found["judge_win_rate"] == found["again_win_rate"] == pytest.approx(200 / 3)


def test_errors_name_the_row(metric):
    with pytest.raises(ValueError, match=r"predictions, row 1: 2 is not in \[0, 1\]"):
        metric.compute(predictions=[1.0, 2.0])
    with pytest.raises(ValueError, match="'prompt_ids', row 1: missing"):
        metric.compute(predictions=[1.0, 0.0], prompt_ids=["a", None])
    with pytest.raises(ValueError, match="row 0"):
        metric.compute(predictions=[1.0, 0.0], languages=[None, "de"])
    with pytest.raises(ValueError, match="baseline_lengths: missing"):
        metric.compute(predictions=[1.0, 0.0], candidate_lengths=[1, 2])
