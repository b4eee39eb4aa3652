"""The numbers behind the figures, worked out by hand."""

import json

import numpy as np
import pytest
from datasets import Dataset, load_dataset

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.judges.run import winrate_columns
from hf_mlalign.evaluation.metrics.winrate import winrate
from hf_mlalign.hub.run_record import read_record
from hf_mlalign.mdaq.selector import SelectionResult
from hf_mlalign.report import Chart, Numbers, ReportedRun
from hf_mlalign.report.page import find_parts
from hf_mlalign.report.sections import cluster_map, curation, judging, models, pairs, scaling, training
from hf_mlalign.spontaneous.classification.evaluate import evaluate_classification
from hf_mlalign.spontaneous.lens.run import run_lens
from tests.report.conftest import LANGUAGES, LOG
from tests.spontaneous.label_models import reviews
from tests.tiny_models import byte_tokenizer, saved, tiny_llama


def part(folder) -> ReportedRun:
    return ReportedRun(folder, folder.name, read_record(folder))


def chart(show, folder) -> Chart:
    return next(block for block in show(part(folder)) if isinstance(block, Chart))


def selection(scores, clusters, reasons) -> SelectionResult:
    reasons = np.array(reasons)
    return SelectionResult("das", np.flatnonzero(reasons != ""), np.array(scores, np.float32), np.array(clusters),
                           reasons, np.array(["de"] * len(scores)), {"de": (2, 1)}, [])  # fmt: skip


def test_coverage_by_hand():
    result = selection([5, 4, 3, 2, np.nan], [0, 0, 0, 1, -1], ["quality", "quality", "", "diversity", ""])
    chosen, best = curation._covered(result, "de")
    assert chosen.tolist() == [0, 0.5, 0.5, 1]
    assert best.tolist() == [0, 0.5, 0.5, 0.5]
    last = selection([5, 4, 6], [0, 0, 1], ["quality", "quality", "diversity"])
    assert curation._covered(last, "de")[0].tolist() == [0, 0.5, 0.5, 1]
    nothing = selection([1], [-1], ["quality"])
    assert curation._covered(nothing, "de") is None


def test_pool_and_selection_are_the_runs_own_figures(made):
    table = chart(curation.pool_and_selection, made / "curated").table
    recorded = read_record(made / "curated").results["per_language"]
    assert table[["language", "pool", "selected", "clusters_covered"]].to_dict("records") == [
        {key: row[key] for key in ("language", "pool", "selected", "clusters_covered")} for row in recorded
    ]


def test_quantiles_by_hand():
    table = curation.score_quartiles(["de", "ja"], [np.arange(5.0), np.empty(0)], [np.array([3.0, 5.0]), np.empty(0)])
    assert table.iloc[0].tolist() == ["de", 1.0, 2.0, 3.0, 3.5, 4.0, 4.5]
    assert table.iloc[1, 1:].isna().all()


def test_plane_by_hand():
    """Points on a line through (1, 2, 2)/3 lie on the first component, whose sign makes the largest weight positive."""
    along = np.array([-2.0, 0.0, 1.0, 1.0])
    points, explained = cluster_map.principal_plane(along[:, None] * np.array([1.0, 2.0, 2.0]) / 3 + 7)
    assert points[:, 0] == pytest.approx(along)
    assert points[:, 1] == pytest.approx(0, abs=1e-9)
    assert explained == pytest.approx([1, 0])
    same, nothing = cluster_map.principal_plane(np.ones((3, 2)))
    assert not same.any()
    assert nothing.tolist() == [0, 0]


def test_plane_agrees_with_svd():
    vectors = np.random.default_rng(0).normal(size=(50, 8)) * np.arange(8, 0, -1)
    points, explained = cluster_map.principal_plane(vectors)
    centred = vectors - vectors.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(points) == pytest.approx(np.abs(u[:, :2] * s[:2]))
    assert explained == pytest.approx((s**2 / (s**2).sum())[:2])


def test_sample_of_a_large_pool_is_seeded(monkeypatch):
    monkeypatch.setattr(cluster_map, "MOST", 5)
    rows = Dataset.from_dict({"instruction": [f"Q{i}" for i in range(20)], "response": ["a"] * 20})
    texts = curation_texts(rows)
    first, shown = cluster_map.sample_instructions(texts, 1)
    assert len(first) == 5
    assert shown == [f"Q{i}" for i in first]
    assert first.tolist() == sorted(first) == cluster_map.sample_instructions(texts, 1)[0].tolist()
    assert first.tolist() != cluster_map.sample_instructions(texts, 2)[0].tolist()


