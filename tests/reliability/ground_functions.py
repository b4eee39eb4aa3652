"""Public functions of the ground modules and of `hf_mlalign.mdaq`."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mlalign.core import validation
from hf_mlalign.data import columns, languages
from hf_mlalign.data.answers import extract
from hf_mlalign.mdaq import baselines, options, selection
from hf_mlalign.mdaq.quality import accuracy, scorer
from hf_mlalign.models import clustering, encoder
from tests.reliability.public_functions import LetterEncoder, entry, sizes, vectors

entry(
    "core.as_numbers",
    validation.as_numbers,
    {"values": "numbers"},
    lambda rng, n: {"values": rng.random(n), "name": "values", "n": n},
    accepts=["values: NaN", "values: missing", "values: infinity"],
)
entry(
    "core.as_vectors",
    validation.as_vectors,
    {"embeddings": "vectors"},
    lambda rng, n: {"embeddings": vectors(rng, n)},
    accepts=[*sizes("embeddings"), "embeddings: NaN", "embeddings: infinity", "embeddings: no columns"],
)
entry(
    "core.finite_vectors",
    validation.finite_vectors,
    {"embeddings": "vectors"},
    lambda rng, n: {"embeddings": vectors(rng, n), "n": n},
)
entry(
    "core.as_codes",
    lambda **k: np.asarray(validation.as_codes(**k), np.int64),
    {"codes": "codes"},
    lambda rng, n: {"codes": rng.integers(0, 9, n), "n": n, "name": "codes"},
)
entry(
    "core.as_list",
    validation.as_list,
    {"values": "texts"},
    lambda rng, n: {"values": [str(i) for i in range(n)], "name": "values", "n": n},
    accepts=[
        f"values: {x}"
        for x in ("a number inside", "bytes inside", "a list inside", "an object inside", "NaN", "missing")
    ],
)
entry(
    "core.as_texts",
    validation.as_texts,
    {"values": "texts"},
    lambda rng, n: {"values": [str(i) for i in range(n)], "name": "values", "n": n},
)
entry("core.check_whole", validation.check_whole, {"value": "whole"}, lambda rng, n: {"value": 3, "name": "value"})
entry(
    "data.check_languages",
    languages.check_languages,
    {"codes": "languages"},
    lambda rng, n: {"codes": [("de", "pt-BR", "Swahili")[i % 3] for i in range(n)]},
    accepts=sizes("codes"),
    says={"codes": "languages"},
)
entry(
    "data.extract_answers",
    extract.extract_answers,
    {"texts": "texts", "languages": "texts", "prompts": "texts", "kind": "name"},
    lambda rng, n: {
        "texts": [f"The answer is {i}." for i in range(n)],
        "languages": ["de"] * n,
        "prompts": ["How many?"] * n,
        "kind": "number",
    },
    accepts=[
        "texts: NaN",
        "texts: missing",
        "prompts: NaN",
        "prompts: missing",
        "prompts: None",
        "languages: None",
        "languages: NaN",
        "languages: missing",
        "languages: one text",
    ],
)
entry(
    "data.answer_codes",
    extract.answer_codes,
    {"answers": "texts"},
    lambda rng, n: {"answers": [str(i % 3) for i in range(n)]},
    accepts=[*sizes("answers"), "answers: NaN", "answers: missing"],
)
entry(
    "data.answer_spans",
    extract.answer_spans,
    {"texts": "texts"},
    lambda rng, n: {"texts": [f"Answer: {i % 3}" for i in range(n)]},
    accepts=[*sizes("texts"), "texts: NaN", "texts: missing"],
)


entry(
    "models.EmbeddingCache",
    lambda texts: encoder.EmbeddingCache(LetterEncoder().encode)(texts),
    {"texts": "texts"},
    lambda rng, n: {"texts": ["abc"[i % 3 :] * (i + 1) for i in range(n)]},
    accepts=sizes("texts"),
)
entry(
    "models.SentenceEncoder.encode",
    encoder.load_encoder().encode,
    {"texts": "texts"},
    lambda rng, n: {"texts": ["abc"[i % 3 :] * (i + 1) for i in range(n)]},
    accepts=sizes("texts"),
)
entry(
    "models.cluster",
    clustering.cluster,
    {
        "embeddings": "vectors",
        "n_clusters": "whole",
        "seed": "whole",
        "n_iter": "whole",
        "max_points_per_centroid": "whole",
        "bad_rows": "name",
    },
    lambda rng, n: {
        "embeddings": vectors(rng, n),
        "n_clusters": 2,
        "seed": 1,
        "n_iter": 5,
        "max_points_per_centroid": 256,
        "bad_rows": "raise",
    },
    tolerance=1e-5,
    accepts=["embeddings: too short", "embeddings: too long", "seed: a list"],
    refuses=[],
)
entry(
    "models.cluster_by_language",
    clustering.cluster_by_language,
    {"embeddings": "vectors", "languages": "texts", "n_clusters": "whole", "seed": "whole"},
    lambda rng, n: {
        "embeddings": vectors(rng, n),
        "languages": [("de", "en")[i % 2] for i in range(n)],
        "n_clusters": 2,
        "seed": 1,
    },
    tolerance=1e-5,
)
entry(
    "models.coverage",
    clustering.coverage,
    {"labels_selected": "codes", "labels_pool": "codes"},
    lambda rng, n: {"labels_selected": np.arange(n) // 2, "labels_pool": np.arange(n)},
    accepts=[
        *sizes("labels_selected"),
        "labels_pool: too long",
        "labels_pool: too short",
        "labels_selected: negative",
        "labels_pool: negative",
    ],
)
entry(
    "models.default_n_clusters",
    clustering.default_n_clusters,
    {"n": "whole", "n_quality": "whole", "n_diversity": "whole"},
    lambda rng, n: {"n": 100 * n, "n_quality": 60, "n_diversity": 10},
)

NAN = ["scores: NaN", "scores: missing", "scores: infinity"]
entry(
    "mdaq.das_select",
    selection.das_select,
    {"scores": "numbers", "clusters": "codes", "n_quality": "whole", "n_diversity": "whole"},
    lambda rng, n: {
        "scores": preferences_of(rng, n),
        "clusters": rng.integers(0, 3, n),
        "n_quality": 2,
        "n_diversity": 1,
    },
    accepts=[*NAN, "clusters: negative"],
    unnamed=["clusters"],
)


def preferences_of(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 9, n) / 8


def selected(method: str, **fields: Any) -> Any:
    options = {name: fields.pop(name) for name in ("n_quality", "n_diversity", "seed")}
    return selection.select(method, selection.Pool(**fields), **options)


FIELDS = {"scores": "numbers", "clusters": "codes", "embeddings": "vectors", "lengths": "lengths"}
for method in ("das", "random", "longest", "quality", "car", "deita", "mmr"):
    needs = selection.METHODS[method].needs if method != "car" else ("scores", "embeddings")
    entry(f"mdaq.select ({method})", lambda method=method, **fields: selected(method, **fields),
          {**{name: FIELDS[name] for name in needs}, "n_quality": "whole", "n_diversity": "whole", "seed": "whole"},
          lambda rng, n, needs=needs: {**{name: value for name, value in {
              "scores": preferences_of(rng, n), "clusters": rng.integers(0, 3, n), "embeddings": vectors(rng, n),
              "lengths": rng.integers(1, 9, n).astype(float)}.items() if name in needs},
              "n_quality": 2, "n_diversity": 1, "seed": 0},
          accepts=[*NAN, "clusters: negative", "lengths: NaN", "lengths: missing", "lengths: infinity",
                   "lengths: negative", "seed: a list",
                   *(sizes("scores") if set(needs) == {"scores"} else ())],
          tolerance=1e-6, unnamed=["clusters"])  # fmt: skip
entry(
    "mdaq.score_order",
    baselines.score_order,
    {"scores": "numbers"},
    lambda rng, n: {"scores": preferences_of(rng, n)},
    accepts=[*NAN, *sizes("scores")],
)
entry(
    "mdaq.quality_select",
    baselines.quality_select,
    {"scores": "numbers", "n": "whole"},
    lambda rng, n: {"scores": preferences_of(rng, n), "n": 2},
    accepts=[*NAN, *sizes("scores")],
)
entry(
    "mdaq.random_select",
    baselines.random_select,
    {"scores": "numbers", "n": "whole", "seed": "whole"},
    lambda rng, n: {"scores": preferences_of(rng, n), "n": 2, "seed": 0},
    accepts=[*NAN, *sizes("scores")],
)
entry(
    "mdaq.longest_select",
    baselines.longest_select,
    {"scores": "numbers", "lengths": "lengths", "n": "whole"},
    lambda rng, n: {"scores": preferences_of(rng, n), "lengths": rng.integers(1, 9, n).astype(float), "n": 2},
    accepts=[*NAN, "lengths: NaN", "lengths: missing", "lengths: infinity", "lengths: negative"],
)
entry(
    "mdaq.deita_select",
    baselines.deita_select,
    {"scores": "numbers", "embeddings": "vectors", "n": "whole", "threshold": "share"},
    lambda rng, n: {"scores": preferences_of(rng, n), "embeddings": vectors(rng, n), "n": 2, "threshold": 0.9},
    accepts=[*NAN, "threshold: negative", "threshold: infinity"],
)
entry(
    "mdaq.mmr_select",
    baselines.mmr_select,
    {"scores": "numbers", "embeddings": "vectors", "n": "whole", "trade_off": "share"},
    lambda rng, n: {"scores": preferences_of(rng, n), "embeddings": vectors(rng, n), "n": 2, "trade_off": 0.5},
    accepts=NAN,
)
entry(
    "mdaq.car_clusters",
    baselines.car_clusters,
    {"embeddings": "vectors", "seed": "whole", "variance": "share", "n_clusters": "whole"},
    lambda rng, n: {"embeddings": vectors(rng, n), "seed": 0, "variance": 0.9, "n_clusters": 2},
    accepts=["seed: a list", "embeddings: too short", "embeddings: too long"],
)
entry(
    "mdaq.principal_components",
    baselines.principal_components,
    {"embeddings": "vectors", "variance": "share"},
    lambda rng, n: {"embeddings": vectors(rng, n), "variance": 0.9},
    accepts=["embeddings: empty", "embeddings: too short", "embeddings: too long"],
    tolerance=1e-4,
)
entry(
    "mdaq.allocate",
    options.allocate,
    {"n_quality": "whole", "n_diversity": "whole", "budgets": "name"},
    lambda rng, n: {"counts": {"de": 5 * n, "sw": n}, "n_quality": 6, "n_diversity": 3, "budgets": "total"},
)

SCORER = scorer.QualityScorer.load()
TEXTS = ("How does rain form?", "Water vapour cools and falls as drops.", "No idea.")
entry(
    "mdaq.QualityScorer.score",
    SCORER.score,
    {"instructions": "texts", "responses": "texts", "batch_size": "whole"},
    lambda rng, n: {"instructions": [TEXTS[0]] * n, "responses": [TEXTS[1 + i % 2] for i in range(n)], "batch_size": 3},
    tolerance=1e-5,
    accepts=["instructions: missing", "responses: missing", "instructions: NaN", "responses: NaN"],
)
TRIPLETS = {"instructions": "texts", "positives": "texts", "negatives": "texts"}


def triplets(rng: np.random.Generator, n: int) -> dict[str, Any]:
    return {
        "instructions": [TEXTS[0]] * n,
        "positives": [TEXTS[1]] * n,
        "negatives": [f"{TEXTS[2]} {i}" for i in range(n)],
    }


entry("mdaq.check_triplets", accuracy.check_triplets, TRIPLETS, triplets)
entry(
    "mdaq.evaluate_pairs",
    lambda **k: accuracy.evaluate_pairs(SCORER, **k),
    {**TRIPLETS, "languages": "texts"},
    lambda rng, n: {**triplets(rng, n), "languages": [("de", "en")[i % 2] for i in range(n)]},
    accepts=["languages: None", *(f"{a}: {b}" for a in TRIPLETS for b in ("missing", "NaN"))],
)
entry(
    "data.clean_clusters",
    columns.clean_clusters,
    {"clusters": "codes", "scores": "numbers"},
    lambda rng, n: {"clusters": rng.integers(0, 4, n), "scores": preferences_of(rng, n)},
    accepts=[
        *NAN,
    ],
    says={"clusters": "cluster", "scores": ""},
)
