"""Columns may be left out in compute, add_batch and add, in one process and in several."""

import multiprocessing

import datasets
import evaluate
import numpy as np
import pytest

import hf_mlalign

ROWS = {
    "languages": ["en", "de", "en", "de", "en", "de"],
    "prompt_ids": [1, 1, 2, 2, 3, 3],
    "answers": ["A", "A", "B", None, "C", "A"],
}


class Count(evaluate.Metric):
    """How many predictions there are."""

    def _info(self):
        features = datasets.Features({"predictions": datasets.Value(self.config_name.replace("default", "float64"))})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions):
        return {"count": len(predictions)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
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


def test_answers_may_be_numbers():
    metric = hf_mlalign.load_metric("crosslingual_consistency")
    rows = {"languages": ["en", "de"] * 2, "prompt_ids": [1, 1, 2, 2]}
    for answers in ([0, 0, 1, None], np.asarray([0, 0, 1, np.nan])):
        assert figures(metric, answers=answers, **rows) == (4, 3, 1.0)


def test_required_columns_are_still_required():
    metric = hf_mlalign.load_metric("crosslingual_consistency")
    with pytest.raises(ValueError, match=r"inputs are missing: \['prompt_ids'\]"):
        metric.compute(answers=["A"], languages=["en"])
    with pytest.raises(ValueError):
        metric.compute(answers=["A", "B"], languages=["en"], prompt_ids=[1])


GIVEN = {"predictions": [1.0, 1.0, 0.5, 0.0], "languages": ["de", "sw", "de", "sw"], "prompt_ids": ["a", "a", "b", "b"]}


@pytest.mark.parametrize(
    ("way", "names"),
    [("compute", ["predictions"]), ("add_batch", ["predictions"]), ("add", ["predictions"]), ("add_batch", [*GIVEN]),
     ("add", [*GIVEN])],
)  # fmt: skip
def test_combined_with_another_module(names, way):
    """All that is given arrives, and what is not given may be left out."""
    given = {name: GIVEN[name] for name in names}
    alone = hf_mlalign.load_metric("winrate").compute(**given, n_resamples=0)
    combined = evaluate.combine([hf_mlalign.load_metric("winrate"), Count(experiment_id="c")])
    columns = given if way == "compute" else {}
    if way == "add_batch":
        for start in (0, 2):
            combined.add_batch(**{name: values[start : start + 2] for name, values in given.items()})
    elif way == "add":
        for row in zip(*given.values()):
            one = dict(zip(names, row))
            combined.add(prediction=one.pop("predictions"), **one)
    found = combined.compute(**columns)
    assert found["count"] == 4
    assert (found["win_rate"], found["n_prompts"]) == (alone["win_rate"], alone["n_prompts"])
    assert set(found["per_language"]) == set(alone["per_language"])


def test_combined_metrics_take_their_own_columns():
    count = Count("string", experiment_id="d")
    combined = evaluate.combine([hf_mlalign.load_metric("crosslingual_consistency"), count])
    for language in ("en", "de"):
        combined.add(prediction="", answers="A", languages=language, prompt_ids="p")
    found = combined.compute()
    assert (found["agreement"], found["n_read"], found["count"]) == (1, 2, 2)


def test_combined_lacking_a_required_column():
    combined = evaluate.combine([hf_mlalign.load_metric("crosslingual_consistency")])
    with pytest.raises(KeyError, match="prompt_ids"):
        combined.add_batch(predictions=["Answer: A"], languages=["en"])


def _part(process_id: int, folder: str, results) -> None:
    metric = hf_mlalign.load_metric("crosslingual_consistency", num_process=2, process_id=process_id, cache_dir=folder,
                                    experiment_id="two")  # fmt: skip
    rows = {name: values[3 * process_id : 3 * process_id + 3] for name, values in ROWS.items()}
    found = metric.compute(n_resamples=0, **rows)
    results.put((process_id, found and (found["n_responses"], found["n_read"], found["agreement"])))


def test_several_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    children = [context.Process(target=_part, args=(i, str(tmp_path), results)) for i in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    assert dict(results.get() for _ in children) == {0: (6, 5, 0.5), 1: None}
