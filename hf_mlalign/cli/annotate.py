"""The commands of human judgement: `annotate`, `annotate-export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import column_pairs, say, split_codes


def annotate(
    pairs: Annotated[str, typer.Argument(help="Prompts with two answers: a local file or folder, or a Hub dataset.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the judgements.")] = Path("judgements"),
    split: Annotated[str | None, typer.Option(help="Split of the source.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the source.")] = None,
    column_mapping: Annotated[
        str | None, typer.Option(help="E.g. question=prompt,tuned=candidate,untuned=baseline.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Of all rows, where there is no language column.")] = None,
    languages: Annotated[str | None, typer.Option(help="Keep only these, e.g. de,ja,sw.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pairs a language.")] = None,
    per_item: Annotated[int, typer.Option(min=1, help="Readers wanted for an item outside the overlap.")] = 1,
    overlap: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of items shown to every reader.")] = 0.2,
    points: Annotated[bool, typer.Option(help="Ask for quality and culture points.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the order of items and answers.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on. There are no passwords.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: the first free one from 7860.")] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser here.")] = False,
) -> None:
    """Serve a page on which people judge pairs of answers blind; run it again to go on.

    Every judgement is on the disk before the page says so.
    """
    from hf_mlalign.evaluation.annotation.run import annotate as run

    run(
        pairs, output, split=split, config_name=config, column_mapping=column_pairs(column_mapping), language=language,
        languages=split_codes(languages), limit=limit, per_item=per_item, overlap=overlap, points=points, seed=seed,
        host=host, port=port, open_browser=open_browser, on_step=say,
    )  # fmt: skip


def annotate_export(
    judgements: Annotated[Path, typer.Argument(help="Output folder of `annotate`, or an exported Parquet file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("human"),
) -> None:
    """Write judgements, win rates and agreement (Krippendorff's alpha) of an annotation; the page may be running."""
    from hf_mlalign.cli.tables import print_winrates
    from hf_mlalign.evaluation.annotation.human import HumanJudge
    from hf_mlalign.evaluation.annotation.report import print_human

    judge = HumanJudge(judgements)
    paths = judge.export(output)
    print_human(judge)
    print_winrates(judge.winrate())
    say(f"Saved to {output}: {', '.join(path.name for path in paths.values())}.")
