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
_GRADE = rf"([1-{GRADES}])(?:\.0)?"
WORDS = re.compile(
    r"""(?:^[\s"'`*{#>-]{0,20}|[{,]\s{0,20}["'])"""
    rf"(?:code{_GAP}([0-9a-f]{{16}}){_GAP}verdict{_GAP}{_GRADE}|verdict{_GAP}{_GRADE}{_GAP}code{_GAP}([0-9a-f]{{16}}))"
    r"""[\s"'`*.)}\]]{0,20}\Z""",
    re.IGNORECASE | re.MULTILINE,
)
"""A code and a verdict side by side at the end of a reply: on a line of their own, or as fields of a broken object."""



def read_verdict(reply: str, code: str, finish_reason: str = "stop") -> tuple[int | None, str]:
    """The grade 1 … 5 a reply gives, or `None` and the reason why none can be read.

    A grade counts only together with the comparison's code, which no judged text can hold; so a verdict that the judge
    merely quotes is not mistaken for its own. The last JSON object with the code is the verdict, whatever its
    explanation or the prose before it quotes; without one, it is a code and a verdict that end the reply. Thoughts that
    open the reply, between <think> tags, do not count.
    """
    text, thought = _without_thoughts(reply.strip())
    grades = _whole(text, code) or _from_objects(text.rpartition("</think>")[2], code)
    grades = grades or _from_objects(text, code) or _from_words(text, code)
    if len(grades) == 1:
        return grades.pop(), ""
    if grades:
        return None, f"the reply gives several verdicts: {', '.join(map(str, sorted(grades)))}"
    if finish_reason == "length":
        return None, "the reply was cut by max_tokens before its verdict"
    if not text:
        return None, "the reply holds thoughts only" if thought else "the reply is empty"
    return None, "the reply holds no verdict with the code of this comparison"


def preference(grade: int, swapped: bool) -> float:
    """Preference for the candidate: 1, 0.75, 0.5, 0.25, 0 for the grades 1 … 5; mirrored if it was shown second."""
    first = (GRADES - grade) / (GRADES - 1)
    return 1 - first if swapped else first


def _without_thoughts(reply: str) -> tuple[str, bool]:
    """The reply without the thoughts that open it, and whether there were any; all of it where they do not end."""
    if not reply.startswith("<think>"):
        return reply, False
    return reply.partition("</think>")[2].strip(), True


def _whole(text: str, code: str) -> set[int]:
    """The grade of a reply that is one JSON object, fences aside."""
    body = re.sub(r"^```\w*", "", text).removesuffix("```")
    try:
        return _grade(json.loads(body, strict=False), code)
    except (ValueError, RecursionError):
        return set()


def _from_objects(text: str, code: str) -> set[int]:
    """The grade of the last JSON object with the code, and another one that follows it in words."""
    decoder, start = json.JSONDecoder(strict=False), text.rfind("{") if code in text.lower() else -1
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            found, end = None, start
        if grade := _grade(found, code):
            return grade | _from_words(text[end:], code)
        start = text.rfind("{", 0, start)
    return set()


def _grade(found: Any, code: str) -> set[int]:
    if not isinstance(found, dict) or str(found.get("code")).strip().lower() != code:
        return set()
    text = str(found.get("verdict")).strip()
    return {int(text[0])} if re.fullmatch(rf"[1-{GRADES}](\.0+)?", text) else set()


def _from_words(text: str, code: str) -> set[int]:
    """The code and the verdict that end the text."""
    found = WORDS.search(text)
    if found is None or (found[1] or found[4]).lower() != code:
        return set()
    return {int(found[2] or found[3])}
