"""The record of a command in the folder it writes: parameters, source, versions and results.

A folder belongs to one command with one set of parameters. The same command again finds its work done, or continues
where it was killed. With other parameters it is refused.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from hf_mlalign._version import __version__
from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import LOCK, check_writable, content_digest, list_names, lock, write_atomic

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, DatasetDict

    from hf_mlalign.hub import Pushed


RECORD = "run.json"
PREVIOUS = ".previous"
"""Where an old result is kept until the new one is finished."""
PACKAGES = ("datasets", "faiss-cpu", "numpy", "peft", "sentence-transformers", "torch", "transformers", "trl")


def versions() -> dict[str, str]:
    """Package → version, for hf_mlalign and the installed packages that results depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"hf_mlalign": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class RunRecord(BaseModel):
    """What `run.json` holds.

    Attributes:
        schema_version: version of this layout.
        command: name of the command, e.g. "curate".
        state: "running" until the command is done.
        parameters: everything that affects the result, including defaults and seeds; plain JSON values.
        source: name and digest of the source.
        versions: package → version.
        started, finished: times in UTC.
        seconds: step → seconds.
        results: the results, under keys of the command.
        notes: one sentence for everything that was not done as requested.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    command: str
    state: Literal["running", "finished"] = "running"
    parameters: dict[str, JsonValue]
    source: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=versions)
    started: datetime = Field(default_factory=lambda: datetime.now(UTC))
    finished: datetime | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    results: dict[str, JsonValue] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


def read_record(folder: str | Path) -> RunRecord | None:
    """The record in a folder; `None` if there is none.

    Raises:
        DataError: it cannot be read, or is not of this layout (the field is named).
    """
    path = Path(folder) / RECORD
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{str(path)!r} is not a run record: {place}: {first['msg']}. Name another folder.") from error


def language_rows(record: RunRecord) -> list[dict[str, Any]]:
    """`results["per_language"]` as rows with the language as a column, from a mapping or a list."""
    found = record.results.get("per_language") or []
    return [{"language": code, **row} for code, row in found.items()] if isinstance(found, dict) else found


def write_record(folder: str | Path, record: RunRecord) -> None:
    """Write a record into a folder that the caller has locked."""
    write_atomic(Path(folder) / RECORD, record.model_dump_json(indent=1) + "\n")


class Run:
    """A run of a command, and the folder that it writes.

    Args:
        folder: for the record and the results.
        command: name of the command.
        parameters: see `RunRecord`; values that JSON cannot hold are stored as text.
        source: see `describe_source`.
        overwrite: start again if the folder holds a run of this command.
        grows: parameters, or "source", that may change from run to run, because that only adds to the results.
        own: names of files that the folder may hold before the first record is written (partial results).
        defaults: name → default of the options; an older record that lacks a parameter had its default.
    Raises:
        DataError: the folder is a file, is not writable, holds something else, or a run with other parameters.
    """

    def __init__(
        self,
        folder: str | Path,
        command: str,
        parameters: Mapping[str, Any],
        source: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        grows: Sequence[str] = (),
        own: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ):
        self.folder = Path(folder)
        self.record = RunRecord(command=command, parameters=to_json(parameters), source=to_json(source or {}))
        self._stays, self._overwrite = {LOCK, PREVIOUS, f".{RECORD}.partial", *own}, overwrite
        self._defaults = to_json(defaults or {})
        self.found = self._found(grows)
        if self.found is not None and self.found.state == "running":
            self.record.started, self.record.seconds = self.found.started, dict(self.found.seconds)
        if not self.is_finished:
            check_writable(self.folder)

    @property
    def is_finished(self) -> bool:
        """Whether the folder holds the finished result of this command with these parameters."""
        same = self.found is not None and self.found.parameters == self.record.parameters
        return same and self.found.state == "finished"

    @contextmanager
    def open(self, overwrite: bool = False) -> Iterator[Run]:
        """Lock the folder and mark the run as started.

        A finished result that is overwritten is kept in `.previous` until `finish`. If the new run fails before it has
        written anything, the old result is restored at once; if it fails or is killed later, `.previous` keeps the old
        result until the run has been resumed and finished.

        Args:
            overwrite: replace a finished result, as with the class's `overwrite`.
        Raises:
            DataError: another process writes to the folder.
        """
        with lock(self.folder):
            if self._overwrite or overwrite:
                self._set_aside()
            write_record(self.folder, self.record)
            try:
                yield self
            except BaseException:
                self._undo()
                raise

    def timed(self, step: str, function: Callable, *arguments, **options) -> Any:
        """Call a function and record its duration in seconds."""
        start = time.perf_counter()
        value = function(*arguments, **options)
        self.record.seconds[step] = round(time.perf_counter() - start, 3)
        return value

    def finish(self, results: Mapping[str, Any], notes: Sequence[str] = ()) -> RunRecord:
        """Write the finished record with the results."""
        self.record.state, self.record.finished = "finished", datetime.now(UTC)
        self.record.results, self.record.notes = to_json(results), list(notes)
        write_record(self.folder, self.record)
        self._drop_previous()
        return self.record

    def drop(self, name: str) -> None:
        """Remove partial results that a killed process left in a finished folder, unless a process is using them."""
        if (self.folder / name).exists():
            with suppress(DataError), lock(self.folder):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def _set_aside(self) -> None:
        """Move a finished result away, its record first, so that the next run restores a half-moved one."""
        found = read_record(self.folder)
        if found is None or found.state != "finished":
            return
        self._drop_previous()
        (self.folder / PREVIOUS).mkdir()
        for name in [RECORD, *sorted(self._written())]:
            os.replace(self.folder / name, self.folder / PREVIOUS / name)

    def _written(self) -> set[str]:
        """Names of what the command wrote in its folder, without its stores and the folders of other commands."""
        paths = [path for path in self.folder.iterdir() if path.name not in self._stays | {RECORD}]
        return {path.name for path in paths if not any((path / own).exists() for own in (LOCK, RECORD))}

    def _undo(self) -> None:
        """After a failure, restore the old result if the new run wrote nothing, and remove the record of such a run, so
        that the folder can be used with other parameters."""
        previous, new = self.folder / PREVIOUS, [self.folder / name for name in self._written()]
        files = [file for path in new for file in (path, *path.rglob("*")) if file.is_file()]
        if (previous / RECORD).is_file() and not any(file.stat().st_size for file in files):
            for path in new:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._restore()
        names = {path.name for path in self.folder.iterdir()}
        with suppress(DataError):
            if names <= {LOCK, RECORD} and read_record(self.folder).state == "running":
                (self.folder / RECORD).unlink()

    def _restore(self) -> None:
        """Restore the old result, its record last."""
        previous = self.folder / PREVIOUS
        for path in sorted(previous.iterdir(), key=lambda path: path.name == RECORD):
            os.replace(path, self.folder / path.name)
        previous.rmdir()

    def _drop_previous(self) -> None:
        """Remove the old result, but keep files that the new one does not replace."""
        previous = self.folder / PREVIOUS
        if previous.is_dir():
            for path in previous.iterdir():
                if not (self.folder / path.name).exists():
                    os.replace(path, self.folder / path.name)
            shutil.rmtree(previous)

    def _found(self, grows: Sequence[str]) -> RunRecord | None:
        """The record in the folder; `None` if there is none or it is to be overwritten. DataError for another run's."""
        shown, names = repr(str(self.folder)), list_names(self.folder)
        if RECORD not in names and (self.folder / PREVIOUS / RECORD).is_file():
            with lock(self.folder):
                self._restore()
            names |= {RECORD}
        if RECORD not in names:
            if names - self._stays:
                raise DataError(
                    f"output: {shown} is not empty and holds no {self.record.command} run. Name another folder."
                )
            return None
        old, new = read_record(self.folder), self.record
        known = {name: value for name, value in self._defaults.items() if name in new.parameters}
        old.parameters = {**known, **old.parameters}
        if old.command != new.command:
            raise DataError(f"output: {shown} holds a run of {old.command!r}. Name another folder.")
        if self._overwrite:
            return None
        before, now = ({"source": record.source.get("digest"), **record.parameters} for record in (old, new))
        changed = [name for name in {**before, **now} if name not in grows and before.get(name) != now.get(name)]
        names_of = [{**values, "source": record.source.get("name")} for values, record in ((before, old), (now, new))]
        changed = [f"{name} was {names_of[0].get(name)!r}, now {names_of[1].get(name)!r}" for name in changed]
        if changed:
            raise DataError(
                f"output: {shown} holds a run with other parameters ({listed(changed, 5)}). Use the same parameters, "
                "name another folder, or replace the run with --overwrite (overwrite=True)."
            )
        return old


