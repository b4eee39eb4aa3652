"""Format tables for the page: readable headings, few digits, totals at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_mlalign.data.languages import language_name, normalise

if TYPE_CHECKING:
    import pandas as pd

MOST = 400
"""Most rows of a table that are shown (*ours*)."""
TOTALS = ("all", "macro", "seen", "unseen")


@dataclass(frozen=True)
class Cell:
    """The text shown, the key to sort by, whether it is a number, and a name to show next to it."""

    text: str
    sort: str
    number: bool = False
    name: str = ""


@dataclass(frozen=True)
class Shown:
    """A table ready for the page."""

    heads: list[tuple[str, bool]]
    rows: list[list[Cell]]
    totals: list[list[Cell]]
    left_out: int = 0


def shown_table(table: pd.DataFrame) -> Shown:
    """The table with its totals split off, cut if it is long."""
    names = list(table.columns)
    records = table.to_dict("records")
    numbers = {name: all(_is_number(row[name]) for row in records) for name in names}
    totals = [row for row in records if row.get("language") in TOTALS] if len(records) > 1 else []
    rows = [row for row in records if row not in totals] if totals else records
    heads = [(name.replace("_", " "), numbers[name]) for name in names]
    made = [[table_cell(name, row[name]) for name in names] for row in rows[:MOST]]
    return Shown(heads, made, [[table_cell(n, row[n]) for n in names] for row in totals], max(len(rows) - MOST, 0))


def table_cell(column: str, value: Any) -> Cell:
    """One value: thousands separators, few decimals, a dash for missing, the name of a language next to its code."""
    if _is_number(value):
        missing = value is None or value != value or math.isinf(value)
        return Cell("–" if missing else number(value), "" if missing else repr(float(value)), True)
    text = str(value)
    known = column == "language" and text not in TOTALS and normalise(text)
    return Cell(text, text, False, language_name(text) if known else "")


def number(value: float) -> str:
    """A number with few digits and a true minus sign."""
    value = float(value)
    size = abs(value)
    if value.is_integer() and size < 1e15:
        text = f"{value:,.0f}"
    elif size >= 0.0005:
        text = f"{value:,.{1 if size >= 100 else 2 if size >= 10 else 3}f}"
    else:
        text = f"{value:.2g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _is_number(value: Any) -> bool:
    if value is None:
        return True
    return not isinstance(value, (bool, str)) and hasattr(value, "__float__")


def settings(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of parameters; nested ones as JSON."""
    shown = []
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        text = "default" if value is None else text
        shown.append((name, text if len(text) <= 600 else f"{text[:600]}…"))
    return shown
