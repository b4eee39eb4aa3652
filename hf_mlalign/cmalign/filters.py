"""Guards: which samples and pairs must not be trained on, counted by language."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.cmalign.samples import Samples

if TYPE_CHECKING:
    from hf_mlalign.data.languages import LanguageIdentifier

SAMPLE_GUARDS = ("empty", "too_short", "truncated", "wrong_language", "not_scored")
PAIR_GUARDS = ("no_reference", "low_consistency", "too_few", "identical", "same_answer", "tie", "length_ratio")
MEANINGS = {
    "empty": "missing or blank response",
    "too_short": "fewer characters than min_chars",
    "truncated": 'finish_reason is "length"',
    "wrong_language": "surely in another language than it should be",
    "not_scored": "the reward returned NaN or infinity",
    "no_reference": "the prompt has no usable English sample",
    "low_consistency": "reference_consistency below min_reference_consistency",
    "too_few": "fewer than two usable samples",
    "identical": "chosen and rejected are the same text but for white space",
    "same_answer": "chosen and rejected give the same final answer",
    "tie": "margin not above min_margin",
    "length_ratio": "one text is more than max_length_ratio times as long as the other",
}
_SAME = ({"id", "ms"}, {"hr", "sr", "bs"}, {"no", "nb", "nn", "da"}, {"zh", "yue", "wuu"})
_LETTERS = re.compile(r"[^\W\d_]")


@dataclass
class Counts:
    """Language × guard table of what was dropped."""

    languages: Sequence[str]
    table: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, guard: str, codes: np.ndarray) -> None:
        """Count one drop for each language code."""
        self.table[guard] = self.get(guard) + np.bincount(codes, minlength=len(self.languages))

    def get(self, guard: str) -> np.ndarray:
        """(L,) int64 counts of one guard."""
        return self.table.get(guard, np.zeros(len(self.languages), np.int64))


def guard_samples(samples: Samples, counts: Counts, min_chars: int, drop_truncated: bool) -> None:
    """Take empty, too short and truncated samples out of `samples.usable` and count them."""
    texts = samples.responses
    blank = pc.or_(pc.equal(pc.binary_length(texts), 0), pc.utf8_is_space(texts))
    _drop(samples, counts, "empty", pc.fill_null(blank, True).to_numpy(zero_copy_only=False))
    if min_chars > 1:
        lengths = pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0).to_numpy(zero_copy_only=False)
        _drop(samples, counts, "too_short", lengths < min_chars)
    if drop_truncated and samples.truncated is not None:
        _drop(samples, counts, "truncated", samples.truncated)


def _drop(samples: Samples, counts: Counts, guard: str, bad: np.ndarray) -> None:
    bad = bad & samples.usable
    counts.add(guard, samples.language[bad])
    samples.usable &= ~bad


class LanguageCheck:
    """Finds samples that are surely in another language than their row says. Each sample is looked at once.

    A sample fails when it has at least `min_letters` letters (20, *ours*) and another language has a probability of at
    least `probability` (0.95, *ours*) among the languages of the data and English.
    """

    def __init__(self, samples: Samples, min_letters: int = 20, probability: float = 0.95):
        self.samples, self.min_letters, self.probability = samples, min_letters, probability
        self.unknown = sorted(c for c in samples.languages if not identifiable(c))
        known = [c for c in {*samples.languages, "en"} if c not in self.unknown]
        self._identifier = identifier(tuple(sorted(known))) if len(known) > 1 else None
        self._seen = np.zeros(len(samples), bool)

    def fails(self, rows: np.ndarray) -> np.ndarray:
        """Those of the rows, not looked at before, that are in a wrong language."""
        rows = np.unique(rows[~self._seen[rows]])
        self._seen[rows] = True
        if self._identifier is None or not len(rows):
            return rows[:0]
        texts = self.samples.responses.take(pa.array(rows)).to_pylist()
        expected = [self.samples.languages[code] for code in self.samples.language[rows].tolist()]
        found = self._identifier.identify(texts)
        bad = [
            code != want and p >= self.probability and want not in self.unknown and not _same(code, want)
            and len(_LETTERS.findall(text[:200])) >= self.min_letters
            for text, want, (code, p) in zip(texts, expected, found, strict=True)
        ]  # fmt: skip
        return rows[np.asarray(bad, bool)]


def _same(a: str | None, b: str) -> bool:
    return a is None or any({a, b} <= group for group in _SAME)


@lru_cache(maxsize=256)
def identifiable(code: str) -> bool:
    """Whether languages can be identified for this ISO 639-1 code."""
    from hf_mlalign.core.errors import DataError

    try:
        identifier((code, "en"))
    except DataError:
        return False
    return True


@lru_cache(maxsize=8)
def identifier(codes: tuple[str, ...]) -> LanguageIdentifier:
    """The `LanguageIdentifier` for these languages, loaded once."""
    from hf_mlalign.data.languages import LanguageIdentifier

    return LanguageIdentifier(codes)


def guard_pairs(
    samples: Samples,
    chosen: np.ndarray,
    rejected: np.ndarray,
    margins: np.ndarray,
    counts: Counts,
    min_margin: float,
    max_length_ratio: float | None,
    drop_same_answer: bool,
) -> np.ndarray:
    """(k,) bool: the pairs to keep; the others are counted under the first guard that catches them."""
    languages, keep = samples.language[chosen], np.ones(len(chosen), bool)
    texts = [pc.utf8_trim_whitespace(samples.responses.take(pa.array(rows))) for rows in (chosen, rejected)]
    caught = {"identical": pc.equal(*texts).to_numpy(zero_copy_only=False)}
    if drop_same_answer:
        same = (samples.answers[chosen] == samples.answers[rejected]) & (samples.answers[chosen] >= 0)
        caught["same_answer"] = same & samples.answered[samples.prompt[chosen]]
    caught["tie"] = ~(margins > min_margin)
    if max_length_ratio is not None:
        a, b = (np.maximum(pc.utf8_length(t).to_numpy(zero_copy_only=False), 1) for t in texts)
        caught["length_ratio"] = np.maximum(a, b) > max_length_ratio * np.minimum(a, b)
    for guard, bad in caught.items():
        counts.add(guard, languages[bad & keep])
        keep &= ~bad
    return keep