def describe_source(source: Any, **which: Any) -> dict[str, Any]:
    """Name and digest of the source of a run, and which part of it is read.

    Only the last part of a local path is stored, because records may be published. The digest is that of the content
    of local files, of the fingerprint of a `Dataset` in memory, or of the name of a Hub dataset.
    """
    part = {key: value for key, value in which.items() if value is not None}
    if not isinstance(source, (str, Path)):
        fingerprint = getattr(source, "_fingerprint", None)
        return {"name": "a Dataset in memory", "digest": fingerprint, **part}
    local = Path(source).exists() or "*" in str(source)
    name = Path(source).name if local else str(source)
    name = name.encode("utf-8", "backslashreplace").decode()  # file names may not be valid text
    return {"name": name, "digest": content_digest(source), **part}


def model_name(model: Any) -> str | None:
    """The name of a model for a record: the name given, the `name` of an object, or its class."""
    if model is None or isinstance(model, (str, Path)):
        return model and str(model)
    name = getattr(model, "name", None)
    return type(model).__name__ if name is None else model_name(name)


def to_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping as plain JSON values: numpy scalars as numbers, NaN and infinity as null, other objects as text."""
    return json.loads(json.dumps(_finite(values), ensure_ascii=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass
class RunResult:
    """The outcome of a job.

    Attributes:
        dataset: the rows, as `load_dataset(folder)` opens them; `None` for a job that writes none.
        folder: the folder with all files.
        record: the content of run.json: parameters, versions, seconds, results and notes.
        result: the job's own object, e.g. a `SelectionResult`; `None` if a finished folder was read back.
        fresh: `False` if the folder held this result already and nothing was done.
    """

    dataset: Dataset | DatasetDict | None
    folder: Path
    record: RunRecord
    result: Any = None
    fresh: bool = True

    def push_to_hub(self, repo_id: str, **options: Any) -> Pushed:
        """Upload the folder as a repository; `options` are those of `hf_mlalign.push`.

        Raises:
            DataError: the upload was refused or failed.
        """
        from hf_mlalign.hub import push

        return push(self.folder, repo_id, **options)

    def per_language(self) -> pd.DataFrame:
        """The results with one row per language; the language is a column. Empty if the job has none."""
        import pandas as pd

        return pd.DataFrame(language_rows(self.record))

    def _repr_html_(self) -> str:
        """For notebooks: the command, the table of languages, the notes."""
        from html import escape

        parts = self.dataset.values() if isinstance(self.dataset, dict) else [self.dataset]
        rows = sum(len(part) for part in parts if part is not None)
        head = f"<b>{escape(self.record.command)}</b>" + (f", {rows:,} row{'s' * (rows != 1)}" if rows else "")
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.record.notes)
        table = self.per_language()
        shown = "" if table.empty else table.to_html(index=False, float_format="{:.3f}".format, na_rep="–")
        return (
            f"<div>{head} in <code>{escape(str(self.folder))}</code>{shown}"
            f"{f'<ul>{notes}</ul>' if notes else ''}</div>"
        )
