"""An append-only log of JSON lines, which survives a kill at any moment and is read back on a rerun."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import sync_path


def to_line(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON with its line break."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_log(path: Path, role: str = "output") -> tuple[list[dict[str, Any]], int]:
    """The rows of all complete lines, and the number of bytes they take; empty if there is no file.

    A last line without a line break was left unfinished by a killed process, and is ignored.

    Raises:
        DataError: a line is not a JSON object (path and line are named; `role` begins the message).
    """
    rows: list[dict[str, Any]] = []
    size = 0
    if not path.is_file():
        return rows, size
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise damaged(path, number, role) from error
            if not isinstance(row, dict):
                raise damaged(path, number, role)
            rows.append(row)
            size += len(line)
    return rows, size


def damaged(path: Path, number: int, role: str = "output") -> DataError:
    """The error for a line of a log that cannot be used."""
    return DataError(f"{role}: {str(path)!r}, line {number} is damaged. Remove this line.")


class RecordLog:
    """A file of JSON lines that one process appends to.

    Args:
        path: the file, created by `open`; `None` keeps nothing on disk.
        sync: flush every append to the disk (fsync) before it returns; by default the log is flushed when it is
            closed.
        role: begins messages about damaged lines.
    """

    def __init__(self, path: Path | None, *, sync: bool = False, role: str = "output"):
        self.path, self.sync, self.role = path, sync, role
        self._lock, self._descriptor = threading.Lock(), None

    @property
    def is_open(self) -> bool:
        """Whether rows can be appended."""
        return self._descriptor is not None

    @contextmanager
    def open(self, *, fresh: bool = False) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows in the file, and keep it open for `append`; an unfinished last line is cut off.

        Args:
            fresh: start with an empty file.
        """
        if self.path is None:
            yield []
            return
        rows, size = ([], 0) if fresh else read_log(self.path, self.role)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if size < os.fstat(self._descriptor).st_size:
                os.ftruncate(self._descriptor, size)
            if self.sync:
                sync_path(self.path)
                sync_path(self.path.parent)  # the name of a new file
            yield rows
        finally:
            with self._lock:  # a thread may still be writing
                descriptor, self._descriptor = self._descriptor, None
                os.fsync(descriptor)
                os.close(descriptor)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write all rows or, if the disk is full, none of them. Thread-safe.

        Raises:
            OSError: they could not be written; the file is as it was before.
        """
        data = "".join(map(to_line, rows)).encode("utf-8", "replace")
        with self._lock:
            if self._descriptor is None:
                if self.path is None:
                    return
                raise OSError(f"{str(self.path)!r} is closed")
            begin = os.fstat(self._descriptor).st_size
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
                if self.sync:
                    os.fsync(self._descriptor)
            except BaseException:
                os.ftruncate(self._descriptor, begin)
                raise
