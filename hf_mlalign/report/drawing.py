"""Figures that are readable for the colour-blind, in light and dark mode, and on a phone."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hf_mlalign.spontaneous.lens.plots import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, SKY, RED, OLIVE = COLOURS
GREY, GRID = "#8a9199", "#dddddd"
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")
WIDTH = 4.6
"""Inches; 331 points, about the width of a phone, so that letters keep their size there (*ours*)."""
STYLE = {
    "font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 0.7, "hatch.linewidth": 0.8, "axes.titlesize": 9.5, "xtick.major.size": 3,
    "ytick.major.size": 3, "svg.fonttype": "none", "legend.frameon": False, "legend.fontsize": 8.5,
    "text.parse_math": False,
}  # fmt: skip
VARIABLES = {
    "#000000": "currentColor", "#ffffff": "var(--paper)", GRID: "var(--grid)", "#eeeeee": "var(--grid)",
    **{colour.lower(): f"var(--c{i})" for i, colour in enumerate(COLOURS)},
}  # fmt: skip
"""Colour in a figure → CSS variable or keyword, which follows light and dark mode."""


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """A new figure (sizes in inches), without the global state of pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def rows_figure(n: int) -> tuple[Figure, Axes]:
    """A figure with n rows, one per language, the first on top."""
    figure = new_figure(1.1 + 0.27 * max(n, 2))
    axes = figure.subplots()
    axes.set_ylim(n - 0.4, -0.6)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    return figure, axes


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label the rows of `rows_figure`."""
    axes.set_yticks(range(len(names)), names)


def legend_above(figure: Figure, axes: Axes, ncols: int = 3) -> None:
    """Add a legend above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=ncols, columnspacing=1.2, handlelength=1.8)


def language_style(i: int) -> dict[str, str]:
    """Colour and marker of the i-th language; 49 different pairs."""
    return {"color": COLOURS[i % 7], "marker": MARKERS[(i + i // 7) % 7]}


def box_rows(
    axes: Axes, values: Sequence, shift: float, height: float, *, colour: str, label: str, face: str = "none"
) -> None:
    """One box per row: quartiles and median, whiskers from the 5th to the 95th percentile; none for empty values."""
    import numpy as np

    for i, own in enumerate(values):
        if not len(own):
            continue
        y = i + shift
        low, first, median, third, high = np.percentile(own, [5, 25, 50, 75, 95])
        axes.plot([low, first, np.nan, third, high], [y] * 5, color=colour, linewidth=1.1)
        axes.plot([low, high], [y, y], color=colour, linestyle="none", marker="|", markersize=16 * height)
        axes.barh(y, third - first, left=first, height=height, facecolor=face, edgecolor=colour, linewidth=1.1)
        axes.plot([median] * 2, [y - height / 2, y + height / 2], color="black", linewidth=1.6)
    axes.scatter([], [], s=70, marker="s", facecolors=face, edgecolors=colour, label=label)


def to_svg(figure: Figure, key: str) -> str:
    """The figure as SVG for the page: colours as CSS variables, no prolog, ids that begin with `key`."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}), _no_glyph_warnings():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = text.replace("url(#", f"url(#{key}-").replace('href="#', f'href="#{key}-')
    for colour, variable in VARIABLES.items():
        text = text.replace(f": {colour}", f": {variable}")
    width = figure.get_figwidth() * 72
    head = re.match(r"<svg[^>]*>", text).group()
    box = re.search(r'viewBox="[^"]*"', head).group()
    names = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
    new = f'<svg class="chart" {box} style="--w: {width:.0f}px" aria-hidden="true" {names}>'
    return new + text[len(head) :].strip()


def save_png(figure: Figure, path: Path) -> None:
    """Save the figure as PNG, black on white, 150 dots per inch."""
    import matplotlib

    with matplotlib.rc_context(STYLE), _no_glyph_warnings():
        figure.savefig(path, dpi=150, facecolor="white")


@contextmanager
def _no_glyph_warnings() -> Iterator[None]:
    """No warnings about letters that matplotlib's font lacks; the browser shows them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")
        yield
