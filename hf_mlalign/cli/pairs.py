"""The commands from prompts to preference pairs: `sample`, `build-pairs`, `lint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import Output, Source, command, say
from hf_mlalign.cmalign.options import BuildPairsOptions, LintOptions
from hf_mlalign.generation.options import SampleOptions

PANEL = "Build pairs"
Samples = Annotated[str, typer.Argument(help="Sampled answers: a local file or folder, or a Hub dataset.")]
Pairs = Annotated[str, typer.Argument(help="Preference pairs: a local file or folder, or a Hub dataset.")]


@command(
    "sample", SampleOptions, panel=PANEL,
    examples=["hf-mlalign sample prompts.jsonl --model Qwen/Qwen2.5-0.5B-Instruct --n 10",
              "hf-mlalign sample prompts.jsonl --model m --base-url http://localhost:8000/v1"],
)  # fmt: skip
def _sample(source: Source, output: Output = Path("samples"), *, options: SampleOptions) -> None:
    """Sample several answers to each prompt in each language. Run it again to sample only what is missing.

    The server's key is read from the environment variable MLALIGN_API_KEY.
    """
    from hf_mlalign.generation.sampler import sample as run

    done = run(source, output, options=options)
    drawn = done.record.results["drawn"]
    say(f"{drawn:,} answers were sampled now." if drawn else "Nothing to do: all answers had been sampled before.")
    say(f"{len(done.dataset):,} answers are in {output}. Next: hf-mlalign build-pairs {output} --output pairs")


@command(
    "build-pairs", BuildPairsOptions, panel=PANEL,
    examples=["hf-mlalign build-pairs samples -o pairs",
              "hf-mlalign build-pairs samples --reward embedding --test-size 0.05 -o pairs"],
)  # fmt: skip
def _build_pairs(source: Samples, output: Output = Path("pairs"), *, options: BuildPairsOptions) -> None:
    """Build preference pairs for DPO by cross-lingual consistency."""
    from hf_mlalign.cli.tables import print_record
    from hf_mlalign.cmalign.build import build_pairs as run

    done = run(source, output, options=options)
    if not done.fresh:
        say(f"Nothing to do: {done.folder} holds these pairs already. --overwrite builds them again.")
    print_record(done.record)
    say(f"Saved to {done.folder}: data/, README.md (card), run.json.")


@command("lint", LintOptions, panel=PANEL, examples=["hf-mlalign lint pairs"])
def _lint(source: Pairs, *, options: LintOptions) -> None:
    """Check a preference dataset for known traps, such as leaks between its splits."""
    from hf_mlalign.cmalign.lint import lint_preferences
    from hf_mlalign.data.sources import load_source, load_splits

    split, config = options.split, options.config_name
    ds = load_source(source, split, config) if split else load_splits(source, config)
    say(str(lint_preferences(ds, sample=options.sample, seed=options.seed)))
