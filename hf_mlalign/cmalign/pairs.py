"""From scored samples to pairs: policies, guards with their counts by language, and the result of a build."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign.cmalign.samples import Samples
from hf_mlalign.core.errors import DataError, counted, listed
from hf_mlalign.core.validation import as_codes, as_numbers, shown

if TYPE_CHECKING:
    import pandas as pd

    from hf_mlalign.data.languages import LanguageIdentifier

SAMPLE_GUARDS = {
    "empty": "missing or blank response",
    "too_short": "fewer characters than min_chars",
    "truncated": 'finish_reason is "length"',
    "wrong_language": "clearly in another language than it should be",
    "not_scored": "the reward returned NaN or infinity",
}
PAIR_GUARDS = {
    "no_reference": "the prompt has no usable English sample",
    "low_consistency": "reference_consistency below min_reference_consistency",
    "too_few": "fewer than two usable samples",
    "identical": "chosen and rejected differ in white space at most",
    "same_answer": "chosen and rejected give the same final answer",
    "tie": "margin not above min_margin",
    "length_ratio": "one text is more than max_length_ratio times as long as the other",
}
MEANINGS = SAMPLE_GUARDS | PAIR_GUARDS
"""Guard → what it takes out, for samples and for pairs (or groups that give none)."""
_ALIKE = ({"id", "ms"}, {"hr", "sr", "bs"}, {"no", "nb", "nn", "da"}, {"zh", "yue", "wuu"})
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
    """Finds samples that are clearly in another language than their row says. Each sample is checked once.

    A sample fails if it has at least `min_letters` letters (20, *ours*) and if another language, of those in the data
    and English, has a probability of at least `probability` (0.95, *ours*).
    """

    def __init__(self, samples: Samples, min_letters: int = 20, probability: float = 0.95):
        self.samples, self.min_letters, self.probability = samples, min_letters, probability
        self.unknown = sorted(c for c in samples.languages if not identifiable(c))
        known = [c for c in {*samples.languages, "en"} if c not in self.unknown]
        self._identifier = identifier(tuple(sorted(known))) if len(known) > 1 else None
        self._seen = np.zeros(len(samples), bool)

    def fails(self, rows: np.ndarray) -> np.ndarray:
        """Those of the rows that are in a wrong language and were not checked before."""
        rows = np.unique(rows[~self._seen[rows]])
        self._seen[rows] = True
        if self._identifier is None or not len(rows):
            return rows[:0]
        texts = self.samples.responses.take(pa.array(rows)).to_pylist()
        expected = [self.samples.languages[code] for code in self.samples.language[rows].tolist()]
        found = self._identifier.identify(texts)
        bad = [
            code not in (None, want) and p >= self.probability and want not in self.unknown
            and not any({code, want} <= group for group in _ALIKE)
            and len(_LETTERS.findall(text[:200])) >= self.min_letters
            for text, want, (code, p) in zip(texts, expected, found, strict=True)
        ]  # fmt: skip
        return rows[np.asarray(bad, bool)]


@lru_cache(maxsize=256)
def identifiable(code: str) -> bool:
    """Whether languages can be identified for this ISO 639-1 code."""
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


CELLS = 2**22
"""Largest number of array cells a block of groups may take."""


Policy = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


POLICIES: dict[str, Policy] = {}


def register_policy(name: str) -> Callable[[Policy], Policy]:
    """Add a policy under `name`: a function of (g, m) scores and (g, m) random numbers in [0, 1), for g groups of m ≥ 2
    samples, that returns three (k,) integer arrays: the group of each pair, its chosen and its rejected column."""

    def add(policy: Policy) -> Policy:
        POLICIES[name] = policy
        return policy

    return add


def choose_pairs(
    policy: str | Policy, scores: np.ndarray, groups: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Chosen and rejected samples of every group with at least two.

    Args:
        policy: "best_worst", "all_pairs", "best_random", "random_pair", a registered name or a function (see
            `register_policy`).
        scores: (n,) numbers, NaN for samples that must not be used.
        groups: (n,) ascending integers.
        keys: (n,) random numbers in [0, 1), fixed for each sample.
    Returns:
        Two (k,) int64 arrays of sample numbers, pairs in the order of their groups.
    Raises:
        DataError: unknown policy, arrays of unequal length, groups that do not ascend (first row named).
    """
    run = load_policy(policy)
    scores = as_numbers(scores, "scores")
    groups, keys = as_codes(groups, len(scores), "groups", -(2**63)), as_numbers(keys, "keys", len(scores), "scores")
    if (groups[1:] < groups[:-1]).any():
        raise DataError(f"groups, row {np.argmax(groups[1:] < groups[:-1]) + 1}: less than before. Sort them first.")
    bad = np.flatnonzero(~((keys >= 0) & (keys < 1)))
    if len(bad):
        raise DataError(f"keys, row {bad[0]}: {keys[bad[0]]}. Give a number in [0, 1).")
    rows = np.flatnonzero(~np.isnan(scores))
    if not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.flatnonzero(np.diff(groups[rows], prepend=groups[rows[0]] - 1))
    sizes = np.diff(starts, append=len(rows))
    chosen, rejected = [], []
    for size in np.unique(sizes[sizes > 1]):
        first = starts[sizes == size]
        step = max(1, CELLS // int(size) ** 2)
        for begin in range(0, len(first), step):
            members = rows[first[begin : begin + step, None] + np.arange(size)]
            group, best, worst = run(scores[members], keys[members])
            chosen.append(members[group, best])
            rejected.append(members[group, worst])
    if not chosen:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    chosen, rejected = np.concatenate(chosen), np.concatenate(rejected)
    order = np.argsort(groups[chosen], kind="stable")
    return chosen[order], rejected[order]


def load_policy(policy: str | Policy) -> Policy:
    """The policy called `policy`; DataError for an unknown name."""
    if isinstance(policy, str) and policy not in POLICIES:
        raise DataError(f"policy: unknown {policy!r}. Known: {listed(POLICIES)}; or pass your own function.")
    if not isinstance(policy, str) and not callable(policy):
        raise DataError(f"policy: {shown(policy)} is not a function. Known: {listed(POLICIES)}.")
    return POLICIES[policy] if isinstance(policy, str) else policy


@register_policy("best_worst")
def best_worst(scores: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best against the worst (CM-Align, *paper*); of equals the first sample is chosen and the last rejected."""
    m = scores.shape[1]
    return np.arange(len(scores)), scores.argmax(axis=1), m - 1 - scores[:, ::-1].argmin(axis=1)


@register_policy("best_random")
def best_random(scores: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best against one of the others, drawn uniformly."""
    best = scores.argmax(axis=1)
    keys = keys.copy()
    keys[np.arange(len(keys)), best] = 2
    return np.arange(len(scores)), best, keys.argmin(axis=1)


@register_policy("random_pair")
def random_pair(scores: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two samples drawn uniformly, the better one chosen."""
    row = np.arange(len(scores))
    two = np.sort(np.argpartition(keys, 1, axis=1)[:, :2], axis=1)
    swap = scores[row, two[:, 1]] > scores[row, two[:, 0]]
    return row, np.where(swap, two[:, 1], two[:, 0]), np.where(swap, two[:, 0], two[:, 1])


@register_policy("all_pairs")
def all_pairs(scores: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of samples, the better one chosen, largest differences first within a group."""
    i, j = np.triu_indices(scores.shape[1], 1)
    swap = scores[:, j] > scores[:, i]
    better, worse = np.where(swap, j, i), np.where(swap, i, j)
    gap = np.abs(scores[:, i] - scores[:, j])
    order = np.argsort(-gap, axis=1, kind="stable")
    groups = np.repeat(np.arange(len(scores)), len(i))
    return (groups, np.take_along_axis(better, order, 1).ravel(), np.take_along_axis(worse, order, 1).ravel())


@dataclass
class PairResult:
    """The pairs of one build and everything that was dropped on the way.

    Attributes:
        options: the builder's options as plain values.
        samples: the n samples in their sorted order, with references and answers.
        scores: (n,) float64, NaN where a sample was not scored.
        chosen, rejected: (k,) int64 numbers of samples.
        counts: drops by guard and language.
        notes: everything that did not go as asked.
        seconds: wall-clock time of the build.
    """

    options: dict[str, Any]
    samples: Samples
    scores: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    counts: Counts
    notes: list[str] = field(default_factory=list)
    seconds: float = float("nan")

    @property
    def margins(self) -> np.ndarray:
        """(k,) differences of the scores of chosen and rejected."""
        return self.scores[self.chosen] - self.scores[self.rejected]

    def drops(self) -> pd.DataFrame:
        """Language × guard: pairs (or groups that gave none) that each pair guard dropped."""
        return self._frame(PAIR_GUARDS)

    def sample_drops(self) -> pd.DataFrame:
        """Language × guard: samples that each sample guard took out. Languages are checked only for samples that would
        have been used."""
        return self._frame(SAMPLE_GUARDS)

    def per_language(self) -> pd.DataFrame:
        """One row per language and a last row "all": samples, prompts, pairs, mean margin, mean length ratio chosen to
        rejected in characters, and the drops of every guard that dropped anything."""
        import pandas as pd

        samples = self.samples
        n = len(samples.languages)
        codes = samples.language[self.chosen]
        ratio = samples.lengths[self.chosen] / np.maximum(samples.lengths[self.rejected], 1)
        pairs = np.bincount(codes, minlength=n)
        table = {
            "samples": np.bincount(samples.language, minlength=n),
            "prompts": np.bincount(samples.language[samples.starts], minlength=n),
            "pairs": pairs,
            **{guard: self.counts.get(guard) for guard in MEANINGS},
        }
        frame = pd.DataFrame(table, index=pd.Index(samples.languages, name="language"))
        frame.loc["all"] = frame.sum()
        means = {"margin": self.margins, "length_ratio_chosen": ratio}
        for place, (name, values) in enumerate(means.items(), start=3):
            sums = np.bincount(codes, weights=values, minlength=n)
            column = np.append(sums, values.sum()) / np.where(frame["pairs"] > 0, frame["pairs"], np.nan)
            frame.insert(place, name, column)
        idle = [g for g in MEANINGS if not frame[g].any()]
        return frame.drop(columns=idle).reset_index()

    def summary(self) -> str:
        """One sentence on what was built and what was dropped."""
        counts = {guard: int(self.counts.get(guard).sum()) for guard in MEANINGS}
        dropped = [f"{count:,} {guard} ({MEANINGS[guard]})" for guard, count in counts.items() if count]
        made, drawn, asked = len(self.chosen), len(self.samples), self.samples.n_prompts
        text = f"{counted(made, 'pair')} from {counted(drawn, 'sample')} of {counted(asked, 'prompt')}."
        return f"{text} Dropped: {'; '.join(dropped) if dropped else 'nothing'}." + "".join(f" {n}" for n in self.notes)

    def table(self) -> dict[str, dict[str, Any]]:
        """`per_language` as JSON values, by language."""

        def plain(value: Any) -> Any:
            if isinstance(value, (float, np.floating)):
                return None if np.isnan(value) else int(value) if float(value).is_integer() else round(float(value), 6)
            return value

        rows = self.per_language().set_index("language").to_dict("index")
        return {name: {key: plain(value) for key, value in row.items()} for name, row in rows.items()}

    def _frame(self, guards: Iterable[str]) -> pd.DataFrame:
        import pandas as pd

        index = pd.Index(self.samples.languages, name="language")
        return pd.DataFrame({guard: self.counts.get(guard) for guard in guards}, index=index)
