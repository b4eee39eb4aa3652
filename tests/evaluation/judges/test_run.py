"""Reading comparisons, judging datasets, and folders of judgements."""

import json

import numpy as np
import pytest
import yaml
from datasets import Dataset, load_dataset

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.annotation.items import read_items
from hf_mlalign.evaluation.annotation.store import Judgement, JudgementStore
from hf_mlalign.evaluation.judges import run as judging
from hf_mlalign.evaluation.judges.base import (
    check_answer_pairs,
    load_judge,
)
from hf_mlalign.evaluation.judges.rules import LengthJudge
from hf_mlalign.evaluation.judges.run import join_responses, judge_dataset, read_answer_pairs, winrate_columns
from hf_mlalign.evaluation.metrics.winrate import winrate
from hf_mlalign.evaluation.options import JudgeOptions
from hf_mlalign.hub.run_record import read_record
from tests.evaluation.judges.judge_models import ROWS, first_wins


def test_judging_a_dataset():
    judged = judge_dataset(Dataset.from_dict(ROWS), LengthJudge(hard=True))
    assert judged["prediction"][:] == [1.0, 0.0, None, 1.0]
    assert judged["swapped_prediction"][:] == [1.0, 0.0, None, 1.0]
    assert judged["judge_reason"][:] == ["", "", "there is no candidate answer", ""]
    assert judged["candidate_length"][:] == [3, 1, None, 1]
    assert judged["baseline_length"][:] == [1, 3, 1, 0]
    again = judge_dataset(judged, first_wins)
    assert again["prediction"][:] == [1.0, 1.0, None, 1.0]
    assert again["preference"][:] == [0.5, 0.5, None, 0.5]
    assert again.column_names[:5] == judged.column_names[:5]


def test_win_rate_arguments():
    judged = judge_dataset(Dataset.from_dict(ROWS), first_wins)
    found = winrate_columns(judged)
    np.testing.assert_array_equal(found["predictions"], [1, 1, np.nan, 1])
    np.testing.assert_array_equal(found["swapped_predictions"], [0, 0, np.nan, 0])
    np.testing.assert_array_equal(found["candidate_lengths"], [3, 1, np.nan, 1])
    assert found["languages"] == ["de", "fr", "de", "de"]
    assert found["prompt_ids"] == ["p", "q", "r", "s"]
    averaged = winrate_columns(judged, average_orders=True)
    np.testing.assert_array_equal(averaged["predictions"], [0.5, 0.5, np.nan, 0.5])
    assert "swapped_predictions" not in averaged
    rates = winrate(**averaged)
    assert (rates["win_rate"], rates["n_unjudged"], rates["per_language"]["de"]["n"]) == (50, 1, 2)
    assert winrate(**found)["position_consistency"] == 0
    with pytest.raises(DataError, match="Judge the dataset first"):
        winrate_columns(Dataset.from_dict(ROWS))


def test_preference_pairs_can_be_judged():
    rows = {"prompt": [[{"role": "user", "content": "Q"}]], "chosen": [[{"role": "assistant", "content": "abc"}]],
            "rejected": [[{"role": "assistant", "content": "a"}]]}  # fmt: skip
    assert judge_dataset(Dataset.from_dict(rows), LengthJudge(hard=True))["prediction"][:] == [1.0]


@pytest.mark.parametrize(
    ("change", "mapping", "message"),
    [
        ({"candidate": None}, None, "No column for candidate"),
        ({}, {"candidate": "winner"}, "unknown roles: winner"),
        ({"prompt": ["Q1", "", "Q3", "Q4"]}, None, "Column 'prompt', row 1"),
        ({"language": ["de", "xx1", "de", "de"]}, None, "unknown language 'xx1'"),
        ({"language": ["de", "de", None, "de"]}, None, "Column 'language', row 2: missing"),
        ({"prompt_id": ["p", None, "r", "s"]}, None, "Column 'prompt_id', row 1: missing"),
        ({name: [] for name in ROWS}, None, "The dataset is empty"),
        ({"baseline": [1, 2, 3, 4]}, None, "Column 'baseline', row 0: expected a text or a list of messages, found 1"),
    ],
)
def test_datasets_that_cannot_be_judged(change, mapping, message):
    rows = {name: values for name, values in {**ROWS, **change}.items() if values is not None}
    with pytest.raises(DataError, match=message):
        judge_dataset(Dataset.from_dict(rows), first_wins, column_mapping=mapping)


