"""The parts of a report: run folders, the sections that read them, and the blocks that sections yield."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

    from hf_mlalign.hub.run_record import RunRecord


@dataclass(frozen=True)
class ReportedRun:
    """One folder that the report shows.

    Attributes:
        folder: its path.
        name: its path relative to the folder of the report.
        record: its `run.json`; `None` if there is none or it cannot be read.
        source: the pool, if the user named it.
        seed: seed of samples.
    """

    folder: Path
    name: str
    record: RunRecord | None = None
    source: Any = None
    seed: int = 0

    def files(self, *patterns: str) -> list[Path]:
        """Files of the folder that match any of the patterns, sorted within each pattern."""
        return [path for pattern in patterns for path in sorted(self.folder.glob(pattern)) if path.is_file()]


@dataclass(frozen=True)
class Facts:
    """A few numbers in large type: label → value."""

    values: dict[str, str]


@dataclass(frozen=True)
class Numbers:
    """A table. `caption` explains it; rows whose `language` is "all" or "macro" stay at the end."""

    title: str
    caption: str
    table: pd.DataFrame


@dataclass(frozen=True)
class Chart:
    """A figure, a caption that explains it, and its numbers.

    Attributes:
        alt: what the figure shows, in a sentence, for screen readers.
        wide: whether it takes the whole width of the page.
    """

    title: str
    caption: str
    alt: str
    figure: Figure
    table: pd.DataFrame
    wide: bool = False


@dataclass(frozen=True)
class Example:
    """A row of a dataset: a label, a kind ("good", "bad" or ""), and (heading, text, language code) per text."""

    label: str
    kind: str
    texts: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Examples:
    """Rows by group; the group is usually a language code."""

    title: str
    caption: str
    groups: dict[str, list[Example]]


def read_parquet(part: ReportedRun, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or those of `columns` that it has; DataError with its name if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there = None if columns is None else [name for name in columns if name in pq.read_schema(path).names]
        return pq.read_table(path, columns=there, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        name = path.relative_to(part.folder).as_posix()
        raise DataError(f"{name} cannot be read: {' '.join(str(error).split())[:200]}") from error


Block = Facts | Numbers | Chart | Examples


@dataclass(frozen=True)
class Section:
    """See `section`."""

    show: Callable[[ReportedRun], Iterable[Block]]
    title: str
    command: str | None = None
    files: Sequence[str] = field(default=())

    def fits(self, part: ReportedRun) -> bool:
        """Whether this section applies to a run folder."""
        of_command = part.record is not None and part.record.command == self.command
        return of_command or bool(part.files(*self.files))


SECTIONS: list[Section] = []


def section(title: str, *, command: str | None = None, files: Sequence[str] = ()) -> Callable[[Callable], Callable]:
    """Register a function that turns a `ReportedRun` into blocks. Sections are shown in the order of registration.

    Args:
        title: heading, used in messages if the section fails.
        command: show the section for run folders of this command.
        files: show it for folders with a file that matches one of these patterns.
    """

    def register(show: Callable[[ReportedRun], Iterable[Block]]) -> Callable[[ReportedRun], Iterable[Block]]:
        SECTIONS.append(Section(show, title, command, tuple(files)))
        return show

    return register
