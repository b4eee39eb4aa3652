"""Scores the shards of a curation on Ray; the driver writes them to its disk as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.ray import Held, cores, gpus, import_ray, session, submit
from hf_mlalign.mdaq.scorer import MDaQScorer
from hf_mlalign.mdaq.shards import score_shard

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

AHEAD = 2
"""Shards per core in progress at a time (*ours*): one being scored, one waiting with its texts."""


@dataclass
class RayEngine:
    """Scores shards by tasks on a Ray cluster: `mdaq.shards.score_in_shards(…, engine=RayEngine(…))`.

    The driver sends the texts of a shard with their row numbers and writes the results in the order in which they
    arrive. Two shards per core are in progress at any time. Each worker process loads the model once. If a worker or
    node dies, its shard is scored again elsewhere. If the driver dies, the next run scores what is missing on disk.

    Args:
        address: address of a running cluster, or "auto"; `None`: a new Ray instance with all cores, which ends with
            this process.
        workers: cores to use; default: all (one per GPU if there are GPUs).
    Raises:
        DataError: Ray is not installed, or, later, no cluster answers at the address.
    """

    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        import_ray()

    @property
    def record(self) -> dict[str, Any]:
        """The entry of a run's record, which may be published: it does not contain the cluster's address."""
        return {"name": "ray", "cluster": "own" if self.address is None else "given"}

    def __call__(
        self,
        texts: Dataset,
        scorer: MDaQScorer,
        missing: Sequence[tuple[int, int]],
        batch_rows: int,
        progress: Callable[[int], None],
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(begin, scores, float16 vectors) of each missing shard, as they arrive."""
        if not missing:
            return
        tables = texts.with_format("arrow")
        with session(self.address, self.workers) as ray:
            held, options = Held(scorer), {"num_gpus": 1} if gpus() else {}
            most = AHEAD * (self.workers or gpus() or cores())
            waiting, running = list(reversed(missing)), {}
            while waiting or running:
                while waiting and len(running) < most:
                    begin, end = waiting.pop()
                    task = submit(_score_shard, held, tables[begin:end], begin, batch_rows, **options)[0]
                    running[task] = begin, end
                (done,), _ = ray.wait(list(running))
                begin, end = running.pop(done)
                yield begin, *ray.get(done)
                progress(end - begin)


def _score_shard(held: Held, table: pa.Table, begin: int, batch_rows: int) -> tuple[Any, Any]:
    return score_shard(
        held.get(), lambda a, b: table.slice(a - begin, b - a).to_pydict(), begin, begin + len(table), batch_rows
    )
