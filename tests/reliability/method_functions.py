"""Public functions of `hf_mlalign.cmalign` and `hf_mlalign.spontaneous`, and offline judges."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset

from hf_mlalign.cmalign import builder, consistency, lint, pairs, samples
from hf_mlalign.data import languages
from hf_mlalign.evaluation.judges import base, rules, run
from hf_mlalign.generation import requests
from hf_mlalign.mdaq import selector
from hf_mlalign.spontaneous import QuestionTranslationBuilder
from hf_mlalign.spontaneous.classification import stats
from hf_mlalign.spontaneous.lens import distances, parallel_prompts
from tests.reliability.public_functions import LetterEncoder, entry, vectors

LANGUAGES = ("de", "en", "sw")

entry(
    "cmalign.self_consistency",
    consistency.self_consistency,
    {"embeddings": "vectors", "groups": "codes"},
    lambda rng, n: {"embeddings": vectors(rng, n), "groups": np.arange(n) // 2},
    tolerance=1e-5,
    says={"embeddings": ""},
)
entry(
    "cmalign.cross_consistency",
    consistency.cross_consistency,
    {"embeddings": "vectors", "references": "vectors", "prompts": "codes"},
    lambda rng, n: {"embeddings": vectors(rng, n), "references": vectors(rng, n), "prompts": np.arange(n) // 2},
    tolerance=1e-5,
    accepts=["references: NaN", "references: too long", "references: too short"],
    says={"embeddings": "", "references": ""},
)
entry(
    "cmalign.language_means",
    consistency.language_means,
    {"embeddings": "vectors", "languages": "codes", "n_languages": "whole"},
    lambda rng, n: {"embeddings": vectors(rng, n), "languages": np.arange(n) % 2, "n_languages": 2},
    tolerance=1e-5,
    says={"embeddings": ""},
)
entry(
    "cmalign.agreement",
    consistency.agreement,
    {"answers": "codes", "prompts": "codes", "voters": "codes"},
    lambda rng, n: {"answers": np.arange(n) % 3, "prompts": np.arange(n) // 2, "voters": np.ones(n, int)},
    accepts=["voters: negative"],
    says={"answers": ""},
    unnamed=["voters"],
)
entry(
    "cmalign.choose_pairs",
    pairs.choose_pairs,
    {"policy": "name", "scores": "numbers", "groups": "codes", "keys": "numbers"},
    lambda rng, n: {
        "policy": "best_random",
        "scores": rng.integers(0, 9, n) / 8,
        "groups": np.arange(n) // 3,
        "keys": rng.random(n),
    },
    says={"scores": ""},
    accepts=["scores: NaN", "scores: missing", "groups: negative", "scores: infinity"],
)


def sample_table(n: int) -> Dataset:
    rows = [
        {
            "prompt_id": f"p{i // 4}",
            "language": LANGUAGES[1 - i // 2 % 2],
            "prompt": f"Which letter, {i // 4}?",
            "response": f"It is the letter {'abcdefgh'[i % 8]}, {'abc'[: i % 3]}.",
            "finish_reason": "stop",
        }
        for i in range(n)
    ]
    return Dataset.from_list(rows)


def built(ds: Any = None, **options: Any) -> Any:
    options = {"require_language": False, "min_chars": 1, **options}
    return builder.CMAlignPreferenceBuilder(model=LetterEncoder(), **options).build(ds)


BUILDER = {
    "reward": "name",
    "policy": "name",
    "min_margin": "share",
    "max_length_ratio": "share",
    "min_reference_consistency": "share",
    "seed": "whole",
    "output_format": "name",
    "answer_kind": "name",
    "min_chars": "whole",
}
entry(
    "cmalign.CMAlignPreferenceBuilder",
    built,
    {"ds": "dataset"},
    lambda rng, n: {"ds": sample_table(2 * n)},
    says={"ds": ""},
)
entry(
    "cmalign.CMAlignPreferenceBuilder (options)",
    lambda ds, **options: builder.CMAlignPreferenceBuilder(
        model=LetterEncoder(), require_language=False, **options
    ).build(ds),
    BUILDER,
    lambda rng, n: {
        "ds": sample_table(2 * n),
        "reward": "embedding",
        "policy": "best_worst",
        "min_margin": 0.0,
        "max_length_ratio": 9.0,
        "min_reference_consistency": -1.0,
        "seed": 0,
        "output_format": "conversational",
        "answer_kind": "auto",
        "min_chars": 1,
    },
    accepts=["max_length_ratio: infinity", "min_reference_consistency: negative"],
)
entry(
    "cmalign.CMAlignPreferenceBuilder (embeddings)",
    lambda ds, embeddings: builder.CMAlignPreferenceBuilder(
        reward="embedding", require_language=False, min_chars=1
    ).build(ds, embeddings),
    {"embeddings": "vectors"},
    lambda rng, n: {"ds": sample_table(2 * n), "embeddings": vectors(rng, 2 * n)},
    accepts=["embeddings: None"],
    tolerance=1e-5,
)
entry(
    "cmalign.read_samples",
    lambda ds: samples.read_samples(ds).texts,
    {"ds": "dataset"},
    lambda rng, n: {"ds": sample_table(2 * n)},
    says={"ds": ""},
)
entry(
    "cmalign.lint_preferences",
    lint.lint_preferences,
    {"ds": "dataset", "sample": "whole", "seed": "whole"},
    lambda rng, n: {
        "ds": Dataset.from_dict(
            {
                "prompt": ["Hi?"] * n,
                "chosen": [f"yes {i}" for i in range(n)],
                "rejected": ["no"] * n,
                "language": ["en"] * n,
            }
        ),
        "sample": 10,
        "seed": 0,
    },
    says={"ds": ""},
    accepts=["ds: no rows"],
)


def judged(rng: np.random.Generator, n: int) -> dict[str, Any]:
    return {
        "prompts": [f"Which letter, {i}?" for i in range(n)],
        "a": ["abcd"[: i % 3 + 1] for i in range(n)],
        "b": ["abcdef"[i % 3 :] for i in range(n)],
        "languages": [LANGUAGES[i % 3] for i in range(n)],
        "references": ["abc"] * n,
    }


JUDGED = {"prompts": "texts", "a": "texts", "b": "texts", "languages": "languages", "references": "texts"}
OPTIONAL = [
    "languages: None",
    "languages: missing",
    "languages: NaN",
    "references: None",
    "references: missing",
    "references: NaN",
    "languages: blank",
]
LANGUAGE_JUDGE = rules.LanguageJudge(languages.LanguageIdentifier(LANGUAGES))
entry("evaluation.check_answer_pairs", base.check_answer_pairs, JUDGED, judged, accepts=OPTIONAL)
entry(
    "evaluation.SimilarityJudge",
    rules.SimilarityJudge(LetterEncoder()).compare,
    JUDGED,
    judged,
    accepts=OPTIONAL,
    tolerance=1e-6,
)
entry("evaluation.LengthJudge", rules.LengthJudge().compare, JUDGED, judged, accepts=OPTIONAL)
entry("evaluation.LanguageJudge", LANGUAGE_JUDGE.compare, JUDGED, judged, accepts=OPTIONAL)
entry(
    "evaluation.run_judge",
    lambda **k: base.run_judge(lambda prompts, a, b: np.full(len(a), 0.5), **k),
    {x: JUDGED[x] for x in ("prompts", "a", "b", "languages")},
    lambda rng, n: {k: v for k, v in judged(rng, n).items() if k != "references"},
    accepts=OPTIONAL,
)
entry(
    "evaluation.checked",
    base.checked,
    {"values": "numbers"},
    lambda rng, n: {"values": rng.random(n), "n": n, "judge": rules.LengthJudge()},
    accepts=["values: NaN", "values: missing"],
    says={"values": "judge"},
)


def answer_table(n: int) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt": [f"Which letter, {i}?" for i in range(n)],
            "candidate": ["abcd"[: i % 3 + 1] for i in range(n)],
            "baseline": ["abcdef"[i % 3 :] for i in range(n)],
            "language": [LANGUAGES[i % 3] for i in range(n)],
            "prompt_id": [str(i) for i in range(n)],
        }
    )


entry(
    "evaluation.read_answer_pairs",
    run.read_answer_pairs,
    {"ds": "dataset"},
    lambda rng, n: {"ds": answer_table(n)},
    says={"ds": ""},
    accepts=["ds: no rows"],
)
entry(
    "evaluation.judge_dataset",
    lambda ds: run.judge_dataset(ds, rules.LengthJudge()),
    {"ds": "dataset"},
    lambda rng, n: {"ds": answer_table(n)},
    says={"ds": ""},
    accepts=["ds: no rows"],
)
entry(
    "generation.read_prompts",
    requests.read_prompts,
    {"ds": "dataset"},
    lambda rng, n: {"ds": answer_table(n)},
    says={"ds": ""},
    accepts=["ds: no rows"],
)

entry(
    "spontaneous.geometry",
    distances.geometry,
    {"states": "vectors", "languages": "languages", "ids": "ids", "english": "name", "components": "whole"},
    lambda rng, n: {
        "states": rng.integers(-9, 9, (n, n, 4)).astype(np.float32),
        "languages": [LANGUAGES[i % 2] for i in range(n)],
        "ids": [str(i // 2) for i in range(n)],
        "english": "en",
        "components": 2,
    },
    unnamed=["states"],
    accepts=["ids: None", "states: too long", "states: too short", "ids: a list inside", "ids: an object inside"],
    tolerance=1e-3,
)


def accuracy(**columns: Any) -> Any:
    import pandas as pd

    options = {name: columns.pop(name) for name in ("confidence", "seed", "seen")}
    return stats.accuracy_table(pd.DataFrame(columns), **options)


entry(
    "spontaneous.accuracy_table",
    accuracy,
    {"confidence": "share", "seed": "whole", "seen": "name"},
    lambda rng, n: {
        "id": [str(i // 2) for i in range(n)],
        "language": [LANGUAGES[i % 2] for i in range(n)],
        "prediction": [i % 2 for i in range(n)],
        "correct": [bool(i % 2) for i in range(n)],
        "confidence": 0.9,
        "seed": 0,
        "seen": ["de"],
    },
    says={"seen": ""},
)


def question_table(n: int) -> Dataset:
    return Dataset.from_dict(
        {
            "id": [str(i // 2) for i in range(2 * n)],
            "language": ["en", "de"] * n,
            "question": [f"What is number {i}?" for i in range(2 * n)],
        }
    )


entry(
    "spontaneous.QuestionTranslationBuilder",
    lambda ds, **o: QuestionTranslationBuilder(**o).build(ds),
    {
        "ds": "dataset",
        "direction": "name",
        "mix": "name",
        "n_per_language": "whole",
        "template": "name",
        "test_size": "share",
        "seed": "whole",
        "languages": "name",
    },
    lambda rng, n: {
        "ds": question_table(n),
        "direction": "x-en",
        "mix": "even",
        "n_per_language": 3,
        "template": "general",
        "test_size": 0.0,
        "seed": 0,
        "languages": ["de"],
    },
    says={"ds": ""},
)
entry(
    "spontaneous.read_parallel",
    parallel_prompts.read_parallel,
    {"ds": "dataset", "limit": "whole", "english": "name"},
    lambda rng, n: {
        "ds": Dataset.from_dict(
            {
                "id": [str(i // 2) for i in range(2 * n)],
                "language": ["en", "de"] * n,
                "prompt": [f"What {i}?" for i in range(2 * n)],
                "answer": ["yes", "ja"] * n,
            }
        ),
        "limit": 3,
        "english": "en",
    },
    says={"ds": ""},
)


def pool_table(n: int) -> Dataset:
    return Dataset.from_dict(
        {
            "instruction": [f"Say {i}" for i in range(n)],
            "output": ["abcdefgh"[i % 8 :] for i in range(n)],
            "language": [LANGUAGES[i % 2] for i in range(n)],
        }
    )


def chosen(ds: Any, **options: Any) -> Any:
    return selector.MDaQSelector(**{"n_quality": 2, "n_diversity": 1, **options}).fit(ds).result_


def scored_pool(rng: np.random.Generator, n: int) -> Dataset:
    return (
        pool_table(n)
        .add_column("quality_score", (-rng.random(n)).astype(np.float32))
        .add_column("embedding", [list(map(float, row)) for row in vectors(rng, n)])
    )


entry(
    "mdaq.MDaQSelector",
    chosen,
    {
        "ds": "dataset",
        "n_quality": "whole",
        "n_diversity": "whole",
        "n_clusters": "whole",
        "seed": "whole",
        "method": "name",
        "budgets": "name",
    },
    lambda rng, n: {
        "ds": scored_pool(rng, 2 * n),
        "n_quality": 2,
        "n_diversity": 1,
        "n_clusters": 2,
        "seed": 0,
        "method": "das",
        "budgets": "each",
    },
    says={"ds": ""},
    tolerance=1e-5,
)
