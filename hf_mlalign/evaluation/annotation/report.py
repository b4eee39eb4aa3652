"""Human judgement in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_mlalign.core.errors import printable

if TYPE_CHECKING:
    from hf_mlalign.evaluation.annotation.human import HumanJudge

_COUNTS = ("n_items", "n_judgements", "n_annotators", "candidate", "tie", "both_bad", "baseline", "not_judged")


def print_human(judge: HumanJudge) -> None:
    """Print two tables: counts and mean points per language, and Krippendorff's alpha with its interval."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 140)
    summary = judge.summary()
    table = Table(
        header_style="bold",
        box=None,
        pad_edge=False,
        title="Judgements, and mean points (1 to 5)",
        title_justify="left",
    )
    for name in summary.columns:
        table.add_column(name.replace("_", " ").removeprefix("n "), justify="left" if name == "language" else "right")
    for row in summary.to_dict("records"):
        table.add_row(*(escape(printable(_cell(name, value))) for name, value in row.items()))
    console.print(table)
    console.print()
    table = Table(header_style="bold", box=None, pad_edge=False, title_justify="left",
                  title="Krippendorff's alpha (ordinal), on items judged by two or more")  # fmt: skip
    for name in ("language", "measure", "alpha", "95 % interval", "items", "judgements", "note"):
        table.add_column(name, justify="left" if name in ("language", "measure", "note") else "right")
    for row in judge.agreement().to_dict("records"):
        interval = f"{row['ci_low']:.2f} to {row['ci_high']:.2f}" if row["ci_low"] == row["ci_low"] else "–"
        cells = (row["language"], row["measure"], _cell("", row["alpha"]), interval, f"{row['n_items']:,}",
                 f"{row['n_judgements']:,}", row["reason"])  # fmt: skip
        table.add_row(*(escape(printable(cell)) for cell in cells))
    console.print(table)
    console.print()


def _cell(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if value != value:
        return "–"
    return f"{value:,}" if name in _COUNTS else f"{value:.2f}"
