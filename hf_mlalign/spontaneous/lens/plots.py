"""Pictures of the lenses, before and after training: heat-maps, curves and scatter plots, each with its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.spontaneous.lens.result import MEASURES, Geometry

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hf_mlalign.spontaneous.lens.result import LensResult

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C00")
"""Okabe and Ito's colours, which the colour-blind can distinguish; their yellow darkened to show on white (*ours*)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SCALE, DIFFERENCE, MISSING = "viridis", "PuOr_r", "#D9D9D9"
TITLES = {
    "own": "P(answer in the prompt's language)",
    "english": "P(English answer)",
    "entropy": "Entropy of the next token, nats",
    "distance": "Distance of means from English",
    "distance_in_spreads": "Distance from English, in units of the spread",
    "to_english": "Retrieval top-1, language → English",
    "from_english": "Retrieval top-1, English → language",
    "to_english_centred": "Retrieval top-1, language → English, means removed",
    "from_english_centred": "Retrieval top-1, English → language, means removed",
}
SHARES = ("own", "english", "to_english", "from_english", "to_english_centred", "from_english_centred")


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure and the table of what it shows."""

    figure: Figure
    data: pd.DataFrame

    def save(self, path: str | Path) -> Path:
        """Write `<path>.png` (150 dots per inch) and `<path>.csv`; returns the path of the picture."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.data.to_csv(path.with_name(path.name + ".csv"), index=False)
        png = path.with_name(path.name + ".png")
        self.figure.savefig(png, dpi=150)
        return png


