"""Claim: cluster + select over 1,000,000 rows × 256 in 18 languages costs at most 1.25 × the bare faiss k-means, and
memory at most 1.5 times the embedding matrix (which is part of it).

    python benchmarks/mdaq_selection.py

Each side runs in its own process. The bare side calls `faiss.Kmeans` with the same clusters, iterations, sampling and
seed for each language and assigns its rows; it selects nothing.
"""

import argparse
import resource
import time

import numpy as np
from common import LANGUAGES, in_child, made_up_vectors, report


def pool(rows: int):
    vectors = made_up_vectors(rows)
    languages = np.array(LANGUAGES)[np.arange(rows) % len(LANGUAGES)]
    scores = np.random.default_rng(1).standard_normal(rows).astype(np.float32)
    return vectors, languages, scores


def ours(rows: int, clusters: int) -> dict:
    import faiss  # noqa: F401 - the base memory of both sides holds the library

    from hf_mlalign import MDaQSelector

    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    vectors, languages, scores = pool(rows)
    start = time.perf_counter()
    result = MDaQSelector(6000, 1000, n_clusters=clusters).select_from(scores, languages, vectors)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "selected": len(result.selected), "matrix": vectors.nbytes, "base": base}


def bare(rows: int, clusters: int) -> dict:
    import faiss

    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    vectors, languages, _ = pool(rows)
    parts = [np.flatnonzero(languages == name) for name in LANGUAGES]
    start = time.perf_counter()
    for part in parts:
        x = vectors[part]
        kmeans = faiss.Kmeans(x.shape[1], clusters, niter=20, seed=0, spherical=True, max_points_per_centroid=64)
        kmeans.train(x)
        kmeans.index.search(x, 1)
    return {"seconds": time.perf_counter() - start, "matrix": vectors.nbytes, "base": base}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=500, help="per language")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    runs = [(in_child(ours, options.rows, options.clusters), in_child(bare, options.rows, options.clusters))
            for _ in range(options.repeats)]  # fmt: skip
    seconds = [sorted(run[side]["seconds"] for run in runs)[len(runs) // 2] for side in (0, 1)]
    memory = [max(run[side]["peak"] - run[side]["base"] for run in runs) / runs[0][0]["matrix"] for side in (0, 1)]
    report("cluster + select", rows=options.rows, clusters_per_language=options.clusters,
           seconds_ours=round(seconds[0], 2), seconds_bare_faiss=round(seconds[1], 2),
           ratio=round(seconds[0] / seconds[1], 3), memory_over_matrix_ours=round(memory[0], 3),
           memory_over_matrix_bare=round(memory[1], 3), selected=runs[0][0]["selected"])  # fmt: skip


if __name__ == "__main__":
    main()