def curation_texts(rows: Dataset):
    from hf_mlalign.data.layouts import recognise_layout
    from hf_mlalign.report.sections.curation_data import Texts

    return Texts(np.arange(len(rows)), rows, recognise_layout(rows.column_names), True)


def test_map_counts_every_row(made):
    table = chart(cluster_map.cluster_map, made / "curated").table
    assert table["language"].tolist() == LANGUAGES
    assert table["points"].tolist() == [128] * 3
    assert table["selected"].sum() == read_record(made / "curated").results["per_language"][-1]["selected"]


def test_margins_are_those_of_the_rows(made):
    table = chart(pairs.margins, made / "pairs").table.set_index("language")
    rows = [row for ds in load_dataset(str(made / "pairs")).values() for row in ds]
    for code in ("ar", "ja"):
        margins = [row["margin"] for row in rows if row["language"] == code]
        assert table.loc[code, "pairs"] == len(margins)
        assert table.loc[code, "mean_margin"] == pytest.approx(np.mean(margins))
        assert table.loc[code, "margin_median"] == pytest.approx(np.median(margins))


def test_dropped_counts_are_those_of_the_record(made):
    block = chart(pairs.dropped_by_filters, made / "pairs")
    recorded = read_record(made / "pairs").results["per_language"]
    for row in block.table.to_dict("records"):
        assert {k: v for k, v in row.items() if k != "language" and v == v} == pytest.approx(
            {k: v for k, v in recorded[row["language"]].items() if v is not None}
        )


def test_win_rates_are_the_metrics(made):
    table = chart(judging.win_rates, made / "judged").table.set_index("language")
    judged = load_dataset(str(made / "judged"), split="train")
    rates = winrate(**winrate_columns(judged, average_orders=True))
    assert table.loc["all", "win_rate"] == rates["win_rate"]
    assert table.loc["macro", "ci_low"] == rates["macro_ci_low"]
    assert table.loc["ja", "ci_high"] == rates["per_language"]["ja"]["ci_high"]


def test_training_log(tmp_path, made):
    block = chart(training.curves_section, made / "tuned")
    assert block.table["loss"].dropna().tolist() == [0.7, 0.5]
    assert block.table["eval_loss"].dropna().tolist() == [0.55]
    last = next(iter(training.by_language(part(made / "tuned"))))
    assert isinstance(last, Numbers)
    assert last.table.to_dict("records") == [{"language": "ja", "step": 2, "loss": 0.6, "rewards/accuracies": 0.8}]
    cosine = chart(training.consistency, made / "tuned").table
    assert cosine.to_dict("records") == [{"language": "ja", "first": 0.2, "last": 0.6}]
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        state = {"log_history": [*LOG, {"loss": float(step), "step": step}]}
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
    assert training.read_training_log(part(tmp_path))[-1]["loss"] == 10
    (tmp_path / "curve.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="curve.json holds no log history"):
        training.read_training_log(part(tmp_path))


def test_scale_curves_keep_norwegian(made):
    """"no" is a language, not a missing value."""
    table = chart(scaling.scale_curves, made / "scale").table
    assert set(table["language"]) == {"macro", "de", "no"}
    assert set(table["win_rate"]) == {50.0, 51.0}


def test_lens_and_classification(tmp_path):
    rows = [{"id": i, "language": code, "prompt": f"{code} {i}:", "answer": f"{code}{i}"} for code in ("en", "de", "ja")
            for i in range(3)]  # fmt: skip
    run_lens(Dataset.from_list(rows), tmp_path / "lens", model=saved(tiny_llama(), tmp_path / "model"))
    evaluate_classification(tiny_llama(context=4096), byte_tokenizer(), reviews(6), "emotion", progress=False,
                            output=tmp_path / "classify", seen=["de"])  # fmt: skip
    lens = part(tmp_path / "lens")
    titles = [block.title for show in (models.lens_section, models.geometry_section) for block in show(lens)]
    assert len(titles) == 6
    assert titles[0] == "P(answer in the prompt's language)"
    block = chart(models.classification, tmp_path / "classify")
    recorded = read_record(tmp_path / "classify").results["per_language"]
    accuracy = dict(zip(block.table["language"], block.table["accuracy"], strict=True))
    assert accuracy == pytest.approx({name: row["accuracy"] for name, row in recorded.items()})
    assert list(accuracy) == ["de", "en", "seen", "all"]
    assert [found.name for found, _ in find_parts(tmp_path, None, 0)] == ["classify", "lens"]
