"""What a build of question-translation rows did, by language."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MEANINGS = {
    "no_text": "missing or blank in this language",
    "no_english": "missing or blank in English",
    "not_translated": "the translator gave nothing usable",
    "untranslated": "the same text in both languages",
    "answer": "an answer has slipped in",
    "duplicate": "the same question twice in this language",
    "not_chosen": "usable, but beyond the share of this language",
}
"""Reason → why a question gives no row."""
_COUNTS = ("questions", "translated", *MEANINGS, "kept", "rows", "train", "test")


@dataclass
class QuestionResult:
    """Counts of one build.

    Attributes:
        options: the builder's settings.
        languages: ISO 639-1 codes of the languages beside English, sorted.
        counts: (language, column of `per_language`) → number.
        notes: everything that did not go as asked.
        seconds: wall-clock time of the build.
    """

    options: dict[str, Any]
    languages: list[str]
    counts: Counter = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    seconds: float = float("nan")

    def per_language(self) -> pd.DataFrame:
        """One row a language and a last row "all": questions found, translated by the translator, dropped for each
        reason that dropped anything, kept, and rows (two a question with direction "both")."""
        import pandas as pd

        table = {name: [self.counts[code, name] for code in self.languages] for name in _COUNTS}
        frame = pd.DataFrame(table, index=pd.Index(self.languages, name="language"))
        frame.loc["all"] = frame.sum()
        always = {"questions", "kept", "rows"}
        return frame.drop(columns=[name for name in _COUNTS if name not in always and not frame[name].any()])

    def drops(self) -> dict[str, int]:
        """Reason → questions dropped over all languages; reasons that dropped nothing are left out."""
        totals = {reason: sum(self.counts[code, reason] for code in self.languages) for reason in MEANINGS}
        return {reason: number for reason, number in totals.items() if number}

    def summary(self) -> str:
        """One sentence on what was made and what was left out."""
        names = ("questions", "kept", "rows")
        total = {name: sum(self.counts[code, name] for code in self.languages) for name in names}
        dropped = [f"{number:,} {reason} ({MEANINGS[reason]})" for reason, number in self.drops().items()]
        return (
            f"{total['rows']:,} rows from {total['kept']:,} of {total['questions']:,} questions in "
            f"{len(self.languages)} languages. Left out: {'; '.join(dropped) if dropped else 'nothing'}."
            + "".join(f" {note}" for note in self.notes)
        )

    def table(self) -> dict[str, dict[str, int]]:
        """`per_language` as JSON values, by language."""
        return {c: {k: int(v) for k, v in row.items()} for c, row in self.per_language().to_dict("index").items()}
