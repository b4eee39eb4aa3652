"""Figures of a classification run: accuracies with intervals, paired gains, consistency with English, macro means."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import check_whole, shown
from hf_mlalign.spontaneous.classification.rows import entries

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
_DRAWN_AT_ONCE = 2**20  # counts in memory


def accuracy_table(
    rows: pd.DataFrame,
    baseline: pd.DataFrame | None = None,
    seen: str | Iterable[str] = (),
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per language, then the macro means "seen", "unseen" and "all".

    Accuracies lie in [0, 1]. A language's interval is Wilson's; a macro mean's is a percentile bootstrap over
    questions (2,000 draws, *ours*): a question's rows in all languages stay together. `consistency_en` is the share of
    questions with the class that was predicted for the same id in English. `gain` is accuracy minus the baseline's on
    the rows both have, its interval a paired bootstrap over questions, `p_value` McNemar's exact test (two-sided).
    English is neither seen nor unseen unless `seen` names it.

    Args:
        rows: columns id, language, prediction, correct.
        baseline: the same columns of another run.
        seen: codes of the languages trained on.
    Returns:
        A frame indexed by language with n, correct, accuracy, ci_low, ci_high, consistency_en and, with a baseline,
        n_paired, baseline, gain, gain_low, gain_high, p_value. NaN where a figure is not defined.
    Raises:
        DataError: missing columns or values, an id twice in a language (row named), no rows in common with
            the baseline, `seen` names a language without rows, bad confidence.
    """
    import pandas as pd
    from scipy.stats import binomtest

    if not isinstance(confidence, Real) or not 0 < confidence < 1:
        raise DataError(f"confidence: {shown(confidence)} is not between 0 and 1.")
    check_whole(seed, "seed")
    _check_rows(rows, "rows")
    if baseline is not None:
        _check_rows(baseline, "baseline")
    correct = rows.pivot(index="id", columns="language", values="correct").astype(float)
    languages, known = list(correct.columns), set(entries(seen))
    if missing := sorted(known - set(languages)):
        raise DataError(f"seen: no scored rows in {missing[0]!r}. Languages scored: {', '.join(languages)}.")
    unseen = [code for code in languages if code not in known and code != "en"]
    groups = {"seen": [code for code in languages if code in known], "unseen": unseen, "all": languages}
    groups = {name: members for name, members in groups.items() if members and (known or name == "all")}
    table = pd.DataFrame(index=[*correct.columns, *groups], dtype=float)
    table.index.name = "language"
    for language in correct.columns:
        n, k = int(correct[language].count()), int(correct[language].sum())
        interval = binomtest(k, n).proportion_ci(confidence, method="wilson")
        figures = [n, k, k / n, interval.low, interval.high]
        table.loc[language, ["n", "correct", "accuracy", "ci_low", "ci_high"]] = figures
    _add_macros(table, correct, groups, seed, confidence, ("accuracy", "ci_low", "ci_high"))
    for name, members in groups.items():
        table.loc[name, ["n", "correct"]] = [correct[members].count().sum(), correct[members].sum().sum()]
    predicted = rows.pivot(index="id", columns="language", values="prediction")
    table["consistency_en"] = np.nan
    if "en" in predicted:
        for language in predicted.columns.drop("en"):
            both = predicted[["en", language]].dropna()
            table.loc[language, "consistency_en"] = (both["en"] == both[language]).mean() if len(both) else np.nan
        for name, members in groups.items():
            table.loc[name, "consistency_en"] = table.loc[members, "consistency_en"].mean()
    if baseline is not None:
        _add_gain(table, correct, baseline, groups, confidence, seed)
    return table


def _check_rows(rows: pd.DataFrame, name: str) -> None:
    """DataError for a missing column or value, no rows, or a question that is there twice in a language."""
    there = getattr(rows, "columns", ())
    missing = [column for column in ("id", "language", "prediction", "correct") if column not in there]
    if missing:
        raise DataError(f"{name}: no column {missing[0]!r}. Give a frame with id, language, prediction and correct.")
    if not len(rows):
        raise DataError(f"{name}: no rows.")
    for column in ("id", "language", "correct"):
        gone = np.flatnonzero(rows[column].isna())
        if len(gone):
            raise DataError(f"{name}: column {column!r}, row {gone[0]}: missing. Fill it in or drop the row.")
    wrong = np.flatnonzero(~rows["correct"].isin([0, 1]))
    if len(wrong):
        raise DataError(f"{name}: column 'correct', row {wrong[0]}: give True or False.")
    again = np.flatnonzero(rows.duplicated(["id", "language"]))
    if len(again):
        raise DataError(f"{name}: row {again[0]}: this id was there before in this language. Drop one.")


def _add_macros(table, values: pd.DataFrame, groups, seed: int, confidence: float, names: tuple[str, str, str]) -> None:
    """Means over languages with bootstrap intervals; questions are drawn with replacement, in blocks."""
    numbers = values.to_numpy(dtype=float)
    there = ~np.isnan(numbers)
    filled, known = np.where(there, numbers, 0.0), there.astype(float)
    n, rng, found = len(numbers), np.random.default_rng(seed), []
    size = max(1, _DRAWN_AT_ONCE // n)
    for begin in range(0, RESAMPLES, size):
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=min(size, RESAMPLES - begin)).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a draw without a row of some language
            found.append(drawn @ filled / (drawn @ known))
    resampled = np.concatenate(found)
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    for group, members in groups.items():
        at = [values.columns.get_loc(member) for member in members]
        low, high = np.nanpercentile(resampled[:, at].mean(axis=1), tails)
        table.loc[group, list(names)] = [values[members].mean().mean(), low, high]


def _add_gain(table, correct: pd.DataFrame, baseline: pd.DataFrame, groups, confidence: float, seed: int) -> None:
    from scipy.stats import binomtest

    table[["n_paired", "baseline", "gain", "gain_low", "gain_high", "p_value"]] = np.nan
    before = baseline.pivot(index="id", columns="language", values="correct").astype(float)
    before = before.reindex(index=correct.index, columns=correct.columns)
    gain = correct - before
    gain = gain[gain.notna().any(axis=1)]
    if gain.empty:
        raise DataError("baseline: it has no row (id and language) in common with this run. Score the same questions.")
    before = before.where(correct.notna())
    groups = {name: [m for m in members if gain[m].notna().any()] for name, members in groups.items()}
    groups = {name: members for name, members in groups.items() if members}
    names = ("gain", "gain_low", "gain_high")
    _add_macros(table, gain, groups | {m: [m] for m in gain.columns if gain[m].notna().any()}, seed, confidence, names)
    for language in gain.columns:
        better, worse = int((gain[language] > 0).sum()), int((gain[language] < 0).sum())
        p = binomtest(better, better + worse).pvalue if better + worse else 1.0
        paired = gain[language].count()
        table.loc[language, ["n_paired", "p_value"]] = [paired, p if paired else np.nan]
    for name, members in {**groups, **{m: [m] for m in gain.columns}}.items():
        table.loc[name, "baseline"] = before[members].mean().mean()
        table.loc[name, "n_paired"] = gain[members].count().sum()
