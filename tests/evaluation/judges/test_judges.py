"""The protocol, judges by name, judges that score, self-tests, and judging a dataset."""

import functools
import json
import sys

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.annotation.items import read_items
from hf_mlalign.evaluation.annotation.store import Judgement, JudgementStore
from hf_mlalign.evaluation.judges import run as judging
from hf_mlalign.evaluation.judges.base import (
    JUDGES,
    check_answer_pairs,
    describe,
    load_judge,
    register_judge,
    run_judge,
    trivial_preferences,
)
from hf_mlalign.evaluation.judges.llm import LLMJudge
from hf_mlalign.evaluation.judges.rules import LanguageJudge, LengthJudge, ScoreJudge, SimilarityJudge
from hf_mlalign.evaluation.judges.run import join_responses, judge_dataset, winrate_columns
from hf_mlalign.evaluation.judges.self_test import check_judge
from hf_mlalign.evaluation.metrics.winrate import winrate
from hf_mlalign.hub.run_record import read_record
from tests.evaluation.judges.judge_models import grading, longer
from tests.servers import ChatServer

ROWS = {
    "prompt_id": ["p", "q", "r", "s"], "language": ["de", "fr", "de", "de"], "prompt": ["Q1", "Q2", "Q3", "Q4"],
    "candidate": ["aaa", "b", None, "x"], "baseline": ["b", "aaa", "y", ""],
}  # fmt: skip


def first_wins(prompts, a, b):
    return np.ones(len(a))


def shorter_wins(prompts, a, b):
    return [0.5 if len(x) == len(y) else float(len(x) < len(y)) for x, y in zip(a, b, strict=True)]


# --- the protocol -----------------------------------------------------------------------------------------------------


def test_a_function_is_a_judge_and_is_asked_in_both_orders():
    found = run_judge(shorter_wins, ["q"] * 3, ["a", "bb", "c"], ["aa", "b", "d"])
    assert found.predictions.tolist() == found.swapped_predictions.tolist() == [1.0, 0.0, 0.5]
    biased = run_judge(first_wins, ["q"], ["a"], ["b"])
    assert (biased.predictions.tolist(), biased.swapped_predictions.tolist()) == ([1.0], [0.0])
    assert biased.preferences.tolist() == [0.5]
    assert run_judge(first_wins, ["q"], ["a"], ["b"], both_orders=False).swapped_predictions is None
    assert len(run_judge(shorter_wins, [], [], []).preferences) == 0


def test_context_reaches_the_judges_that_ask_for_it():
    seen = {}

    def plain(prompts, a, b):
        return [0.5] * len(a)

    def curious(prompts, a, b, languages=None, prompt_ids=None):
        seen.update(languages=languages, prompt_ids=prompt_ids)
        return [0.5] * len(a)

    for judge in (plain, curious):
        run_judge(judge, ["q"], ["a"], ["b"], languages=["de"], prompt_ids=["p"], references=["r"])
    assert seen == {"languages": ["de"], "prompt_ids": ["p"]}


def test_objects_with_a_method_judge_serve_too():
    class Recorded:
        def judge(self, prompts, a, b):
            return [np.nan if x == "?" else 1.0 for x in a]

    found = run_judge(load_judge(Recorded()), ["q", "q"], ["a", "?"], ["b", "b"], both_orders=False)
    assert found.reasons == ["", "the judge gave no preference"]


@pytest.mark.parametrize(
    ("values", "message"),
    [([0.5], "shape"), ([0.5, 1.5], "row 1: the preference 1.5 is outside"), (["x", "y"], "not numbers"),
     ([0.5, -0.1], "row 1"), (None, "shape|not numbers")],
)  # fmt: skip
def test_judges_that_break_the_protocol(values, message):
    with pytest.raises(DataError, match=message):
        run_judge(lambda prompts, a, b: values, ["q", "q"], ["a", "a"], ["b", "b"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["q"], ["a"], []), "b: 0 values for 1 prompts"),
        ((["q"], ["a"], [None]), "b, row 0: None is not a text"),
        ((["q", " "], ["a"] * 2, ["b"] * 2), "prompts, row 1: the prompt is missing or blank"),
        (([[{"role": "user"}]], ["a"], ["b"]), "prompts, row 0"),
        (([3], ["a"], ["b"]), "prompts, row 0"),
        ((["q"], "a", ["b"]), "a: one text was given"),
        ((["q"], ["a"], ["b"], ["xx1"]), "unknown language 'xx1'"),
    ],
)
def test_bad_comparisons_are_named(arguments, message):
    with pytest.raises(DataError, match=message):
        check_answer_pairs(*arguments)


