"""The commands from prompts to preference pairs: `sample`, `build-pairs`, `lint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import column_pairs, say, split_codes


def sample(
    source: Annotated[str, typer.Argument(help="Prompts: a local file or folder, or a Hub dataset (user/name).")],
    model: Annotated[str, typer.Option(help="Causal LM; with --base-url the name the server knows it by.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("samples"),
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server, up to /v1.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Answers per prompt and language.")] = 10,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature.")] = 0.9,
    top_p: Annotated[float, typer.Option(help="Nucleus, in (0, 1].")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 1024,
    seed: Annotated[int, typer.Option(help="Every answer has a seed made from this one.")] = 0,
    system_prompt: Annotated[str | None, typer.Option(help="First message of every chat.")] = None,
    answer_in_language: Annotated[bool, typer.Option(help='End prompts with "Answer in <language>".')] = True,
    allow_missing: Annotated[bool, typer.Option(help="Leave out answers that failed for good.")] = False,
    split: Annotated[str | None, typer.Option(help="Split of the source.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the source.")] = None,
    column_mapping: Annotated[str | None, typer.Option(help="E.g. question=prompt,lang=language.")] = None,
    languages: Annotated[str | None, typer.Option(help="Keep only these, e.g. en,de,sw.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the server at a time.")] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the server.")] = 300.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts a batch of a local model.")] = 16,
    device: Annotated[str | None, typer.Option(help="Device of a local model.")] = None,
    continuous_batching: Annotated[bool, typer.Option(help="Continuous batching (local model, GPU).")] = False,
) -> None:
    """Sample N answers to every prompt in every language; a rerun asks only for what is missing.

    The server's key is read from the environment variable MLALIGN_API_KEY.
    """
    from hf_mlalign.generation.sampler import sample as run

    done = run(
        source, output, model=model, base_url=base_url, split=split, config_name=config,
        column_mapping=column_pairs(column_mapping), languages=split_codes(languages), limit=limit,
        concurrency=concurrency, timeout=timeout, batch_size=batch_size, device=device,
        continuous_batching=continuous_batching, n=n, temperature=temperature, top_p=top_p, max_tokens=max_tokens,
        seed=seed, system_prompt=system_prompt, answer_in_language=answer_in_language, allow_missing=allow_missing,
    )  # fmt: skip
    drawn = done.record.results["drawn"]
    say(f"{drawn:,} answers were drawn now." if drawn else "Nothing to do: every answer was there already.")
    say(f"{len(done.dataset):,} answers are in {output}. Next: hf-mlalign build-pairs {output} --output pairs")


def build_pairs(
    source: Annotated[str, typer.Argument(help="Sampled answers: a local file or folder, or a Hub dataset.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("pairs"),
    reward: Annotated[
        str,
        typer.Option(
            help="auto, embedding, answer, vote, translation, implicit, hidden_state, first_english, length, random."
        ),
    ] = "auto",
    policy: Annotated[str, typer.Option(help="best_worst, all_pairs, best_random, random_pair.")] = "best_worst",
    model: Annotated[str | None, typer.Option(help="Encoder (default: bundled).")] = None,
    reward_model: Annotated[
        str | None, typer.Option(help="Model of translation, implicit (after DPO) or hidden_state.")
    ] = None,
    reward_reference_model: Annotated[str | None, typer.Option(help="Model before DPO, of implicit.")] = None,
    min_margin: Annotated[float, typer.Option(min=0.0, help="Smallest difference of scores.")] = 0.0,
    max_length_ratio: Annotated[float | None, typer.Option(help="Largest ratio of lengths.")] = 10.0,
    require_language: Annotated[bool, typer.Option(help="Drop answers in another language.")] = True,
    include_english: Annotated[bool, typer.Option(help="Pairs for English, too.")] = False,
    min_reference_consistency: Annotated[float | None, typer.Option(help="Drop weaker references.")] = None,
    drop_same_answer: Annotated[
        bool, typer.Option("--drop-same-answer/--keep-same-answer", help="Drop pairs with one final answer.")
    ] = True,
    min_chars: Annotated[int, typer.Option(min=0, help="Drop shorter answers.")] = 1,
    drop_truncated: Annotated[
        bool, typer.Option("--drop-truncated/--keep-truncated", help="Drop answers that max_tokens cut.")
    ] = True,
    answer_kind: Annotated[str, typer.Option(help="How final answers are read: auto, choice or number.")] = "auto",
    test_size: Annotated[float, typer.Option(help="Share of the prompts for a test split.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the split and the random policies.")] = 0,
    output_format: Annotated[str, typer.Option(help="conversational or standard.")] = "conversational",
    column_mapping: Annotated[str | None, typer.Option(help="E.g. question=prompt,lang=language.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the source.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the source.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace pairs that are in the folder already.")] = False,
    report_to: Annotated[str | None, typer.Option(help="Tracker: trackio, tensorboard, … (per language).")] = None,
) -> None:
    """Build DPO pairs by consistency across languages and save them with every count."""
    from hf_mlalign.cli.tables import print_record
    from hf_mlalign.cmalign.build import build_pairs as build

    built = build(
        source, output, split=split, config_name=config, overwrite=overwrite, reward=reward, policy=policy, model=model,
        reward_model=reward_model, reward_reference_model=reward_reference_model, min_margin=min_margin,
        drop_same_answer=drop_same_answer, min_chars=min_chars, drop_truncated=drop_truncated,
        answer_kind=answer_kind, report_to=report_to,
        max_length_ratio=max_length_ratio, require_language=require_language, include_english=include_english,
        min_reference_consistency=min_reference_consistency, test_size=test_size, seed=seed,
        output_format=output_format, column_mapping=column_pairs(column_mapping),
    )  # fmt: skip
    if not built.fresh:
        say(f"Nothing to do: {built.folder} holds these pairs already. --overwrite repeats it.")
    print_record(built.record)
    say(f"Saved to {built.folder}: data/, README.md (card), run.json.")


def lint(
    source: Annotated[str, typer.Argument(help="Preference pairs: a local file or folder, or a Hub dataset.")],
    split: Annotated[str | None, typer.Option(help="Only this split (default: all).")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the source.")] = None,
) -> None:
    """Warn of the known traps in a preference dataset, leaks between its splits among them."""
    from hf_mlalign.cmalign.lint import lint_preferences
    from hf_mlalign.data.sources import load_source, load_splits

    say(str(lint_preferences(load_source(source, split, config) if split else load_splits(source, config))))
