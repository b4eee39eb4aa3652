"""Judges of known behaviour: functions, and models behind a real server that read the question and answer as told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np

CODE = r'"code": "([0-9a-f]{16})", "verdict": <whole number'
BLOCK = r"\[begin answer {0} {1}\]\n(.*?)\n\[end answer {0} {1}\]"


def read_question(body: dict) -> tuple[str, str, str]:
    """(code, answer 1, answer 2) of a request; fails unless each block is there exactly once."""
    text = body["messages"][-1]["content"]
    code = only(re.findall(CODE, text))
    first, second = (only(re.findall(BLOCK.format(i, code), text, re.DOTALL)) for i in (1, 2))
    return code, first, second


def only(items: list):
    assert len(items) == 1, items
    return items[0]


def verdict(code: str, grade: int, explanation: str = "So it is.") -> str:
    return json.dumps({"explanation": explanation, "code": code, "verdict": grade}, ensure_ascii=False)


def grading(grade: Callable[[str, str], int]) -> Callable[[dict], str]:
    """A model that grades (answer 1, answer 2) by a function."""

    def answer(body: dict) -> str:
        code, first, second = read_question(body)
        return verdict(code, grade(first, second))

    return answer


def longer(first: str, second: str) -> int:
    return 1 if len(first) > len(second) else 5 if len(first) < len(second) else 3


ROWS = {
    "prompt_id": ["p", "q", "r", "s"], "language": ["de", "fr", "de", "de"], "prompt": ["Q1", "Q2", "Q3", "Q4"],
    "candidate": ["aaa", "b", None, "x"], "baseline": ["b", "aaa", "y", ""],
}  # fmt: skip


def first_wins(prompts, a, b):
    return np.ones(len(a))


def shorter_wins(prompts, a, b):
    return [0.5 if len(x) == len(y) else float(len(x) < len(y)) for x, y in zip(a, b, strict=True)]
