"""What a selection returns: the rows, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"
"""Name of the one group when languages are not told apart."""


@dataclass
class SelectionResult:
    """What was selected from a pool of n rows, and why.

    Attributes:
        selected: row numbers of the k selected rows, ascending, int64.
        rejected: row numbers of the n − k others, ascending, int64.
        scores: (n,) float32, NaN where a row could not be scored.
        clusters: (n,) int32, −1 where a row was not clustered; ids are unique over languages.
        reasons: (n,) "quality", "diversity" or "" (not selected).
        languages: (n,) ISO 639-1 codes, or "all".
        notes: everything that did not go as asked (budgets not filled, rows without score, …).
    """

    method: str
    selected: np.ndarray
    scores: np.ndarray
    clusters: np.ndarray
    reasons: np.ndarray
    languages: np.ndarray
    budgets: dict[str, tuple[int, int]]
    notes: list[str] = field(default_factory=list)

    @property
    def rejected(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.scores)), self.selected)

    def per_language(self) -> pd.DataFrame:
        """One row a language and, of several, a last row "all".

        Columns: pool, unscored, selected (by_quality, by_diversity), mean score of the pool and of the selection,
        clusters of the pool and how many of them the selection covers.
        """
        rows = [self._summary(name, self.languages == name) for name in self.budgets]
        if len(rows) != 1:
            rows.append(self._summary(ALL, self.languages != ""))
        import pandas as pd

        return pd.DataFrame(rows)

    def _summary(self, name: str, rows: np.ndarray) -> dict[str, Any]:
        chosen = rows & (self.reasons != "")
        known = self.clusters[rows & (self.clusters >= 0)]
        return {
            "language": name,
            "pool": int(rows.sum()),
            "unscored": int(np.isnan(self.scores[rows]).sum()),
            "selected": int(chosen.sum()),
            "by_quality": int((self.reasons[chosen] == "quality").sum()),
            "by_diversity": int((self.reasons[chosen] == "diversity").sum()),
            "quality_before": _mean(self.scores[rows]),
            "quality_after": _mean(self.scores[chosen]),
            "clusters": len(np.unique(known)),
            "clusters_covered": len(np.unique(self.clusters[chosen & (self.clusters >= 0)])),
        }


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")
