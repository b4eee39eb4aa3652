"""The commands that compare models: `judge`, `annotate`, `annotate-export`, `classify`, `lens`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_mlalign.cli.options import Output, command, say
from hf_mlalign.evaluation.options import AnnotateExportOptions, AnnotateOptions, JudgeOptions
from hf_mlalign.spontaneous.options import ClassifyOptions, LensOptions

if TYPE_CHECKING:
    from hf_mlalign.hub.run_record import RunResult

PANEL = "Evaluate"
Comparisons = Annotated[
    str | None, typer.Argument(help="Prompts with candidate and baseline answers: a file, folder or Hub dataset.")
]
Pairs = Annotated[str, typer.Argument(help="Prompts with two answers: a local file or folder, or a Hub dataset.")]
Human = Annotated[Path, typer.Argument(help="Output folder of annotate, or an exported Parquet file.")]
Labelled = Annotated[str, typer.Argument(help="Labelled questions: a local file or folder, or a Hub dataset.")]
Model = Annotated[str, typer.Argument(help="Causal LM: a local folder or a Hub model (user/name).")]
Parallel = Annotated[
    str | None,
    typer.Option(
        help="Parallel prompts with id, language, prompt, answer: a file, a folder or a Hub dataset. Required.",
        rich_help_panel="Data",
    ),
]


@command(
    "judge", JudgeOptions, panel=PANEL,
    examples=["hf-mlalign judge answers.jsonl --judge llm --model me/judge -o judged",
              "hf-mlalign judge tuned --baseline untuned --judge llm --model me/judge"],
)  # fmt: skip
def _judge(source: Comparisons = None, output: Output = Path("judged"), *, options: JudgeOptions) -> None:
    """Compare a candidate's answers with a baseline's and print win rates per language. A rerun asks nothing twice.

    The server's key is read from the environment variable MLALIGN_API_KEY.
    """
    from hf_mlalign.evaluation.judges.run import judge as run

    done = run(source, output, options=options)
    if not options.self_test:
        return _print_judged(done)
    say(str(done.result))
    if not done.result.passed:
        raise typer.Exit(1)


def _print_judged(done: RunResult) -> None:
    from hf_mlalign.cli.tables import print_winrates

    if not done.fresh:
        say(f"Nothing to do: {done.folder} holds these judgements already. --overwrite repeats it.")
    rates, judgements = done.result.rates, done.result.judgements
    print_winrates(rates)
    consistency = rates["position_consistency"]
    if consistency == consistency:
        say(f"  rates are means of both orders; {consistency:.1f} % have one winner in either")
    for reason, count in Counter(reason for reason in judgements.reasons if reason).most_common(3):
        say(f"  not judged, {count:,}×: {reason}")
    if usage := judgements.usage:
        say(f"  {usage['requests']:,} requests ({usage['cached']:,} more were in the cache), "
            f"{usage['prompt_tokens']:,} prompt and {usage['completion_tokens']:,} completion tokens")  # fmt: skip
    say(f"Saved to {done.folder}: data/, README.md, run.json.")


@command(
    "annotate", AnnotateOptions, panel=PANEL, examples=["hf-mlalign annotate answers.jsonl --languages de,sw --open"]
)
def _annotate(pairs: Pairs, output: Output = Path("judgements"), *, options: AnnotateOptions) -> None:
    """Serve a web page on which people judge pairs of answers blind. Run it again to continue.

    Every judgement is saved before the page confirms it.
    """
    from hf_mlalign.evaluation.annotation.run import annotate as run

    run(pairs, output, options=options, on_step=say)


@command(
    "annotate-export", AnnotateExportOptions, panel=PANEL, examples=["hf-mlalign annotate-export judgements -o human"]
)
def _annotate_export(judgements: Human, output: Output = Path("human"), *, options: AnnotateExportOptions) -> None:
    """Export people's judgements, win rates and agreement (Krippendorff's alpha). The page may be running."""
    from hf_mlalign.cli.tables import print_human, print_winrates
    from hf_mlalign.evaluation.annotation.human import HumanJudge

    people = HumanJudge(judgements)
    paths = people.export(output)
    print_human(people)
    print_winrates(people.winrate())
    say(f"Saved to {output}: {', '.join(path.name for path in paths.values())}.")


@command(
    "classify", ClassifyOptions, panel=PANEL,
    examples=["hf-mlalign classify emotion.parquet --task emotion --model me/base -o before",
              "hf-mlalign classify emotion.parquet --task emotion --model me/tuned \\",
              "    --baseline before -o after"],
)  # fmt: skip
def _classify(source: Labelled, output: Output = Path("classification"), *, options: ClassifyOptions) -> None:
    """Measure few-shot accuracy per language; with --baseline, also the gain over an earlier run.

    Rows are saved as they are scored. Run the same command again to continue.
    """
    from hf_mlalign.cli.tables import print_record
    from hf_mlalign.spontaneous.classification.evaluate import classify as run

    print_record(run(source, output, options=options).record)
    say(f"Saved to {output}: rows.jsonl, table.csv, run.json. Compare a later run with --baseline {output}")


@command(
    "lens", LensOptions, panel=PANEL,
    examples=["hf-mlalign lens google/gemma-3-270m --data parallel.jsonl --adapter tuned -o lens"],
)  # fmt: skip
def _lens(model: Model, data: Parallel = None, output: Output = Path("lens"), *, options: LensOptions) -> None:
    """Show per layer and language what a model predicts and where its hidden states lie, as data and figures."""
    from hf_mlalign.cli.tables import print_lens
    from hf_mlalign.core.errors import DataError, quiet
    from hf_mlalign.spontaneous.lens.run import run_lens

    if data is None:
        raise DataError("--data: missing. Name a file, a folder or a Hub dataset with parallel prompts.")
    with quiet():
        done = run_lens(data, output, options=options, on_step=say)
    print_lens(done.result)
    say(f"Saved to {done.folder}: *.png (each with its .csv), lens_*.npz, geometry_*.npz, *.parquet, run.json.")