def heatmap(before: LensResult | Geometry, after: LensResult | Geometry | None = None, value: str = "own") -> Picture:
    """Layers × languages of one number: before, after and their difference; or one panel without `after`.

    Before and after share one colour scale, which begins at 0; the difference has one that is symmetric about 0. Grey:
    no value.

    Args:
        before, after: two results of one kind with the same languages and layers.
        value: of a `LensResult` "own", "english" or "entropy" (means over the prompts); of a `Geometry` one of
            `MEASURES`.
    Raises:
        DataError: an unknown value, or two results that do not match.
    """
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    known = MEASURES if isinstance(before, Geometry) else ("own", "english", "entropy")
    if value not in known:
        raise DataError(f"value: {value!r} is not known. Use {listed(known)}.")
    data = _joined(before, after, value)
    languages = list(dict.fromkeys(data["language"]))
    panels = []
    for name in ("before", "after", "difference") if after is not None else ("before",):
        table = data.pivot(index="language", columns="layer", values=f"{value}_{name}").loc[languages]
        panels.append((name if after is not None else "", table.to_numpy(dtype=float)))
    layers = panels[0][1].shape[1]
    size = (1.4 + len(panels) * min(max(0.22 * layers, 2.4), 4.4), 1.6 + max(0.24 * len(languages), 1.2))
    figure = _figure(size)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    top = _largest([table for title, table in panels if title != "difference"])
    for ax, (title, table) in zip(axes, panels, strict=True):
        widest = _largest(table)
        limits = {"vmin": -widest, "vmax": widest} if title == "difference" else {"vmin": 0, "vmax": top}
        colours = colormaps[DIFFERENCE if title == "difference" else SCALE].with_extremes(bad=MISSING)
        image = ax.imshow(np.ma.masked_invalid(table), cmap=colours, aspect="auto", interpolation="nearest", **limits)
        ax.set_yticks(range(len(languages)), languages, fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        ax.tick_params(length=2, labelsize=8)
        ax.set_xlabel("layer", fontsize=9)
        ax.set_title(title, fontsize=10)
        if title == "difference" or ax is axes[min(1, len(panels) - 1)]:
            figure.colorbar(image, ax=ax, fraction=0.1, pad=0.03, aspect=40).ax.tick_params(length=2, labelsize=8)
    for ax in axes[1:]:
        ax.tick_params(left=False)
    axes[0].set_ylabel("language")
    figure.suptitle(TITLES[value], fontsize=11)
    return Picture(figure, data)


def curves(before: LensResult, after: LensResult | None = None) -> Picture:
    """A small panel per language: probability of the answer in the prompt's language and in English, by layer."""
    data = _joined(before, after, "own").merge(_joined(before, after, "english"), on=["language", "layer"])
    languages = list(dict.fromkeys(data["language"]))
    across = min(5, len(languages))
    down = -(-len(languages) // across)
    figure = _figure((1.0 + 2.1 * across, 1.3 + 1.6 * down))
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    styles = [("own", COLOURS[0], "own language"), ("english", COLOURS[5], "English")]
    for ax, language in zip(grid.flat, languages, strict=False):
        part = data[data["language"] == language]
        for value, colour, label in styles:
            for when, line in (("before", "--"), ("after", "-")) if after is not None else (("before", "-"),):
                name = f"{label}, {when}" if after is not None else label
                ax.plot(part["layer"], part[f"{value}_{when}"], line, color=colour, linewidth=1.4, label=name)
        ax.set_title(language, fontsize=9, pad=3)
        ax.grid(color="#EEEEEE", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(length=2, labelsize=8)
    for ax in list(grid.flat)[len(languages) :]:
        ax.set_visible(False)
    grid[0, 0].set_ylim(0, 1.05 * _largest(data.filter(regex="_(before|after)$")))
    grid[0, 0].xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("layer (0: embedding output)", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return Picture(figure, data)


def scatter(before: Geometry, after: Geometry | None = None, layers: Sequence[int] | None = None) -> Picture:
    """Texts in the plane of the first two principal components: one column per layer, one row before and after.

    Small points are texts, large outlined ones the means of languages; English is black. The share of the variance
    along each axis is on the axis.

    Args:
        before, after: of `pca`; give `axes=before` to the second for one coordinate system. Panels of one layer then
            share their limits.
        layers: which; default: four, from the first to the last block, evenly spread (*ours*).
    Raises:
        DataError: an unknown layer, one-dimensional points, or results that do not match.
    """
    import pandas as pd

    shown = [("before", before)] + ([("after", after)] if after is not None else [])
    _check_same(before, after)
    last = before.n_layers - 1
    chosen = list(layers) if layers is not None else sorted({round(x) for x in np.linspace(min(1, last), last, 4)})
    if not chosen or any(not 0 <= layer <= last for layer in chosen) or before.points.shape[2] < 2:
        raise DataError(f"layers: choose from 0 to {last}, of points with at least two components.")
    figure = _figure((1.7 + 2.9 * len(chosen), 0.7 + 2.7 * len(shown)))
    grid = figure.subplots(len(shown), len(chosen), squeeze=False)
    for down, (when, result) in enumerate(shown):
        for across, layer in enumerate(chosen):
            _cloud(grid[down, across], result, layer)
            when_shown = f"{when}, " if after is not None else ""
            grid[down, across].set_title(f"{when_shown}layer {layer}", fontsize=9)
    if after is not None and np.allclose(before.axes, after.axes):
        for across in range(len(chosen)):
            for get, put in (("get_xlim", "set_xlim"), ("get_ylim", "set_ylim")):
                limits = np.array([getattr(ax, get)() for ax in grid[:, across]])
                for ax in grid[:, across]:
                    getattr(ax, put)(limits[:, 0].min(), limits[:, 1].max())
    figure.suptitle("Texts by language in the plane of the first two principal components", fontsize=11)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend([handles[-1], *handles[:-1]], [labels[-1], *labels[:-1]], loc="outside right center",
                  ncols=1 + len(labels) // 13, frameon=False, fontsize=9,
                  title="language", title_fontsize=9)  # fmt: skip
    tables = [result.to_pandas().assign(when=when) for when, result in shown]
    return Picture(figure, pd.concat([t[t["layer"].isin(chosen)] for t in tables], ignore_index=True))


def _figure(size: tuple[float, float]) -> Figure:
    """A figure of its own, without pyplot and its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _joined(before, after, value: str) -> pd.DataFrame:
    """One row per language and layer: <value>_before, and with `after` <value>_after and <value>_difference."""
    _check_same(before, after)
    data = before.per_language()[["language", "layer", value]].rename(columns={value: f"{value}_before"})
    if after is not None:
        data[f"{value}_after"] = after.per_language()[value].to_numpy()
        data[f"{value}_difference"] = data[f"{value}_after"] - data[f"{value}_before"]
    return data


def _check_same(before, after) -> None:
    if after is None:
        return
    if type(before) is not type(after) or before.n_layers != after.n_layers or before.languages != after.languages:
        raise DataError("after: it was not made from the same prompts and as many layers as before.")


def _largest(values) -> float:
    """The largest size of the numbers, or 1 where there are none but 0 and NaN."""
    return float(np.nan_to_num(np.abs(np.asarray(values, dtype=float))).max(initial=0)) or 1.0


def _cloud(ax: Axes, result: Geometry, layer: int) -> None:
    points, codes = result.points[layer], np.array(result.languages)
    size = float(np.clip(2000 / len(codes), 3, 22))
    for english_last in (False, True):
        for i, name in enumerate(result.names):
            if (name == result.english) == english_last:
                style = _style(i)
                own = points[codes == name]
                ax.scatter(*own[:, :2].T, s=size, alpha=0.3, linewidths=0, zorder=2, **style)
                ax.scatter(*own[:, :2].mean(axis=0), s=160 if english_last else 60, edgecolors="white", linewidths=0.8,
                           zorder=4 + english_last, label=name, **style)  # fmt: skip
    ax.set_xlabel(f"PC 1 ({result.explained[layer, 0]:.0%})", fontsize=8, labelpad=2)
    ax.set_ylabel(f"PC 2 ({result.explained[layer, 1]:.0%})", fontsize=8, labelpad=2)
    ax.tick_params(length=2, labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def _style(i: int) -> dict[str, str]:
    """English, the first language, is a black star; each other one has a pair of colour and marker of its own."""
    if i == 0:
        return {"color": "black", "marker": "*"}
    k = i - 1
    return {"color": COLOURS[k % 7], "marker": MARKERS[(k + k // 7) % 7]}
