"""Human judgement as a judge: from an annotation's folder to preferences, win-rate columns and agreement."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import list_names, write_atomic
from hf_mlalign.data.languages import check_languages
from hf_mlalign.evaluation.annotation.agreement import reader_agreement
from hf_mlalign.evaluation.annotation.items import digest, prompt_turns, turns_digest
from hf_mlalign.evaluation.annotation.store import FIELDS, POINTS, PREFERENCES, read_judgements
from hf_mlalign.evaluation.metrics.winrate import winrate

if TYPE_CHECKING:
    import pandas as pd


class HumanJudge:
    """What people said in `hf-mlalign annotate`.

    Args:
        source: the output folder of `annotate`, or the Parquet file that `export` wrote.
    Raises:
        DataError: there are no judgements, or they cannot be read.

    Attributes:
        judgements: one row per reader and item (the last word of each), with the fields of `store.Judgement` as columns
            and `preference_score` (1 candidate, 0.5 tie or both bad, 0 baseline, NaN could not judge).
    """

    def __init__(self, source: str | Path):
        self.source = Path(source)
        self.judgements = _load(self.source)

    def judge(
        self, prompts: Sequence[Any], a: Sequence[str], b: Sequence[str], languages: Sequence[str] | None = None
    ) -> np.ndarray:
        """Preferences for `a` over `b`: the mean of what the readers said.

        Args:
            prompts: n texts or message lists, as they were annotated.
            a, b: n answers each, in either order.
            languages: n codes or English names; only judgements in that language count. Default: in any.
        Returns:
            (n,) float64 in [0, 1]; NaN where nobody judged these three texts.
        Raises:
            DataError: the lengths differ, or a language is unknown.
        """
        if not len(prompts) == len(a) == len(b) == len(prompts if languages is None else languages):
            raise DataError(f"judge: {len(prompts)} prompts, {len(a)} and {len(b)} answers. Give the same number of "
                            "each, and as many languages if any.")  # fmt: skip
        codes = [None] * len(prompts) if languages is None else check_languages(languages)
        out = np.full(len(prompts), np.nan)
        for i, prompt in enumerate(prompts):
            key, x, y = turns_digest(prompt_turns(prompt, f"prompts, row {i}")), digest(a[i]), digest(b[i])
            swapped = [(code, 1 - score) for code, score in self._by_texts.get((key, y, x), [])]
            found = [score for code, score in self._by_texts.get((key, x, y), []) + swapped
                     if codes[i] in (None, code)]  # fmt: skip
            out[i] = np.mean(found) if found else np.nan
        return out

    __call__ = judge

    def winrate_columns(self, lengths: bool = False) -> dict[str, list]:
        """What the winrate metric takes, one value an item: `predictions`, `prompt_ids`, `languages`.

        `predictions` is the mean preference for the candidate over the item's readers, NaN where none could judge.
        With `lengths`, also `candidate_lengths` and `baseline_lengths` in characters.
        """
        items = self.judgements.groupby("item", sort=True)
        first = items.first()
        columns = {
            "predictions": items["preference_score"].mean(),
            "prompt_ids": first["prompt_id"],
            "languages": first["language"],
        }
        if lengths:
            columns |= {f"{side}_lengths": first[f"{side}_chars"] for side in ("candidate", "baseline")}
        return {name: values.to_list() for name, values in columns.items()}

    def winrate(self, **options: Any) -> dict[str, Any]:
        """The candidate's win rates with intervals: `winrate.winrate` of `winrate_columns`, with its options."""
        return winrate(**self.winrate_columns(), **options)

    def agreement(self, n_resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """Krippendorff's alpha per language and measure; see `agreement.reader_agreement`."""
        return reader_agreement(self.judgements, n_resamples=n_resamples, confidence=confidence, seed=seed)

    def summary(self) -> pd.DataFrame:
        """Counts and means per language, "all" last.

        Columns: `language`, `n_items`, `n_judgements`, `n_annotators`, `candidate`, `tie`, `both_bad`, `baseline`,
        `not_judged` (numbers of judgements), the mean points `candidate_quality` … `baseline_culture` (1 to 5), and
        `first_preferred`: the share of decided judgements for the answer shown first; far from 0.5, order mattered.
        """
        import pandas as pd

        rows = []
        for language in [*sorted(self.judgements["language"].unique()), "all"]:
            part = self.judgements
            part = part if language == "all" else part[part["language"] == language]
            said = part["preference"].value_counts()
            decided = part[part["preference"].isin(("candidate", "baseline"))]
            rows.append({
                "language": language, "n_items": int(part["item"].nunique()), "n_judgements": len(part),
                "n_annotators": int(part["annotator"].nunique()),
                **{name: int(said.get(name, 0)) for name in PREFERENCES},
                "not_judged": int(part["preference"].isna().sum()),
                **{name: float(part[name].mean()) for name in POINTS},
                "first_preferred": float((decided["preference"] == decided["first"]).mean()),
            })  # fmt: skip
        return pd.DataFrame(rows)

    def export(self, folder: str | Path) -> dict[str, Path]:
        """Write `judgements.parquet`, `winrate.json`, `agreement.csv` and `summary.csv`; returns the paths by name.

        Raises:
            DataError: `folder` is a file.
        """
        folder = Path(folder)
        list_names(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {name: folder / f"{name}.{kind}" for name, kind in (
            ("judgements", "parquet"), ("winrate", "json"), ("agreement", "csv"), ("summary", "csv"))}  # fmt: skip
        self.judgements.to_parquet(paths["judgements"], index=False)
        write_atomic(paths["winrate"], json.dumps(_without_nan(self.winrate()), indent=1, ensure_ascii=False) + "\n")
        self.agreement().to_csv(paths["agreement"], index=False)
        self.summary().to_csv(paths["summary"], index=False)
        return paths

    @cached_property
    def _by_texts(self) -> dict[tuple[str, str, str], list[tuple[str, float]]]:
        """Digests of prompt, candidate and baseline → (language, preference for the candidate) of each reader."""
        said = defaultdict(list)
        judged = self.judgements.dropna(subset="preference_score")
        columns = (judged[name] for name in ("prompt", "candidate", "baseline", "language", "preference_score"))
        for *texts, language, score in zip(*columns):
            said[tuple(texts)].append((language, float(score)))
        return dict(said)


def _without_nan(value: Any) -> Any:
    """`value` with `None` for NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def _load(source: Path) -> pd.DataFrame:
    import pandas as pd

    if source.is_file():
        try:
            frame = pd.read_parquet(source)
        except (OSError, ValueError) as error:
            raise DataError(f"judgements: {str(source)!r} cannot be read as a Parquet file: {error}") from error
        missing = [name for name in FIELDS if name not in frame]
        if missing:
            raise DataError(f"judgements: {str(source)!r} lacks the columns {listed(missing)}. Export it again.")
        frame = frame[list(FIELDS)]
    else:
        frame = pd.DataFrame(map(vars, read_judgements(source)), columns=FIELDS)
    if not len(frame):
        raise DataError(f"judgements: {str(source)!r} holds no judgements yet.")
    for name in POINTS:
        frame[name] = frame[name].astype("float64")
    frame["preference"] = frame["preference"].astype(object).where(frame["preference"].notna(), None)
    unknown = set(frame["preference"].dropna()) - PREFERENCES.keys()
    if unknown:
        raise DataError(f"judgements: unknown preference {listed(sorted(unknown))} in {str(source)!r}.")
    return frame.assign(preference_score=frame["preference"].map(PREFERENCES).astype("float64"))
