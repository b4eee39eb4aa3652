"""The command `score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import column_pairs, say


def score(
    source: Annotated[str, typer.Argument(help="A local file or folder, or a Hub dataset (user/name).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("scored"),
    split: Annotated[str | None, typer.Option(help="Split of the source, e.g. train.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the source.")] = None,
    column_mapping: Annotated[
        str | None, typer.Option(help="Your columns and their roles, e.g. question=instruction,answer=response.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "--scorer", help="Quality Scoring Model (default: bundled).")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Encoder of the embeddings (default: the model's).")] = None,
    embeddings: Annotated[bool, typer.Option(help="Also write the instructions' vectors, for curate.")] = True,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Texts a batch (default: the encoder's own).")] = None,
    shard_rows: Annotated[int, typer.Option(min=1, help="Rows a file, the most a kill can lose.")] = 20_000,
    overwrite: Annotated[bool, typer.Option(help="Score again where the folder holds scores.")] = False,
    push_to_hub: Annotated[str | None, typer.Option(help="Upload to this dataset repository (user/name).")] = None,
    private: Annotated[bool, typer.Option(help="Make the repository private.")] = True,
    world_size: Annotated[int | None, typer.Option(min=1, help="Stop unless so many processes are running.")] = None,
) -> None:
    """Score a dataset's pairs into a folder of Parquet; a rerun scores only what is missing.

    On several GPUs: accelerate launch --multi_gpu -m hf_mlalign score …
    """
    from hf_mlalign.cli.tables import print_record
    from hf_mlalign.mdaq.scoring import score as run

    done = run(
        source, output, split=split, config_name=config, column_mapping=column_pairs(column_mapping), model=model,
        encoder=encoder, embeddings=embeddings, batch_size=batch_size, shard_rows=shard_rows, overwrite=overwrite,
        push_to_hub=push_to_hub, private=private, world_size=world_size, on_step=say,
    )  # fmt: skip
    if done.record is not None:
        print_record(done.record)
        say(f"Saved to {done.folder}: data/, README.md (card), run.json. Next: hf-mlalign curate {done.folder}")
