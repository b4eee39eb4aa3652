"""Has an answer slipped into a question? Marked answers and given gold answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hf_mlalign.answers.extract import find_options
from hf_mlalign.answers.words import ANSWER_WORDS, EQUALS_WORDS

Detector = Callable[[Sequence[str]], Sequence[bool]]

_WORDS = sorted({re.escape(word) for words in ANSWER_WORDS.values() for word in words}, key=len, reverse=True)
_SLOT = re.compile(
    rf"^[^\w\n]*(?:\w+ )?(?:{'|'.join(_WORDS)})[ *_]*(?:{'|'.join(EQUALS_WORDS)})?[ *_]*[:：][ \t]*\n?(.*)",
    re.IGNORECASE | re.MULTILINE,
)
_RESULT_LINE = re.compile(r"(?m)^####[ \t]*\S|\\boxed\s*\{")
_SENTENCE_END = re.compile(r"[\n!?:。！？：]|\.(?=\s)")
_CLOSING = " \t\n.!?\"'”’»。！？"
_LETTERS = re.compile(r"[^\W_]+")
_LONG_ANSWER = 20


def marked_answers(texts: Sequence[str]) -> list[bool]:
    """Whether a text marks an answer: letters or digits follow a line's beginning "Answer:" ("The answer is:", in any
    of the languages of `hf_mlalign.answers.words`), or there is a "#### 42" line or `\\boxed{…}`. An open slot such as
    `Answer: "` is no answer."""
    return [_has_answer(text) for text in texts]


def _has_answer(text: str) -> bool:
    slots = (found.group(1) for found in _SLOT.finditer(text))
    return any(_LETTERS.search(slot) for slot in slots) or bool(_RESULT_LINE.search(text))


def holds_gold(text: str, golds: Sequence[str]) -> bool:
    """Whether the text ends with one of the gold answers, standing by itself in a line or behind a sentence or colon,
    or holds a long one (20 characters or more, *ours*) word by word.

    Short answers inside a sentence are no leak ("72" or "yes" may well be part of the question), and neither are those
    among the options that a question lists, one a line.
    """
    if not golds or find_options(text):
        return False
    words, tail = _words(text), _words(_SENTENCE_END.split(text.rstrip(_CLOSING))[-1])
    for gold in map(_words, golds):
        if gold and (gold == tail != words or (len(gold) >= _LONG_ANSWER and f" {gold} " in f" {words} ")):
            return True
    return False


def _words(text: str) -> str:
    return " ".join(_LETTERS.findall(text.casefold()))
