"""The command that compares two models' answers: `judge`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_mlalign.cli.options import column_pairs, say
from hf_mlalign.core.errors import DataError, listed

if TYPE_CHECKING:
    from hf_mlalign.evaluation.judges.run import JudgedSource

SELF_TEST_ROWS = 20


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
    from hf_mlalign.evaluation.judges.registry import load_judge
    from hf_mlalign.evaluation.judges.run import REPLIES, judge_source

    if source is None and not self_test:
        raise DataError("source: name a file, folder or Hub dataset, or use --self-test.")
    server = {"base_url": base_url, "template": template} if base_url or template else {}
    of_kind: dict[str, dict[str, Any]] = {
        "llm": {
            "template": template or "general", "base_url": base_url, "both_orders": not one_order,
            "temperature": temperature, "max_tokens": max_tokens, "structured": structured, "attempts": attempts,
            "seed": seed, "cache": output / REPLIES, "concurrency": concurrency, "timeout": timeout,
            "batch_size": batch_size, "device": device, "model": model,
        },
        "reward_model": {"batch_size": batch_size, "device": device, "hard": hard, "model": model, **server},
        "similarity": {"hard": hard, **server, **({"encoder": model} if model else {})},
        "human": {"source": judgements},
    }  # fmt: skip
    plain = {"hard": True} if hard else {}
    options = of_kind.get(judge, {**plain, **server, **({"model": model} if model else {})})
    _check_needed(judge, options)
    _check_taken(judge, {
        "--hard": hard, "--one-order": one_order, "--temperature": temperature != 0, "--max-tokens": max_tokens != 1024,
        "--no-structured": not structured, "--attempts": attempts != 2, "--seed": seed != 0, "--model": model,
        "--base-url": base_url, "--template": template, "--judgements": judgements,
    })  # fmt: skip
    judge_object = load_judge(judge, **options)
    mapping = column_pairs(column_mapping)
    if self_test:
        _self_test(judge_object, output, source, baseline, split, config, mapping, limit or SELF_TEST_ROWS)
        return
    done = judge_source(source, output, judge_object, baseline=baseline, split=split, config=config,
                        column_mapping=mapping, limit=limit, overwrite=overwrite, report_to=report_to)  # fmt: skip
    _report(done)


def _check_needed(judge: str, options: dict[str, Any]) -> None:
    for kind, name, option in (("llm", "model", "--model"), ("reward_model", "model", "--model"),
                               ("human", "source", "--judgements")):  # fmt: skip
        if judge == kind and not options[name]:
            raise DataError(f"{name}: the judge {kind!r} needs {option}.")


def _check_taken(judge: str, given: dict[str, Any]) -> None:
    """A `DataError` for an option that was given and that the judge does not have."""
    of_llm = {"--one-order", "--temperature", "--max-tokens", "--no-structured", "--attempts", "--seed"}
    served = {"--model", "--base-url", "--template"}
    taken = {
        "llm": of_llm | served, "reward_model": {"--hard", "--model"}, "similarity": {"--hard", "--model"},
        "length": {"--hard"}, "language": {"--hard"}, "human": {"--judgements"},
    }.get(judge, {"--hard", *served})  # fmt: skip
    for option, value in given.items():
        if value and option not in taken:
            has = f"It has {listed(sorted(taken))}." if taken else ""
            raise DataError(f"{option[2:]}: the judge {judge!r} has no option {option}. {has}")


def _self_test(judge, output: Path, source, baseline, split, config, mapping, limit: int) -> None:
    from hf_mlalign.core.files import list_names, write_atomic
    from hf_mlalign.evaluation.judges.run import SELF_TEST, load_answer_pairs
    from hf_mlalign.evaluation.judges.self_test import check_judge

    own = ()
    if source is not None:
        table = load_answer_pairs(source, baseline, split, config, mapping, limit)[1]
        own = table.prompts, table.candidates, table.baselines, table.languages
    list_names(output)
    report = check_judge(judge, *own)
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(output / SELF_TEST, json.dumps(report.record(), indent=1, ensure_ascii=False) + "\n")
    say(str(report))
    if not report.passed:
        raise typer.Exit(1)


def _report(done: JudgedSource) -> None:
    from hf_mlalign.cli.tables import print_winrates

    if not done.fresh:
        say(f"Nothing to do: {done.folder} holds these judgements already. --overwrite repeats it.")
    print_winrates(done.rates)
    consistency = done.rates["position_consistency"]
    if consistency == consistency:
        say(f"  rates are means of both orders; {consistency:.1f} % have one winner in either")
    reasons = Counter(reason for reason in done.judgements.reasons if reason)
    for reason, count in reasons.most_common(3):
        say(f"  not judged, {count:,}×: {reason}")
    usage = done.judgements.usage
    if usage:
        say(f"  {usage['requests']:,} requests ({usage['cached']:,} more were in the cache), "
            f"{usage['prompt_tokens']:,} prompt and {usage['completion_tokens']:,} completion tokens")  # fmt: skip
    say(f"Saved to {done.folder}: data/, README.md, run.json.")
