"""The processes started by `accelerate launch` or `torchrun`: the rank of this one, and messages between them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.system_errors import AGAIN

LONGEST_WAIT = timedelta(days=30)
"""How long a process waits for the others; if one of them ends early, it notices at once (*ours*)."""


@dataclass(frozen=True)
class Processes:
    """A group of processes that were started together; without a launcher, only this one.

    Attributes:
        index: of this process; 0 is the main process.
        count: number of processes on all machines.
        device: "cuda:<n>", one GPU per process of a machine; `None` without GPUs or without a launcher.
    """

    index: int = 0
    count: int = 1
    device: str | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the main process."""
        return self.index == 0

    def broadcast(self, value: Any = None) -> Any:
        """Return the main process's `value` in every process; DataError if another process ended."""
        if self.count == 1:
            return value
        values = [value]
        with self._together() as distributed:
            distributed.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Return when every process has called this; DataError if another process ended."""
        if self.count > 1:
            with self._together() as distributed:
                distributed.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.count > 1:
            with self._together() as distributed:
                distributed.destroy_process_group()

    @contextmanager
    def _together(self) -> Iterator[Any]:
        import torch.distributed

        try:
            yield torch.distributed
        except RuntimeError as error:
            raise DataError(
                f"process {self.index} of {self.count}: another process ended before its work was done; its own "
                f"message says why. {AGAIN}"
            ) from error


def join_processes() -> Processes:
    """The group of processes that a launcher started with this one.

    The processes communicate over TCP (gloo), even with GPUs: they exchange little, and waiting on a GPU would block
    it.

    Raises:
        DataError: this machine has GPUs, but fewer than processes.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return Processes()
    import torch.distributed

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    gpus, local = (0 if on_cpu else torch.cuda.device_count()), int(os.environ.get("LOCAL_RANK", 0))
    if gpus and local >= gpus:
        raise DataError(f"process {local} of this machine has no GPU: there are {gpus}. Launch --num_processes {gpus}.")
    index, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return Processes(index, count, f"cuda:{local}" if gpus else None)


def check_world_size(wanted: int | None, running: int) -> None:
    """DataError unless `wanted` processes are running."""
    if wanted is not None and wanted != running:
        raise DataError(
            f"world_size: {wanted} processes were asked for, {running} are running. Launch with accelerate's "
            "--num_processes and a config of hf_mlalign.launch.configs (MULTI_CPU starts a single process)."
        )
