"""Does a question hold an answer? Marked answers and given gold answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from hf_mlalign.data.answers.cues import ANSWER_WORDS, EQUALS_WORDS
from hf_mlalign.data.answers.extract import find_options
from hf_mlalign.spontaneous.classification.tasks import load_task, task_names

LABEL_WORDS = ("label", "sentiment")
"""Words before a label besides those of the bundled tasks (*ours*)."""

_BEGINS = r"(?:^[^\w\n]*|[.!?。！？][^\w\n]{0,8})"
_EQUALS = "|".join(EQUALS_WORDS)
_RESULT_LINE = re.compile(r"(?m)^####[ \t]*\S|\\boxed\s*\{")
_SENTENCE_END = re.compile(r"[\n!?:。！？：]|\.(?=\s)")
_CLOSING = " \t\n.!?\"'”’»。！？"
_LETTERS = re.compile(r"[^\W_]+")
_LONG_ANSWER = 20


def slot_words() -> set[str]:
    """What stands before the colon of the label in the templates of the bundled tasks, in all their languages."""
    templates = [text for name in task_names() for text in load_task(name).template.values()]
    lines = [line for text in templates for line in text.splitlines() if "{label}" in line]
    return {line.partition(":")[0].strip() for line in lines if ":" in line}


def marked_answers(texts: Sequence[str]) -> list[bool]:
    """Whether a text marks an answer.

    It does if a line or a sentence begins with "Answer:" and letters or digits follow ("The answer is:"; the words of
    `hf_mlalign.data.answers.cues`, of `slot_words` and `LABEL_WORDS`, all of them in every text; "A:" where no
    options are
    listed), if its last sentence is "The answer is 42." (one word, or one that holds a digit), or if there is a
    "#### 42" line or `\\boxed{…}`. An open slot such as `Answer: "` does not count.
    """
    slot, letter, last = _patterns()
    found = []
    for text in texts:
        slots = [match.group(1) for match in slot.finditer(text)]
        short = [match.group(1) for match in letter.finditer(text)]
        slots += short if short and not find_options(text) else []
        marked = any(map(_LETTERS.search, slots))
        found.append(marked or bool(last.search(text.rstrip()) or _RESULT_LINE.search(text)))
    return found


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern, re.Pattern, re.Pattern]:
    """(a marked slot, "A:", a last sentence that says the answer); the answer is group 1 of the first two."""
    answers = {word for words in ANSWER_WORDS.values() for word in words}
    flags = re.IGNORECASE | re.MULTILINE
    marked = rf"{_BEGINS}(?:\w+ )?(?:{_either(answers | slot_words() | set(LABEL_WORDS))})"
    said = rf"{_BEGINS}(?:\w+ )?(?:{_either(answers)})[ *_]*(?:{_EQUALS})"
    return (
        re.compile(rf"{marked}[ \u00a0\u202f*_]*(?:{_EQUALS})?[ \u00a0\u202f*_]*[:：][ \t]*\n?(.*)", flags),
        re.compile(rf"{_BEGINS}A[:：][ \t]*\n?(.*)", re.MULTILINE),
        re.compile(rf"{said}[^\w\n?？]*(?:\S*\d\S*|[^\W_]+)[^\w\n?？]*\Z", flags),
    )


def _either(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


def holds_gold(text: str, golds: Sequence[str]) -> bool:
    """Whether the text ends with one of the gold answers, alone on a line or after a sentence or colon, or contains a
    long one (20 characters or more, *ours*) word by word.

    Short answers inside a sentence do not count ("72" or "yes" may well be part of the question), nor do the options
    that a question lists, one per line.
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
