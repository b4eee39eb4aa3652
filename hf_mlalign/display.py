"""Tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_mlalign.mdaq.selector import SelectionResult


def print_selection(result: SelectionResult) -> None:
    """Print the per-language table of a selection and everything that did not go as asked."""
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold", box=None, pad_edge=False)
    heads = ("language", "pool", "no score", "selected", "quality before", "→ after", "clusters covered")
    for head in heads:
        table.add_column(head, justify="left" if head == "language" else "right")
    for row in result.per_language().to_dict("records"):
        last = row["language"] == "all" and len(result.budgets) > 1
        table.add_row(
            row["language"],
            f"{row['pool']:,}",
            f"{row['unscored']:,}",
            f"{row['selected']:,}",
            f"{row['quality_before']:.3f}",
            f"{row['quality_after']:.3f}",
            f"{row['clusters_covered']:,} of {row['clusters']:,}",
            style="bold" if last else None,
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print()
    console.print(table)
    console.print()
    for note in result.notes[:20]:
        console.print(f"  note: {note}", highlight=False)
    if len(result.notes) > 20:
        console.print(f"  … and {len(result.notes) - 20} more notes (in curation.json)", highlight=False)
