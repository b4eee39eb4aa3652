"""Claim: `curate` selects from 10,000,000 scored rows × 256 dimensions on 2 cores with less than 6 GB of memory, and
its selection is that of the in-memory path.

    python benchmarks/mdaq_out_of_core.py --folder /big/disk                                # 0.1 M and 1 M rows
    python benchmarks/mdaq_out_of_core.py --folder /big/disk --rows 100000 1000000 10000000

For each size a Parquet source is made (instruction, response, language, quality_score, embedding as float16; four
languages of uneven size, interleaved row by row; vectors around 2,000 topics of uneven size), `curate` runs in a child
process under a hard memory limit where the system lets us set one, and what it selected is compared with
`MDaQSelector.select_from` on arrays (up to `--compare` rows). In the same run it measures the bandwidth of plain
reads from the same store of vectors, and one assignment to the centroids against a bare `sgemm`.
10 M rows take about 25 GB in the folder; everything is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from common import made_up_vectors, report

DIMENSION, TOPICS, BLOCK = 256, 2000, 50_000
LANGUAGES = {"de": 0.4, "en": 0.3, "ja": 0.2, "sw": 0.1}
STEPS = ("load", "score", "select", "save")


def make_source(folder: Path, rows: int) -> None:
    """Parquet files of five blocks each; a block depends on its number alone, so a small source begins a large one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((TOPICS, DIMENSION), dtype=np.float32)
    weights = rng.pareto(1.5, TOPICS) + 0.1
    writer = None
    for number, begin in enumerate(range(0, rows, BLOCK)):
        table = _block(number, begin, min(BLOCK, rows - begin), centres, weights / weights.sum())
        if number % 5 == 0:
            if writer:
                writer.close()
            writer = pq.ParquetWriter(folder / f"part-{number // 5:05d}.parquet", table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()
    assert pa.types.is_float16(table.schema.field("embedding").type.value_type)


def _block(number: int, begin: int, n: int, centres: np.ndarray, weights: np.ndarray):
    import pyarrow as pa

    rng = np.random.default_rng([1, number])
    topic = rng.choice(TOPICS, size=n, p=weights)
    x = centres[topic] + 1.2 * rng.standard_normal((n, DIMENSION), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = -np.abs(rng.standard_normal(n) + 0.3 * (topic % 7)).astype(np.float32)
    languages = np.array(list(LANGUAGES))[rng.choice(len(LANGUAGES), size=n, p=list(LANGUAGES.values()))]
    return pa.table({
        "instruction": [f"Instruction {begin + i} on topic {t}" for i, t in enumerate(topic.tolist())],
        "response": [f"Response {begin + i}: " + "word " * (1 + i % 20) for i in range(n)],
        "language": pa.array(languages), "quality_score": pa.array(scores),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float16).reshape(-1)), DIMENSION),
    })  # fmt: skip


def curated(source: str, output: str, seed: int, clusters: int | None = None) -> dict:
    """In the child: `curate` from the scored source."""
    from hf_mlalign.mdaq.curation import curate

    done = curate(source, output, seed=seed, n_clusters=clusters, progress=False)
    seconds = {step: done.record.seconds.get(step, 0.0) for step in STEPS}
    return {"selected": len(done.result.selected), "steps": seconds}


def in_memory(source: str, output: str, seed: int, clusters: int | None = None) -> dict:
    """In the child: the same from arrays, and whether every row's cluster and reason are those of the store."""
    import pyarrow.parquet as pq
    from datasets import load_dataset

    from hf_mlalign import MDaQSelector
    from hf_mlalign.data.columns import chunked_column, matrix, numbers

    ds = load_dataset("parquet", data_files=f"{source}/*.parquet", split="train")
    vectors = matrix(chunked_column(ds, "embedding"), "embedding")
    scores = numbers(ds, "quality_score").astype(np.float32)
    selector = MDaQSelector(seed=seed, n_clusters=clusters)
    languages = selector.read_languages(ds)
    start = time.perf_counter()
    result = selector.select_from(scores, languages, vectors)
    seconds = time.perf_counter() - start
    table = pq.read_table(f"{output}/scores.parquet", columns=["cluster", "selection_reason"])
    same = bool((table["cluster"].to_numpy() == result.clusters).all())
    same &= table["selection_reason"].to_pylist() == result.reasons.tolist()
    return {"equal": same, "seconds": seconds, "selected": len(result.selected)}


