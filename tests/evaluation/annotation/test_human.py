"""Judgements of people as a judge, as win-rate columns and as agreement."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.annotation.app import Page, messages
from hf_mlalign.evaluation.annotation.human import HumanJudge
from hf_mlalign.evaluation.annotation.items import PairItem
from hf_mlalign.evaluation.annotation.store import JUDGEMENTS, Judgement
from hf_mlalign.evaluation.judges.base import load_judge
from tests.evaluation.annotation.human_studies import make_items, open_study


def judgement(item: PairItem, annotator: str, preference, points=(3, 3, 3, 3), first="candidate") -> Judgement:
    cq, cc, bq, bc = points
    return Judgement(
        item.key, annotator, item.prompt_id, item.language, preference, cq, cc, bq, bc, first, **item.digests,
        candidate_chars=len(item.candidate), baseline_chars=len(item.baseline), seconds=1.0, time="2026-01-01T00:00:00",
    )  # fmt: skip


def write(folder, judgements) -> HumanJudge:
    folder.mkdir(exist_ok=True)
    (folder / JUDGEMENTS).write_text("".join(json.dumps(asdict(j)) + "\n" for j in judgements))
    return HumanJudge(folder)


ITEMS = make_items(4)
ARABIC = make_items(1, "ar")[0]


@pytest.fixture
def judge(tmp_path):
    said = [
        judgement(ITEMS[0], "Ana", "candidate", (5, 4, 2, 1)), judgement(ITEMS[0], "Bo", "tie", first="baseline"),
        judgement(ITEMS[1], "Ana", "tie"), judgement(ITEMS[1], "Ana", "baseline"),  # corrected
        judgement(ITEMS[2], "Ana", None, (None,) * 4), judgement(ARABIC, "Cy", "both_bad", (1, 1, 1, 1)),
    ]  # fmt: skip
    return write(tmp_path / "j", said)


def test_preferences_by_text_in_either_order(judge):
    a, b, c = ITEMS[0], ITEMS[1], ITEMS[2]
    prompts = ["Frage 0?", [{"role": "user", "content": "Frage 0?"}], "Frage 1?", "Frage 2?", "Frage 9?"]
    first = [a.candidate, a.baseline, b.candidate, c.candidate, "x"]
    second = [a.baseline, a.candidate, b.baseline, c.baseline, "y"]
    german = ["de"] * 5
    np.testing.assert_array_equal(judge.judge(prompts, first, second, german), [0.75, 0.25, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(judge(prompts[:1], first[:1], second[:1], languages=["Arabic"]), [0.5])
    np.testing.assert_allclose(judge(prompts[:1], first[:1], second[:1]), [(1 + 0.5 + 0.5) / 3])
    assert judge.judge([], [], []).shape == (0,)
    with pytest.raises(DataError, match="Give the same number"):
        judge.judge(["x"], ["y"], [])


def test_identical_answers_are_a_tie(tmp_path):
    item = PairItem("p", "de", (("user", "?"),), "same", "same")
    assert write(tmp_path, [judgement(item, "Ana", "candidate")]).judge(["?"], ["same"], ["same"])[0] == 0.5


def test_by_name(judge):
    loaded = load_judge("human", source=judge.source)
    assert loaded(["Frage 1?"], [ITEMS[1].candidate], [ITEMS[1].baseline])[0] == 0.0


def test_winrate_columns(judge):
    columns = judge.winrate_columns(lengths=True)
    rows = dict(zip(zip(columns["prompt_ids"], columns["languages"]), columns["predictions"]))
    assert rows["secret-id-0", "de"] == 0.75
    assert rows["secret-id-1", "de"] == 0.0
    assert math.isnan(rows["secret-id-2", "de"])
    assert rows["secret-id-0", "ar"] == 0.5
    assert set(columns["candidate_lengths"]) == {len("Gut 0.")}
    rates = judge.winrate(n_resamples=0)
    assert rates["win_rate"] == pytest.approx(100 * (0.75 + 0 + 0.5) / 3)
    assert (rates["n"], rates["n_unjudged"]) == (3, 1)


def test_summary(judge):
    german = judge.summary().set_index("language").loc["de"]
    assert (german["n_items"], german["n_judgements"], german["n_annotators"]) == (3, 4, 2)
    assert tuple(german[["candidate", "tie", "both_bad", "baseline", "not_judged"]]) == (1, 1, 0, 1, 1)
    assert german["candidate_quality"] == pytest.approx((5 + 3 + 3) / 3)
    assert german["first_preferred"] == 0.5


def test_export_is_a_source_again(judge, tmp_path):
    paths = judge.export(tmp_path / "out")
    again = HumanJudge(paths["judgements"])
    pd.testing.assert_frame_equal(again.judgements, judge.judgements)
    assert json.loads(paths["winrate"].read_text())["n"] == 3
    assert list(pd.read_csv(paths["agreement"])["language"].unique()) == ["ar", "de", "all"]
    with pytest.raises(DataError, match="is a file"):
        judge.export(paths["summary"])


def test_alpha_by_hand(tmp_path):
    """Two readers, ten items, the well-known binary example: alpha = 1 − (n−1)·D/(n0·n1) with n = 20 values."""
    ana = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    bo = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    items, name = make_items(10), {0: "baseline", 1: "candidate"}
    said = [judgement(i, r, name[v]) for r, values in (("Ana", ana), ("Bo", bo)) for i, v in zip(items, values)]
    row = write(tmp_path, said).agreement().set_index(["language", "measure"]).loc["de", "preference"]
    differ, ones = sum(a != b for a, b in zip(ana, bo)), sum(ana) + sum(bo)
    assert row["alpha"] == pytest.approx(1 - 19 * (2 * differ) / (2 * ones * (20 - ones)), abs=1e-9)
    assert row["alpha"] == pytest.approx(0.095, abs=5e-4)
    assert row["ci_low"] < row["alpha"] < row["ci_high"]
    assert (row["n_items"], row["n_judgements"], row["n_annotators"]) == (10, 20, 2)


def test_alpha_is_the_ordinal_one_of_krippendorffs_example(tmp_path):
    """Krippendorff, Computing Krippendorff's alpha-reliability (2011): four observers, twelve units, 0.815."""
    values = {"Ana": "123321412...", "Bo": "1233224125.3", "Cy": ".3332342251.", "Di": "12332441251."}
    said = [judgement(item, reader, "tie", (int(value), None, None, None))
            for reader, row in values.items() for item, value in zip(make_items(12), row) if value != "."]  # fmt: skip
    row = write(tmp_path, said).agreement(n_resamples=0).set_index(["language", "measure"]).loc["de", "quality"]
    assert row["alpha"] == pytest.approx(0.815, abs=5e-4)
    assert (row["n_items"], row["n_annotators"]) == (11, 4)


