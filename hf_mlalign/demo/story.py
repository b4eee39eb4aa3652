"""`hf-mlalign demo`: the main job on the demo pool, told step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hf_mlalign.curate import Curation, curate
from hf_mlalign.demo.pool_data import load_demo_pool
from hf_mlalign.display import print_selection
from hf_mlalign.languages import language_name

N_QUALITY, N_DIVERSITY = 24, 4
"""Per language, in the paper's ratio 6:1."""


def run_demo(output: str | Path, say: Callable[[str], None] = print) -> Curation:
    """Curate the demo pool into `output`/curated and tell what happens; needs no network.

    Args:
        output: folder to write.
        say: gets each line of the story.
    """
    start = time.perf_counter()
    pool = load_demo_pool()
    codes = list(dict.fromkeys(pool["language"]))
    prompts = len(set(pool["prompt_id"]))
    say(f"1. The pool: {prompts} prompts in {len(codes)} languages ({', '.join(codes)}), four candidate answers each,")
    say(f"   {len(pool):,} pairs in all. Their author graded every answer 0–3; the selection never sees the grades.\n")
    say("2. Curating: score every pair, cluster the prompts, and per language take the best "
        f"{N_QUALITY} pairs plus up to {N_DIVERSITY} from topics not yet covered.")  # fmt: skip
    folder = Path(output) / "curated"
    mapping = {"prompt": "instruction", "response": "response"}
    curation = curate(
        pool, folder, column_mapping=mapping, n_quality=N_QUALITY, n_diversity=N_DIVERSITY,
        on_step=lambda text: say(f"   {text}"), progress=False,
    )  # fmt: skip
    print_selection(curation.result)
    _tell_grades(pool, curation, say)
    _tell_examples(pool, curation, say)
    say(f"\nDone in {time.perf_counter() - start:.1f} s. Where things are:")
    for name, what in FILES.items():
        say(f"   {folder / name}  {what}")
    say("\nOn your own data:  hf-mlalign curate your_data.jsonl --output curated")
    say(f'In Python:         load_dataset("{folder}", "de", split="train")')
    return curation


FILES = {
    "data/": "the curated set, one Parquet file a language",
    "README.md": "its card: what was selected, how, with which parameters",
    "scores.parquet": "every pair of the pool with score, cluster and reason",
    "curation.json": "parameters, versions, counts and timings",
}


def _tell_grades(pool, curation: Curation, say) -> None:
    grades = np.asarray(pool["grade"])
    chosen = grades[curation.result.selected]
    before, after = (grades >= 2).mean(), (chosen >= 2).mean()
    say(f"3. Was it right? Answers graded good (2 or 3) by their author: {before:.0%} of the pool, {after:.0%} of the")
    say(f"   selection; mean grade {grades.mean():.2f} before, {chosen.mean():.2f} after.")


def _tell_examples(pool, curation: Curation, say) -> None:
    result = curation.result
    for reason in ("quality", "diversity"):
        rows = np.flatnonzero((result.reasons == reason) & (result.languages != "en"))
        if len(rows):
            row = pool[int(rows[np.argmax(result.scores[rows])])]
            say(f"   Taken for {reason} ({language_name(row['language'])}): {_short(row['prompt'], 60)}")
            say(f"      → {_short(row['response'], 90)}")


def _short(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
