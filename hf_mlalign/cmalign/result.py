"""What a build of preference pairs did, by language."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.cmalign.filters import MEANINGS, PAIR_GUARDS, SAMPLE_GUARDS, Counts
from hf_mlalign.cmalign.samples import Samples

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class PairResult:
    """The pairs of one build and everything that was dropped on the way.

    Attributes:
        options: the builder's settings.
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
        """One row a language and a last row "all": samples, prompts, pairs, mean margin, mean length ratio chosen to
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
            **{guard: self.counts.get(guard) for guard in (*SAMPLE_GUARDS, *PAIR_GUARDS)},
        }
        frame = pd.DataFrame(table, index=pd.Index(samples.languages, name="language"))
        frame.loc["all"] = frame.sum()
        means = {"margin": self.margins, "length_ratio_chosen": ratio}
        for place, (name, values) in enumerate(means.items(), start=3):
            sums = np.bincount(codes, weights=values, minlength=n)
            column = np.append(sums, values.sum()) / np.where(frame["pairs"] > 0, frame["pairs"], np.nan)
            frame.insert(place, name, column)
        idle = [g for g in (*SAMPLE_GUARDS, *PAIR_GUARDS) if not frame[g].any()]
        return frame.drop(columns=idle)

    def summary(self) -> str:
        """One sentence on what was made and what was dropped."""
        dropped = [
            f"{int(self.counts.get(guard).sum()):,} {guard} ({MEANINGS[guard]})"
            for guard in (*SAMPLE_GUARDS, *PAIR_GUARDS)
            if self.counts.get(guard).any()
        ]
        text = f"{len(self.chosen):,} pairs from {len(self.samples):,} samples of {self.samples.n_prompts:,} prompts."
        return f"{text} Dropped: {'; '.join(dropped) if dropped else 'nothing'}." + "".join(f" {n}" for n in self.notes)

    def table(self) -> dict[str, dict[str, Any]]:
        """`per_language` as JSON values, by language."""
        frame = self.per_language()
        return {name: {k: _plain(v) for k, v in row.items()} for name, row in frame.to_dict("index").items()}

    def _frame(self, guards: tuple[str, ...]) -> pd.DataFrame:
        import pandas as pd

        index = pd.Index(self.samples.languages, name="language")
        return pd.DataFrame({guard: self.counts.get(guard) for guard in guards}, index=index)


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else int(value) if float(value).is_integer() else round(float(value), 6)
    return value
