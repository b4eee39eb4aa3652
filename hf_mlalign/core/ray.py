"""Ray: connections, errors, tasks, and objects that workers keep."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from hf_mlalign.core.errors import DataError

RETRIES = 8
"""How often a task is repeated when its worker or node dies (*ours*)."""
STORE_BYTES = 256 * 2**20
"""Shared memory per core for a Ray instance that we start (*ours*); Ray spills the rest to disk."""
CONNECT_SECONDS = 10
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def import_ray() -> Any:
    """Import `ray` and `ray.data`; `DataError` with the remedy if it is not installed."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DataError("Ray is not installed. Run: pip install 'hf-mlalign[ray]'") from error
    return ray


@contextmanager
def session(address: str | None = None, workers: int | None = None) -> Iterator[Any]:
    """A context with the module `ray`, connected: the connection of this process if it has one, else to `address`, else
    to a new instance, which ends with the context.

    Args:
        address: "auto", "ray://host:port" or "host:port"; `None` for this machine only.
        workers: cores of a new instance (default: all).
    Raises:
        DataError: Ray is missing, or nothing answers at the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        with plain_errors():
            yield ray
        return
    options: dict[str, Any] = {"address": address}
    if address is not None:
        _check_answers(address)
    else:
        cores = workers or os.cpu_count() or 1
        options = {"address": "local", "num_cpus": cores, "include_dashboard": False,
                   "object_store_memory": STORE_BYTES * cores}  # fmt: skip
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _silent():
            ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DataError(f"address: no Ray cluster answers at {address!r}: {' '.join(str(error).split())}") from error
    try:
        with plain_errors():
            yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """DataError if nothing listens at host:port; Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    try:
        if not colon or not port.isdigit():
            raise OSError("it is neither auto nor host:port nor ray://host:port")
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise DataError(f"address: no Ray cluster answers at {address!r}: {error}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """A context that drops stderr, including that of Ray's native code; errors still arrive as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def plain_errors() -> Iterator[None]:
    """A context that raises the original error of a task, and a `DataError` for a lost worker."""
    ray = import_ray()
    try:
        yield
    except DataError as error:
        raise (_cause(error) or error) from None
    except ray.exceptions.RayError as error:
        found = _cause(error)
        if found is not None:
            raise found from None
        if isinstance(error, ray.exceptions.RayTaskError):
            raise
        raise DataError(
            f"Ray: a worker or node was lost, and its work could not be done elsewhere ({type(error).__name__}). "
            "Check whether it ran out of memory, and run the same again: what is on disk is kept."
        ) from error


def _cause(error: BaseException) -> DataError | None:
    """The original `DataError` inside an error of Ray; Ray Data keeps only its text."""
    inner = getattr(error, "cause", None)
    if type(inner) is DataError:
        return inner
    found = re.search(r"^hf_mlalign\.core\.errors\.DataError: (.+)$", str(error), re.MULTILINE)
    return DataError(found[1]) if found else None


def submit(function: Callable, *arguments: Any, parts: int = 1, **options: Any) -> Any:
    """Run `function(*arguments)` as a task that is repeated if its worker or node dies; returns a list of references to
    its `parts` results."""
    ray = import_ray()
    task = ray.remote(function).options(num_returns=parts, max_retries=RETRIES, scheduling_strategy="SPREAD", **options)
    found = task.remote(*arguments)
    return found if parts > 1 else [found]


def gpus() -> int:
    """Number of GPUs of the cluster."""
    return int(import_ray().cluster_resources().get("GPU", 0))


def cores() -> int:
    """Number of cores of the cluster, at least 1."""
    return max(1, int(import_ray().cluster_resources().get("CPU", 1)))


class Held:
    """An object that each worker process unpickles only once, so that a model stays loaded between tasks."""

    _known: ClassVar[dict[str, Any]] = {}

    def __init__(self, value: Any):
        self.reference = [import_ray().put(value)]

    def get(self) -> Any:
        key = self.reference[0].hex()
        if key not in Held._known:
            Held._known.clear()
            Held._known[key] = import_ray().get(self.reference[0])
        return Held._known[key]
