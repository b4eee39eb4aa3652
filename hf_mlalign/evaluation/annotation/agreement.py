"""How far readers agree: Krippendorff's alpha with intervals, per language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.evaluation.metrics.bootstrap import check_bootstrap

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {"preference": (0.0, 0.5, 1.0), "quality": (1, 2, 3, 4, 5), "culture": (1, 2, 3, 4, 5)}
"""What is rated, and the ordered values it can take."""


def reader_agreement(
    judgements: pd.DataFrame, *, n_resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Krippendorff's alpha of readers' judgements, for each language and for all.

    All three measures are taken as *ordinal*: the preference as baseline < tie (or both bad) < candidate, points as
    1 to 5. A unit of `preference` is an item, one of `quality` and `culture` an answer of an item. The interval is the
    percentile bootstrap over prompts.

    Args:
        judgements: as `HumanJudge.judgements`.
        n_resamples: 1000 (*ours*); 0 leaves the intervals out.
        confidence: of the intervals, in (0, 1) (0.95, *ours*).
        seed: of the resamples.
    Returns:
        One row per language and measure, language "all" at the end: `language`, `measure`, `alpha` (1: full agreement,
        0: as by chance; NaN where it is undefined), `ci_low`, `ci_high`, `n_items` (judged by two or more),
        `n_judgements` (of these), `n_annotators` (of these), `reason` (why alpha is NaN, else "").
    Raises:
        DataError: `confidence` or `n_resamples` is out of range.
    """
    import pandas as pd

    check_bootstrap(n_resamples, confidence, seed)
    rng = np.random.default_rng(seed)
    languages = [*sorted(judgements["language"].unique()), "all"]
    rows = []
    for language in languages:
        part = judgements if language == "all" else judgements[judgements["language"] == language]
        for measure, domain in MEASURES.items():
            ratings = _ratings(part, measure)
            row = _alpha_row(ratings, domain, n_resamples, confidence, rng)
            rows.append({"language": language, "measure": measure, **row})
    return pd.DataFrame(rows)


def _ratings(judgements: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One row per rating: unit, item, prompt, annotator, value; only units that two or more rated."""
    import pandas as pd

    common = ["item", "prompt_id", "annotator"]
    columns = ["preference_score"] if measure == "preference" else [f"candidate_{measure}", f"baseline_{measure}"]
    parts = [
        judgements[common].assign(unit=judgements["item"] + f"/{column}", value=judgements[column])
        for column in columns
    ]
    ratings = pd.concat(parts).dropna(subset="value")
    return ratings[ratings.groupby("unit")["unit"].transform("size") > 1] if len(ratings) else ratings


def _alpha_row(
    ratings: pd.DataFrame, domain: Sequence[float], n_resamples: int, confidence: float, rng: np.random.Generator
) -> dict:
    row = {
        "alpha": np.nan, "ci_low": np.nan, "ci_high": np.nan, "n_items": int(ratings["item"].nunique()),
        "n_judgements": len(ratings[["item", "annotator"]].drop_duplicates()),
        "n_annotators": int(ratings["annotator"].nunique()), "reason": "",
    }  # fmt: skip
    if not len(ratings):
        return {**row, "reason": "nothing was judged by two readers"}
    if ratings["value"].nunique() == 1:
        return {**row, "reason": "all judgements are equal, so agreement by chance is undefined"}
    units, first = np.unique(ratings["unit"].to_numpy(), return_index=True)
    counts = np.zeros((len(units), len(domain)), np.int64)  # how often each unit got each value
    rows = np.searchsorted(units, ratings["unit"].to_numpy())
    np.add.at(counts, (rows, np.searchsorted(domain, ratings["value"].to_numpy(float))), 1)
    prompts = np.unique(ratings["prompt_id"].to_numpy()[first], return_inverse=True)[1]
    low, high = _interval(counts, prompts, domain, n_resamples, confidence, rng)
    return {**row, "alpha": _alpha(counts, domain), "ci_low": low, "ci_high": high}


def _alpha(counts: np.ndarray, domain: Sequence[float]) -> float:
    import krippendorff

    used = counts.sum(0) > 0
    if used.sum() < 2:
        return np.nan
    values = np.asarray(domain, np.float64)[used]
    return float(krippendorff.alpha(value_counts=counts[:, used], value_domain=values, level_of_measurement="ordinal"))


def _interval(
    counts: np.ndarray, prompts: np.ndarray, domain: Sequence[float], n_resamples: int, confidence: float,
    rng: np.random.Generator,
) -> tuple[float, float]:  # fmt: skip
    """Percentile bootstrap over prompts, each drawn with all its units."""
    n = int(prompts.max()) + 1
    if n < 2 or not n_resamples:
        return np.nan, np.nan
    order = np.argsort(prompts, kind="stable")
    starts = np.searchsorted(prompts[order], np.arange(n + 1))
    alphas = np.empty(n_resamples)
    for r in range(n_resamples):
        drawn = rng.integers(n, size=n)
        rows = np.concatenate([order[starts[p] : starts[p + 1]] for p in drawn])
        alphas[r] = _alpha(counts[rows], domain)
    edges = (1 - confidence) / 2
    alphas = alphas[~np.isnan(alphas)]
    return tuple(np.quantile(alphas, [edges, 1 - edges])) if len(alphas) else (np.nan, np.nan)
