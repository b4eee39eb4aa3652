"""Sections of preference pairs: margins, what the filters dropped, and examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.cmalign.pairs import MEANINGS
from hf_mlalign.core.errors import DataError
from hf_mlalign.report.drawing import COLOURS, GREEN, HATCHES, box_rows, legend_above, name_rows, rows_figure
from hf_mlalign.report.registry import Block, Chart, Example, Examples, Facts, ReportedRun, read_parquet, section

if TYPE_CHECKING:
    import pyarrow as pa

COMMAND = "build-pairs"
TEXTS = ("prompt", "chosen", "rejected", "reference")


@section("Pairs and their margins", command=COMMAND)
def margins(part: ReportedRun) -> Iterator[Block]:
    """The distribution of the margin between chosen and rejected answer."""
    table = read_pairs(part, "language", "margin", "score_chosen", "score_rejected").to_pandas()
    names = sorted(table["language"].unique())
    yield Facts({"preference pairs": f"{len(table):,}", "languages": f"{len(names):,}",
                 "mean margin": f"{table['margin'].mean():.3f}"})  # fmt: skip
    values = [table["margin"][table["language"] == name].dropna().to_numpy() for name in names]
    figure, axes = rows_figure(len(names))
    box_rows(axes, values, 0, 0.55, colour=GREEN, face=GREEN, label="margin")
    axes.set_xlabel("margin (score of chosen − score of rejected)")
    axes.set_xlim(left=min(0.0, *axes.get_xlim()))
    name_rows(axes, names)
    groups = table.groupby("language")
    numbers = groups["margin"].describe(percentiles=[0.25, 0.5, 0.75])[["count", "mean", "25%", "50%", "75%"]]
    numbers.columns = ["pairs", "mean_margin", "margin_q1", "margin_median", "margin_q3"]
    numbers["pairs"] = numbers["pairs"].astype(int)
    numbers = numbers.join(groups[["score_chosen", "score_rejected"]].mean().add_prefix("mean_")).reset_index()
    yield Chart(
        "Margins by language",
        "The box holds the middle half of a language's pairs, the line in it is the median, whiskers reach from the "
        "5th to the 95th percentile. Pairs near 0 teach little, and chance may have decided them. In a language far to "
        "the left, answers differ little, or the reward cannot distinguish them.",
        f"Box plots of the margins of preference pairs in {len(names)} languages.", figure, numbers,
    )  # fmt: skip


@section("Dropped by the filters", command=COMMAND)
def dropped_by_filters(part: ReportedRun) -> Iterator[Block]:
    """Samples and pairs dropped by each filter, per language."""
    import pandas as pd

    rows = part.record.results.get("per_language") if part.record else None
    if not rows:
        return
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("language").reset_index()
    taken = [name for name in MEANINGS if name in table and table[name].sum()]
    shown = table[table["language"] != "all"] if len(table) > 1 else table
    if not taken:
        return
    figure, axes = rows_figure(len(shown))
    left = np.zeros(len(shown))
    for k, name in enumerate(taken):
        axes.barh(np.arange(len(shown)), shown[name], left=left, height=0.6, color=COLOURS[k % 7],
                  hatch=HATCHES[k % 7], edgecolor="white", linewidth=0.5, label=name.replace("_", " "))  # fmt: skip
        left += shown[name].to_numpy(dtype=float)
    axes.set_xlabel("dropped samples or pairs")
    name_rows(axes, list(shown["language"]))
    legend_above(figure, axes)
    meanings = "; ".join(f"{name.replace('_', ' ')}: {MEANINGS[name]}" for name in taken)
    yield Chart(
        "Dropped by language and filter",
        f"Each piece of a bar is what one filter dropped. {meanings}. If the bar of a language is much longer than the "
        "others, look at its samples.",
        f"Stacked bars of what {len(taken)} filters dropped in each language.", figure, table,
    )  # fmt: skip


@section("Chosen and rejected", command=COMMAND)
def pair_examples(part: ReportedRun) -> Iterator[Block]:
    """Per language, the pair with the largest margin and the pair with the median margin."""
    groups: dict[str, list[Example]] = {}
    for path in pair_files(part):
        table = read_parquet(part, path, ("language", "margin", *TEXTS))
        codes, values = np.array(table["language"].to_pylist()), np.nan_to_num(table["margin"].to_numpy())
        for name in sorted(set(codes.tolist()) - set(groups)):
            own = np.flatnonzero(codes == name)
            own = own[np.argsort(-values[own], kind="stable")]
            picked = dict.fromkeys([int(own[0]), int(own[len(own) // 2])])
            heads = {"prompt": ("Prompt", name), "reference": ("Reference", "en"), "chosen": ("Chosen", name),
                     "rejected": ("Rejected", name)}  # fmt: skip
            for i in picked:
                row = table.slice(i, 1).to_pylist()[0]
                texts = [(head, plain_text(row[key]), code) for key, (head, code) in heads.items() if row.get(key)]
                groups.setdefault(name, []).append(Example(f"margin {values[i]:.3f}", "", texts))
    groups = dict(sorted(groups.items()))
    if groups:
        caption = ("Per language, the pair with the largest margin and the pair with the median margin. The "
                   "reference is the English answer that they were compared with.")  # fmt: skip
        yield Examples("Chosen and rejected", caption, groups)


def plain_text(value: Any) -> str:
    """A text unchanged, or messages joined, with their roles if there are several."""
    if value is None or isinstance(value, str):
        return value or ""
    turns = [(str(turn.get("role", "")), str(turn.get("content") or "")) for turn in value]
    return turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role}: {text}" for role, text in turns)


def read_pairs(part: ReportedRun, *columns: str) -> pa.Table:
    """Those of these columns that the pairs have; DataError if no file can be read."""
    import pyarrow as pa

    tables = [read_parquet(part, path, columns) for path in pair_files(part)]
    table = pa.concat_tables(tables, promote_options="default")
    if not len(table):
        raise DataError("there are no pairs in data/.")
    return table


def pair_files(part: ReportedRun) -> list[Path]:
    """The Parquet files of a set of pairs; DataError if there are none."""
    files = part.files("data/*.parquet", "data/*/*.parquet")
    if not files:
        raise DataError("there are no pairs: data/*/*.parquet is missing.")
    return files
