"""Which tokens stand for an answer: its first tokens or whole words, as they may follow a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import check_languages, known_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Answers = str | Sequence[str | Sequence[str] | None] | set[str] | frozenset[str]
"""Answers in one language: one text or a set of texts for all prompts, or a list with an entry a prompt (a text, a list
of texts that are equally right, or None where the prompt has no answer in this language)."""

Span = Literal["first", "word"]
_BEFORE = ("\n", ":", ".")
"""What a text is tokenised behind: the first of these that the tokenizer knows and keeps apart from the text."""


class Targets:
    """Answers as token sequences.

    Attributes:
        names: languages of the answers, ISO 639-1, English first, then in alphabetical order.
        languages: (n,) the language of each prompt.
        sequences: for each prompt, for each name, the distinct token sequences that count as the answer. None of them
            begins with another one, so that their probabilities add up.
        overlap: (n, names) bool: the answer and the English one have a sequence in common, so that its probability is
            counted for both. False for English itself.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        targets: Mapping[str, Answers],
        languages: Sequence[str] | str | None,
        english: str,
        span: Span,
    ):
        if span not in ("first", "word"):
            raise DataError(f"span: {span!r} is not known. Use 'first' (first tokens) or 'word' (the whole answer).")
        if not isinstance(targets, Mapping) or not targets:
            raise DataError("targets: give a dict of languages and answers, e.g. {'de': ['ja'], 'en': ['yes']}.")
        english = known_code(english, "english")
        answers = {known_code(name, "targets"): _per_prompt(value, n, name) for name, value in targets.items()}
        self.english = english
        self.names = tuple(sorted(answers, key=lambda name: (name != english, name)))
        self.languages = _prompt_languages(languages, n, self.names, english)
        self._tokenizer, self._span, self._known = tokenizer, span, {}
        self.sequences = [{name: self._tokens(answers[name][i], name, i) for name in self.names} for i in range(n)]
        missing = [i for i, code in enumerate(self.languages) if not self.sequences[i].get(code)]
        if missing:
            i = missing[0]
            raise DataError(f"targets: prompt {i} is in {self.languages[i]!r} and has no answer in this language. "
                            f"Add it to targets[{self.languages[i]!r}].")  # fmt: skip
        self.overlap = np.array([self._shared(row) for row in self.sequences])

    def _shared(self, row: dict[str, list[tuple[int, ...]]]) -> list[bool]:
        return [name != self.english and _share(row[name], row.get(self.english, [])) for name in self.names]

    def _tokens(self, texts: list[str], name: str, row: int) -> list[tuple[int, ...]]:
        found: set[tuple[int, ...]] = set()
        for text in texts:
            if text not in self._known:
                self._known[text] = continuations(self._tokenizer, text, self._span)
            if not self._known[text]:
                raise DataError(f"targets[{name!r}], row {row}: the tokenizer has no tokens for {text!r}.")
            found |= self._known[text]
        kept = sorted(found)
        return [s for s in kept if not any(s != other and s[: len(other)] == other for other in kept)]


def continuations(tokenizer: PreTrainedTokenizerBase, text: str, span: Span = "first") -> set[tuple[int, ...]]:
    """Token sequences of `text` as it may follow a prompt, with and without a space before it.

    Each is read off the end of a line break (or ":") and the text, tokenised together: tokenised alone, some tokenizers
    put a space before the text that nobody wrote. Left out are variants with an unknown token and, with "first", which
    keeps the first token only, those that begin with white space alone: neither says anything about the answer.
    """
    found = {tuple(_following(tokenizer, space + text.strip())) for space in ("", " ")}
    if span == "first":
        found = {ids[:1] for ids in found if ids and tokenizer.decode([ids[0]]).strip("▁ \t\n")}
    return {ids for ids in found if ids and tokenizer.unk_token_id not in ids}


def _following(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    def encode(part: str) -> list[int]:
        return tokenizer(part, add_special_tokens=False)["input_ids"]

    for before in _BEFORE:
        stub, both = encode(before), encode(before + text)
        if both[: len(stub)] == stub and tokenizer.unk_token_id not in stub:
            return both[len(stub) :]
    return encode(text)


def _share(found: list[tuple[int, ...]], english: list[tuple[int, ...]]) -> bool:
    """Whether a sequence of one list is equal to one of the other, or begins with it."""
    return any(a[: len(b)] == b or b[: len(a)] == a for a in found for b in english)


def _per_prompt(value: Answers, n: int, name: str) -> list[list[str]]:
    if isinstance(value, (str, set, frozenset)):
        rows: list = [sorted({value} if isinstance(value, str) else value)] * n
    else:
        rows = list(value)
    if len(rows) != n:
        raise DataError(
            f"targets[{name!r}] has {len(rows)} entries for {n} prompts. Give one a prompt (None where there is no "
            "answer), or a set of answers for all of them."
        )
    return [_texts(row, name, i) for i, row in enumerate(rows)]


def _texts(value: str | Sequence[str] | None, name: str, row: int) -> list[str]:
    texts = [] if value is None else [value] if isinstance(value, str) else list(value)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"targets[{name!r}], row {row}: {text!r} is no answer. Fill it in, or use None.")
    return texts


def _prompt_languages(given, n: int, names: tuple[str, ...], english: str) -> tuple[str, ...]:
    if given is None:
        others = [name for name in names if name != english] or list(names)
        if len(others) > 1:
            raise DataError("languages: the targets are in several languages. Say which one each prompt is in.")
        return (others[0],) * n
    codes = check_languages([given] * n if isinstance(given, str) else given, "languages")
    if len(codes) != n:
        raise DataError(f"languages has {len(codes)} entries for {n} prompts. Give one a prompt.")
    return tuple(codes)
