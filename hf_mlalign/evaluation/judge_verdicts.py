"""Reading a judge's verdict: only what carries the comparison's code counts."""

from __future__ import annotations

import json
import re
from typing import Any

GRADES = 5
SCHEMA = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string"},
        "code": {"type": "string"},
        "verdict": {"type": "integer", "enum": list(range(1, GRADES + 1))},
    },
    "required": ["explanation", "code", "verdict"],
    "additionalProperties": False,
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}}
"""One schema for all comparisons, so that a server prepares it once."""
_GAP = r"""[\s"'`*:=,;.]{0,20}"""
WORDS = re.compile(
    rf"\bcode{_GAP}([0-9a-f]{{16}}){_GAP}verdict{_GAP}([1-{GRADES}])(?![\d.,]{{0,9}}\d)(?!\s?(?:to|or|-|–|/)\s?\d)",
    re.IGNORECASE,
)
"""A code directly followed by a verdict, in whatever quotes."""


def read_verdict(reply: str, code: str, finish_reason: str = "stop") -> tuple[int | None, str]:
    """The grade 1 … 5 a reply gives, or `None` and the reason why none can be read.

    A grade counts only together with the comparison's code, which no judged text can hold; so a verdict that the judge
    merely quotes is not mistaken for its own. Two different grades with the code are no verdict; thoughts between
    <think> tags do not count.
    """
    text = reply.rpartition("</think>")[2].partition("<think>")[0].strip()
    grades = _from_object(text, code) | _from_words(text, code)
    if len(grades) == 1:
        return grades.pop(), ""
    if grades:
        return None, f"the reply gives several verdicts: {', '.join(map(str, sorted(grades)))}"
    if finish_reason == "length":
        return None, "the reply was cut by max_tokens before its verdict"
    if not text:
        return None, "the reply is empty"
    return None, "the reply holds no verdict with the code of this comparison"


def preference(grade: int, swapped: bool) -> float:
    """Preference for the candidate: 1, 0.75, 0.5, 0.25, 0 for the grades 1 … 5; mirrored if it was shown second."""
    first = (GRADES - grade) / (GRADES - 1)
    return 1 - first if swapped else first


def _from_object(text: str, code: str) -> set[int]:
    body = re.sub(r"^```\w*", "", text).removesuffix("```")
    try:
        found: Any = json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return set()
    if not isinstance(found, dict) or str(found.get("code")).strip() != code:
        return set()
    grade = found.get("verdict")
    text_grade = grade.strip() if isinstance(grade, str) else str(grade) if type(grade) is int else ""
    return {int(text_grade)} if re.fullmatch(f"[1-{GRADES}]", text_grade) else set()


def _from_words(text: str, code: str) -> set[int]:
    """Where the reply is no clean JSON: the code, directly followed by the verdict."""
    return {int(grade) for found, grade in WORDS.findall(text) if found.lower() == code}
