"""Judges that score each answer on its own: similarity, length, language. They work offline and see little."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import unit_rows
from hf_mlalign.data.languages import LanguageIdentifier
from hf_mlalign.evaluation.judges.base import (
    AnswerPairs,
    Judgements,
    Prompt,
    Turns,
    check_answer_pairs,
    trivial_preferences,
)

if TYPE_CHECKING:
    from hf_mlalign.models.encoder import Encoder


class ScoreJudge:
    """Base of judges that score answers one by one: preference = 1 / (1 + exp(−(score_a − score_b) / scale)).

    A subclass has `name` and `scores(prompts, answers, languages, references)`, which returns n scores (NaN: none can
    be given) and n reasons ("" where there is a score). The order in which answers are shown cannot matter, so both
    orders have the same prediction.

    Args:
        scale: difference of scores that makes a preference of 0.73, in units of the score.
        hard: 1, 0.5 or 0 instead of the sigmoid (*ours*: off).
        tie_margin: with `hard`, a difference up to this is a tie (0, *ours*).
        shortcuts: count identical answers as a tie and a blank one as a loss without scoring (*ours*: on).
    """

    name = "score"

    def __init__(self, scale: float = 1.0, hard: bool = False, tie_margin: float = 0.0, shortcuts: bool = True):
        if not scale > 0 or not tie_margin >= 0:
            raise DataError(f"scale: {scale} must be positive, and tie_margin: {tie_margin} 0 or more.")
        self.scale, self.hard, self.tie_margin, self.shortcuts = scale, hard, tie_margin, shortcuts

    def scores(
        self,
        prompts: Sequence[Turns],
        answers: Sequence[str],
        languages: Sequence[str],
        references: Sequence[str | None],
    ) -> tuple[np.ndarray, list[str]]:
        """(n,) scores, the higher the better, and n reasons for those that are NaN."""
        raise NotImplementedError

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str], languages=None,
                 references=None) -> np.ndarray:  # fmt: skip
        """(n,) preferences; see `compare`."""
        return self.compare(prompts, a, b, languages, references).preferences

    def describe(self) -> dict[str, Any]:
        """Name and options."""
        return {"judge": self.name, "scale": self.scale, "hard": self.hard, "tie_margin": self.tie_margin,
                "shortcuts": self.shortcuts}  # fmt: skip

    def unaided(self) -> ScoreJudge:
        """The same judge without shortcuts."""
        other = copy.copy(self)
        other.shortcuts = False
        return other

    def compare(
        self,
        prompts: Sequence[Prompt],
        a: Sequence[str],
        b: Sequence[str],
        languages: Sequence[str | None] | None = None,
        references: Sequence[str | None] | None = None,
    ) -> Judgements:
        """Compare n pairs of answers; see `hf_mlalign.evaluation.judges.base.Judge`.

        Raises:
            DataError: bad arguments.
        """
        pairs = check_answer_pairs(prompts, a, b, languages, references)
        values = trivial_preferences(pairs.a, pairs.b) if self.shortcuts else np.full(len(pairs), np.nan)
        rows = np.flatnonzero(np.isnan(values))
        reasons = [""] * len(pairs)
        if len(rows):
            scores, why = self._score_sides(pairs, rows)
            difference = scores[0] - scores[1]
            if self.hard:
                values[rows] = np.where(difference > 0, 1.0, np.where(np.isnan(difference), np.nan, 0.0))
                values[rows[np.abs(difference) <= self.tie_margin]] = 0.5
            else:
                values[rows] = 1 / (1 + np.exp(-np.clip(difference / self.scale, -500, 500)))
            for row, *pair in zip(rows, *why, strict=True):
                sides = zip(("candidate", "baseline"), pair, strict=True)
                reasons[row] = "; ".join(f"{side}: {reason}" for side, reason in sides if reason)
        return Judgements(values, values.copy(), reasons)

    def _score_sides(self, pairs: AnswerPairs, rows: np.ndarray) -> tuple[np.ndarray, list[list[str]]]:
        """(2, k) scores of the answers in `rows` with their reasons; an answer that comes twice is scored once."""
        slots: dict[tuple, int] = {}
        where = np.empty((2, len(rows)), int)
        items = []
        for side, answers in enumerate((pairs.a, pairs.b)):
            for i, row in enumerate(rows):
                item = pairs.prompts[row], answers[row], pairs.languages[row], pairs.references[row]
                key = tuple((turn["role"], turn["content"]) for turn in item[0]), *item[1:]
                where[side, i] = slots.setdefault(key, len(slots))
                if len(slots) > len(items):
                    items.append(item)
        scores, reasons = self.scores(*zip(*items, strict=True))
        return np.asarray(scores, float)[where], [[reasons[i] for i in side] for side in where]


class SimilarityJudge(ScoreJudge):
    """Prefers the answer that is closer in meaning to a reference answer, or, without one, to the prompt.

    The score is the cosine of two sentence embeddings. With a reference it measures whether an answer says the same;
    without, only whether it stays on the subject. It does not see correctness, helpfulness or style, and a wrong answer
    in the words of the reference scores high. An answer that repeats the prompt counts as blank. It is a smoke test and
    a baseline, not a judge to publish with.

    Args:
        encoder: see `hf_mlalign.models.encoder.load_encoder`; default: the bundled one, offline.
        references: prompt text → reference answer; references handed over with a call come first.
        scale: see `ScoreJudge` (0.1, *ours*).
        **options: of `ScoreJudge`.
    """

    name = "similarity"

    def __init__(self, encoder: str | Path | Encoder | None = None, references: dict[str, str] | None = None,
                 scale: float = 0.1, **options: Any):  # fmt: skip
        from hf_mlalign.models.encoder import load_encoder

        super().__init__(scale, **options)
        self.encoder, self.references = load_encoder(encoder), dict(references or {})

    def describe(self) -> dict[str, Any]:
        """Name, options, encoder and number of references."""
        encoder = self.encoder
        return {**super().describe(), "encoder": getattr(encoder, "content_hash", type(encoder).__name__),
                "references": len(self.references)}  # fmt: skip

    def scores(self, prompts, answers, languages, references):
        """(n,) cosines in [−1, 1]; −1 for a blank answer and one that repeats the prompt."""
        asked = [turns[-1]["content"] for turns in prompts]
        targets = [given or self.references.get(text, text) for given, text in zip(references, asked, strict=True)]
        texts = list(dict.fromkeys([*targets, *answers]))
        at = {text: i for i, text in enumerate(texts)}
        vectors = unit_rows(np.asarray(self.encoder.encode(texts), np.float32))
        left, right = vectors[[at[t] for t in targets]], vectors[[at[t] for t in answers]]
        cosines = np.einsum("nd,nd->n", left, right).astype(float)
        cosines[[not _plain(x) or _plain(x) == _plain(y) for x, y in zip(answers, asked, strict=True)]] = -1.0
        return cosines, [""] * len(answers)


class LengthJudge(ScoreJudge):
    """Prefers the longer answer: the baseline that a judge has to beat, and a measure of its length bias.

    The score is the natural logarithm of the number of characters.
    """

    name = "length"

    def scores(self, prompts, answers, languages, references):
        """(n,) ln(1 + characters)."""
        return np.log1p([len(answer.strip()) for answer in answers]), [""] * len(answers)


class LanguageJudge(ScoreJudge):
    """Prefers the answer that is in the language of the row; a tie where both are or neither is.

    It checks one thing only. Short answers, code and closely related languages are often misidentified.

    Args:
        identifier: default: `LanguageIdentifier` over its default languages and those of the rows.
        **options: of `ScoreJudge`; `hard` is on (*ours*).
    """

    name = "language"

    def __init__(self, identifier: LanguageIdentifier | None = None, hard: bool = True, **options: Any):
        super().__init__(hard=hard, **options)
        self.identifier = identifier

    def scores(self, prompts, answers, languages, references):
        """(n,) 1 in the right language, 0 in another, −1 for a blank answer; NaN where the row has no language."""
        identifier = self.identifier or LanguageIdentifier(
            list(dict.fromkeys([*LanguageIdentifier.DEFAULT, *filter(None, languages)]))
        )
        found = [code for code, _ in identifier.identify(answers)]
        scores = [float(code == wanted) if wanted else np.nan for code, wanted in zip(found, languages, strict=True)]
        blank = [-1.0 if wanted and not answer.strip() else np.inf
                 for answer, wanted in zip(answers, languages, strict=True)]  # fmt: skip
        reasons = ["" if wanted else "the language of the prompt is not given" for wanted in languages]
        return np.minimum(scores, blank), reasons


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
