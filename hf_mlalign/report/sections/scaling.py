"""Section of scale curves: win rate against the size of the training set."""

from __future__ import annotations

from collections.abc import Iterator

from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq.scaling import scale_curve
from hf_mlalign.report.drawing import GREY, language_style, new_figure
from hf_mlalign.report.registry import Block, Chart, ReportedRun, section

CURVE = "scale_curve.csv"
ACROSS = 4


@section("Scale curves", files=[CURVE])
def scale_curves(part: ReportedRun) -> Iterator[Block]:
    """One panel per language and one for the mean; one line per method."""
    import pandas as pd

    try:
        stored = pd.read_csv(part.folder / CURVE, keep_default_na=False, na_values=[""], dtype={"language": str})
    except (OSError, ValueError) as error:
        raise DataError(f"{CURVE} cannot be read: {error}") from error
    table = scale_curve(stored).table
    names = ["macro", *sorted(set(table["language"]) - {"macro"})]
    methods = list(dict.fromkeys(table["method"]))
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    figure = new_figure(0.9 + 1.9 * down, 0.5 + 2.3 * across)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names):
        for k, method in enumerate(methods):
            own = table[(table["language"] == name) & (table["method"] == method)].sort_values("size")
            errors = own["standard_error"] if "standard_error" in own and own["standard_error"].notna().any() else None
            axes.errorbar(own["size"], own["win_rate"], yerr=errors, linewidth=1.5, markersize=4.5, capsize=2,
                          label=method, **language_style(k))  # fmt: skip
        axes.axhline(50, color=GREY, linestyle="--", linewidth=1)
        axes.set_title("mean of the languages" if name == "macro" else name, loc="left", pad=3)
        axes.set_xscale("log")
        sizes = sorted(set(table["size"]))
        axes.set_xticks(sizes, [str(size) if size < 1000 or size % 1000 else f"{size // 1000}K" for size in sizes])
        axes.minorticks_off()
        axes.grid()
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("training pairs per language", fontsize=10)
    figure.supylabel("win rate, %", fontsize=10)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=5)
    yield Chart(
        "Win rate against training-set size",
        "One panel per language, one line per method; whiskers are standard errors, the dashed line is 50 %. A line "
        "that is high on the left and flat shows that few selected rows are enough.",
        f"Curves of {len(methods)} methods over {len(sizes)} sizes in {len(names)} panels.", figure, table,
        wide=across > 2,
    )  # fmt: skip
