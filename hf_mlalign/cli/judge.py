"""The command that compares two models' answers: `judge`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_mlalign.cli.options import column_pairs, say

if TYPE_CHECKING:
    from hf_mlalign.hub.result import RunResult


def judge(
    source: Annotated[
        str | None, typer.Argument(help="Prompts with candidate and baseline answers: a file, folder or Hub dataset.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("judged"),
    judge: Annotated[
        str, typer.Option(help="llm, reward_model, similarity, length, language, human, or module:name.")
    ] = "similarity",
    baseline: Annotated[
        str | None, typer.Option(help="The baseline's answers, if SOURCE holds the candidate's alone.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model of llm (with --base-url its name there), reward_model or similarity.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server, up to /v1.")] = None,
    template: Annotated[
        str | None, typer.Option(help="Prompt of llm: general (default), multilingual, culture, or a file.")
    ] = None,
    one_order: Annotated[bool, typer.Option("--one-order", help="Show the candidate first only (llm).")] = False,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature (llm).")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply in tokens (llm).")] = 1024,
    structured: Annotated[bool, typer.Option(help="Ask for JSON by schema where the server has it (llm).")] = True,
    attempts: Annotated[int, typer.Option(min=1, help="Times to ask while no verdict can be read (llm).")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the judge (llm).")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the server at a time.")] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the server.")] = 300.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts a batch of a local model.")] = 8,
    device: Annotated[str | None, typer.Option(help="Device of a local model.")] = None,
    hard: Annotated[bool, typer.Option("--hard", help="1, 0.5 or 0, no grades (judges that score).")] = False,
    judgements: Annotated[Path | None, typer.Option(help="What people judged (human): folder or export.")] = None,
    column_mapping: Annotated[
        str | None, typer.Option(help="E.g. question=prompt,ours=candidate,theirs=baseline.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the source.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the source.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Judge again where the folder holds judgements.")] = False,
    report_to: Annotated[str | None, typer.Option(help="Tracker: trackio, tensorboard, … (per language).")] = None,
    self_test: Annotated[bool, typer.Option("--self-test", help="Test the judge instead; 1 if it fails.")] = False,
) -> None:
    """Judge a candidate's answers against a baseline's and print win rates by language; a rerun asks nothing twice.

    The server's key is read from the environment variable MLALIGN_API_KEY.
    """
    from hf_mlalign.evaluation.judges.run import judge as run
    from hf_mlalign.evaluation.options import JudgeOptions

    options = JudgeOptions(
        judge=judge, baseline=baseline, model=model, base_url=base_url, template=template, both_orders=not one_order,
        temperature=temperature, max_tokens=max_tokens, structured=structured, attempts=attempts, seed=seed,
        concurrency=concurrency, timeout=timeout, batch_size=batch_size, device=device, hard=hard,
        judgements=None if judgements is None else str(judgements), column_mapping=column_pairs(column_mapping),
        split=split, config_name=config, limit=limit, overwrite=overwrite, report_to=report_to, self_test=self_test,
    )  # fmt: skip
    done = run(source, output, options=options)
    if not self_test:
        return _report(done)
    say(str(done.result))
    if not done.result.passed:
        raise typer.Exit(1)


def _report(done: RunResult) -> None:
    from hf_mlalign.cli.tables import print_winrates

    if not done.fresh:
        say(f"Nothing to do: {done.folder} holds these judgements already. --overwrite repeats it.")
    print_winrates(done.result.rates)
    consistency = done.result.rates["position_consistency"]
    if consistency == consistency:
        say(f"  rates are means of both orders; {consistency:.1f} % have one winner in either")
    reasons = Counter(reason for reason in done.result.judgements.reasons if reason)
    for reason, count in reasons.most_common(3):
        say(f"  not judged, {count:,}×: {reason}")
    usage = done.result.judgements.usage
    if usage:
        say(f"  {usage['requests']:,} requests ({usage['cached']:,} more were in the cache), "
            f"{usage['prompt_tokens']:,} prompt and {usage['completion_tokens']:,} completion tokens")  # fmt: skip
    say(f"Saved to {done.folder}: data/, README.md, run.json.")
