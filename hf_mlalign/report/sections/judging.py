"""Sections of judgements: win rates with intervals, and examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.judges.run import read_answer_pairs, winrate_columns
from hf_mlalign.evaluation.metrics.winrate import winrate
from hf_mlalign.report.drawing import BLUE, GREY, name_rows, rows_figure
from hf_mlalign.report.page import JUDGED
from hf_mlalign.report.registry import Block, Chart, Example, Examples, Facts, ReportedRun, section
from hf_mlalign.report.sections.pairs import plain_text

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("n", "win_rate", "ci_low", "ci_high", "n_wins", "n_ties", "n_losses", "n_unjudged", "adjusted_p_value",
           "length_controlled_win_rate")  # fmt: skip


@section("Win rates", command="judge", files=JUDGED)
def win_rates(part: ReportedRun) -> Iterator[Block]:
    """Share of comparisons that the candidate wins, per language."""
    import pandas as pd

    judged, mapping = read_judged(part), _mapping(part)
    both = "swapped_prediction" in judged.column_names
    rates = winrate(**winrate_columns(judged, mapping, average_orders=both), seed=part.seed)
    facts = {"comparisons judged": f"{rates['n']:,}", "win rate": f"{rates['win_rate']:.1f} %",
             "95 % interval": f"{rates['ci_low']:.1f} – {rates['ci_high']:.1f} %"}  # fmt: skip
    if both:
        plain = winrate(**winrate_columns(judged, mapping), n_resamples=0)["position_consistency"]
        facts["same winner in both orders"] = f"{plain:.0f} %" if plain == plain else "–"
    if rates["n_unjudged"]:
        facts["not judged"] = f"{rates['n_unjudged']:,}"
    yield Facts(facts)
    rows = [{"language": name, **row} for name, row in rates["per_language"].items()]
    if rows:
        macro = {key: rates[f"macro_{key}"] for key in ("win_rate", "ci_low", "ci_high")}
        rows.append({"language": "macro", **macro})
    rows.append({"language": "all", **rates})
    figure, axes = rows_figure(len(rows))
    axes.axvline(50, color=GREY, linestyle="--", linewidth=1.2)
    for i, row in enumerate(rows):
        total = row["language"] in ("all", "macro")
        clear = not row["ci_low"] <= 50 <= row["ci_high"]
        colour = "black" if total else BLUE
        axes.plot([row["ci_low"], row["ci_high"]], [i, i], color=colour, linewidth=2.4 if total else 1.8)
        axes.plot(row["win_rate"], i, marker="D" if total else "o", color=colour, markersize=7,
                  markerfacecolor=colour if clear else "white")  # fmt: skip
    axes.set(xlabel="win rate of the candidate, %", xlim=(-3, 103))
    name_rows(axes, [row["language"] for row in rows])
    table = pd.DataFrame([{"language": row["language"], **{c: row.get(c) for c in COLUMNS}} for row in rows])
    yield Chart(
        "Win rate by language",
        "The dot is the share of comparisons that the candidate wins (ties count half), the line its 95 % interval, "
        "clustered by prompt. Filled dots have an interval without 50 %. Adjusted p value: with Holm's correction for "
        "the number of languages; macro: mean of the languages; length controlled: at equal length."
        + (" Rates are means over both orders of the answers." if both else ""),
        f"Win rates with intervals for {len(rates['per_language'])} languages and overall.",
        figure, table.dropna(axis=1, how="all"),
    )  # fmt: skip


@section("Wins and losses", command="judge", files=JUDGED)
def judged_examples(part: ReportedRun) -> Iterator[Block]:
    """Per language, the clearest win and the clearest loss."""
    judged = read_judged(part)
    table = read_answer_pairs(judged, _mapping(part))
    column = "preference" if "preference" in judged.column_names else "prediction"
    values = np.array([np.nan if v is None else v for v in judged[column][:]], dtype=float)
    codes = np.array(table.languages or [""] * len(table))
    groups: dict[str, list[Example]] = {}
    for name in sorted(set(codes.tolist())):
        own = np.flatnonzero((codes == name) & ~np.isnan(values))
        if len(own):
            picked = dict.fromkeys([int(own[values[own].argmax()]), int(own[values[own].argmin()])])
            for i in picked:
                texts = {"Prompt": table.prompts[i], "Candidate": table.candidates[i], "Baseline": table.baselines[i]}
                groups.setdefault(name or "all", []).append(Example(
                    f"preference for the candidate {values[i]:.2f}",
                    "good" if values[i] > 0.5 else "bad" if values[i] < 0.5 else "",
                    [(head, plain_text(text), name) for head, text in texts.items()],
                ))  # fmt: skip
    if groups:
        yield Examples("Wins and losses", "Per language, the comparison that the candidate won most clearly and the "
                       "one that it lost most clearly.", groups)  # fmt: skip


def read_judged(part: ReportedRun) -> Dataset:
    """The judged rows of a run folder; DataError if there are none."""
    from hf_mlalign.core.errors import quiet
    from hf_mlalign.data.sources import load_source

    files = part.files("data/*.parquet", "judgements*.parquet")
    if not files:
        raise DataError("there are no judgements: data/*.parquet is missing.")
    with quiet():
        return load_source(files[0])


def _mapping(part: ReportedRun) -> dict[str, str] | None:
    """The column mapping of the run; `None` if the baseline was joined, because its columns then have new names."""
    parameters = part.record.parameters if part.record else {}
    joined = parameters.get("baseline")
    return None if joined else (parameters.get("column_mapping") or None)
