"""Judgements of people on disk: one line each, on the disk before the reader sees "saved"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import LOCK, list_names, lock, pin_parameters
from hf_mlalign.core.jsonl import RecordLog, damaged, read_log

RECORD = "study.json"
JUDGEMENTS = "judgements.jsonl"
PREFERENCES = {"candidate": 1.0, "tie": 0.5, "both_bad": 0.5, "baseline": 0.0}
"""What a reader may say, and the preference for the candidate it counts as."""
POINTS = ("candidate_quality", "candidate_culture", "baseline_quality", "baseline_culture")
POINT_RANGE = (1, 5)


@dataclass(frozen=True)
class Judgement:
    """What one person said of one item.

    Attributes:
        item, prompt, candidate, baseline: digests (see `items.digest`): of the item, its prompt and its two answers.
        preference: a key of `PREFERENCES`; `None`: the reader could not judge.
        candidate_quality, candidate_culture, baseline_quality, baseline_culture: points from 1 to 5, or `None`.
        first: "candidate" or "baseline", whichever stood first (answer A).
        candidate_chars, baseline_chars: lengths of the answers in characters.
        seconds: from showing to saving; 0 for a correction.
        time: of saving, UTC, ISO 8601.
    """

    item: str
    annotator: str
    prompt_id: str
    language: str
    preference: str | None
    candidate_quality: int | None
    candidate_culture: int | None
    baseline_quality: int | None
    baseline_culture: int | None
    first: str
    prompt: str
    candidate: str
    baseline: str
    candidate_chars: int
    baseline_chars: int
    seconds: float
    time: str


FIELDS = tuple(field.name for field in fields(Judgement))


class JudgementStore:
    """The judgements of one study in a folder: `judgements.jsonl`, appended to, and `study.json`.

    A corrected judgement is a newer line; the last one of an item and annotator counts. Every line is flushed to the
    disk (fsync) before `add` returns. A last line that a killed process left unfinished is cut off.

    Args:
        folder: made if it is not there.
        parameters: what must be equal for judgements to be mixed (plain JSON values).
    Raises:
        DataError: the folder is a file, holds something else, or holds another study's judgements.
    """

    def __init__(self, folder: str | Path, parameters: dict[str, Any]):
        self.folder, self.parameters = Path(folder), parameters
        self.latest: dict[tuple[str, str], Judgement] = {}
        self._log = RecordLog(self.folder / JUDGEMENTS, sync=True, role="judgements")
        names = list_names(self.folder)
        if RECORD not in names and not names <= {LOCK, f".{RECORD}.partial"}:
            raise DataError(f"output: {str(self.folder)!r} holds something else. Name another folder.")

    @contextmanager
    def open(self) -> Iterator[JudgementStore]:
        """Lock the folder, read what is there, and keep it open for `add`."""
        with lock(self.folder):
            pin_parameters(
                self.folder / RECORD, self.parameters, "judgements of another study",
                "Start it with the same pairs and seed, or name another folder.",
            )  # fmt: skip
            with self._log.open() as rows:
                self.latest = _latest(rows, self._log.path)
                yield self

    def add(self, judgement: Judgement) -> None:
        """Keep a judgement; it is on the disk when this returns. May be called from any thread.

        Raises:
            OSError: it could not be written, e.g. the disk is full; the file is as it was before.
        """
        self._log.append([asdict(judgement)])
        self.latest[judgement.item, judgement.annotator] = judgement


def read_judgements(folder: str | Path) -> list[Judgement]:
    """The last judgement of every item and annotator; the server may be running meanwhile.

    Raises:
        DataError: there are none, or a line is damaged.
    """
    path = Path(folder) / JUDGEMENTS
    if not path.is_file():
        raise DataError(f"judgements: no {JUDGEMENTS} in {str(folder)!r}. Name the output folder of `annotate`.")
    return list(_latest(read_log(path, "judgements")[0], path).values())


def _latest(rows: list[dict[str, Any]], path: Path) -> dict[tuple[str, str], Judgement]:
    """(item, annotator) → the last judgement."""
    found = {}
    for number, row in enumerate(rows, 1):
        try:
            judgement = Judgement(**row)
        except TypeError as error:
            raise damaged(path, number, "judgements") from error
        found[judgement.item, judgement.annotator] = judgement
    return found
