"""Cards of the datasets M-DaQ writes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_mlalign.cards import front_matter

if TYPE_CHECKING:
    import pandas as pd


def scaling_card(configs: list[dict[str, Any]], counts: pd.DataFrame) -> str:
    """README.md of a set of nested subsets: its configurations and how many rows each has."""
    languages = [c for c in sorted(counts["language"].unique()) if c != "all"]
    metadata = {"language": languages, "tags": ["hf_mlalign", "m-daq"], "configs": configs}
    metadata = {key: value for key, value in metadata.items() if value}
    pivot = counts.pivot_table(index=["method", "size"], columns="language", values="rows", aggfunc="sum")
    heads = ["method", "size", *pivot.columns]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for index, row in zip(pivot.index, pivot.to_numpy()):
        lines.append("| " + " | ".join(map(str, (*index, *row))) + " |")
    table = "\n".join(lines)
    return (
        f"{front_matter(metadata)}\n# Nested subsets for a scale curve\n\n"
        "Configuration `<method>-<size>` is the subset of that size a language; each holds all smaller ones of its\n"
        "method. `<method>-<size>-<language>` is one language of it. Train one model on each, judge them, pass the\n"
        f"win rates to `hf_mlalign.mdaq.scaling.scale_curve`.\n\n{table}\n"
    )
