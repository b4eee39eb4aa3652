"""Tests that any judge can take."""

import json

import numpy as np
import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.judges.base import (
    load_judge,
)
from hf_mlalign.evaluation.judges.llm import LLMJudge
from hf_mlalign.evaluation.judges.rules import LengthJudge
from hf_mlalign.evaluation.judges.self_test import check_judge
from tests.evaluation.judges.judge_models import first_wins, grading, longer, shorter_wins
from tests.servers import ChatServer


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
    with pytest.raises(DataError, match="prompts: give at least one prompt"):
        check_judge(first_wins, ["q"])
