"""Shared by the benchmark scripts: made-up texts and vectors, medians of interleaved repeats, child memory."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

LANGUAGES = ("ja", "ko", "ru", "pt", "el", "fr", "de", "es", "ar", "tl", "ms", "nl", "pl", "tr", "vi", "th", "hi", "sw")


def interleaved(
    sides: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each side over `repeats` rounds in which every side runs once."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def in_child(function: Callable[..., dict], *arguments) -> dict:
    """What `function` returns when run in a fresh process, plus that process's peak memory in bytes ("peak")."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (function, arguments))


def _measured(function, arguments) -> dict:
    result = function(*arguments)
    return {**result, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def made_up_texts(n: int, words: int = 16, seed: int = 0) -> list[str]:
    """`n` distinct texts of `words` pieces of the bundled tokenizer's vocabulary (all scripts)."""
    from tokenizers import Tokenizer

    from hf_mlalign.models.encoder import BUNDLED

    vocabulary = Tokenizer.from_file(str(BUNDLED / "encoder" / "tokenizer.json")).get_vocab()
    pieces = np.array(sorted(p.replace("▁", "") for p in vocabulary if len(p) > 3 and "<" not in p))
    drawn = np.random.default_rng(seed).integers(0, len(pieces), size=(n, words))
    return [f"{i} " + " ".join(pieces[row]) for i, row in enumerate(drawn)]


def made_up_vectors(n: int, dimension: int = 256, topics: int = 2000, seed: int = 0) -> np.ndarray:
    """(n, dimension) float32 unit vectors around `topics` centres of uneven size."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((topics, dimension), dtype=np.float32)
    weights = rng.pareto(1.5, topics) + 0.1
    which = rng.choice(topics, size=n, p=weights / weights.sum())
    out = np.empty((n, dimension), dtype=np.float32)
    for begin in range(0, n, 50_000):
        rows = slice(begin, min(begin + 50_000, n))
        out[rows] = centres[which[rows]] + 1.2 * rng.standard_normal(out[rows].shape, dtype=np.float32)
        out[rows] /= np.linalg.norm(out[rows], axis=1, keepdims=True)
    return out


def report(name: str, **figures) -> None:
    """Print the figures as one JSON line, with the machine they were measured on."""
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    print(json.dumps({"benchmark": name, **figures, "machine": machine}, ensure_ascii=False))
