"""The commands for training: `train` runs a training script with accelerate, `questions` makes rows to train on."""

from __future__ import annotations

import shlex
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import APP, HELP_FLAGS, HelpCommand, Output, command, say
from hf_mlalign.spontaneous.options import QuestionsOptions

Parallel = Annotated[str, typer.Argument(help="Parallel questions: a local file or folder, or a Hub dataset.")]


class Script(StrEnum):
    """Training scripts of `hf_mlalign.launch`."""

    dpo = "dpo"
    sft = "sft"
    qsm = "qsm"


MODULES = {"dpo": "hf_mlalign.launch.dpo", "sft": "hf_mlalign.launch.sft", "qsm": "hf_mlalign.launch.train_qsm"}
EXAMPLES = """Examples:
  hf-mlalign train sft --recipe mdaq --dataset curated --output_dir tuned \\
      --model_name_or_path Qwen/Qwen2.5-0.5B
  hf-mlalign train dpo --setup multi_gpu --print --dataset pairs \\
      --model_name_or_path tuned --output_dir tuned-dpo
All options of a script: python -m hf_mlalign.launch.dpo --help"""


@APP.command(
    "train", cls=HelpCommand, rich_help_panel="Train", epilog=EXAMPLES,
    context_settings={**HELP_FLAGS, "ignore_unknown_options": True, "allow_extra_args": True},
)  # fmt: skip
def _train(
    ctx: typer.Context,
    script: Annotated[Script, typer.Argument(help="dpo, sft or qsm (the Quality Scoring Model).")],
    setup: Annotated[
        str | None, typer.Option(help="Accelerate config: a file, or single_gpu, multi_gpu, fsdp2, deepspeed_zero3, ….")
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Print the command instead of running it.")] = False,
) -> None:
    """Train a model with accelerate. All other options are passed on to the training script."""
    from hf_mlalign.launch.configs import config_path

    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    settings = setup and str(Path(setup) if Path(setup).is_file() else config_path(setup))
    chosen = ["--config_file", settings] if settings else []
    line = [*chosen, "-m", MODULES[script.value], *ctx.args]
    if only_print:
        typer.echo(shlex.join(["accelerate", "launch", *line]))
        return
    say(f"Running: {shlex.join(['accelerate', 'launch', *line])}")
    raise typer.Exit(subprocess.call([*launcher, *line]))


@command(
    "questions", QuestionsOptions, panel="Train",
    examples=["hf-mlalign questions parallel.jsonl --languages de,sw -o questions",
              "hf-mlalign questions snli.jsonl --languages sw --translator me/nllb"],
)  # fmt: skip
def _questions(source: Parallel, output: Output = Path("questions"), *, options: QuestionsOptions) -> None:
    """Turn parallel questions into rows that teach a model to translate them, without answers.

    The key of a server is read from the environment variable MLALIGN_API_KEY.
    """
    from hf_mlalign.cli.tables import print_record
    from hf_mlalign.spontaneous.questions.build import build_questions

    built = build_questions(source, output, options=options)
    if not built.fresh:
        say(f"Nothing to do: {built.folder} holds these rows already. --overwrite repeats it.")
    print_record(built.record)
    say(f"Saved to {built.folder}: data/, README.md (card), run.json. Next: hf-mlalign train sft "
        f"--dataset {built.folder} --model_name_or_path … --output_dir …")  # fmt: skip
