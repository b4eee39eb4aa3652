"""Finished answers on disk: one line per answer, written at once, safe against a kill at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import LOCK, list_names, lock, pin_parameters
from hf_mlalign.core.jsonl import RecordLog, damaged
from hf_mlalign.core.validation import clean_text
from hf_mlalign.generation.requests import COUNTS, Answer, Key, Request

SAMPLING = "sampling.json"
ANSWERS = "answers.jsonl"


class AnswerStore:
    """Answers of one sampling run, in memory and, with a folder, in a `RecordLog`.

    Every answer is appended to `answers.jsonl` as soon as it arrives. `sampling.json` holds the parameters.

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
        self._log = RecordLog(self.folder and self.folder / ANSWERS)
        if self.folder is not None:
            others = list_names(self.folder)
            if others - {LOCK, f".{SAMPLING}.partial"} and SAMPLING not in others:
                raise DataError(f"output: {str(self.folder)!r} is not empty and holds no samples. Name another folder.")

    @contextmanager
    def open(self) -> Iterator[AnswerStore]:
        """Lock the folder, read what is there, and keep it open for `add`.

        Raises:
            DataError: another process writes to the folder, or a line of `answers.jsonl` is damaged (it is named).
        """
        if self.folder is None:
            yield self
            return
        with lock(self.folder):
            pin_parameters(
                self.folder / SAMPLING, self.parameters, "answers drawn with other parameters",
                "Use the same parameters or another folder; answers of two settings are not mixed.",
            )  # fmt: skip
            with self._log.open() as rows:
                for number, row in enumerate(rows, 1):
                    try:
                        key = row["prompt_id"], row["language"], row["sample"]
                        counts = (row.get(name) for name in COUNTS)
                        self.answers[key] = Answer(row["response"], row["finish_reason"], row["model"], *counts)
                        self._digests[key] = row["request"]
                    except (KeyError, TypeError) as error:
                        raise damaged(self._log.path, number) from error
                yield self

    def has(self, request: Request) -> bool:
        """Whether this request is answered.

        Raises:
            DataError: it is, but for another prompt text.
        """
        found = self._digests.get(request.key)
        if found is not None and found != request.digest:
            raise DataError(
                f"output: {str(self.folder)!r} holds answers to another text of prompt {request.prompt_id!r} in "
                f"{request.language!r}. Name another folder, or give the changed prompt a new id."
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
        self._log.append([line])
        self.answers[request.key], self._digests[request.key] = answer, request.digest
