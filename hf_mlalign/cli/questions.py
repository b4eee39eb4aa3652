"""The command from parallel questions to training rows: `questions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import column_pairs, say, split_codes


def questions(
    source: Annotated[str, typer.Argument(help="Parallel questions: a local file or folder, or a Hub dataset.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("questions"),
    languages: Annotated[str | None, typer.Option(help="Languages beside English, e.g. de,zh (default: all).")] = None,
    tasks: Annotated[str | None, typer.Option(help="Keep only these tasks, e.g. snli.")] = None,
    direction: Annotated[str, typer.Option(help="x-en (authors), en-x or both.")] = "x-en",
    mix: Annotated[str, typer.Option(help="even, all, or weights such as de=2,zh=1.")] = "even",
    n_per_language: Annotated[int, typer.Option(min=0, help="Most questions a language (authors: 10000; 0: all).")] = (
        10_000
    ),
    template: Annotated[str, typer.Option(help="general (authors), task, or the name of a template.")] = "general",
    templates: Annotated[Path | None, typer.Option(help="YAML or JSON file of your own templates.")] = None,
    instruction_language: Annotated[str, typer.Option(help="en (authors), or source: the text's language.")] = "en",
    output_format: Annotated[str, typer.Option(help="standard or conversational.")] = "standard",
    answers: Annotated[str, typer.Option(help="drop questions that hold an answer, or stop with an error.")] = "drop",
    deduplicate: Annotated[bool, typer.Option(help="Drop questions that are there twice in a language.")] = True,
    test_size: Annotated[float, typer.Option(help="Share of the questions for a test split.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice, the split and the order.")] = 0,
    form: Annotated[str, typer.Option(help="long, wide or pairs, where it cannot be told.")] = "auto",
    source_language: Annotated[str | None, typer.Option(help="Language of the column source, for pairs.")] = None,
    target_language: Annotated[str | None, typer.Option(help="Language of the column target, for pairs.")] = None,
    column_mapping: Annotated[str | None, typer.Option(help="E.g. frage=de,question=en or text=question.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the source.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the source.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace rows that are in the folder already.")] = False,
    translator: Annotated[
        str | None, typer.Option(help="Model that translates what is missing; with --base-url a server's name for it.")
    ] = None,
    translator_kind: Annotated[str, typer.Option(help="seq2seq (NLLB, M2M-100, Marian) or causal.")] = "seq2seq",
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server that translates, up to /v1.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest translation in tokens.")] = 512,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions a batch of a local translator.")] = 16,
    device: Annotated[str | None, typer.Option(help="Device of a local translator.")] = None,
) -> None:
    """Turn parallel questions into prompt/completion rows that teach to translate them; no answers.

    The key of a server is read from the environment variable MLALIGN_API_KEY.
    """
    from hf_mlalign.cli.tables import print_record
    from hf_mlalign.spontaneous.questions.build import build_questions

    built = build_questions(
        source, output, split=split, config_name=config, overwrite=overwrite, languages=split_codes(languages),
        tasks=split_codes(tasks), direction=direction, mix=mix, n_per_language=n_per_language,
        template=template, templates=templates, instruction_language=instruction_language,
        output_format=output_format, answers=answers, deduplicate=deduplicate, test_size=test_size, seed=seed,
        form=form, source_language=source_language, target_language=target_language,
        column_mapping=column_pairs(column_mapping), translator=translator,
        translator_kind=translator_kind, base_url=base_url, max_tokens=max_tokens, batch_size=batch_size, device=device,
    )  # fmt: skip
    if not built.fresh:
        say(f"Nothing to do: {built.folder} holds these rows already. --overwrite repeats it.")
    print_record(built.record)
    say(f"Saved to {built.folder}: data/, README.md (card), run.json. Next: accelerate launch -m hf_mlalign.launch.sft "
        f"--dataset {built.folder} --model_name_or_path … --output_dir …")  # fmt: skip
