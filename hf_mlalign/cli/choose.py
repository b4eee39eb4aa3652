"""The commands that choose instruction data: `curate`, `score`."""

from __future__ import annotations

from pathlib import Path

from hf_mlalign.cli.options import Output, Source, command, say
from hf_mlalign.mdaq.options import CurateOptions, ScoreOptions

PANEL = "Choose data"


@command(
    "curate", CurateOptions, panel=PANEL,
    examples=["hf-mlalign curate pool.jsonl --n-quality 600 --n-diversity 100 -o curated",
              "hf-mlalign curate me/pool --languages de,ja,sw --push-to-hub me/pool-1k"],
)  # fmt: skip
def _curate(source: Source, output: Output = Path("curated"), *, options: CurateOptions) -> None:
    """Choose good and diverse rows of an instruction dataset and save them with a card."""
    from hf_mlalign.cli.tables import print_selection
    from hf_mlalign.mdaq.curation import curate as run

    done = run(source, output, options=options, on_step=say)
    print_selection(done.result)
    say(f"Saved to {done.folder}: data/, README.md (card), scores.parquet, run.json.")


@command(
    "score", ScoreOptions, panel=PANEL,
    examples=["hf-mlalign score pool.jsonl -o scored",
              "accelerate launch --multi_gpu -m hf_mlalign score pool.jsonl"],
)  # fmt: skip
def _score(source: Source, output: Output = Path("scored"), *, options: ScoreOptions) -> None:
    """Score instruction/response pairs and save them as Parquet. Run it again to score only what is missing.

    To use several GPUs, start it with accelerate launch: each process scores its share.
    """
    from hf_mlalign.cli.tables import print_record
    from hf_mlalign.mdaq.scoring import score as run

    done = run(source, output, options=options, on_step=say)
    if done.record is not None:  # in the main process
        print_record(done.record)
        say(f"Saved to {done.folder}: data/, README.md (card), run.json. Next: hf-mlalign curate {done.folder}")