def responses(name: str, **changes) -> Dataset:
    rows = {"prompt_id": [1, 1, 2, 3], "language": ["de", "de", "de", "fr"], "prompt": ["Q1", "Q1", "Q2", "Q3"],
            "sample": [1, 0, 0, 0], "response": [f"{name} {i}" for i in range(4)]}  # fmt: skip
    return Dataset.from_dict({**rows, **changes})


def test_what_people_said_is_a_judge_like_any_other(tmp_path):
    ds = Dataset.from_dict(ROWS).select([0, 1])
    with JudgementStore(tmp_path / "study", {}).open() as store:
        for item in read_items(ds)[:1]:
            store.add(Judgement(
                item=item.key, annotator="ann", prompt_id=item.prompt_id, language=item.language,
                preference="candidate", candidate_quality=5, candidate_culture=None, baseline_quality=1,
                baseline_culture=None, first="baseline", candidate_chars=3, baseline_chars=1, seconds=2.0,
                time="2026-01-01T00:00:00Z", **item.digests,
            ))  # fmt: skip
    judged = judge_dataset(ds, load_judge("human", source=tmp_path / "study"))
    assert judged["prediction"][:] == judged["swapped_prediction"][:] == [1.0, None]
    assert judged["judge_reason"][1] == "the judge gave no preference"


def test_two_sets_of_answers_are_joined():
    theirs = responses("b", prompt_id=[1, 1, 4, 3], language=["German", "de", "de", "fr"])
    joined, notes = join_responses(responses("a"), theirs)
    assert joined[:] == {
        "prompt_id": [1, 3], "language": ["de", "fr"], "prompt": ["Q1", "Q3"], "candidate": ["a 1", "a 3"],
        "baseline": ["b 1", "b 3"],
    }  # fmt: skip
    assert notes == [f"1 answers of the {name} have no counterpart and are left out"
                     for name in ("candidate", "baseline")]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": ["Other", "Other", "Q2", "Q3"]}, "prompt 1 in 'de' has another text"),
        ({"sample": [0, 0, 0, 0]}, "baseline, row 1: prompt 1 in 'de' is answered twice"),
        ({"prompt_id": [7, 7, 8, 9]}, "no prompt_id and language in common"),
    ],
)
def test_answers_that_cannot_be_joined(changes, message):
    with pytest.raises(DataError, match=message):
        join_responses(responses("a"), responses("b", **changes))


def test_a_folder_of_judgements(tmp_path):
    Dataset.from_dict(ROWS).to_json(tmp_path / "rows.jsonl")
    done = judging.judge(tmp_path / "rows.jsonl", tmp_path / "out", LengthJudge(hard=True), limit=3)
    opened = load_dataset(str(tmp_path / "out"), split="train")
    assert opened["prediction"][:] == done.dataset["prediction"][:] == [1.0, 0.0, None]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["results"]["rows"], record["results"]["n"], record["results"]["unjudged"]) == (3, 2, 1)
    assert record["results"]["win_rate"] == done.result.rates["win_rate"] == 50
    assert record["parameters"]["judge"]["judge"] == "length"
    judging.judge(tmp_path / "rows.jsonl", tmp_path / "out", LengthJudge(hard=True), limit=3)
    assert len(list((tmp_path / "out" / "data").iterdir())) == 1
    whole = judging.judge(tmp_path / "rows.jsonl", tmp_path / "whole", LengthJudge(hard=True), limit=2)
    again = judging.judge(tmp_path / "rows.jsonl", tmp_path / "whole", LengthJudge(hard=True), limit=2)
    assert (whole.fresh, again.fresh) == (True, False)
    assert again.dataset.to_list() == whole.dataset.to_list()
    assert repr(again.result.rates["per_language"]) == repr(whole.result.rates["per_language"])
    np.testing.assert_array_equal(again.result.judgements.preferences, whole.result.judgements.preferences)
    other = judging.judge(tmp_path / "rows.jsonl", tmp_path / "other" / "out", LengthJudge())
    assert load_dataset(str(tmp_path / "other" / "out"), split="train")[:] == other.dataset[:]
    with pytest.raises(DataError, match="other parameters .judge was"):
        judging.judge(tmp_path / "rows.jsonl", tmp_path / "out", LengthJudge())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(DataError, match="is not empty and holds no judge run"):
        judging.judge(tmp_path / "rows.jsonl", tmp_path / "full", LengthJudge())
    with pytest.raises(DataError, match="is a file"):
        judging.judge(tmp_path / "rows.jsonl", tmp_path / "full" / "thesis.txt", LengthJudge())


