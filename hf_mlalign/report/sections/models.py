"""Sections of lenses and of classification."""

from __future__ import annotations

from collections.abc import Iterator

from hf_mlalign.report.drawing import BLUE, ORANGE, legend_above, name_rows, rows_figure
from hf_mlalign.report.registry import Block, Chart, Facts, ReportedRun, section
from hf_mlalign.spontaneous.classification.result import ClassificationResult
from hf_mlalign.spontaneous.lens import plots as lens_plots
from hf_mlalign.spontaneous.lens.result import Geometry, LensResult

GROUPS = ("seen", "unseen", "all")
LENS_CAPTIONS = {
    "own": "Probability of the answer in the language of the prompt, decoded after each layer (0: embeddings). In a "
    "model that thinks in English, it rises only in the last layers.",
    "english": "Probability of the English answer to a prompt in another language, after each layer. A band in the "
    "middle that fades towards the end shows a detour through English.",
}
GEOMETRY_CAPTIONS = {
    "distance_in_spreads": "Distance of a language's mean hidden state from the English mean, in units of the spread "
    "within the two languages. Small values mean that they share a space.",
    "to_english": "Share of prompts whose nearest English hidden state is that of the same prompt; 1 is perfect.",
}


def _both(part: ReportedRun, kind: type, name: str) -> tuple | None:
    """Results before and after (`None` without an adapter); `None` if there are none."""
    before, after = (part.files(f"{name}_{when}.npz") for when in ("before", "after"))
    if not before:
        return None
    return kind.load(before[0]), kind.load(after[0]) if after else None


@section("Logit lens", files=["lens_before.npz"])
def lens_section(part: ReportedRun) -> Iterator[Block]:
    """Heat-maps and curves of the probabilities of answers, layer by layer."""
    found = _both(part, LensResult, "lens")
    scale = " Before and after share one colour scale; the difference has its own (purple: lower, orange: higher)."
    scale *= found[1] is not None
    for value, caption in LENS_CAPTIONS.items():
        picture = lens_plots.heatmap(*found, value)
        alt = f"Heat-map of layers and languages: {lens_plots.TITLES[value]}."
        yield Chart(lens_plots.TITLES[value], caption + scale, alt, picture.figure, picture.data, wide=True)
    picture = lens_plots.curves(*found)
    yield Chart("By language", "The same as curves: the answer in the language of the prompt, and the English answer.",
                "Small panels with the two probabilities by layer for each language.", picture.figure, picture.data,
                wide=True)  # fmt: skip


@section("Geometry of the hidden states", files=["geometry_before.npz"])
def geometry_section(part: ReportedRun) -> Iterator[Block]:
    """The distance between languages, layer by layer."""
    import numpy as np

    before, after = _both(part, Geometry, "geometry")
    for value, caption in GEOMETRY_CAPTIONS.items():
        if not np.isfinite(getattr(before, value)).any():
            continue
        picture = lens_plots.heatmap(before, after, value)
        alt = f"Heat-map of layers and languages: {lens_plots.TITLES[value]}."
        yield Chart(lens_plots.TITLES[value], caption, alt, picture.figure, picture.data, wide=True)
    if before.points.shape[2] >= 2:
        picture = lens_plots.scatter(before, after)
        means = picture.data.groupby(["when", "layer", "language"], sort=False)[["pc1", "pc2"]].mean().reset_index()
        yield Chart("Texts in the plane", "Small points are texts, large points the means of languages, the star is "
                    "English. The axes are the first two principal components with their share of the variance. The "
                    "table has the means.",
                    "Scatter plots of texts by language at four layers.", picture.figure, means, wide=True)  # fmt: skip


@section("Accuracy by language", command="classify", files=[])
def classification(part: ReportedRun) -> Iterator[Block]:
    """Accuracies with intervals, and the gain over a baseline."""
    import pandas as pd

    result = ClassificationResult.load(part.folder)
    table = result.per_language().set_index("language")
    if stored := part.record and part.record.results.get("per_language"):  # with gains, if it was compared
        kept = pd.DataFrame.from_dict(stored, orient="index")
        more = [c for c in kept if c not in table and c not in GROUPS]
        table = table.join(kept[more].apply(pd.to_numeric, errors="coerce")) if more else table
    names = [name for name in table.index if name not in GROUPS] + [name for name in GROUPS if name in table.index]
    table = table.loc[names]
    chance = 1 / len(result.classes)
    facts = {"task": str(result.settings["task"]["name"]), "mean accuracy": f"{table.loc['all', 'accuracy']:.1%}",
             "chance": f"{chance:.1%}", "rows": f"{len(result.rows):,}"}  # fmt: skip
    yield Facts(facts)
    figure, axes = rows_figure(len(names))
    axes.axvline(chance, color="black", linestyle=":", linewidth=1.2, label="chance")
    for i, (name, row) in enumerate(table.iterrows()):
        seen = name in result.seen or name == "seen"
        style = {"color": ORANGE, "marker": "s"} if seen else {"color": BLUE, "marker": "o"}
        if name in GROUPS:
            style = {"color": "black", "marker": "D"}
        axes.plot([row["ci_low"], row["ci_high"]], [i, i], color=style["color"], linewidth=1.8)
        axes.plot(row["accuracy"], i, markersize=6, linestyle="none", **style)
    axes.plot([], [], "o-", color=BLUE, label="language")
    if result.seen:
        axes.plot([], [], "s-", color=ORANGE, label="trained on")
    axes.set(xlabel="accuracy", xlim=(-0.03, 1.03))
    name_rows(axes, names)
    legend_above(figure, axes)
    yield Chart(
        "Accuracy by language",
        "The marker is the share of questions answered correctly, the line its 95 % interval (Wilson's; for means of "
        "languages, from resampled questions). The dotted line is chance.",
        f"Accuracies with intervals for {len(names)} languages and groups.", figure,
        table.rename_axis("language").reset_index().dropna(axis=1, how="all"),
    )  # fmt: skip

