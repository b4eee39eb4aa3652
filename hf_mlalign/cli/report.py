"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import say


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or a folder with several of them.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write (default: RUN/report or RUN-report).")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The pool a curation was made from, if it is not found beside the run.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample on the map of a large pool.")] = 0,
) -> None:
    """Write one page with the pictures of a run: it stands alone, offline and when mailed; figures as PNGs, too."""
    from hf_mlalign.report import write_report

    page = write_report(run, output, source=source, seed=seed)
    say(f"Wrote {page} (figures: {page.parent / 'figures'}).")
