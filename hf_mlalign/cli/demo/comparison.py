"""The last step of the demo: both tiny models answer the demo prompts, and a judge compares them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.cli.tables import print_winrates
from hf_mlalign.core.errors import quiet

if TYPE_CHECKING:
    from datasets import Dataset

MAX_TOKENS, TEMPERATURE = 24, 0.7


def compare_models(pool: Dataset, output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Answer every demo prompt with `dpo/tuned` and `dpo/untuned`, judge, and print win rates by language.

    Args:
        pool: see `hf_mlalign.data.load_demo_pool`; its best-graded answers are the judge's references.
        output: folder of the demo; `answers.parquet` and `judged/` are written there.
        say: called with each line of text.
    Returns:
        The dictionary of `hf_mlalign.evaluation.metrics.winrate.winrate`.
    """
    from hf_mlalign.evaluation.judges.run import judge
    from hf_mlalign.generation.sampler import ResponseSampler

    with quiet():
        best = pool.filter(lambda row: row["grade"] == 3)
        prompts = best.select_columns(["prompt_id", "language", "prompt", "response"])
        prompts = prompts.rename_column("response", "reference")
        for name, model in (("candidate", "tuned"), ("baseline", "untuned")):
            sampler = ResponseSampler(
                str(output / "dpo" / model), n=1, temperature=TEMPERATURE, max_tokens=MAX_TOKENS,
                answer_in_language=False, progress=False,
            )  # fmt: skip
            found = sampler.sample(prompts.select_columns(["prompt_id", "language", "prompt"]))
            prompts = prompts.add_column(name, found["response"][:])
        prompts.to_parquet(str(output / "answers.parquet"))
        done = judge(output / "answers.parquet", output / "judged", judge="similarity", hard=True, overwrite=True)
        rates = done.result.rates
    say("   The judge prefers the answer closer in meaning to the author's best one. Neither model can really write,")
    say("   so expect intervals around 50 %: the table only shows how results look. It gives the share of prompts on")
    say("   which the tuned model is preferred, with 95 % intervals clustered by prompt. Languages that differ from")
    say("   50 % after Holm's correction are marked.")
    print_winrates(rates)
    return rates