@pytest.mark.parametrize("overwrite", [True, False])
def test_old_judgements_stay_until_there_are_new_ones(tmp_path, overwrite):
    Dataset.from_dict(ROWS).to_json(tmp_path / "rows.jsonl")
    state = {"fails": False}

    class Shy:
        def __call__(self, prompts, a, b):
            if state["fails"]:
                raise ConnectionError("401")
            return [1.0] * len(a)

        def describe(self):
            return {"judge": "shy"}

    def judged():
        return judging.judge(tmp_path / "rows.jsonl", tmp_path / "out", Shy(), overwrite=overwrite)

    judged()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    state["fails"] = True
    with pytest.raises(DataError, match="401"):
        judged()
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert after == before
    assert read_record(tmp_path / "out").state == "finished"
    state["fails"] = False
    assert judged().fresh
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".lock", "README.md", "data", "run.json"}


def test_a_judge_by_name(tmp_path):
    Dataset.from_dict(ROWS).to_json(tmp_path / "rows.jsonl")
    done = judging.judge(tmp_path / "rows.jsonl", tmp_path / "named", judge="length", hard=True)
    same = judging.judge(tmp_path / "rows.jsonl", tmp_path / "made", LengthJudge(hard=True))
    assert done.dataset.to_list() == same.dataset.to_list()
    assert done.record.parameters == same.record.parameters == {
        "judge": {"judge": "length", "scale": 1.0, "hard": True, "tie_margin": 0.0, "shortcuts": True},
        "baseline": None, "column_mapping": {}, "limit": None,
    }  # fmt: skip
    table = done.per_language()
    assert (table["language"].tolist(), table["n"].tolist()) == (["de", "fr"], [2, 1])
    assert table["win_rate"].tolist() == [100.0, 0.0]
    options = JudgeOptions(judge="length", limit=2)
    found = [judging.judge(tmp_path / "rows.jsonl", tmp_path / "part", options=options).fresh for _ in range(2)]
    assert found == [True, False]
    with pytest.raises(DataError, match="name a file, folder or Hub dataset, or use --self-test"):
        judging.judge(None, tmp_path / "none", judge="length")


def test_the_card(tmp_path):
    Dataset.from_dict(ROWS).to_json(tmp_path / "rows.jsonl")
    judging.judge(tmp_path / "rows.jsonl", tmp_path / "out", judge="length", hard=True)
    card = (tmp_path / "out" / "README.md").read_text()
    block = yaml.safe_load(card.split("---\n")[1])
    assert (block["language"], block["license"], block["size_categories"]) == (["de", "fr"], "unknown", ["n<1K"])
    assert block["tags"] == ["hf_mlalign", "judgements"]
    for line in ("4 comparisons of two answers", "1 of them could not be judged", "| hard | `True` |",
                 "| de | 2 | 100.0 | 15.8 to 100.0 | 1 |", "| all | 3 |", "Source: `rows.jsonl`."):  # fmt: skip
        assert line in card


def test_a_self_test_of_a_judge(tmp_path):
    Dataset.from_dict({**ROWS, "candidate": ["aaa", "b", "cc", "x"]}).to_json(tmp_path / "rows.jsonl")
    done = judging.judge(None, tmp_path / "out", judge="length", self_test=True)
    assert (done.dataset, done.result.passed) == (None, True)
    assert json.loads((tmp_path / "out" / "self-test.json").read_text()) == done.result.record()
    own = judging.judge(tmp_path / "rows.jsonl", tmp_path / "out", judge="length", self_test=True, limit=2)
    assert {check.n for check in own.result.checks} == {2, 4}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"self-test.json"}


def test_answers_of_two_pairs_of_columns_are_not_mixed():
    rows = {"prompt": ["Q"], "candidate": ["neither"], "response_a": ["A"], "response_b": ["B"]}
    table = read_answer_pairs(Dataset.from_dict(rows))
    assert (table.candidates, table.baselines) == (["A"], ["B"])
    table = read_answer_pairs(Dataset.from_dict(rows), {"candidate": "baseline"})
    assert (table.candidates, table.baselines) == (["A"], ["neither"])


def test_columns_are_those_of_every_job():
    """Codes come before names of languages, and messages may have from and value."""
    turns = [{"from": "human", "value": "Q"}]
    rows = {"question": [turns], "language": ["Central Kanuri"], "language_code": ["knc"], "question_id": [7],
            "chosen": [[{"from": "gpt", "value": "A"}]], "rejected": ["B"]}  # fmt: skip
    table = read_answer_pairs(Dataset.from_dict(rows))
    assert (table.languages, table.ids, table.candidates, table.baselines) == (["kr"], [7], ["A"], ["B"])
    assert check_answer_pairs(table.prompts, ["A"], ["B"]).prompts == [({"role": "user", "content": "Q"},)]
