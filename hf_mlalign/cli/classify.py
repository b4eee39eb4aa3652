"""The command `classify`: accuracy of a model on a few-shot task in every language, beside an earlier run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import column_pairs, say, split_codes


class LabelsIn(StrEnum):
    """Language of the labels."""

    question = "question"
    english = "english"


def classify(
    source: Annotated[str, typer.Argument(help="Labelled questions: a local file or folder, or a Hub dataset.")],
    model: Annotated[str, typer.Option(help="Causal LM: a folder or Hub name.")],
    task: Annotated[str, typer.Option(help="emotion, snli, paws, or a YAML file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")] = Path("classification"),
    adapter: Annotated[str | None, typer.Option(help="LoRA adapter put on the model.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Folder of an earlier run to compare with.")] = None,
    seen: Annotated[str | None, typer.Option(help="Languages trained on, e.g. de,sw.")] = None,
    languages: Annotated[str | None, typer.Option(help="Score only these, e.g. en,de,sw.")] = None,
    n_shots: Annotated[int | None, typer.Option(min=0, help="Examples a prompt (default: the task's).")] = None,
    labels_in: Annotated[LabelsIn, typer.Option(help="Labels in the question's language or English.")] = (
        LabelsIn.question
    ),
    normalise: Annotated[bool, typer.Option(help="Divide by the number of label tokens.")] = False,
    calibrate: Annotated[bool, typer.Option(help="Against a content-free prompt.")] = False,
    same_shots: Annotated[bool, typer.Option(help="The same examples in every language.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the few-shot draw.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of a prompt (default: the context).")] = None,
    drop_long: Annotated[bool, typer.Option(help="Leave out questions too long without examples.")] = False,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens a pack.")] = 512,
    dtype: Annotated[str, typer.Option(help="Of the weights: auto, float32, bfloat16, float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, or auto to shard the model.")] = None,
    column_mapping: Annotated[str | None, typer.Option(help="E.g. review=input,label=answer.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the source.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the source.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Begin anew where the folder holds another run.")] = False,
) -> None:
    """Few-shot classification, language by language; with --baseline, whether the model became better.

    Rows are written as they are scored; the same command goes on where it was stopped.
    """
    from hf_mlalign.cli.tables import print_record
    from hf_mlalign.data.sources import load_source
    from hf_mlalign.hub.run_record import read_record
    from hf_mlalign.models.loading import load_causal_lm
    from hf_mlalign.spontaneous.classification.evaluate import evaluate_classification
    from hf_mlalign.spontaneous.classification.tasks import load_task

    described, ds = load_task(task), load_source(source, split, config)
    loaded, tokenizer = load_causal_lm(model, adapter, dtype, device)
    evaluate_classification(
        loaded, tokenizer, ds, described, n_shots, split_codes(languages), labels_in=labels_in.value,
        normalise=normalise, calibrate=calibrate, same_shots=same_shots, seed=seed, seen=split_codes(seen) or (),
        baseline=baseline, output=output, overwrite=overwrite, limit=limit, max_length=max_length, drop_long=drop_long,
        batch_tokens=batch_tokens, column_mapping=column_pairs(column_mapping),
    )  # fmt: skip
    print_record(read_record(output))
    say(f"Saved to {output}: rows.jsonl, table.csv, run.json. Compare a later run with --baseline {output}")
