"""The command `lens`: what a model leans to, layer by layer, before and after training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import column_pairs, say, split_codes


def lens(
    model: Annotated[str, typer.Argument(help="Causal LM: a local folder or a Hub model (user/name).")],
    data: Annotated[
        str, typer.Option(help="Parallel prompts with id, language, prompt, answer: a file, a folder or a Hub dataset.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("lens"),
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter: its effect is shown.")] = None,
    span: Annotated[str, typer.Option(help="first (first tokens of the answer, paper) or word (all of it).")] = "first",
    pooling: Annotated[str, typer.Option(help="Hidden states: mean over the tokens, or last token.")] = "mean",
    english: Annotated[str, typer.Option(help="Language to compare with.")] = "en",
    languages: Annotated[str | None, typer.Option(help="Keep only these, e.g. de,ja,sw.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many ids.")] = None,
    column_mapping: Annotated[str | None, typer.Option(help="E.g. question=prompt,label=answer.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the data.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the data.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts a batch.")] = 8,
    max_length: Annotated[int | None, typer.Option(min=1, help="Hidden states: cut prompts to so many tokens.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; default: the best there is.")] = None,
    dtype: Annotated[str, typer.Option(help="Of the weights, e.g. bfloat16; auto: as saved.")] = "auto",
    overwrite: Annotated[bool, typer.Option(help="Begin anew where the folder holds another run.")] = False,
) -> None:
    """Logit lens, hidden-state geometry and retrieval by layer and language, as data and pictures."""
    from hf_mlalign.core.quiet import quiet
    from hf_mlalign.spontaneous.lens.run import lens_before_and_after

    with quiet():
        found = lens_before_and_after(
            model, data, output, adapter=adapter, split=split, config=config,
            column_mapping=column_pairs(column_mapping), languages=split_codes(languages), limit=limit,
            english=english, span=span, pooling=pooling, batch_size=batch_size, max_length=max_length,
            device=device, dtype=dtype, overwrite=overwrite, on_step=say,
        )  # fmt: skip
    _report(found)


def _report(found) -> None:
    from rich.table import Table

    from hf_mlalign.cli.tables import print_table

    summary = found.summary()
    heads = {"own_last": "P(own answer)", "english_last": "P(English)", "english_highest": "P(English), best layer",
             "distance_in_spreads": "distance", "to_english": "→ English", "from_english": "English →"}  # fmt: skip
    shown = {name: head for name, head in heads.items() if name in summary}
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("language")
    for head in shown.values():
        table.add_column(head, justify="right")
    for language, row in summary.iterrows():
        table.add_row(language, *(_change(row, name) for name in shown))
    print_table(table)
    say("\nProbabilities at the last layer; distance from English in units of the spread and retrieval top-1, to and")
    say("from English, as means over the blocks." + (" Before → after." if "to_english_after" in summary else ""))
    for note in found.notes[:20]:
        say(f"note: {note}")
    say(f"Saved to {found.folder}: *.png (each with its .csv), lens_*.npz, geometry_*.npz, *.parquet, run.json.")


def _change(row, name: str) -> str:
    after = row.get(f"{name}_after")
    return f"{row[name]:.3f}" if after is None else f"{row[name]:.3f} → {after:.3f}"