class Group:
    """A memory control group (version 1) below the one of this process, with a hard limit; `None` where refused."""

    def __init__(self, limit: int):
        self.folder = None
        try:
            lines = Path("/proc/self/cgroup").read_text().splitlines()
            own = next(line.split(":", 2)[2] for line in lines if ":memory:" in line)
            folder = Path("/sys/fs/cgroup/memory") / own.lstrip("/") / f"hf-mlalign-benchmark-{os.getpid()}"
            folder.mkdir()
            self.folder = folder
            (folder / "memory.limit_in_bytes").write_text(str(limit))
        except (OSError, StopIteration):
            self.close()

    def close(self) -> None:
        if self.folder is not None:
            self.folder.rmdir()
            self.folder = None


def child(function: str, *arguments, threads: int, environment: dict, group: Group | None = None) -> dict:
    """What the function returns in a fresh process that joined the group, with its peaks of memory in bytes."""
    joined = str(group.folder / "cgroup.procs") if group and group.folder else ""
    command = [sys.executable, __file__, "--child", json.dumps([function, joined, *arguments])]
    done = subprocess.run(command, env={**os.environ, **environment, "OMP_NUM_THREADS": str(threads)},
                          stdout=subprocess.PIPE, text=True)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{function} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def run_child(call: str) -> None:
    function, joined, *arguments = json.loads(call)
    if joined:
        Path(joined).write_text(str(os.getpid()))
    peak = {"anonymous": 0}
    threading.Thread(target=_watch, args=(peak,), daemon=True).start()
    start = time.perf_counter()
    found = globals()[function](*arguments)
    seconds = time.perf_counter() - start
    peak |= {"anonymous": max(peak["anonymous"], _status("RssAnon")), "resident": _status("VmHWM")}
    processor = sum(os.times()[:2])
    print(json.dumps({"seconds": seconds, "processor_seconds": processor, **found, "peak": peak}))


def _watch(peak: dict) -> None:
    while True:
        peak["anonymous"] = max(peak["anonymous"], _status("RssAnon"))
        time.sleep(0.02)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def read_bandwidth(folder: Path) -> dict:
    """Bytes per second of plainly reading the files, once after asking the system to forget them and once more."""
    files = sorted(folder.glob("*.parquet"))
    for file in files:
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    speeds = []
    for _ in range(2):
        start, total, buffer = time.perf_counter(), 0, bytearray(2**22)
        for file in files:
            with open(file, "rb", buffering=0) as handle:
                while count := handle.readinto(buffer):
                    total += count
        speeds.append(total / (time.perf_counter() - start))
    return {"cold_GB_per_s": round(speeds[0] / 1e9, 2), "warm_GB_per_s": round(speeds[1] / 1e9, 2)}


def arithmetic(clusters: int = 4200, rows: int = 65_536) -> dict:
    """In the child: one assignment of float16 rows (read, cast, scaled, nearest centroid) against a bare product."""
    from hf_mlalign.models import kmeans

    rng = np.random.default_rng(0)
    half = rng.standard_normal((rows, DIMENSION), dtype=np.float32).astype(np.float16)
    centroids = rng.standard_normal((clusters, DIMENSION), dtype=np.float32)
    x, scale = half.astype(np.float32), np.ones(rows, dtype=np.float32)
    work = 2.0 * rows * clusters * DIMENSION
    out = np.empty((2048, clusters), dtype=np.float32)
    threads = int(os.environ["OMP_NUM_THREADS"])
    with kmeans._workers(threads, True) as workers:
        reader = kmeans.Reader(half, kmeans.Rows(np.arange(rows)), scale)
        timings: dict[str, list[float]] = {"assignment": [], "sgemm": []}
        for _ in range(3):
            start = time.perf_counter()
            workers.nearest(reader, centroids)
            middle = time.perf_counter()
            for begin in range(0, rows, 2048):
                np.matmul(x[begin : begin + 2048], centroids.T, out=out)
            timings["assignment"].append(middle - start)
            timings["sgemm"].append(time.perf_counter() - middle)
    speeds = {name: round(work / sorted(times)[1] / 1e9, 1) for name, times in timings.items()}
    return {"assignment_GFLOPS": speeds["assignment"], "sgemm_GFLOPS": speeds["sgemm"],
            "share": round(speeds["assignment"] / speeds["sgemm"], 3)}  # fmt: skip


