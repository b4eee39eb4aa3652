"""Public functions of `hf_mlalign.evaluation`."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mlalign.evaluation.metrics import bootstrap, diversity, leaderboard, length_control, winrate
from hf_mlalign.evaluation.metrics.agreement import (
    Bootstrap,
    answer_agreement,
    answer_texts,
    embedding_agreement,
)
from hf_mlalign.evaluation.metrics.consistency import crosslingual_consistency
from tests.reliability.public_functions import LetterEncoder, entry, vectors

LANGUAGES = ("de", "sw", "en")


def preferences(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 5, n) / 4


def comparisons(rng: np.random.Generator, n: int) -> dict[str, Any]:
    return {
        "predictions": preferences(rng, n), "languages": [LANGUAGES[i % 2] for i in range(n)],
        "prompt_ids": [f"p{i // 2}" for i in range(n)], "swapped_predictions": preferences(rng, n),
        "candidate_lengths": rng.integers(1, 50, n).astype(float),
        "baseline_lengths": rng.integers(1, 50, n).astype(float),
    }  # fmt: skip


COMPARISONS = {
    "predictions": "numbers", "languages": "languages", "prompt_ids": "ids", "swapped_predictions": "numbers",
    "candidate_lengths": "lengths", "baseline_lengths": "lengths",
}  # fmt: skip
BOOTSTRAP = {"n_resamples": "whole", "seed": "whole", "confidence": "share"}
MISSING = [
    f"{name}: {what}" for name in COMPARISONS for what in ("NaN", "missing") if "ids" not in name and "lang" not in name
]
OPTIONAL = [
    f"{name}: None" for name in COMPARISONS if name not in ("predictions", "candidate_lengths", "baseline_lengths")
]
ODD_IDS = [f"prompt_ids: {what}" for what in ("a list inside", "an object inside")]
WINRATE = [*MISSING, *OPTIONAL, *ODD_IDS]

entry("evaluation.winrate", winrate.winrate, {**COMPARISONS, **BOOTSTRAP},
      lambda rng, n: {**comparisons(rng, n), "n_resamples": 9, "seed": 1, "confidence": 0.9}, accepts=WINRATE,
      tolerance=1e-9)  # fmt: skip
entry("evaluation.read_comparisons", winrate.read_comparisons, COMPARISONS, comparisons,
      accepts=WINRATE)  # fmt: skip
entry(
    "evaluation.preferences_of",
    length_control.preferences_of,
    {"values": "numbers"},
    lambda rng, n: {"values": preferences(rng, n), "name": "values"},
    accepts=["values: NaN", "values: missing", "values: empty", "values: too short", "values: too long"],
)
entry(
    "evaluation.prompt_codes",
    bootstrap.prompt_codes,
    {"values": "ids"},
    lambda rng, n: {"values": [f"p{i // 2}" for i in range(n)]},
    says={"values": "prompt_ids"},
    accepts=[
        "values: too short",
        "values: too long",
        "values: empty",
        "values: a list inside",
        "values: an object inside",
    ],
)


def board(**columns: Any) -> Any:
    options = {name: columns.pop(name) for name in ("shared_weight", "n_resamples", "seed", "confidence")}
    return leaderboard.winrate_leaderboard({"a": columns, "b": comparisons(np.random.default_rng(5), 6)}, **options)


entry(
    "evaluation.winrate_leaderboard",
    board,
    {**COMPARISONS, **BOOTSTRAP, "shared_weight": "share"},
    lambda rng, n: {**comparisons(rng, n), "n_resamples": 9, "seed": 1, "confidence": 0.9, "shared_weight": 0.5},
    accepts=[x for x in WINRATE if x != "prompt_ids: None"],
    tolerance=1e-9,
)
entry(
    "evaluation.check_bootstrap",
    bootstrap.check_bootstrap,
    BOOTSTRAP,
    lambda rng, n: {"n_resamples": 9, "seed": 1, "confidence": 0.9},
)
entry(
    "evaluation.sign_flip_p_value",
    winrate.sign_flip_p_value,
    {"scores": "numbers"},
    lambda rng, n: {"scores": preferences(rng, n) - 0.5},
    accepts=["scores: empty", "scores: too short", "scores: too long"],
)
entry(
    "evaluation.holm",
    winrate.holm,
    {"p_values": "numbers"},
    lambda rng, n: {"p_values": rng.random(n)},
    accepts=["p_values: empty", "p_values: too short", "p_values: too long", "p_values: NaN", "p_values: missing"],
)
entry(
    "evaluation.length_control",
    length_control.length_control,
    {
        "preferences": "numbers",
        "length_differences": "numbers",
        "groups": "codes",
        "prompts": "codes",
        "shared_weight": "share",
        "seed": "whole",
        "n_groups": "whole",
    },
    lambda rng, n: {
        "preferences": preferences(rng, n),
        "length_differences": rng.normal(size=n),
        "groups": np.arange(n) % 2,
        "prompts": np.arange(n) // 2,
        "n_groups": 2,
        "shared_weight": 1.0,
        "seed": 0,
    },
    tolerance=1e-9,
    accepts=["preferences: NaN", "length_differences: NaN", "preferences: missing", "length_differences: missing"],
)


def agreement_rows(rng: np.random.Generator, n: int) -> dict[str, Any]:
    return {"languages": [LANGUAGES[i % 2] for i in range(n)], "prompt_ids": [f"p{i // 2}" for i in range(n)]}


def few(function):
    return lambda **options: function(**options, bootstrap=Bootstrap(10))


entry(
    "evaluation.answer_agreement",
    few(answer_agreement),
    {"answers": "texts", "languages": "languages", "prompt_ids": "ids", "unread": "name"},
    lambda rng, n: {**agreement_rows(rng, n), "answers": [str(i % 3) for i in range(n)], "unread": "exclude"},
    accepts=[
        "answers: NaN",
        "answers: missing",
        "answers: a number inside",
        "answers: bytes inside",
        "answers: a list inside",
        "answers: an object inside",
        *ODD_IDS,
    ],
)
entry(
    "evaluation.answer_texts",
    answer_texts,
    {"answers": "texts"},
    lambda rng, n: {"answers": [str(i % 3) for i in range(n)]},
    accepts=[
        "answers: NaN",
        "answers: missing",
        "answers: a number inside",
        "answers: bytes inside",
        "answers: a list inside",
        "answers: an object inside",
        "answers: empty",
        "answers: too short",
        "answers: too long",
    ],
)
entry(
    "evaluation.embedding_agreement",
    few(embedding_agreement),
    {"embeddings": "vectors", "languages": "languages", "prompt_ids": "ids"},
    lambda rng, n: {**agreement_rows(rng, n), "embeddings": rng.integers(-4, 5, (n, 3)).astype(np.float32)},
    tolerance=1e-6,
    accepts=ODD_IDS,
)
entry(
    "evaluation.crosslingual_consistency",
    crosslingual_consistency,
    {
        "responses": "texts",
        "languages": "languages",
        "prompt_ids": "ids",
        "answers": "texts",
        "prompts": "texts",
        "answer_kind": "name",
        "pivot": "name",
        **BOOTSTRAP,
    },
    lambda rng, n: {
        **agreement_rows(rng, n),
        "responses": [f"Answer: {i % 3}" for i in range(n)],
        "answers": [str(i % 3) for i in range(n)],
        "prompts": ["How many?"] * n,
        "answer_kind": "auto",
        "pivot": "en",
        "n_resamples": 10,
        "seed": 0,
        "confidence": 0.9,
        "model": LetterEncoder(),
    },
    tolerance=1e-6,
    accepts=[
        "answers: NaN",
        "answers: missing",
        "answers: None",
        "answers: a number inside",
        "answers: bytes inside",
        "answers: a list inside",
        "answers: an object inside",
        "responses: None",
        "responses: NaN",
        "responses: missing",
        "prompts: None",
        "prompts: missing",
        "prompts: NaN",
        *ODD_IDS,
    ],
)


def consistency_without_answers(**columns: Any) -> Any:
    return crosslingual_consistency(**columns, n_resamples=10, model=LetterEncoder())


entry(
    "evaluation.crosslingual_consistency (answers read)",
    consistency_without_answers,
    {"responses": "texts", "languages": "languages", "prompt_ids": "ids", "prompts": "texts", "answer_kind": "name"},
    lambda rng, n: {
        **agreement_rows(rng, n),
        "responses": [f"Answer: {i % 3}" for i in range(n)],
        "prompts": ["How many?"] * n,
        "answer_kind": "auto",
    },
    tolerance=1e-6,
    accepts=["responses: NaN", "responses: missing", "prompts: None", "prompts: missing", "prompts: NaN", *ODD_IDS],
)


SIZES = ["empty", "too short", "too long"]
for name in ("vendi_score", "nearest_neighbour_distances"):
    entry(
        f"evaluation.{name}",
        getattr(diversity, name),
        {"embeddings": "vectors"},
        lambda rng, n: {"embeddings": vectors(rng, n)},
        tolerance=1e-6,
        accepts=[f"embeddings: {x}" for x in SIZES],
    )
entry(
    "evaluation.nearest_centroids",
    diversity.nearest_centroids,
    {"embeddings": "vectors", "centroids": "vectors"},
    lambda rng, n: {"embeddings": vectors(rng, n), "centroids": vectors(rng, n)},
    accepts=[f"{a}: {x}" for x in SIZES for a in ("embeddings", "centroids") if (a, x) != ("centroids", "empty")],
)
entry(
    "evaluation.spread",
    diversity.spread,
    {"vectors": "vectors"},
    lambda rng, n: {"vectors": vectors(rng, n)},
    tolerance=1e-6,
    accepts=[f"vectors: {x}" for x in SIZES],
    says={"vectors": "embeddings"},
)
entry(
    "evaluation.selection_diversity",
    diversity.selection_diversity,
    {
        "data": "vectors",
        "languages": "languages",
        "pool": "vectors",
        "pool_languages": "languages",
        "n_clusters": "whole",
        "n_random": "whole",
        "seed": "whole",
    },
    lambda rng, n: {
        "data": vectors(rng, n),
        "languages": [LANGUAGES[i % 2] for i in range(n)],
        "pool": vectors(rng, 2 * n),
        "pool_languages": [LANGUAGES[i % 2] for i in range(2 * n)],
        "n_clusters": 2,
        "n_random": 2,
        "seed": 0,
    },
    tolerance=1e-5,
    says={"data": ""},
    refuses=[f"{a}: {form}" for a in ("data", "pool") for form in ("list", "rows")],
)
entry(
    "evaluation.selection_diversity (texts)",
    diversity.selection_diversity,
    {"data": "texts", "languages": "languages", "pool": "texts"},
    lambda rng, n: {
        "data": ["abcdefgh"[i % 8 :] for i in range(n)],
        "languages": ["de"] * n,
        "pool_languages": ["de"] * 2 * n,
        "pool": ["abcdefgh"[i % 8 :] for i in range(2 * n)],
        "n_random": 2,
        "model": LetterEncoder(),
    },
    tolerance=1e-5,
    says={"data": "", "pool": ""},
)
