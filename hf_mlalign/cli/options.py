"""What the commands share: reading option values, printing."""

from __future__ import annotations

import typer

from hf_mlalign.core.errors import DataError, printable


def column_pairs(text: str | None) -> dict[str, str] | None:
    """`--column-mapping a=b,c=d` as a mapping; `DataError` for another form."""
    if not text:
        return None
    parts = [part.split("=") for part in text.split(",")]
    if any(len(part) != 2 or not all(part) for part in parts):
        raise DataError(f"--column-mapping: {text!r} is not of the form column=role,column=role.")
    return {column.strip(): role.strip() for column, role in parts}


def split_codes(text: str | None) -> list[str] | None:
    """`--languages de,ja` as a list."""
    return [code.strip() for code in text.split(",")] if text else None


def say(text: str) -> None:
    """Print a line, as `printable`."""
    typer.echo(printable(text))
