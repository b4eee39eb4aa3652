"""The `hf-mlalign` command."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli import annotate as cli_annotate
from hf_mlalign.cli import classify as cli_classify
from hf_mlalign.cli import env as cli_env
from hf_mlalign.cli import judge as cli_judge
from hf_mlalign.cli import lens as cli_lens
from hf_mlalign.cli import metrics as cli_metrics
from hf_mlalign.cli import pairs as cli_pairs
from hf_mlalign.cli import push as cli_push
from hf_mlalign.cli import questions as cli_questions
from hf_mlalign.cli import report as cli_report
from hf_mlalign.cli import score as cli_score
from hf_mlalign.cli.exit import exit_code_of as ended
from hf_mlalign.cli.options import column_pairs, say, split_codes

app = typer.Typer(
    name="hf-mlalign",
    help="Multilingual alignment for the Hugging Face stack.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)



class Method(StrEnum):
    """Selection methods."""

    das = "das"
    random = "random"
    longest = "longest"
    quality = "quality"
    car = "car"
    deita = "deita"
    mmr = "mmr"


class EngineName(StrEnum):
    """What scores the rows."""

    local = "local"
    ray = "ray"


class Budgets(StrEnum):
    """How the budget is shared among languages."""

    each = "each"
    total = "total"
    proportional = "proportional"


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
    """Options of every command."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("mlalign-demo"),
) -> None:
    """Curate, build pairs and tune a tiny model on the pool that ships with the package: offline, in minutes."""
    from hf_mlalign.cli.demo import run_demo

    run_demo(output, say)


@app.command()
def curate(
    source: Annotated[str, typer.Argument(help="A local file or folder, or a Hub dataset (user/name).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("curated"),
    split: Annotated[str | None, typer.Option(help="Split of the source, e.g. train.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the source.")] = None,
    column_mapping: Annotated[
        str | None, typer.Option(help="Your columns and their roles, e.g. question=instruction,answer=response.")
    ] = None,
    languages: Annotated[str | None, typer.Option(help="Keep only these, e.g. de,ja,sw.")] = None,
    n_quality: Annotated[int, typer.Option(min=0, help="Rows by quality (paper: 6000).")] = 6000,
    n_diversity: Annotated[int, typer.Option(min=0, help="Rows by diversity (paper: 1000).")] = 1000,
    budgets: Annotated[Budgets, typer.Option(help="The two numbers are meant for each language or in total.")] = (
        Budgets.each
    ),
    per_language: Annotated[bool, typer.Option(help="Select within each language.")] = True,
    method: Annotated[Method, typer.Option(help="Selection method.")] = Method.das,
    n_clusters: Annotated[int | None, typer.Option(min=1, help="Clusters per language.")] = None,
    fill: Annotated[bool, typer.Option(help="Top up by quality where clusters run out.")] = False,
    model: Annotated[str | None, typer.Option(help="Encoder for the clusters (default: bundled).")] = None,
    scorer: Annotated[str | None, typer.Option(help="Quality Scoring Model (default: bundled).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of clustering and of random selection.")] = 0,
    engine: Annotated[EngineName, typer.Option(help="Score in this process or on Ray; the result is the same.")] = (
        EngineName.local
    ),
    address: Annotated[str | None, typer.Option(help="Ray cluster, or auto (default: one for this run alone).")] = None,
    overwrite: Annotated[bool, typer.Option(help="Begin anew where the folder holds a curation.")] = False,
    push_to_hub: Annotated[str | None, typer.Option(help="Upload to this dataset repository (user/name).")] = None,
    private: Annotated[bool, typer.Option(help="Make the repository private.")] = True,
    report_to: Annotated[str | None, typer.Option(help="Tracker: trackio, tensorboard, … (per language).")] = None,
) -> None:
    """Choose good and diverse rows of an instruction dataset and save them with a card."""
    from hf_mlalign.mdaq.curation import curate as run

    curation = run(
        source,
        output,
        split=split,
        config_name=config,
        column_mapping=column_pairs(column_mapping),
        languages=split_codes(languages),
        per_language=per_language,
        n_quality=n_quality,
        n_diversity=n_diversity,
        budgets=None if budgets is Budgets.each else budgets.value,
        method=method.value,
        n_clusters=n_clusters,
        fill=fill,
        model=model,
        scorer=scorer,
        seed=seed,
        engine=engine.value,
        address=address,
        overwrite=overwrite,
        push_to_hub=push_to_hub,
        private=private,
        report_to=report_to,
        on_step=say,
    )
    _report(curation)


def _report(curation) -> None:
    from hf_mlalign.cli.tables import print_selection

    print_selection(curation.result)
    say(f"Saved to {curation.folder}: data/, README.md (card), scores.parquet, run.json.")


app.command()(cli_score.score)
app.command()(cli_pairs.sample)
app.command("build-pairs")(cli_pairs.build_pairs)
app.command()(cli_pairs.lint)
app.command()(cli_report.report)
app.command()(cli_push.push)
app.command()(cli_judge.judge)
app.command()(cli_annotate.annotate)
app.command("annotate-export")(cli_annotate.annotate_export)
app.command()(cli_questions.questions)
app.command()(cli_classify.classify)
app.command()(cli_lens.lens)
app.command()(cli_env.env)
app.add_typer(cli_metrics.app, name="metrics")


def main() -> None:
    """Run the command; every error ends with exit code 2 and one line, Ctrl-C with 130, see
    `hf_mlalign.core.system_errors`."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    sys.exit(ended(lambda: app(arguments, standalone_mode=False), debug))
