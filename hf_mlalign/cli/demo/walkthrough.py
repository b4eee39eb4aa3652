"""`hf-mlalign demo`: the main job on the demo pool, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hf_mlalign.cli.demo.comparison import compare_models
from hf_mlalign.cli.demo.tiny_dpo import check_dpo_folder
from hf_mlalign.cli.tables import print_selection
from hf_mlalign.core.errors import quiet
from hf_mlalign.data.demo_pool import load_demo_pool
from hf_mlalign.data.languages import language_name
from hf_mlalign.hub.run_record import RunResult
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.report import write_report

N_QUALITY, N_DIVERSITY = 24, 4
"""Per language, in the paper's ratio 6:1."""


def run_demo(output: str | Path, say: Callable[[str], None] = print) -> RunResult:
    """Curate the demo pool, build pairs from it, tune a tiny model, and explain each step; needs no network.

    Args:
        output: folder to write.
        say: called with each line of text.
    """
    check_dpo_folder(Path(output) / "dpo")
    start = time.perf_counter()
    pool = load_demo_pool()
    codes = list(dict.fromkeys(pool["language"]))
    prompts = len(set(pool["prompt_id"]))
    say(f"1. The pool: {prompts} prompts in {len(codes)} languages ({', '.join(codes)}), four candidate answers each,")
    say(f"   {len(pool):,} pairs in all. Their author graded every answer 0–3; the selection never sees the grades.\n")
    say("2. Curate: score every pair, cluster the prompts, and per language take the best "
        f"{N_QUALITY} pairs plus up to {N_DIVERSITY} from topics not covered yet.")  # fmt: skip
    folder = Path(output) / "curated"
    curation = curate(
        pool, folder, n_quality=N_QUALITY, n_diversity=N_DIVERSITY, overwrite=True,
        on_step=lambda text: say(f"   {text}"), progress=False,
    )  # fmt: skip
    print_selection(curation.result)
    grades = np.asarray(pool["grade"])
    chosen = grades[curation.result.selected]
    before, after = (grades >= 2).mean(), (chosen >= 2).mean()
    say(f"3. Did it work? Answers graded good (2 or 3) by their author: {before:.0%} of the pool, {after:.0%} of the")
    say(f"   selection. Mean grade: {grades.mean():.2f} before, {chosen.mean():.2f} after.")
    _tell_examples(pool, curation, say)
    _tell_pairs(pool, Path(output), say)
    say("\n6. Which model is better? Both answer every prompt of the pool in every language.")
    compare_models(pool, Path(output), say)
    with quiet():
        page = write_report(output, source=pool)
    say(f"\nDone in {time.perf_counter() - start:.0f} s. What is in {output}:")
    for name, what in FILES.items():
        say(f"   {name:24s} {what}")
    say(f"\nAll results on one page, with pictures:  {page}")
    say("\nOn your own data:  hf-mlalign curate your_data.jsonl --output curated")
    say(f'In Python:         load_dataset("{folder}", "de", split="train")')
    return curation


def _tell_pairs(pool, output: Path, say) -> None:
    from hf_mlalign.cli.demo.tiny_dpo import pairs_from_pool, tune

    say("\n4. Preference pairs: the most self-consistent English answer is the reference. In every other language the")
    say("   answer most consistent with it is chosen, and the least consistent one rejected.")
    with quiet():
        pairs = pairs_from_pool(pool, output / "pairs", say)
    say(f"\n5. DPO for a few steps on {len(pairs['train'])} pairs, with a tiny Llama that has random weights and has")
    say("   never seen text: it shows that the steps work, not what DPO can achieve.")
    outcome = tune(pairs, output / "dpo")
    say(f"   {outcome.parameters / 1e6:.1f} M parameters, {outcome.steps} steps. Reward accuracy (share of pairs")
    say("   whose chosen answer gained more than its rejected one):")
    for split, name in (("train", "training pairs"), ("test", "held-out prompts")):
        before, after = outcome.before[split], outcome.after[split]
        say(f"      {name:22s} {before:.0%} before (the untuned model is the reference), {after:.0%} after")


FILES = {
    "curated/data/": "the curated set, one Parquet file per language",
    "curated/README.md": "its card: what was selected, how, and with which parameters",
    "curated/scores.parquet": "every pair of the pool with its score, cluster and reason",
    "curated/run.json": "parameters, versions, counts and timings",
    "pairs/": "preference pairs for trl.DPOTrainer (run.json: counts)",
    "report/": "the report: one page, and its figures as PNGs",
    "judged/": "the verdicts of the judge on both models' answers (answers.parquet)",
    "dpo/tuned/": "the tuned model; dpo/untuned/: the model before; dpo/curve.json: its curve",
}


def _tell_examples(pool, curation: RunResult, say) -> None:
    result = curation.result
    for reason in ("quality", "diversity"):
        rows = np.flatnonzero((result.reasons == reason) & (result.languages != "en"))
        if len(rows):
            row = pool[int(rows[np.argmax(result.scores[rows])])]
            say(f"   Selected for {reason} ({language_name(row['language'])}): {_short(row['prompt'], 60)}")
            say(f"      → {_short(row['response'], 90)}")


def _short(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
