"""Which folders a report is about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.hub.run_record import RECORD, read_record
from hf_mlalign.report.registry import SECTIONS, ReportedRun

DEPTH = 3
"""Run folders are looked for so many levels down."""
ORDER = ("sample", "curate", "questions", "build-pairs", "train", "judge", "classify", "lens")
"""Commands in the order of the work; others come after them."""
PAGE = "report.html"
TRAINING = ("curve.json", "trainer_state.json", "checkpoint-*/trainer_state.json")
JUDGED = ("judgements.parquet",)


def find_parts(run: Path, source: Any, seed: int) -> list[tuple[ReportedRun, list[str]]]:
    """The parts of a report in the order of the work, each with a sentence if its record cannot be read.

    Raises:
        DataError: there is no such folder, or nothing in it to report on.
    """
    if not run.is_dir():
        raise DataError(f"run: no folder {str(run)!r}. Name a run folder, or a folder with run folders in it.")
    parts = []
    for folder in _folders(run, DEPTH):
        name = folder.relative_to(run).as_posix() if folder != run else run.resolve().name
        try:
            part, problems = ReportedRun(folder, name, read_record(folder), source, seed), []
        except DataError as error:
            part, problems = ReportedRun(folder, name, None, source, seed), [str(error)]
        if part.record is not None or problems or any(section.fits(part) for section in SECTIONS):
            parts.append((part, problems))
    if not parts:
        raise DataError(
            f"run: {str(run)!r} holds no {RECORD}, no training and no judgements, nor do the folders in it. Name what "
            "a command of hf-mlalign wrote."
        )
    return sorted(parts, key=lambda pair: (_rank(pair[0]), pair[0].name))


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    for path in sorted(folder.iterdir()) if depth else ():
        hidden = path.name.startswith((".", "checkpoint-")) or path.name == "data" or (path / PAGE).is_file()
        if path.is_dir() and not path.is_symlink() and not hidden:
            yield from _folders(path, depth - 1)


def command_of(part: ReportedRun) -> str:
    """The command that wrote a part; by its files where there is no record; "" if they do not tell."""
    if part.record is not None:
        return part.record.command
    return "train" if part.files(*TRAINING) else "judge" if part.files(*JUDGED) else ""


def _rank(part: ReportedRun) -> int:
    command = command_of(part)
    return ORDER.index(command) if command in ORDER else len(ORDER)
