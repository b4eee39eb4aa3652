"""The processes of one launcher (`accelerate launch`, `torchrun`): which one this is, what the main one tells the
others, and waiting for each other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError

if TYPE_CHECKING:
    pass


LONGEST_WAIT = timedelta(days=30)
"""A process waits so long for the slowest one; if one ends early, the others notice at once (*ours*)."""


@dataclass(frozen=True)
class Processes:
    """A group of processes that started together; without a launcher, this one alone.

    Attributes:
        index: of this process, from 0, the main one.
        count: how many there are on all machines.
        device: "cuda:<n>", a GPU for each process of a machine; `None` without GPUs or without a launcher.
    """

    index: int = 0
    count: int = 1
    device: str | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for all."""
        return self.index == 0

    def broadcast(self, value: Any = None) -> Any:
        """The main process's `value` (plain JSON) in every process.

        Raises:
            DataError: another process ended.
        """
        return value if self.count == 1 else self._together(_broadcast, value)

    def wait(self) -> None:
        """Return once every process has come here; DataError if another process ended."""
        if self.count > 1:
            import torch.distributed

            self._together(torch.distributed.barrier)

    def close(self) -> None:
        """Part from the others."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.destroy_process_group()

    def _together(self, function: Callable, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RuntimeError as error:
            raise DataError(
                f"process {self.index} of {self.count}: another process ended before its work was done; its own "
                "message says why. Run the same command again to go on."
            ) from error


def join_processes() -> Processes:
    """The group that a launcher started this process in.

    The processes talk over TCP (gloo), also where each has a GPU: they exchange nothing but a few words.

    Raises:
        DataError: there are GPUs, but fewer than processes on this machine.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return Processes()
    import torch.distributed

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size(), _device())


def _device() -> str | None:
    import torch

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    gpus, local = (0 if on_cpu else torch.cuda.device_count()), int(os.environ.get("LOCAL_RANK", 0))
    if not gpus:
        return None
    if local >= gpus:
        raise DataError(f"process {local} of this machine has no GPU: there are {gpus}. Launch --num_processes {gpus}.")
    return f"cuda:{local}"


def _broadcast(value: Any) -> Any:
    import torch

    content = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
    size = torch.tensor([len(content)])
    torch.distributed.broadcast(size, src=0)
    content = content if torch.distributed.get_rank() == 0 else torch.empty(int(size), dtype=torch.uint8)
    torch.distributed.broadcast(content, src=0)
    return json.loads(bytes(content.tolist()))


def check_world_size(wanted: int | None, running: int) -> None:
    """DataError if other than `wanted` processes are running."""
    if wanted is not None and wanted != running:
        raise DataError(
            f"world_size: {wanted} processes were asked for, {running} are running. Launch with accelerate's "
            "--num_processes and a config of hf_mlalign.launch.configs (MULTI_CPU starts a single process)."
        )
