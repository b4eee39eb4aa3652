"""Which questions are used: usable ones, an even or weighted share of each language, whole questions to each split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.spontaneous.options import Detector
from hf_mlalign.spontaneous.questions.leaks import holds_gold, marked_answers
from hf_mlalign.spontaneous.questions.reading import Key, ParallelQuestion, ranks, same_text

Mix = str | Mapping[str, float]


def drop_unusable(
    questions: Sequence[ParallelQuestion],
    counts: Counter,
    sides: Sequence[str],
    *,
    translated: bool,
    deduplicate: bool,
    raise_on_answer: bool,
    detector: Detector | None,
) -> list[ParallelQuestion]:
    """The usable questions; every other one is counted under (language, reason).

    Args:
        sides: the sides that become prompts, of "text" and "english": these must differ for two questions to differ.
        translated: a translator was asked for the texts that are missing.
        raise_on_answer: an answer is an error instead of a drop.
        detector: says for n texts which hold an answer; default `marked_answers`.
    """
    complete = []
    for q in questions:
        has_text, has_english = (bool(text and text.strip()) for text in (q.text, q.english))
        if has_text and has_english and same_text(q.text) != same_text(q.english):
            complete.append(q)
            continue
        reason = "untranslated" if has_text and has_english else "no_english" if has_text else "no_text"
        if translated and has_text != has_english:
            reason = "not_translated"
        counts[q.language, reason] += 1
    marked = []
    for side in ("text", "english"):
        marked.append(list((detector or marked_answers)([getattr(q, side) for q in complete])))
        if (n := len(marked[-1])) != len(complete):
            raise DataError(f"detector: gave {n} values for {len(complete)} texts. Return one per text.")
    kept, seen = [], set()
    for q, *flags in zip(complete, *marked, strict=True):
        if any(flags) or holds_gold(q.text, q.golds) or holds_gold(q.english, q.golds):
            if raise_on_answer:
                raise DataError(
                    f"Question {q.id!r} in {q.language!r}: it holds an answer ({q.english[-80:]!r}). Cut it "
                    "off, or drop such questions with --answers drop (answers='drop')."
                )
            counts[q.language, "answer"] += 1
            continue
        prompts = {(q.language, side, same_text(getattr(q, side))) for side in sides}
        if deduplicate and prompts & seen:
            counts[q.language, "duplicate"] += 1
            continue
        kept.append(q)
        seen |= prompts
    return kept


def choose_questions(
    questions: Sequence[ParallelQuestion], mix: Mix, most: int | None, seed: int, counts: Counter
) -> list[ParallelQuestion]:
    """The share of each language, in the order given; the same seed takes the same questions in every language."""
    by_language: dict[str, list[int]] = {}
    for i, q in enumerate(questions):
        by_language.setdefault(q.language, []).append(i)
    wanted = shares({code: len(rows) for code, rows in by_language.items()}, mix, most)
    order = ranks(["\0".join(q.key) for q in questions], seed)
    chosen: list[int] = []
    for code, rows in by_language.items():
        ranked = sorted(rows, key=lambda i: order[i])
        chosen += ranked[: wanted[code]]
        counts[code, "not_chosen"] += len(rows) - wanted[code]
        counts[code, "kept"] += wanted[code]
    return [questions[i] for i in sorted(chosen)]


def shares(available: Mapping[str, int], mix: Mix, most: int | None) -> dict[str, int]:
    """How many questions each language gives.

    Args:
        available: language → usable questions.
        mix: "even": as many of each as the language with the fewest has; "all": what there is; or language → weight,
            numbers in these proportions, as large as the languages allow.
        most: upper bound per language (for weights: of the language with the largest weight); `None`: no bound.
    """
    bound = math.inf if most is None else most
    if mix == "all":
        return {code: int(min(n, bound)) for code, n in available.items()}
    weights = dict.fromkeys(available, 1.0) if mix == "even" else dict(mix)
    absent = sorted(set(available) ^ set(weights))
    if absent:
        raise DataError(f"mix: give a weight to each of the languages {listed(sorted(available))}, and to no other "
                        f"({listed(absent)}).")  # fmt: skip
    scale = min(bound / max(weights.values()), *(available[code] / weights[code] for code in weights))
    return {code: math.floor(weights[code] * scale + 1e-9) for code in weights}


def test_keys(questions: Sequence[ParallelQuestion], share: float, seed: int) -> set[Key]:
    """Keys of about `share` of the questions, at least one.

    Questions with one id, one English text or one text in another language are the same question and stay together.
    """
    parent: dict[tuple, tuple] = {}

    def root(node: tuple) -> tuple:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for q in questions:
        key = ("id", *q.key)
        for other in (("en", same_text(q.english)), (q.language, same_text(q.text))):
            parent[root(other)] = root(key)
    groups: dict[tuple, set[Key]] = {}
    for q in questions:
        groups.setdefault(root(("id", *q.key)), set()).add(q.key)
    members = [sorted(group) for group in groups.values()]
    if len(members) < 2:
        raise DataError("test_size: a single question cannot be split. Use --test-size 0 (test_size=0).")
    order = np.argsort(ranks(["\0".join(group[0]) for group in members], seed ^ 1), kind="stable")
    count = min(max(1, round(share * len(members))), len(members) - 1)
    return {key for i in order[:count] for key in members[i]}
