"""What the Ray engine costs on one machine: scoring and selecting one pool, locally and on 1 and 2 workers.

    python benchmarks/distributed_ray.py --rows 100000

Prints the seconds of each side (starting Ray separately), the ratio to the local engine, and whether the selections
are equal.
On one machine the local engine is the limit: the Ray engine does the same work, and also moves the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from common import LANGUAGES, made_up_texts

BUDGET = {"n_quality": 600, "n_diversity": 100}


def make_pool(rows: int, path: str) -> None:
    """Made-up pairs in 18 languages."""
    from datasets import Dataset

    texts = made_up_texts(2 * rows)
    columns = {"prompt": texts[:rows], "response": texts[rows:], "language": [LANGUAGES[i % 18] for i in range(rows)]}
    Dataset.from_dict(columns).to_parquet(path)


def digest(result) -> str:
    """Of scores, clusters and reasons of all rows."""
    import hashlib

    parts = (result["scores"].tobytes(), result["clusters"].tobytes(), "|".join(result["reasons"]).encode())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def local(path: str) -> dict:
    from datasets import Dataset

    from hf_mlalign import MDaQSelector

    ds, start = Dataset.from_parquet(path), time.perf_counter()
    result = MDaQSelector(**BUDGET).fit(ds).result_
    seconds = time.perf_counter() - start
    return {"start": 0.0, "seconds": seconds, "digest": digest(vars(result))}


def on_ray(path: str, workers: int) -> dict:
    import numpy as np

    from hf_mlalign import MDaQSelector
    from hf_mlalign.core.ray import session
    from hf_mlalign.distributed import select, to_dataset

    begin = time.perf_counter()
    with session(workers=workers) as ray:
        ray.data.DataContext.get_current().enable_progress_bars = False
        start = time.perf_counter()
        found = to_dataset(select(ray.data.read_parquet(path), MDaQSelector(**BUDGET), concurrency=workers))
        seconds = time.perf_counter() - start
    scores, clusters = np.array(found["quality_score"][:], np.float32), np.array(found["cluster"][:], np.int32)
    same = digest({"scores": scores, "clusters": clusters, "reasons": found["selection_reason"][:]})
    return {"start": start - begin, "seconds": seconds, "digest": same}


def child(side: str, path: str) -> dict:
    """A fresh process a side, so that no model is loaded yet."""
    command = [sys.executable, __file__, "--side", side, "--pool", path]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--side")
    parser.add_argument("--pool")
    options = parser.parse_args()
    if options.side:
        found = local(options.pool) if options.side == "local" else on_ray(options.pool, int(options.side))
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pool.parquet")
        make_pool(options.rows, path)
        sides = {side: child(side, path) for side in ("local", "1", "2")}
    base = sides["local"]
    print(f"{options.rows:,} rows, 18 languages, bundled models, one thread a process")
    for side, found in sides.items():
        name = "local engine" if side == "local" else f"Ray, {side} worker{'s' * (side != '1')}"
        same = "equal" if found["digest"] == base["digest"] else "NOT EQUAL"
        seconds, ratio = found["seconds"], found["seconds"] / base["seconds"]
        rate = f"{options.rows / seconds:9,.0f} rows/s  start of Ray {found['start']:5.1f} s"
        print(f"{name:16} {seconds:7.1f} s  {ratio:5.2f} x  {rate}  {same}")


if __name__ == "__main__":
    main()