def test_alpha_of_points_counts_both_answers(tmp_path):
    items = make_items(3)
    said = [judgement(i, r, "tie", (k + 1, 5, k + 3, 5)) for r in ("Ana", "Bo") for k, i in enumerate(items)]
    table = write(tmp_path / "same", said).agreement(n_resamples=0).set_index(["language", "measure"])
    assert table.loc[("de", "quality"), "alpha"] == pytest.approx(1.0)
    assert "all judgements are equal" in table.loc[("de", "culture"), "reason"]
    near = [replace(j, candidate_quality=j.candidate_quality + (j.annotator == "Bo")) for j in said]
    far = [replace(j, candidate_quality=5 if j.annotator == "Bo" else 1) for j in said]
    alphas = [
        write(tmp_path / name, some).agreement(n_resamples=0).set_index("measure")["alpha"]["quality"].iloc[0]
        for name, some in (("near", near), ("far", far))
    ]
    assert 1 > alphas[0] > alphas[1]


def test_alpha_is_nan_with_a_reason(judge):
    table = judge.agreement().set_index(["language", "measure"])
    assert math.isnan(table.loc[("ar", "preference"), "alpha"])
    assert table.loc[("ar", "preference"), "reason"] == "nothing was judged by two readers"
    assert table.loc[("de", "preference"), "n_items"] == 1
    with pytest.raises(DataError, match="confidence"):
        judge.agreement(confidence=1.0)


def test_alpha_of_independent_readers_is_near_0(tmp_path):
    rng = np.random.default_rng(0)
    said = [judgement(item, reader, ["candidate", "tie", "baseline"][rng.integers(3)])
            for item in make_items(400) for reader in ("Ana", "Bo", "Cy")]  # fmt: skip
    row = write(tmp_path, said).agreement(n_resamples=200).iloc[0]
    assert abs(row["alpha"]) < 0.08
    assert row["ci_low"] < 0 < row["ci_high"]


def test_sources_that_are_refused(tmp_path):
    (tmp_path / JUDGEMENTS).write_text("")
    with pytest.raises(DataError, match="no judgements yet"):
        HumanJudge(tmp_path)
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        HumanJudge(tmp_path / "x.parquet")
    pd.DataFrame({"item": ["a"]}).to_parquet(tmp_path / "y.parquet")
    with pytest.raises(DataError, match="lacks the columns annotator"):
        HumanJudge(tmp_path / "y.parquet")


def test_every_language_has_every_text():
    english = messages()["en"]
    assert len(messages()) == 22
    for code, texts in messages().items():
        assert texts.keys() == english.keys(), code
        for name, text in texts.items():
            assert text.strip() == text != "", (code, name)
            for hole in ("{letter}", "{done}", "{total}", "{parts}", "{n}"):
                assert (hole in text) == (hole in english[name]), (code, name)


def test_what_the_page_is_told_says_nothing_of_the_sides(tmp_path):
    items = make_items(40)
    with open_study(tmp_path / "j", items, overlap=1.0) as study:
        page = Page(study)
        request = {"name": "Ana", "languages": ["de"], "ui": "de"}
        seen = set()
        while (answer := page.next(request))["item"]:
            item = answer["item"]
            assert item.keys() == {"token", "language", "language_name", "direction", "turns", "answers", "earlier"}
            assert "secret-id" not in json.dumps(answer)
            assert not {"candidate", "baseline"} & set(json.dumps(answer).replace('"', " ").split())
            seen.add(item["answers"][0].split()[0])
            page.save({**request, "token": item["token"], "preference": "a", "points": [[1, 2], [3, 4]]})
    assert seen == {"Gut", "Schlecht"}


@pytest.mark.parametrize("change", [{"name": ""}, {"name": None}, {"token": "nonsense"}, {"token": None}, {"points": 3},
                                    {"points": [[1, 2], 3]}, {"preference": ["a"]}])  # fmt: skip
def test_nonsense_from_the_browser_is_answered(tmp_path, change):
    with open_study(tmp_path / "j", make_items(1)) as study:
        page = Page(study)
        token = page.next({"name": "Ana", "languages": ["de"]})["item"]["token"]
        request = {"name": "Ana", "languages": ["de"], "token": token, "preference": "a", "points": [[1, 2], [3, 4]]}
        assert page.save({**request, **change}).keys() == {"error"}
        assert page.save(request)["item"] is None