def training(rows: int = 100_000, clusters: int = 400, n_quality: int = 1200, n_diversity: int = 200) -> dict:
    """In the child: DAS on centroids trained on 64 and on 256 rows each, three seeds: means over the seeds, and their
    spread over the seeds for 256. "other clusters": 2,000 that no side chose by."""
    from hf_mlalign.mdaq.selection import das_select
    from hf_mlalign.models.clustering import cluster, coverage

    x = made_up_vectors(rows)
    rng = np.random.default_rng(1)
    scores = np.tanh(3 * x @ rng.standard_normal((DIMENSION, 8))).sum(axis=1) + rng.standard_normal(rows)
    other = cluster(x, 2000, seed=99, n_iter=10, max_points_per_centroid=32).labels
    found: dict[str, dict] = {}
    for points in (64, 256):
        sides = []
        for seed in range(3):
            start = time.perf_counter()
            got = cluster(x, clusters, seed=seed, max_points_per_centroid=points)
            seconds = time.perf_counter() - start
            chosen = das_select(scores, got.labels, n_quality, n_diversity)
            sides.append([seconds, got.objective, len(chosen), scores[chosen].mean(), scores[chosen[n_quality:]].mean(),
                          coverage(other[chosen], other).share])  # fmt: skip
        names = ("seconds", "mean_cosine", "selected", "mean_score", "mean_score_of_diversity_part",
                 "other_clusters_covered")  # fmt: skip
        found[f"{points} rows a centroid"] = dict(zip(names, np.round(np.mean(sides, axis=0), 4).tolist(), strict=True))
        found[f"{points}, spread"] = dict(zip(names, np.round(np.ptp(sides, axis=0), 4).tolist(), strict=True))
    return found


def exponent(sizes: list[int], values: list[float]) -> float | None:
    """Slope of the least-squares line through (log size, log value)."""
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 3) if len(sizes) > 1 else None


def measure(rows: int, folder: Path, options: argparse.Namespace) -> dict:
    source, output = folder / "source", folder / "curated"
    environment = {"HF_HOME": str(folder / "home"), "HF_DATASETS_CACHE": str(folder / "cache")}
    run = {"threads": options.threads, "environment": environment}
    start = time.perf_counter()
    make_source(source, rows)
    print(f"{rows:,} rows made in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    group = Group(int(options.limit_gb * 1e9))
    try:
        limited = group.folder is not None
        done = child("curated", str(source), str(output), options.seed, options.clusters, group=group, **run)
        peak_of_group = int((group.folder / "memory.max_usage_in_bytes").read_text()) if limited else None
    finally:
        group.close()
    found = {
        "rows": rows, "selected": done["selected"], "seconds": round(done["seconds"], 1), "steps": done["steps"],
        "processor_seconds": round(done["processor_seconds"], 1), "rows_per_s": round(rows / done["seconds"]),
        "peak_anonymous_GB": round(done["peak"]["anonymous"] / 1e9, 3),
        "peak_resident_GB": round(done["peak"]["resident"] / 1e9, 3),
        "resident_bytes_per_row": round(done["peak"]["resident"] / rows),
        "hard_limit_GB": options.limit_gb if limited else None,
        "group_peak_GB": peak_of_group and round(peak_of_group / 1e9, 3), "read": read_bandwidth(source),
    }  # fmt: skip
    if rows <= options.compare:
        other = child("in_memory", str(source), str(output), options.seed, options.clusters, **run)
        found["in_memory"] = {"equal": other["equal"], "seconds": round(other["seconds"], 1),
                              "processor_seconds": round(other["processor_seconds"], 1),
                              "peak_resident_GB": round(other["peak"]["resident"] / 1e9, 3)}  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=None, help="on a disk with room; default the temporary folder")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit-gb", type=float, default=6.0)
    parser.add_argument("--compare", type=int, default=1_000_000, help="compare with the in-memory path up to here")
    parser.add_argument("--clusters", type=int, default=None, help="a language; default: as `curate` chooses")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(options.child)
        return
    results = []
    for rows in options.rows:
        folder = Path(tempfile.mkdtemp(prefix="out-of-core-", dir=options.folder))
        try:
            results.append(measure(rows, folder, options))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        report("out of core", **results[-1])
    limits = child("arithmetic", threads=options.threads, environment={})
    trained = child("training", threads=options.threads, environment={})
    report("rows a centroid is trained on", **{k: v for k, v in trained.items() if "64" in k or "256" in k})
    sizes = [result["rows"] for result in results]
    report("out of core, growth", threads=options.threads, rows=sizes,
           exponent_of_seconds=exponent(sizes, [r["seconds"] for r in results]),
           exponent_of_select=exponent(sizes, [max(r["steps"]["select"], 1e-3) for r in results]),
           exponent_of_memory=exponent(sizes, [r["peak_resident_GB"] for r in results]),
           arithmetic={k: v for k, v in limits.items() if k.endswith(("GFLOPS", "share"))},
           all_equal=all(r["in_memory"]["equal"] for r in results if "in_memory" in r))  # fmt: skip
    assert all(math.isfinite(r["seconds"]) for r in results)


if __name__ == "__main__":
    main()
