"""Tests for any judge: does it agree with itself, with equal judges, and with verdicts that are certain?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.judges.base import Judge, Judgements, Prompt, describe, run_judge

EXAMPLES = Path(__file__).with_name("self_test.json")
TIE = 1e-6


@dataclass(frozen=True)
class Check:
    """One self-test: the share of cases that came out as they should, and the share that is needed to pass.

    `needed` is `None` for figures that are only reported.
    """

    name: str
    value: float
    needed: float | None
    n: int
    meaning: str

    @property
    def passed(self) -> bool | None:
        """`None` where nothing is needed."""
        return None if self.needed is None else bool(self.value >= self.needed)


@dataclass(frozen=True)
class JudgeReport:
    """The self-tests of one judge."""

    judge: dict[str, Any]
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Whether no test failed."""
        return all(check.passed is not False for check in self.checks)

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"judge": self.judge, "passed": self.passed,
                "checks": [{**asdict(check), "passed": check.passed} for check in self.checks]}  # fmt: skip

    def __str__(self) -> str:
        words = {True: "passed", False: "FAILED", None: "–"}
        rows = [
            f"{check.name:<31}{100 * check.value:5.1f} %  {words[check.passed]:<7} {check.meaning}"
            for check in self.checks
        ]
        return "\n".join([f"Self-test: {'passed' if self.passed else 'FAILED'}", *rows])


def check_judge(
    judge: Judge,
    prompts: Sequence[Prompt] | None = None,
    a: Sequence[str] | None = None,
    b: Sequence[str] | None = None,
    languages: Sequence[str] | None = None,
    *,
    n_judges: int = 3,
    min_agreement: float = 0.8,
    seed: int = 1,
) -> JudgeReport:
    """Test a judge: is it consistent?

    Comparisons a judge leaves out (NaN) count as failures. Identical and blank answers are put to the judge as it is
    used; where it has shortcuts for them, the test is that of the judge without, and the other is only reported.

    Args:
        judge: see `hf_mlalign.evaluation.judges.base.Judge`.
        prompts, a, b, languages: n comparisons; default: eight short ones in eight languages, where a is the better.
        n_judges: equal judges, for the agreement of each with the majority of the others (3, *ours*); judges with
            `with_seed` get seeds of their own, others are asked again.
        min_agreement: share needed for the two agreements (0.8, *ours*); identical and blank answers need all.
        seed: of the first equal judge.
    Raises:
        DataError: bad arguments.
    """
    if n_judges < 2:
        raise DataError(f"n_judges: {n_judges} is too few. Use 2 or more, for a majority of the others.")
    known = prompts is None
    if known:
        rows = json.loads(EXAMPLES.read_text(encoding="utf-8"))
        prompts, a, b, languages = ([row[name] for row in rows] for name in ("prompt", "good", "bad", "language"))
    elif a is None or b is None or not len(prompts):
        raise DataError("prompts: give at least one prompt, with its answers a and b.")

    def put(to: Judge, x: Sequence[str], y: Sequence[str]) -> Judgements:
        return run_judge(to, prompts, x, y, languages=languages)

    first = put(judge, a, b)
    with_seed = getattr(judge, "with_seed", lambda seed: judge)
    equals = [put(with_seed(seed + i), a, b).preferences for i in range(n_judges - 1)]
    exchanged = 1 - put(judge, b, a).predictions if first.swapped_predictions is None else first.swapped_predictions
    aided = callable(getattr(judge, "unaided", None))
    checks = _agreements(first, exchanged, equals, min_agreement) + _must(put, judge, a, b, "", None if aided else 1.0)
    if aided:
        checks += _must(put, judge.unaided(), a, b, ", unaided", 1.0)
    if known:
        checks.append(Check("prefers the better answer", _share(first.preferences > 0.5), None, len(prompts),
                            "on the comparisons of the package"))  # fmt: skip
    return JudgeReport(describe(judge), checks)


def _agreements(first: Judgements, exchanged: np.ndarray, equals: list, needed: float) -> list[Check]:
    """With itself when answers are swapped, with the majority of equal judges, and what the first place is worth."""
    n = len(first.predictions)
    panel = np.stack([_sides(preferences) for preferences in (first.preferences, *equals)])
    votes = np.nan_to_num(panel)
    majority = panel == np.sign(votes.sum(0) - votes)  # (judges, n): sides with most of the others
    gains = first.predictions - exchanged
    gain = float(np.nanmean(gains)) if not np.isnan(gains).all() else float("nan")
    return [
        Check("gives a verdict", _share(~np.isnan(first.preferences)), needed, n, "comparisons that were judged"),
        Check("agrees under swap", _share(_sides(first.predictions) == _sides(exchanged)), needed, n,
              "same winner whichever answer is shown first"),
        Check("agrees with a majority", _share(majority), needed, n, f"same winner as most of {len(equals)} equals"),
        Check("pull of the first place", gain, None, n, "what being shown first adds to a preference; 0 is best"),
    ]  # fmt: skip


def _must(put, judge: Judge, a: Sequence[str], b: Sequence[str], suffix: str, needed: float | None) -> list[Check]:
    """Identical answers tie, in each order; a blank answer loses to one that is not."""
    same = put(judge, a, a)
    ties = [same.predictions] + ([] if same.swapped_predictions is None else [same.swapped_predictions])
    tied = np.all(np.abs(np.array(ties) - 0.5) <= TIE, axis=0)
    kept = [[i for i, text in enumerate(side) if text.strip()] for side in (a, b)]
    blank = [""] * len(a)
    wins = np.concatenate([put(judge, a, blank).preferences[kept[0]], 1 - put(judge, blank, b).preferences[kept[1]]])
    return [
        Check("identical answers tie" + suffix, _share(tied), needed, len(a), "in each order"),
        Check("an empty answer loses" + suffix, _share(wins > 0.5), needed, len(wins), "as candidate and as baseline"),
    ]


def _sides(preferences: np.ndarray) -> np.ndarray:
    """(n,) 1 where a wins, −1 where b does, 0 for a tie, NaN where there is no preference."""
    return np.where(np.abs(preferences - 0.5) <= TIE, 0.0, np.sign(preferences - 0.5))


def _share(hits: np.ndarray) -> float:
    return float(np.mean(hits)) if hits.size else float("nan")
