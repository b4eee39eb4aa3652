"""DAS against exact maximal marginal relevance: time, mean quality and coverage side by side.

    python benchmarks/mdaq_mmr.py [--data expert_revisions.parquet]

With --data, on real pairs (raw and revised responses pooled, scored by the bundled model); without it, on made-up ones.
"""

import argparse
import time

import numpy as np
from common import made_up_vectors, report

from hf_mlalign.mdaq.selection import Pool, select
from hf_mlalign.models.clustering import cluster, coverage, default_n_clusters


def real_pool(path: str) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd

    from hf_mlalign import MDaQScorer

    rows = pd.read_parquet(path)
    prompts = (rows["raw_instruction"] + "\n\n" + rows["raw_input"]).tolist() * 2
    responses = [*rows["raw_response"], *rows["revised_response"]]
    columns = MDaQScorer(embeddings=True)({"prompt": prompts, "response": responses})
    scores = np.array([np.nan if s is None else s for s in columns["quality_score"]], dtype=np.float32)
    return columns["embedding"][~np.isnan(scores)], scores[~np.isnan(scores)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="expert_revisions.parquet")
    parser.add_argument("--rows", type=int, default=40_000, help="rows to make up without --data")
    parser.add_argument("--quality", type=int, default=857)
    parser.add_argument("--diversity", type=int, default=143)
    options = parser.parse_args()
    if options.data:
        vectors, scores = real_pool(options.data)
    else:
        vectors = made_up_vectors(options.rows)
        scores = np.random.default_rng(1).standard_normal(options.rows).astype(np.float32)
    judge = cluster(vectors, n_clusters=1000, seed=7).labels
    budget = (options.quality, options.diversity)
    for name, method, extra in [
        ("das", "das", {}), ("quality alone", "quality", {}), ("random", "random", {}),
        ("mmr 0.9", "mmr", {"trade_off": 0.9}), ("mmr 0.7", "mmr", {"trade_off": 0.7}), ("mmr 0.5", "mmr", {}),
    ]:  # fmt: skip
        start = time.perf_counter()
        k = default_n_clusters(len(scores), *budget)
        clusters = cluster(vectors, n_clusters=k).labels if method == "das" else None
        rows = select(method, Pool(scores, clusters=clusters, embeddings=vectors), *budget, **extra).indices
        seconds = time.perf_counter() - start
        report("against MMR", side=name, rows=len(scores), seconds=round(seconds, 2), selected=len(rows),
               mean_quality=round(float(scores[rows].mean()), 4), pool_quality=round(float(scores.mean()), 4),
               covers_judging_clusters=round(coverage(judge[rows], judge).share, 4))  # fmt: skip


if __name__ == "__main__":
    main()
