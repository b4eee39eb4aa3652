"""Scoring the shards of a curation on Ray, kept on the driver's disk as they arrive."""

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
"""Shards a core that are under way at a time (*ours*): one in work, one waiting with its texts."""


@dataclass
class RayEngine:
    """Scores shards by tasks on a Ray cluster: `mdaq.shards.score_in_shards(…, engine=RayEngine(…))`.

    The driver sends the texts of a shard with its row numbers and writes what comes back, in whatever order. At any
    time two shards a core are under way. Each worker process loads the model once. A shard whose worker or node
    dies is scored again elsewhere; when the driver dies, the next run asks for what is missing on disk.

    Args:
        address: of a running cluster, or "auto"; `None`: a Ray instance of this process's own, with all cores, that
            ends with it.
        workers: cores to use; default all there are (one per GPU where there are GPUs).
    Raises:
        DataError: Ray is not installed; later: nothing answers at the address.
    """

    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        import_ray()

    @property
    def record(self) -> dict[str, Any]:
        """What a run's record, which may be published, says of the engine: whose cluster, not its address."""
        return {"name": "ray", "cluster": "own" if self.address is None else "given"}

    def __call__(
        self,
        texts: Dataset,
        scorer: MDaQScorer,
        missing: Sequence[tuple[int, int]],
        batch_rows: int,
        progress: Callable[[int], None],
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(begin, scores, float16 vectors) of each missing shard, as they come."""
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
