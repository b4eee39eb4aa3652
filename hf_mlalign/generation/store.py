"""Finished answers on disk: one line each, written at once, safe against a kill at any moment."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import LOCK, list_names, lock, pin_parameters
from hf_mlalign.core.validation import clean_text
from hf_mlalign.generation.requests import COUNTS, Answer, Key, Request

RECORD = "sampling.json"
ANSWERS = "answers.jsonl"


class AnswerStore:
    """Answers of one sampling run, in memory and, with a folder, on disk.

    Every answer is appended to `answers.jsonl` by a single write as soon as it is there. A last line that a killed
    process left unfinished is cut off; its answer is asked for again. `sampling.json` holds the parameters.

    Args:
        folder: folder of the run; `None` keeps answers in memory only.
        parameters: what must be equal for answers to be mixed (plain JSON values).
    Raises:
        DataError: the folder is a file, holds something else, or holds answers drawn with other parameters.
    """

    def __init__(self, folder: str | Path | None, parameters: Mapping[str, Any]):
        self.folder = None if folder is None else Path(folder)
        self.parameters = json.loads(json.dumps(dict(parameters)))
        self.answers: dict[Key, Answer] = {}
        self._digests: dict[Key, str] = {}
        self._lock, self._descriptor = threading.Lock(), None
        if self.folder is not None:
            self._check_folder()

    @contextmanager
    def open(self) -> Iterator[AnswerStore]:
        """Lock the folder, read what is there, and keep it open for `add`."""
        if self.folder is None:
            yield self
            return
        with lock(self.folder):
            pin_parameters(
                self.folder / RECORD, self.parameters, "answers drawn with other parameters",
                "Use the same parameters or another folder; answers of two settings are not mixed.",
            )  # fmt: skip
            self._read()
            self._descriptor = os.open(self.folder / ANSWERS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                yield self
            finally:
                with self._lock:  # a thread may still be writing
                    descriptor, self._descriptor = self._descriptor, None
                    os.fsync(descriptor)
                    os.close(descriptor)

    def has(self, request: Request) -> bool:
        """Whether this request is answered.

        Raises:
            DataError: it is, but for another prompt text.
        """
        found = self._digests.get(request.key)
        if found is not None and found != request.digest:
            raise DataError(
                f"output: {str(self.folder)!r} holds answers to another text of prompt {request.prompt_id!r} in "
                f"{request.language!r}. Name another folder, or give the changed prompt a new prompt_id."
            )
        return found is not None

    def add(self, request: Request, answer: Answer) -> None:
        """Keep an answer and append it to the file; may be called from any thread."""
        answer = replace(answer, text=clean_text(answer.text))
        line = {
            "prompt_id": request.prompt_id, "language": request.language, "sample": request.sample,
            "response": answer.text, "finish_reason": answer.finish_reason, "model": answer.model,
            "request": request.digest,
            **{name: count for name in COUNTS if (count := getattr(answer, name)) is not None},
        }  # fmt: skip
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        with self._lock:
            if self._descriptor is not None:
                _append(self._descriptor, data)
            self.answers[request.key], self._digests[request.key] = answer, request.digest

    def _check_folder(self) -> None:
        others = list_names(self.folder)
        if others - {LOCK, f".{RECORD}.partial"} and RECORD not in others:
            raise DataError(f"output: {str(self.folder)!r} is not empty and holds no samples. Name another folder.")

    def _read(self) -> None:
        path = self.folder / ANSWERS
        if not path.is_file():
            return
        good = 0
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                self._keep(line, path, number)
                good += len(line)
        if good < path.stat().st_size:
            os.truncate(path, good)

    def _keep(self, line: bytes, path: Path, number: int) -> None:
        try:
            row = json.loads(line)
            key = row["prompt_id"], row["language"], row["sample"]
            counts = (row.get(name) for name in COUNTS)
            self.answers[key] = Answer(row["response"], row["finish_reason"], row["model"], *counts)
            self._digests[key] = row["request"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"output: {str(path)!r}, line {number} is damaged. Remove this line.") from error


def _append(descriptor: int, data: bytes) -> None:
    """Write all or, where the disk is full, nothing."""
    begin = os.fstat(descriptor).st_size
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BaseException:
        os.ftruncate(descriptor, begin)
        raise
