"""Chooses the parallel texts to train on: common dictionary words, interface strings of the scarcer languages."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from encoder_training.parallel_text import Group, Sources

SCARCE = frozenset(("hi", "sw", "tl", "th", "vi", "ms", "ko", "ar"))
WORD = re.compile(r"[a-z']+")
WORDS_PER_LANGUAGE = 25_000
INTERFACE_GROUPS = 80_000
HELP_GROUPS = 40_000
PIVOT_GROUPS = 40_000


def trim_sources(sources: Sources, seed: int = 0) -> Sources:
    """The sources, with "dictionary", "pivot", "help" and "interface" reduced and the others unchanged.

    A dictionary keeps 25,000 pairs per language: those whose English side has at most three words, all of which occur
    in three or more texts of the other sources, the most frequent first. Interface strings keep the 80,000 that exist
    in the most of the scarce languages. All limits are *ours*.
    """
    trimmed = dict(sources)
    if "interface" in sources:
        ranked = sorted(sources["interface"], key=lambda group: -len(SCARCE & set(group)))
        trimmed["interface"] = ranked[:INTERFACE_GROUPS]
    if "dictionary" in sources:
        trimmed["dictionary"] = _common_words(sources["dictionary"], english_frequencies(sources))
    for name, most in (("pivot", PIVOT_GROUPS), ("help", HELP_GROUPS)):
        if len(sources.get(name, [])) > most:
            trimmed[name] = random.Random(seed).sample(sources[name], most)
    return trimmed


def english_frequencies(sources: Sources) -> Counter[str]:
    """Number of English texts in which each word occurs, without word lists."""
    counts: Counter[str] = Counter()
    for name, groups in sources.items():
        if name not in ("dictionary", "pivot", "names"):
            for group in groups:
                counts.update(set(WORD.findall(group.get("en", "").lower())))
    return counts


def _common_words(groups: list[Group], frequencies: Counter[str]) -> list[Group]:
    ranked: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for at, group in enumerate(groups):
        words = group["en"].lower().split()
        rarest = min((frequencies[word] for word in words), default=0)
        if len(words) <= 3 and rarest >= 3:
            ranked[next(language for language in group if language != "en")].append((-rarest, at))
    return [groups[at] for found in ranked.values() for _, at in sorted(found)[:WORDS_PER_LANGUAGE]]
