"""Speed and memory of `CMAlignPreferenceBuilder.build` on given embeddings, against bare matrix products on the same
arrays and against a Python loop over prompts in the style of MAPO's and LaCoMSA's scripts.

    OMP_NUM_THREADS=1 python benchmarks/cmalign_build.py [--prompts 20000] [--samples 8] [--loop-prompts 1000]
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.table import InMemoryTable
from threadpoolctl import threadpool_limits

from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder

LANGUAGES = ("en", "de", "es", "fr", "ja", "ru", "sw", "zh")
DIMENSION = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[5000, 10000, 20000])
    parser.add_argument("--samples", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--loop-prompts", type=int, default=1000)
    args = parser.parse_args()
    heads = ("prompts", "samples", "rows", "build, s", "products, s", "normalise + products, s", "all cosines, s",
             "loop, s", "build ÷ products", "build ÷ normalise + products", "build ÷ all cosines", "loop ÷ build",
             "memory above the input, MiB")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    sizes = [(prompts, 8) for prompts in args.prompts]
    sizes += [(max(args.prompts) // 2, samples) for samples in args.samples if samples != 8]
    for prompts, samples in sizes:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # so that each has a peak of its own
            print(fresh.submit(measure, prompts, samples, args.loop_prompts).result(), flush=True)


def measure(prompts: int, samples: int, loop_prompts: int) -> str:
    """One line of the table."""
    with threadpool_limits(limits=1):
        return _measure(prompts, samples, loop_prompts)


def _measure(prompts: int, samples: int, loop_prompts: int) -> str:
    loop_prompts = min(loop_prompts, prompts)
    ds, vectors = make(prompts, samples)
    cube = vectors.reshape(prompts, len(LANGUAGES), samples, DIMENSION)
    builder = CMAlignPreferenceBuilder("embedding", require_language=False)
    before = resident()
    builder.build(ds, embeddings=vectors)
    memory = peak() - before
    built = best(lambda: builder.build(ds, embeddings=vectors))
    bare = best(lambda: products(cube))
    normed = best(lambda: products(cube / np.linalg.norm(cube, axis=-1, keepdims=True)))
    every = best(lambda: all_cosines(cube))
    loop = best(lambda: loop_build(ds, vectors, loop_prompts, samples), 1) * prompts / loop_prompts
    rows = prompts * len(LANGUAGES) * samples
    cells = [f"{prompts:,}", str(samples), f"{rows:,}"]
    cells += [f"{seconds:.3f}" for seconds in (built, bare, normed, every, loop)]
    cells += [f"{ratio:.1f}" for ratio in (built / bare, built / normed, built / every, loop / built)]
    return f"| {' | '.join(cells)} | {memory:,.0f} |"


def make(prompts: int, samples: int) -> tuple[Dataset, np.ndarray]:
    """Samples with random unit vectors around one centre a prompt."""
    rng = np.random.default_rng(0)
    rows = prompts * len(LANGUAGES) * samples
    vectors = np.empty((rows, DIMENSION), np.float32)
    for part in vectors.reshape(prompts, rows // prompts, DIMENSION):  # in place: the peak must not be set here
        rng.standard_normal(out=part, dtype=np.float32)
        part += rng.standard_normal(DIMENSION, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    place = np.arange(rows)
    prompt = place // (rows // prompts)
    ids = pa.array([f"prompt-{i:06d}" for i in range(prompts)])
    questions = pa.array([f"Question number {i}: what should one do about it, and why?" for i in range(prompts)])
    table = pa.table(
        {
            "prompt_id": ids.take(pa.array(prompt)),
            "language": pa.array(LANGUAGES).take(pa.array(place // samples % len(LANGUAGES))),
            "prompt": questions.take(pa.array(prompt)),
            "response": pa.array([f"Answer number {i}, in so many words, for the benchmark." for i in range(rows)]),
        }
    )
    return Dataset(InMemoryTable(table)), vectors


def products(cube: np.ndarray) -> list[np.ndarray]:
    """The least the method needs, for unit vectors: English Gram matrices, and every sample times a reference."""
    english = cube[:, 0]
    gram = np.matmul(english, english.transpose(0, 2, 1))
    return [gram, np.einsum("plnd,pd->pln", cube, english[:, 0])]


def all_cosines(cube: np.ndarray) -> list[np.ndarray]:
    """Each sample with its siblings, and with all English samples of its prompt."""
    p, n_languages, n, d = cube.shape
    flat = cube.reshape(p * n_languages, n, d)
    english = np.ascontiguousarray(cube[:, 0])
    cross = np.matmul(cube.reshape(p, n_languages * n, d), english.transpose(0, 2, 1))
    return [np.matmul(flat, flat.transpose(0, 2, 1)), cross]


def loop_build(ds: Dataset, vectors: np.ndarray, prompts: int, samples: int) -> list[dict]:
    """Prompt by prompt, language by language, pair by pair, as the published scripts do it."""
    per_prompt = len(LANGUAGES) * samples
    rows = ds.select(range(prompts * per_prompt)).to_list()
    pairs = []
    for start in range(0, len(rows), per_prompt):
        by_language: dict[str, list[int]] = {}
        for i in range(start, start + per_prompt):
            by_language.setdefault(rows[i]["language"], []).append(i)
        english = by_language["en"]
        mean = [np.mean([cosine(vectors[i], vectors[j]) for j in english if j != i]) for i in english]
        reference = english[int(np.argmax(mean))]
        for language, members in by_language.items():
            if language == "en":
                continue
            scores = [cosine(vectors[i], vectors[reference]) for i in members]
            best_row, worst_row = members[int(np.argmax(scores))], members[int(np.argmin(scores))]
            pairs.append(
                {
                    "prompt": [{"role": "user", "content": rows[best_row]["prompt"]}],
                    "chosen": [{"role": "assistant", "content": rows[best_row]["response"]}],
                    "rejected": [{"role": "assistant", "content": rows[worst_row]["response"]}],
                    "language": language,
                    "margin": max(scores) - min(scores),
                }
            )
    return pairs


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors."""
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def best(run, times: int = 3) -> float:
    """Shortest of several processor times of this process, in seconds (it runs one thread)."""
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def resident() -> float:
    """Resident size of this process now, MiB."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def peak() -> float:
    """Largest resident size of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
