"""Tables printed in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_mlalign.cli.options import is_quiet
from hf_mlalign.core.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from hf_mlalign.evaluation.annotation.human import HumanJudge
    from hf_mlalign.hub.run_record import RunRecord
    from hf_mlalign.mdaq.selector import SelectionResult


def print_selection(result: SelectionResult) -> None:
    """Print the per-language table of a selection and its notes."""
    from rich.table import Table

    table = Table(header_style="bold", box=None, pad_edge=False)
    heads = ("language", "pool", "no score", "selected", "quality before", "→ after", "clusters covered")
    for head in heads:
        table.add_column(head, justify="left" if head == "language" else "right")
    for row in result.per_language().to_dict("records"):
        last = row["language"] == "all" and len(result.budgets) > 1
        _add(
            table,
            row["language"],
            f"{row['pool']:,}",
            f"{row['unscored']:,}",
            f"{row['selected']:,}",
            f"{row['quality_before']:.3f}",
            f"{row['quality_after']:.3f}",
            f"{row['clusters_covered']:,} of {row['clusters']:,}",
            style="bold" if last else None,
        )
    _print(table, result.notes)


def print_record(record: RunRecord) -> None:
    """Print the per-language table of a run's record and its notes."""
    from rich.table import Table

    rows = record.results["per_language"]
    if isinstance(rows, list):
        rows = {row["language"]: {name: value for name, value in row.items() if name != "language"} for row in rows}
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("language")
    for name in next(iter(rows.values())):
        table.add_column(name.replace("_", " "), justify="right")
    for language, row in rows.items():
        cells = ("–" if v is None or v != v else f"{v:,.0f}" if float(v).is_integer() else f"{v:.3f}"
                 for v in row.values())  # fmt: skip
        _add(table, language, *cells, style="bold" if language == "all" else None)
    _print(table, record.notes)


def print_lens(found: Any) -> None:
    """Print the table of a lens run: probabilities at the last layer, distance from English and retrieval."""
    from rich.table import Table

    summary = found.per_language()
    heads = {"own_last": "P(own answer)", "english_last": "P(English)", "english_highest": "P(English), best layer",
             "distance_in_spreads": "distance", "to_english": "→ English", "from_english": "English →"}  # fmt: skip
    names = [name for name in heads if name in summary]
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("language")
    for name in names:
        table.add_column(heads[name], justify="right")
    for row in summary.to_dict("records"):
        after = [row.get(f"{name}_after") for name in names]
        _add(table, row["language"], *(f"{row[name]:.3f}" if new is None else f"{row[name]:.3f} → {new:.3f}"
                                       for name, new in zip(names, after)))  # fmt: skip
    ending = " Before → after." if "to_english_after" in summary else ""
    _print(table, found.notes, legend=(
        "Probabilities at the last layer; distance from English in units of the spread and retrieval top-1, to and "
        f"from English, as means over the blocks.{ending}"
    ))  # fmt: skip


def print_winrates(rates: Mapping[str, Any]) -> None:
    """Print the table of `hf_mlalign.evaluation.metrics.winrate.winrate`: a row per language, all, and the mean of
    languages."""
    from rich.table import Table

    table = Table(header_style="bold", box=None, pad_edge=False)
    for head in ("language", "n", "win rate", "95 % interval", "not judged", ""):
        table.add_column(head, justify="left" if head in ("language", "") else "right")
    for language, row in [*rates["per_language"].items(), ("all", rates)]:
        _add(
            table,
            language, f"{row['n']:,}", f"{row['win_rate']:.1f} %", f"{row['ci_low']:.1f} to {row['ci_high']:.1f}",
            f"{row['n_unjudged']:,}", "differs from 50 %" if row.get("differs_from_50") else "",
            style="bold" if language == "all" else None,
        )  # fmt: skip
    notes = []
    if rates["per_language"]:
        notes.append(f"mean of the languages: {rates['macro_win_rate']:.1f} % "
                     f"({rates['macro_ci_low']:.1f} to {rates['macro_ci_high']:.1f})")  # fmt: skip
    controlled = rates["length_controlled_win_rate"]
    if controlled == controlled:
        notes.append(f"at equal length: {controlled:.1f} %")
    _print(table, notes)


def print_human(people: HumanJudge) -> None:
    """Print two tables of people's judgements: counts and mean points per language, and agreement with its interval."""
    from rich.table import Table

    counts = ("n_items", "n_judgements", "n_annotators", "candidate", "tie", "both_bad", "baseline", "not_judged")
    look = {"header_style": "bold", "box": None, "pad_edge": False, "title_justify": "left"}

    def points(value: float) -> str:
        return f"{value:.2f}" if value == value else "–"

    summary = people.summary()
    judged = Table(title="Judgements, and mean points (1 to 5)", **look)
    for name in summary.columns:
        judged.add_column(name.replace("_", " ").removeprefix("n "), justify="left" if name == "language" else "right")
    for row in summary.to_dict("records"):
        _add(judged, *(value if name == "language" else f"{value:,}" if name in counts else points(value)
                       for name, value in row.items()))  # fmt: skip
    alphas = Table(title="Krippendorff's alpha (ordinal), on items judged by two or more", **look)
    for name in ("language", "measure", "alpha", "95 % interval", "items", "judgements", "note"):
        alphas.add_column(name, justify="left" if name in ("language", "measure", "note") else "right")
    for row in people.agreement().to_dict("records"):
        interval = f"{row['ci_low']:.2f} to {row['ci_high']:.2f}" if row["ci_low"] == row["ci_low"] else "–"
        _add(alphas, row["language"], row["measure"], points(row["alpha"]), interval, f"{row['n_items']:,}",
             f"{row['n_judgements']:,}", row["reason"])  # fmt: skip
    for table in (judged, alphas):
        _console(140).print(table, "")


def _add(table: Table, *cells: str, style: str | None = None) -> None:
    table.add_row(*map(printable, cells), style=style)


def _console(width: int = 120) -> Console:
    """A console; of a fixed width if it is not a terminal. Text is never read as markup."""
    from rich.console import Console

    width = None if Console().is_terminal else width
    return Console(width=width, markup=False, emoji=False, highlight=False, quiet=is_quiet())


def _print(table: Table, notes: list[str], most: int = 20, legend: str = "") -> None:
    console = _console()
    console.print()
    console.print(table)
    console.print()
    if legend:
        console.print(legend)
    for note in notes[:most]:
        console.print(f"  note: {printable(note)}")
    if len(notes) > most:
        console.print(f"  … and {len(notes) - most} more notes (in the saved record)")