def test_what_needs_no_judge():
    found = trivial_preferences(["x", "", " ", "x", "x"], ["x ", "y", "", "y", "\n"])
    np.testing.assert_array_equal(found, [0.5, 0, 0.5, np.nan, 1])


def test_languages_may_be_missing_or_named():
    assert check_answer_pairs(["q"] * 3, ["a"] * 3, ["b"] * 3, ["German", None, ""]).languages == ["de", "", ""]


def test_a_judge_that_raises_is_named():
    def broken(prompts, a, b):
        raise KeyError("lost")

    class Score(ScoreJudge):
        def scores(self, prompts, answers, languages, references):
            raise OSError("gone")

    with pytest.raises(DataError, match="judge .*broken: it raised KeyError: 'lost'"):
        run_judge(broken, ["q"], ["a"], ["b"])
    with pytest.raises(DataError, match="judge score: it raised OSError: gone"):
        run_judge(Score(), ["q"], ["a"], ["b"])


def test_other_code_is_another_judge(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    Dataset.from_dict(ROWS).to_json(tmp_path / "rows.jsonl")
    text = "def ok(prompts, a, b):\n    return [{}] * len(a)\n"
    (tmp_path / "changing_judge.py").write_text(text.format(1.0))
    judge = load_judge("changing_judge:ok")
    assert len(describe(judge)["code"]) == 16
    assert describe(judge) == describe(functools.partial(judge))
    judging.judge(tmp_path / "rows.jsonl", tmp_path / "out", judge)
    (tmp_path / "changing_judge.py").write_text(text.format(0.25))
    sys.modules.pop("changing_judge")
    with pytest.raises(DataError, match="other parameters .judge was"):
        judging.judge(tmp_path / "rows.jsonl", tmp_path / "out", load_judge("changing_judge:ok"))
    assert "code" not in describe(LengthJudge())


# --- by name ----------------------------------------------------------------------------------------------------------


def test_judges_by_name():
    assert isinstance(load_judge(), SimilarityJudge)
    assert isinstance(load_judge("llm", model="tiny", base_url="http://127.0.0.1:1/v1"), LLMJudge)
    assert load_judge("length", hard=True).hard is True
    assert load_judge(first_wins) is first_wins
    assert load_judge("tests.evaluation.judges.test_judges:first_wins")([""], ["a"], ["b"]).tolist() == [1.0]
    assert isinstance(load_judge("hf_mlalign.evaluation.judges.rules:LengthJudge"), LengthJudge)


def test_judges_of_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_own_judge.py").write_text("def ok(prompts, a, b):\n    return [1.0] * len(a)\n")
    (tmp_path / "my_broken_judge.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = list(sys.path)
    assert load_judge("my_own_judge:ok")([""], ["a"], ["b"]) == [1.0]
    with pytest.raises(DataError, match="'my_broken_judge:ok' cannot be imported: ZeroDivisionError"):
        load_judge("my_broken_judge:ok")
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("best", {}, "there is no 'best'. There are: llm, reward_model, similarity"),
        ("no.such.module:x", {}, "cannot be imported"),
        ("math:nothing", {}, "cannot be imported"),
        ("math:pi", {}, "not a class or function"),
        ("length", {"depth": 3}, "judge 'length': it has no option 'depth'"),
        (3, {}, "int cannot be called"),
        (first_wins, {"hard": True}, "the judge is made already"),
        ("length", {"scale": 0}, "must be positive"),
    ],
)
def test_judges_that_cannot_be_had(name, options, message):
    with pytest.raises(DataError, match=message):
        load_judge(name, **options)


def test_own_judges_can_be_registered(monkeypatch):
    monkeypatch.setattr("hf_mlalign.evaluation.judges.base.JUDGES", dict(JUDGES))
    register_judge("shorter")(shorter_wins)
    assert load_judge("shorter") is shorter_wins
    with pytest.raises(DataError, match="'length' is one of the package's"):
        register_judge("length")(shorter_wins)


# --- judges that score ------------------------------------------------------------------------------------------------


