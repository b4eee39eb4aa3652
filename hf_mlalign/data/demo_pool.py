"""The demo pool: the same prompts in several languages, each with four candidate answers of graded quality."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.core.errors import DataError, listed

if TYPE_CHECKING:
    from datasets import Dataset

POOL = Path(__file__).parent / "pool"


def demo_languages() -> list[str]:
    """ISO 639-1 codes of the languages of the pool, sorted."""
    return sorted(path.stem for path in POOL.glob("*.jsonl"))


def load_demo_pool(languages: Sequence[str] | None = None, seed: int = 0) -> Dataset:
    """The pool, with one row per candidate answer.

    Args:
        languages: only these (default: all of `demo_languages()`).
        seed: for the order of each prompt's candidates, which must not reveal their quality.
    Returns:
        Columns prompt_id, topic, language, prompt, response, sample (0–3, the candidate's position) and grade (0–3,
        its author's judgement: 3 correct and complete, 2 correct but thin, 1 weak, 0 bad; for checking only).
    Raises:
        DataError: a language that the pool does not have.
    """
    from datasets import Dataset

    languages = list(languages or demo_languages())
    missing = [code for code in languages if code not in demo_languages()]
    if missing:
        raise DataError(f"languages: no demo prompts in {listed(missing)}. Available: {listed(demo_languages())}.")
    rows = []
    for code in languages:
        lines = (POOL / f"{code}.jsonl").read_text(encoding="utf-8").splitlines()
        order = np.random.default_rng(seed)
        for item in map(json.loads, lines):
            for position, index in enumerate(order.permutation(len(item["responses"]))):
                answer = item["responses"][index]
                rows.append({"prompt_id": item["prompt_id"], "topic": item["topic"], "language": code,
                             "prompt": item["prompt"], "response": answer["text"], "sample": position,
                             "grade": answer["grade"]})  # fmt: skip
    return Dataset.from_list(rows)
