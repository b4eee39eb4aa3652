"""The protocol of judges, and judges by name."""

import functools
import inspect
import sys

import numpy as np
import pytest
from datasets import Dataset

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.annotation.human import HumanJudge
from hf_mlalign.evaluation.judges import run as judging
from hf_mlalign.evaluation.judges.base import (
    JUDGES,
    KEYWORDS,
    NEEDS,
    TAKES,
    check_answer_pairs,
    describe,
    judge_from_options,
    load_judge,
    register_judge,
    run_judge,
    trivial_preferences,
)
from hf_mlalign.evaluation.judges.llm import LLMJudge
from hf_mlalign.evaluation.judges.reward_model import RewardModelJudge
from hf_mlalign.evaluation.judges.rules import LanguageJudge, LengthJudge, ScoreJudge, SimilarityJudge
from hf_mlalign.evaluation.options import JudgeOptions
from hf_mlalign.generation.sampler import load_backend
from hf_mlalign.generation.transformers_backend import TransformersBackend
from tests.evaluation.judges.judge_models import ROWS, first_wins, shorter_wins


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


def test_judges_by_name():
    assert isinstance(load_judge(), SimilarityJudge)
    assert isinstance(load_judge("llm", model="tiny", base_url="http://127.0.0.1:1/v1"), LLMJudge)
    assert load_judge("length", hard=True).hard is True
    assert load_judge(first_wins) is first_wins
    assert load_judge("tests.evaluation.judges.judge_models:first_wins")([""], ["a"], ["b"]).tolist() == [1.0]
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
        ("best", {}, "unknown 'best'. Known: llm, reward_model, similarity"),
        ("no.such.module:x", {}, "cannot be imported"),
        ("math:nothing", {}, "cannot be imported"),
        ("math:pi", {}, "not a class or function"),
        ("length", {"depth": 3}, "judge 'length': it has no option 'depth'"),
        (3, {}, "int cannot be called"),
        (first_wins, {"hard": True}, "this judge is an object. Set hard"),
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
    with pytest.raises(DataError, match="'length' belongs to a judge of the package"):
        register_judge("length")(shorter_wins)


CLASSES = {"reward_model": RewardModelJudge, "similarity": SimilarityJudge, "length": LengthJudge,
           "language": LanguageJudge, "human": HumanJudge, "llm": LLMJudge}  # fmt: skip


def keywords(kind) -> dict:
    """Keyword → default of a judge's class and of those that its **options go to."""
    found = {}
    given = (load_backend, TransformersBackend.__init__) if kind is LLMJudge else ()
    for function in (*(base.__init__ for base in reversed(kind.__mro__) if base is not object), *given):
        found |= {name: p.default for name, p in inspect.signature(function).parameters.items()}
    return found


@pytest.mark.parametrize("name", TAKES)
def test_options_of_the_command_are_those_of_the_judge(name):
    defaults, known = JudgeOptions.defaults(), keywords(CLASSES[name])
    unset = {("llm", "template"), ("language", "hard"), ("llm", "batch_size")}
    for option in TAKES[name]:
        keyword = KEYWORDS.get((name, option), option)
        assert keyword in known
        if option not in NEEDS.values() and (name, option) not in unset:
            assert defaults[option] == known[keyword], option


def test_options_make_the_judge(tmp_path):
    found = judge_from_options(JudgeOptions(judge="length", hard=True, batch_size=4))
    assert found.describe() == LengthJudge(hard=True).describe()
    assert judge_from_options(JudgeOptions(judge="language")).hard
    assert judge_from_options(JudgeOptions(judge="length"), "similarity").name == "similarity"
    model = judge_from_options(
        JudgeOptions(judge="llm", model="m", base_url="http://127.0.0.1:9/v1", both_orders=False, structured=False,
                     attempts=3), cache=tmp_path / "replies",
    )  # fmt: skip
    expected = LLMJudge("m", "http://127.0.0.1:9/v1", both_orders=False, structured=False, attempts=3)
    assert model.describe() == expected.describe()
    assert model._store.folder == tmp_path / "replies"
    assert judge_from_options(JudgeOptions(device="cpu"), first_wins) is first_wins


@pytest.mark.parametrize(
    ("options", "judge", "message"),
    [
        ({"judge": "length", "model": "x"}, None, "model: the judge 'length' has no option --model. It has --hard.$"),
        ({"judge": "length", "both_orders": False}, None, "one-order: the judge 'length' has no option --one-order"),
        ({"structured": False}, None, "no-structured: the judge 'similarity' has no option --no-structured"),
        ({"judge": "llm"}, None, "model: the judge 'llm' needs --model"),
        ({"judge": "human"}, None, "judgements: the judge 'human' needs --judgements"),
        ({"hard": True}, first_wins, "this judge is an object. Set hard"),
        ({"judge": "mine:x", "seed": 1}, None, "seed: the judge 'mine:x' has no option --seed"),
    ],
)
def test_options_that_the_judge_does_not_have(options, judge, message):
    with pytest.raises(DataError, match=message):
        judge_from_options(JudgeOptions(**options), judge)