class Vowels(ScoreJudge):
    """1 a vowel; NaN for answers that contain "?"."""

    name = "vowels"

    def __init__(self, **options):
        super().__init__(**options)
        self.scored = []

    def scores(self, prompts, answers, languages, references):
        self.scored += answers
        why = ["unreadable" if "?" in answer else "" for answer in answers]
        return np.array([np.nan if "?" in x else sum(c in "aeiou" for c in x) for x in answers], float), why


def test_preferences_from_scores_by_hand():
    judge = Vowels(scale=2.0)
    found = judge.compare(["q"] * 5, ["aa", "b", "x?", "", "same"], ["b", "ae", "a", "a", "same"])
    expected = [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), np.nan, 0.0, 0.5]
    np.testing.assert_allclose(found.preferences, expected)
    np.testing.assert_array_equal(found.predictions, found.swapped_predictions)
    assert found.reasons == ["", "", "candidate: unreadable", "", ""]
    assert sorted(judge.scored) == ["a", "aa", "ae", "b", "x?"]  # each once; settled ones never
    hard = Vowels(hard=True, tie_margin=1.0)
    assert hard(["q"] * 3, ["aaa", "a", "b"], ["b", "b", "eee"]).tolist() == [1.0, 0.5, 0.0]
    assert Vowels(scale=1e-9)(["q"], ["a"], ["b"]).tolist() == [1.0]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), min_size=1, max_size=6))
def test_scores_do_not_look_at_the_order(pairs):
    a, b = map(list, zip(*pairs, strict=True))
    for judge in (LengthJudge(), Vowels(), LengthJudge(hard=True)):
        np.testing.assert_allclose(judge(["q"] * len(a), a, b), 1 - judge(["q"] * len(a), b, a))


def test_length_by_hand():
    assert LengthJudge()(["q"], ["abc"], ["a"]).tolist() == pytest.approx([4 / (4 + 2)])  # σ(ln 4 − ln 2)


def test_similarity_by_hand(counting_encoder):
    """Vectors (length, a's, e's, 1): the prompt "aa" is (2, 2, 0, 1), of length 3."""
    judge = SimilarityJudge(counting_encoder, scale=1.0)
    near, far = (3 * 2 + 2 * 2 + 1) / (3 * 14**0.5), (3 * 2 + 1) / (3 * 14**0.5)  # of (3, 2, 0, 1) and (3, 0, 2, 1)
    assert judge(["aa"], ["aab"], ["bee"]) == pytest.approx(1 / (1 + np.exp(far - near)))
    assert judge(["aa"], [" AA "], ["bee"]) == pytest.approx(1 / (1 + np.exp(far + 1)))  # an echo counts as blank: −1
    told = SimilarityJudge(counting_encoder, {"aa": "bee"})
    assert told(["aa"], ["aab"], ["bee"])[0] < 0.5 < judge(["aa"], ["aab"], ["bee"])[0]
    assert told(["aa"], ["aab"], ["bee"], references=["aab"])[0] > 0.5


def test_similarity_offline_stays_on_the_subject():
    judge = SimilarityJudge()
    prompts = ["Wie koche ich Reis?", "What is the capital of France?"]
    good = ["Reis mit der doppelten Menge Wasser kochen.", "The capital of France is Paris."]
    bad = ["Mein Auto ist rot.", "Bananas grow in bunches."]
    assert (judge(prompts, good, bad) > 0.5).all()
    assert (judge(prompts, bad, good) < 0.5).all()


def test_language_judge():
    judge = LanguageJudge()
    german, english = "Das ist ein ganz gewöhnlicher deutscher Satz.", "This is a perfectly ordinary English sentence."
    found = judge.compare(["q"] * 4, [german, english, german, german], [english, german, german + " Ja.", english],
                          languages=["de", "de", "de", None])  # fmt: skip
    np.testing.assert_array_equal(found.preferences, [1, 0, 0.5, np.nan])
    assert "language of the prompt is not given" in found.reasons[3]
    assert judge.unaided()(["q"] * 2, ["", english], [english, ""], ["de", "de"]).tolist() == [0, 1]


# --- self-tests -------------------------------------------------------------------------------------------------------


def values(report) -> dict:
    return {check.name: (round(check.value, 3), check.passed) for check in report.checks}


@pytest.mark.parametrize("name", ["similarity", "length", "language"])
def test_the_offline_judges_pass(name):
    assert check_judge(load_judge(name)).passed


