"""Sections of a curated set: the map of its instructions, and examples of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hf_mlalign.mdaq.selector import SelectionResult
from hf_mlalign.models.encoder import load_encoder
from hf_mlalign.report.drawing import GREY, language_style, legend_above, new_figure
from hf_mlalign.report.registry import Block, Chart, Example, Examples, ReportedRun, section
from hf_mlalign.report.sections.curation_data import SCORES, Texts, read_selection, read_texts
from hf_mlalign.report.tables import number

MOST = 4000
"""Most points that are drawn (*ours*)."""
MARKS = "Large outlined points were selected, small pale ones were not. "

SHOWN = 2
"""Examples per kind and language (*ours*)."""


@section("Map of the instructions", files=[SCORES])
def cluster_map(part: ReportedRun) -> Iterator[Block]:
    """The instructions in the plane of their first two principal components, by language, selected rows marked."""
    import pandas as pd

    result = read_selection(part)
    texts = read_texts(part, result)
    rows, instructions = sample_instructions(texts, part.seed)
    if len(rows) < 3:
        return
    encoder, which = _encoder(part)
    points, explained = principal_plane(encoder.encode(instructions))
    chosen = result.reasons[rows] != ""
    shown = [name for name in result.budgets if (result.languages[rows] == name).any()]
    table = pd.DataFrame([
        {"language": name, "points": int((own := result.languages[rows] == name).sum()),
         "selected": int((own & chosen).sum()), "clusters": len(np.unique(result.clusters[rows[own]])),
         "mean_pc1": float(points[own, 0].mean()), "mean_pc2": float(points[own, 1].mean())}
        for name in shown
    ])  # fmt: skip
    of_all = f"{len(rows):,} of {len(result.languages):,} rows" if texts.whole else f"{len(rows):,} selected rows"
    sampled = f" (a random sample, seed {part.seed})" if len(texts.rows) > MOST else ""
    caption = (
        f"Each point is an instruction, embedded with {which} and projected on the first two principal components, "
        f"which hold {explained[0]:.0%} and {explained[1]:.0%} of the variance. Points close together ask for similar "
        f"things, but two directions show only a part. {MARKS * texts.whole}{of_all}{sampled}. {texts.note}"
    )
    alt = f"Scatter plot of the instructions of {len(shown)} languages in two dimensions; the selected are outlined."
    figure = _together(points, result.languages[rows], chosen, shown, explained)
    yield Chart("All languages", caption.strip(), alt, figure, table)
    if 1 < len(shown) <= 30:
        small = _apart(points, result.languages[rows], chosen, shown)
        yield Chart(
            "Language by language",
            "The same map with one panel per language. Grey dots are other languages, open circles are rows that were "
            "not selected, filled points are selected rows. A diverse selection reaches everywhere its pool reaches.",
            alt, small, result_counts(result, rows, chosen, shown), wide=True,
        )  # fmt: skip


def sample_instructions(texts: Texts, seed: int) -> tuple[np.ndarray, list[str]]:
    """Numbers, ascending, and instructions of at most `MOST` rows; those without an instruction are left out."""
    rows = texts.rows
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))
    instructions = texts.read(rows)[0]
    known = [i for i, text in enumerate(instructions) if text.strip()]
    return rows[known], [instructions[i] for i in known]


def principal_plane(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) coordinates on the first two principal components and the share of the variance along each.

    The sign of each axis is such that its largest weight is positive.
    """
    centred = np.asarray(vectors, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes, values = axes[:, ::-1][:, :2], np.maximum(values[::-1], 0)
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return centred @ axes, values[:2] / (values.sum() or 1.0)


def result_counts(result: SelectionResult, rows: np.ndarray, chosen: np.ndarray, shown: list[str]):
    """Per language, how many clusters have a point on the map, and how many a selected point."""
    import pandas as pd

    records = []
    for name in shown:
        own = result.languages[rows] == name
        all_of, kept = (np.unique(result.clusters[rows[own & mask]]) for mask in (np.True_, chosen))
        records.append({"language": name, "clusters_on_the_map": len(all_of), "with_a_selected_point": len(kept)})
    return pd.DataFrame(records)


def _encoder(part: ReportedRun):
    """The encoder of the curation if it is on this machine, else the bundled one; and its name for the caption."""
    name = part.record.parameters.get("model") if part.record else None
    if name and Path(str(name)).is_dir():
        return load_encoder(str(name)), f"the curation's encoder ({Path(str(name)).name})"
    other = f" (the clusters were made with {name}, which is not on this machine)" if name else ""
    return load_encoder(), f"the bundled encoder{other}"


def _together(points, languages, chosen, shown: list[str], explained):
    figure = new_figure(4.9)
    axes = figure.subplots()
    for i, name in enumerate(shown):
        own, style = languages == name, language_style(i)
        axes.scatter(*points[own & ~chosen].T, s=7, alpha=0.35, linewidths=0, rasterized=True, **style)
    size = float(np.clip(12_000 / max(chosen.sum(), 1), 8, 26))
    for i, name in enumerate(shown):
        own, style = languages == name, language_style(i)
        axes.scatter(*points[own & chosen].T, s=size, edgecolors="black", linewidths=size / 45, label=name,
                     rasterized=int(chosen.sum()) > 800, **style)  # fmt: skip
    axes.set(xlabel=f"component 1 ({explained[0]:.0%})", ylabel=f"component 2 ({explained[1]:.0%})")
    axes.set_xticks([])
    axes.set_yticks([])
    legend_above(figure, axes, ncols=6)
    return figure


def _apart(points, languages, chosen, shown: list[str]):
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(0.3 + 1.9 * down, 0.4 + 2.2 * across)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for i, (axes, name) in enumerate(zip(grid.flat, shown)):
        own, style = languages == name, language_style(i)
        axes.scatter(*points[~own].T, s=2, color=GREY, alpha=0.35, linewidths=0, rasterized=True)
        axes.scatter(*points[own & ~chosen].T, s=12, facecolors="none", edgecolors=style["color"], linewidths=0.7,
                     rasterized=True)  # fmt: skip
        axes.scatter(*points[own & chosen].T, s=14, color=style["color"], linewidths=0, rasterized=True)
        axes.set_title(name, pad=3)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(GREY)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    return figure

@section("Selected and left out", files=[SCORES])
def curation_examples(part: ReportedRun) -> Iterator[Block]:
    """A few rows per language: the best of each reason, and rows that were left out."""
    result = read_selection(part)
    texts = read_texts(part, result)
    groups = {}
    for name in result.budgets:
        known, picked = (result.languages == name) & ~np.isnan(result.scores), []
        for reason in ("quality", "diversity", "") if texts.whole else ("quality", "diversity"):
            rows = np.flatnonzero(known & (result.reasons == reason))
            rows = rows[np.argsort(-result.scores[rows], kind="stable")]
            picked.append(rows[:SHOWN] if reason else rows[-SHOWN:])
        rows, found = np.concatenate(picked), []
        for row, instruction, response in zip(rows, *texts.read(rows), strict=True) if len(rows) else ():
            label = f"selected for {result.reasons[row]}" if result.reasons[row] else "left out"
            cluster = f" · cluster {result.clusters[row]}" if result.clusters[row] >= 0 else ""
            code = "" if name == "all" else name
            found.append(Example(
                f"{label} · score {number(result.scores[row])}{cluster}", "good" if result.reasons[row] else "bad",
                [("Instruction", instruction, code), ("Response", response, code)],
            ))  # fmt: skip
        if found:
            groups[name] = found
    if groups:
        ending = ", and the lowest scores that were left out." if texts.whole else f". {texts.note}"
        caption = f"Per language, the highest scores selected for quality and for diversity{ending}"
        yield Examples("Selected and left out" if texts.whole else "Selected rows", caption, groups)
