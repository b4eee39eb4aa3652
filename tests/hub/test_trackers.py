"""Figures per language in a real tracker."""

import pytest

from hf_mlalign import load_demo_pool
from hf_mlalign.core.errors import DataError
from hf_mlalign.hub.run_record import RunRecord
from hf_mlalign.hub.trackers import check_trackers, per_language_metrics, report_run
from hf_mlalign.mdaq.curation import curate


def scalars(folder) -> dict[str, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (path,) = folder.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(path)).Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


def test_rows_and_mappings_by_hand():
    rows = [{"language": "de", "pool": 3, "mean": None}, {"language": "all", "pool": 3, "mean": 0.5}]
    by_row = per_language_metrics(RunRecord(command="curate", parameters={}, results={"per_language": rows}))
    assert by_row == {"curate_pool/de": 3, "curate_pool/all": 3, "curate_mean/all": 0.5}
    found = {"sw": {"pairs": 2, "kind": "text", "good": True}}
    by_name = per_language_metrics(RunRecord(command="build-pairs", parameters={}, results={"per_language": found}))
    assert by_name == {"build-pairs_pairs/sw": 2}


def test_curation_in_tensorboard(tmp_path):
    folder = tmp_path / "out"
    curation = curate(load_demo_pool(["de", "sw"]), folder, n_quality=5, n_diversity=1, report_to="tensorboard")
    found = scalars(folder)
    table = curation.result.per_language().set_index("language")
    for language in ("de", "sw", "all"):
        assert found[f"train/curate_selected/{language}"] == table.loc[language, "selected"]
        assert found[f"train/curate_quality_after/{language}"] == pytest.approx(table.loc[language, "quality_after"])


def test_trackers_are_checked_before_the_work(tmp_path):
    with pytest.raises(DataError, match="report_to: nothing is not supported, only"):
        curate(load_demo_pool(["de"]), tmp_path / "out", report_to="nothing")
    assert not (tmp_path / "out").exists()
    check_trackers(None)
    check_trackers("none")
    assert report_run(RunRecord(command="x", parameters={}), None, tmp_path) == []