def test_a_sound_judge_passes():
    report = check_judge(LengthJudge())
    found = values(report)
    assert report.passed
    assert found["agrees under swap"] == found["agrees with a majority"] == (1.0, True)
    assert found["identical answers tie"] == found["an empty answer loses"] == (1.0, None)
    assert found["identical answers tie, unaided"] == found["an empty answer loses, unaided"] == (1.0, True)
    assert "Self-test: passed" in str(report)
    assert json.dumps(report.record())


def test_a_judge_of_places_fails():
    found = values(check_judge(first_wins))
    assert found["agrees under swap"] == (0.0, False)
    assert found["identical answers tie"] == (0.0, False)
    assert found["an empty answer loses"] == (0.0, False)
    assert found["pull of the first place"] == (1.0, None)


def test_a_judge_that_likes_empty_answers_fails_on_them_alone():
    report = check_judge(shorter_wins)
    assert [check.name for check in report.checks if check.passed is False] == ["an empty answer loses"]
    assert "FAILED" in str(report)


def test_a_moody_judge_disagrees_with_its_equals():
    class Moody:
        def __init__(self, seed=0):
            self.seed = seed

        def with_seed(self, seed):
            return Moody(seed)

        def __call__(self, prompts, a, b):
            return np.full(len(a), float(self.seed % 2))

    found = values(check_judge(Moody(), ["q"] * 4, ["x"] * 4, ["y"] * 4, n_judges=3, seed=1))
    assert found["agrees with a majority"] == (1.0, True)  # asked in both orders, each comes out even

    class Decided(Moody):
        def with_seed(self, seed):
            return Decided(seed)

        def __call__(self, prompts, a, b):
            up = self.seed % 2
            return [float(up) if x < y else float(1 - up) for x, y in zip(a, b, strict=True)]

    found = values(check_judge(Decided(), ["q"] * 4, ["x"] * 4, ["y"] * 4, n_judges=3, seed=1))
    assert found["agrees with a majority"] == (0.0, False)  # sides −, +, −: others 0, −, 0


def test_silence_fails():
    report = check_judge(lambda prompts, a, b: [np.nan] * len(a))
    assert not report.passed
    assert values(report)["gives a verdict"] == (0.0, False)


def test_a_language_model_is_tested_without_its_shortcuts(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with ChatServer(grading(lambda first, second: 2 if first == second else longer(first, second))) as server:
        judge = LLMJudge("tiny", server.base_url, progress=False)
        report = check_judge(judge)
    found = values(report)
    assert not report.passed
    assert found["identical answers tie"] == (1.0, None)
    assert found["identical answers tie, unaided"] == (0.0, False)
    assert found["an empty answer loses, unaided"] == (1.0, True)
    assert found["agrees under swap"] == (1.0, True)
    assert found["pull of the first place"] == (0.0, None)


def test_self_tests_need_comparisons():
    with pytest.raises(DataError, match="n_judges: 1"):
        check_judge(first_wins, n_judges=1)
    with pytest.raises(DataError, match="prompts: comparisons of your own"):
        check_judge(first_wins, ["q"])


# --- datasets ---------------------------------------------------------------------------------------------------------


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
        ({"prompt": ["Other", "Other", "Q2", "Q3"]}, "prompt 1 in 'de' is another text"),
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


@pytest.mark.slow
@pytest.mark.real_data
def test_what_the_offline_judges_see_in_expert_revisions(shared_data):
    """The figures of docs/judges.md: how often the revised answer is preferred to the raw one."""
    import pandas as pd

    table = pd.read_parquet(shared_data / "expert_revisions.parquet")
    raw, revised = table["raw_response"], table["revised_response"]
    table = table[(raw != revised) & (raw != "") & (revised != "")]
    table = table[table["id"].isin(sorted(table["id"].unique())[:300])]
    raw, revised = table["raw_response"].tolist(), table["revised_response"].tolist()
    prompts = [f"{a}\n\n{b}" if b else a
               for a, b in zip(table["revised_instruction"], table["revised_input"], strict=True)]  # fmt: skip
    near = np.array([0.9 < len(x) / len(y) < 1.1 for x, y in zip(raw, revised, strict=True)])
    assert (len(table), near.sum(), table["language"].nunique()) == (3585, 393, 12)
    for name, plain, matched in (("similarity", 58.2, 52.9), ("length", 84.4, 61.3), ("language", 53.7, 50.1)):
        found = load_judge(name, hard=True)(prompts, revised, raw, languages=table["language"].tolist())
        assert 100 * found.mean() == pytest.approx(plain, abs=0.3)
        assert 100 * found[near].mean() == pytest.approx(matched, abs=1.0)
