"""The commands that share results: `report`, `push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import command, say
from hf_mlalign.core.options import PushOptions
from hf_mlalign.report.options import ReportOptions

PANEL = "Share"
RunFolder = Annotated[Path, typer.Argument(help="A run folder, or a folder with several of them.")]
Finished = Annotated[Path, typer.Argument(help="Folder that a command or a training wrote.")]
Repository = Annotated[str, typer.Argument(help="Repository on the Hub: user/name.")]
PageFolder = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Folder to write (default: RUN/report or RUN-report).", rich_help_panel="Output"
    ),
]


@command("report", ReportOptions, panel=PANEL, examples=["hf-mlalign report curated", "hf-mlalign report runs -o page"])
def _report(run: RunFolder, output: PageFolder = None, *, options: ReportOptions) -> None:
    """Write a report on one self-contained page, and its figures as PNGs."""
    from hf_mlalign.report import write_report

    page = write_report(run, output, source=options.source, seed=options.seed)
    say(f"Wrote {page} (figures: {page.parent / 'figures'}).")


@command(
    "push", PushOptions, panel=PANEL,
    examples=["hf-mlalign push curated me/curated", "hf-mlalign push pairs me/pairs --public --license cc-by-4.0"],
)  # fmt: skip
def _push(folder: Finished, repo_id: Repository, *, options: PushOptions) -> None:
    """Upload a finished folder to the Hub with its card. After a broken upload, run the same command again.

    The token is that of `hf auth login`, or of the environment variable HF_TOKEN.
    """
    from hf_mlalign.hub.publish import push as run

    done = run(folder, repo_id, **options.values())
    say(f"Uploaded to {done.address}.")
    if done.verified:
        say(f"Loaded back: {len(done.verified)} configurations and splits have the same content there as here.")
