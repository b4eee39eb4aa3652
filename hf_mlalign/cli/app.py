"""The `hf-mlalign` command: every module imported here registers its commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli import choose, evaluate, pairs, share, train  # noqa: F401
from hf_mlalign.cli.env import env
from hf_mlalign.cli.exit import exit_code_of
from hf_mlalign.cli.metrics import app as metrics
from hf_mlalign.cli.options import APP, HELP_FLAGS, HelpCommand, Output, say

app = APP


def _print_version(wanted: bool) -> None:
    if wanted:
        from hf_mlalign import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Multilingual alignment for the Hugging Face stack: choose data, build pairs, train, evaluate, share."""


@app.command(cls=HelpCommand, rich_help_panel="Start here", context_settings=HELP_FLAGS)
def demo(output: Output = Path("mlalign-demo")) -> None:
    """Curate, build pairs, tune and judge a tiny model on the included pool: offline, in a minute or two."""
    from hf_mlalign.cli.demo import run_demo

    run_demo(output, say)


app.command(cls=HelpCommand, rich_help_panel="Start here", context_settings=HELP_FLAGS)(env)
PANELS = ("Start here", "Choose data", "Build pairs", "Train", "Evaluate", "Share")
app.registered_commands.sort(key=lambda command: PANELS.index(command.rich_help_panel))
app.add_typer(metrics, name="metrics", rich_help_panel="Evaluate")


def main() -> None:
    """Run the command. Errors end with one line and exit code 2, Ctrl-C with 130; see `hf_mlalign.cli.exit`."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    sys.exit(exit_code_of(lambda: app(arguments, standalone_mode=False), debug))
