"""Pair accuracy of a quality model: how often the better response gets the higher score, next to two baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_list, as_texts, has_text

TOLERANCE = 0.1
"""Two responses are length-matched if positive / negative is within 1 ± this, in characters (*ours*)."""


def check_triplets(instructions: Sequence[str], positives: Sequence[str], negatives: Sequence[str]) -> None:
    """Raise a DataError naming argument and row unless these are n ≥ 1 triplets of non-blank texts."""
    named = {"instructions": instructions, "positives": positives, "negatives": negatives}
    named = {name: as_list(values, name) for name, values in named.items()}
    sizes = {name: len(values) for name, values in named.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(f"Triplets need equally many of each, found {sizes}.")
    if not sizes["instructions"]:
        raise DataError("instructions: there are no triplets. Check the filters on your data.")
    for name, values in named.items():
        for row, value in enumerate(values):
            if not isinstance(value, str) or not has_text(value):
                raise DataError(f"{name}, row {row}: missing or blank ({value!r:.60}). Drop such rows first.")


def evaluate_pairs(
    scorer: Any,
    instructions: Sequence[str],
    positives: Sequence[str],
    negatives: Sequence[str],
    languages: Sequence[str] | None = None,
) -> dict[str, dict[str, float]]:
    """Pair accuracy of a scorer over all pairs and per language.

    Pairs with two equal responses, and pairs that cannot be scored, are left out. A tie counts one half.

    Args:
        scorer: anything with `score(instructions, responses)`.
        instructions, positives, negatives: n texts each.
        languages: n codes; without them there is only "all".
    Returns:
        "all" and each language → `n`, `accuracy`, `longer_wins` (accuracy of preferring the longer response, in
        characters), `random` (0.5), and over the length-matched pairs `matched_n`, `matched_accuracy`,
        `matched_longer_wins` (NaN if there are none). Shares are in [0, 1].
    """
    instructions = as_texts(instructions, "instructions", missing=True)
    n = len(instructions)
    positives = as_texts(positives, "positives", n, "instructions", missing=True)
    negatives = as_texts(negatives, "negatives", n, "instructions", missing=True)
    languages = None if languages is None else as_texts(languages, "languages", n, "instructions")
    rows = [
        i for i, texts in enumerate(zip(instructions, positives, negatives, strict=True))
        if all(map(has_text, texts)) and texts[1] != texts[2]
    ]  # fmt: skip
    better = [positives[i] for i in rows]
    worse = [negatives[i] for i in rows]
    asked = [instructions[i] for i in rows]
    scores = scorer.score(asked * 2, better + worse)
    wins = _wins(scores[: len(rows)], scores[len(rows) :])
    lengths = np.array([[len(a), len(b)] for a, b in zip(better, worse)], dtype=np.float64).reshape(-1, 2)
    matched = np.abs(lengths[:, 0] / np.maximum(lengths[:, 1], 1) - 1) <= TOLERANCE
    longer = _wins(lengths[:, 0], lengths[:, 1])
    groups = {"all": np.ones(len(rows), dtype=bool)}
    if languages is not None:
        codes = np.array([languages[i] for i in rows], dtype=object)
        groups |= {code: codes == code for code in sorted(set(codes))}

    def mean(values: np.ndarray, of: np.ndarray) -> float:
        return float(values[of].mean()) if of.any() else float("nan")

    figures = {}
    for name, mask in groups.items():
        even = mask & matched
        figures[name] = {
            "n": int(mask.sum()), "accuracy": mean(wins, mask), "longer_wins": mean(longer, mask), "random": 0.5,
            "matched_n": int(even.sum()), "matched_accuracy": mean(wins, even),
            "matched_longer_wins": mean(longer, even),
        }  # fmt: skip
    return figures


def _wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a > b) + 0.5 * (a == b)


def pairs_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """The result of `evaluate_pairs` as a Markdown table."""
    heads = {
        "n": "pairs", "accuracy": "accuracy", "longer_wins": "longer wins", "random": "random",
        "matched_n": "length-matched pairs", "matched_accuracy": "accuracy, length-matched",
        "matched_longer_wins": "longer wins, length-matched",
    }  # fmt: skip
    lines = ["| language | " + " | ".join(heads.values()) + " |", "|" + "---|" * (len(heads) + 1)]
    for name, row in figures.items():
        cells = [f"{row[k]:,}" if isinstance(row[k], int) else f"{row[k]:.3f}" for k in heads]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
