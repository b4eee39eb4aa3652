"""Sections of a curated set: pool against selection, quality, coverage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.mdaq.selector import SelectionResult
from hf_mlalign.report.drawing import (
    BLUE,
    GREY,
    ORANGE,
    box_rows,
    language_style,
    legend_above,
    name_rows,
    new_figure,
    rows_figure,
)
from hf_mlalign.report.registry import Block, Chart, Facts, ReportedRun, section
from hf_mlalign.report.sections.curation_data import SCORES, read_selection
from hf_mlalign.report.tables import number

if TYPE_CHECKING:
    import pandas as pd


@section("Pool and selection", files=[SCORES])
def pool_and_selection(part: ReportedRun) -> Iterator[Block]:
    """Rows per language in the pool, and selected rows by reason."""
    result = read_selection(part)
    table = result.per_language()
    total, rows = table.iloc[-1], table[table["language"] != "all"] if len(table) > 1 else table
    means = f"{number(total['quality_before'])} → {number(total['quality_after'])}"
    yield Facts({"pairs in the pool": f"{total['pool']:,}", "selected": f"{total['selected']:,}",
                 "languages": f"{len(rows):,}", "mean quality": means})  # fmt: skip
    figure, axes = rows_figure(len(rows))
    y = np.arange(len(rows))
    axes.barh(y, rows["pool"], height=0.72, color="none", edgecolor=GREY, linewidth=1, label="pool")
    axes.barh(y, rows["by_quality"], height=0.44, color=BLUE, label="selected for quality")
    axes.barh(y, rows["by_diversity"], height=0.44, left=rows["by_quality"], color=ORANGE, hatch="////",
              edgecolor="white", linewidth=0, label="for diversity")  # fmt: skip
    for i, (chosen, pool) in enumerate(zip(rows["selected"], rows["pool"], strict=True)):
        axes.annotate(f"{chosen:,}", (pool, i), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.set_xlabel("pairs (number: selected)")
    axes.margins(x=0.1)
    name_rows(axes, list(rows["language"]))
    legend_above(figure, axes)
    yield Chart(
        "Pool and selection by language",
        "The open bar is the pool, the filled bar the selection: plain for quality, hatched for diversity (the best "
        "row of a cluster that was not covered yet).",
        f"Bars for {len(rows)} languages: pairs in the pool and pairs selected for quality and for diversity.",
        figure, table,
    )  # fmt: skip


@section("Quality before and after", files=[SCORES])
def quality(part: ReportedRun) -> Iterator[Block]:
    """The distribution of the quality score in the pool and in the selection."""
    result = read_selection(part)
    names = list(result.budgets)
    known = ~np.isnan(result.scores)
    pool = [result.scores[known & (result.languages == name)] for name in names]
    chosen = [result.scores[known & (result.languages == name) & (result.reasons != "")] for name in names]
    if not any(map(len, chosen)):
        return
    figure = new_figure(1.6 + 0.42 * max(len(names), 2))
    axes = figure.subplots()
    box_rows(axes, pool, -0.18, 0.26, colour=GREY, label="pool")
    box_rows(axes, chosen, 0.18, 0.26, colour=BLUE, face=BLUE, label="selected")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    name_rows(axes, names)
    axes.set_xlabel("quality score")
    legend_above(figure, axes)
    yield Chart(
        "Quality score by language, before and after",
        "Boxes hold the middle half of the rows, the line in a box is the median, whiskers reach from the 5th to the "
        "95th percentile. The open box is the pool, the filled one the selection; further right is better. Compare "
        "within a language only, because scores of different languages are not on one scale.",
        "Box plots of the quality score of pool and selection for each language.",
        figure, score_quartiles(names, pool, chosen),
    )  # fmt: skip


def score_quartiles(names: list[str], pool: list[np.ndarray], chosen: list[np.ndarray]) -> pd.DataFrame:
    """Quartiles of the scores per language, in the pool and in the selection; NaN where there are none."""
    import pandas as pd

    rows = []
    for name, before, after in zip(names, pool, chosen, strict=True):
        row: dict = {"language": name}
        for when, values in (("pool", before), ("selected", after)):
            quartiles = np.percentile(values, [25, 50, 75]) if len(values) else [np.nan] * 3
            row |= {f"{when}_{q}": float(v) for q, v in zip(("q1", "median", "q3"), quartiles, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)


@section("Coverage of the clusters", files=[SCORES])
def coverage_section(part: ReportedRun) -> Iterator[Block]:
    """Clusters covered against rows selected, compared with selection by quality alone."""
    import pandas as pd

    result = read_selection(part)
    curves = {name: c for name in result.budgets if (c := _covered(result, name)) is not None}
    if not curves:
        return
    figure = new_figure(4.2)
    axes = figure.subplots()
    for i, (name, (share, _)) in enumerate(curves.items()):
        style = language_style(i)
        axes.plot(np.arange(len(share)), share, linewidth=1, alpha=0.55, color=style["color"])
        axes.plot(len(share) - 1, share[-1], markersize=6, linestyle="none", label=name, **style)
    most = max(len(share) for share, _ in curves.values())
    for k, label, line in ((0, "mean: selection", "-"), (1, "mean: best scores alone", "--")):
        padded = [np.pad(pair[k], (0, most - len(pair[k])), mode="edge") for pair in curves.values()]
        axes.plot(np.arange(most), np.mean(padded, axis=0), line, color="black", linewidth=2, label=label)
    axes.set(xlabel="rows selected in the language", ylabel="share of its clusters covered", ylim=(0, 1.02))
    axes.grid()
    legend_above(figure, axes, ncols=5)
    table = pd.DataFrame([
        {"language": name, "rows": len(share) - 1,
         "clusters": len(np.unique(result.clusters[(result.languages == name) & (result.clusters >= 0)])),
         "covered": float(share[-1]), "covered_by_best_scores": float(plain[-1])}
        for name, (share, plain) in curves.items()
    ])  # fmt: skip
    yield Chart(
        "Clusters covered as rows are added",
        "Each thin line is a language, with a marker where the selection ends. Rows are added by score, those selected "
        "for diversity last. The heavy line is the mean; the dashed line is what the same number of rows with the best "
        "scores would cover. The gap at the end is the gain from selecting for diversity.",
        "Curves of the share of clusters covered against the number of rows selected.",
        figure, table,
    )  # fmt: skip


def _covered(result: SelectionResult, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Share of a language's clusters covered by the first 0, 1, 2, … selected rows, and by the best scores alone."""
    rows = np.flatnonzero((result.languages == name) & (result.clusters >= 0))
    chosen = rows[result.reasons[rows] != ""]
    if not len(chosen):
        return None
    scores = np.nan_to_num(result.scores, nan=-np.inf)
    order = chosen[np.lexsort((chosen, -scores[chosen], result.reasons[chosen] != "quality"))]
    best = rows[np.lexsort((rows, -scores[rows]))][: len(chosen)]
    total = len(np.unique(result.clusters[rows]))
    return _steps(result.clusters[order]) / total, _steps(result.clusters[best]) / total


def _steps(clusters: np.ndarray) -> np.ndarray:
    """Number of distinct values among the first 0, 1, 2, … of them."""
    new = np.zeros(len(clusters), dtype=np.int64)
    new[np.unique(clusters, return_index=True)[1]] = 1
    return np.append(0, np.cumsum(new))
