"""Files as other projects publish them: found in a clone, folder, archive or at a URL, and read record by record."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import content_digest

if TYPE_CHECKING:
    from datasets import DownloadManager

AGAIN = "Fetch the file again, or mend it."
LFS_POINTER = b"version https://git-lfs.github.com/spec"
ARCHIVES = {".zip": "zip", ".tar.gz": "gztar", ".tgz": "gztar", ".tar": "tar"}
URL = re.compile(r"https?://", re.IGNORECASE)
URL_IN_TEXT = re.compile(r"https?://[^\s'\"]+", re.IGNORECASE)
KINDS = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object",
         type(None): "null"}  # fmt: skip


@dataclass(frozen=True)
class PublicFile:
    """A file of a source: where it lies here, and what the source calls it."""

    path: Path
    name: str

    def read(self) -> str:
        """The text (UTF-8, with or without a byte order mark).

        Raises:
            DataError: it cannot be read, is empty, is a Git LFS pointer, or is not UTF-8 (line named).
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read: {error.strerror}.") from error
        if data.startswith(LFS_POINTER):
            raise DataError(f"{self.name}: is a Git LFS pointer, not the data. Run `git lfs pull` in the clone.")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise DataError(f"{self.name}, line {line}: is not UTF-8 (byte {error.start}). {AGAIN}") from error
        if not text.strip():
            raise DataError(f"{self.name}: is empty. {AGAIN}")
        return text


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        fields: name → value as published.
        number: its position in the file, from 0.
        place: file and row or line, for messages.
    """

    fields: Mapping[str, Any]
    number: int = 0
    place: str = "record"

    def text(self, name: str, *, blank: bool = False) -> str:
        """The text of a field, unchanged; DataError if it is missing, no text, or blank where `blank` is false."""
        value = self._value(name)
        if not isinstance(value, str):
            raise self._error(f"{name!r} is {KINDS.get(type(value), type(value).__name__)}, not text")
        if not blank and not value.strip():
            raise self._error(f"{name!r} is blank")
        return value

    def whole(self, name: str) -> int:
        """The whole number of a field; DataError if it is anything else."""
        value = self._value(name)
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value.strip()):
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._error(f"{name!r} is {value!r}, not a whole number")
        return value

    def texts(self, name: str) -> list[str]:
        """The list of texts of a field; DataError if it is anything else or has no entry."""
        value = self._value(name)
        if not isinstance(value, list) or not value or not all(isinstance(entry, str) for entry in value):
            raise self._error(f"{name!r} is not a list of texts")
        return value

    def _value(self, name: str) -> Any:
        if name not in self.fields:
            raise self._error(f"no {name!r} (there are: {listed(self.fields)})")
        return self.fields[name]

    def _error(self, what: str) -> DataError:
        return DataError(f"{self.place}: {what}. {AGAIN}")


def read_json(file: PublicFile) -> Iterator[Record]:
    """The objects of a JSON array; DataError names the line where the JSON breaks, or the row that is not an object."""
    text = file.read()
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken(file, error.lineno, error.msg, text) from error
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{file.name}: holds {'no rows' if rows == [] else 'no JSON array'}. {AGAIN}")
    yield from (_record(row, number, f"{file.name}, row {number}") for number, row in enumerate(rows))


def read_json_lines(file: PublicFile) -> Iterator[Record]:
    """The objects of a JSON Lines file, one per line; DataError names the line that is not an object."""
    for number, line in enumerate(_lines(file)):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _broken(file, number + 1, error.msg, line) from error
        yield _record(row, number, f"{file.name}, line {number + 1}")


def read_tsv(file: PublicFile, columns: Sequence[str]) -> Iterator[Record]:
    """The rows of a tab-separated file without a header or quoting; DataError names a line with other columns."""
    for number, line in enumerate(_lines(file)):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise DataError(
                f"{file.name}, line {number + 1}: {len(cells)} tab-separated columns, not {len(columns)} "
                f"({listed(columns)}). {AGAIN}"
            )
        yield Record(dict(zip(columns, cells)), number, f"{file.name}, line {number + 1}")


def read_parallel(source: PublicFile, target: PublicFile) -> Iterator[Record]:
    """Pairs of lines of two files as "source" and "target"; DataError if one has more lines."""
    left, right = _lines(source), _lines(target)
    if len(left) != len(right):
        raise DataError(
            f"{source.name} has {len(left):,} lines, {target.name} {len(right):,}: line n must be the translation of "
            "line n. Fetch both again."
        )
    for number, (a, b) in enumerate(zip(left, right)):
        yield Record({"source": a, "target": b}, number, f"{source.name}, line {number + 1}")


def _lines(file: PublicFile) -> list[str]:
    return [line.removesuffix("\r") for line in file.read().removesuffix("\n").split("\n")]


def _record(row: Any, number: int, place: str) -> Record:
    if not isinstance(row, dict):
        raise DataError(f"{place}: is {KINDS.get(type(row), type(row).__name__)}, not an object. {AGAIN}")
    return Record(row, number, place)


def _broken(file: PublicFile, line: int, reason: str, text: str) -> DataError:
    if text.lstrip().startswith("<"):
        return DataError(f"{file.name}: is a web page, not JSON. Name the address of the raw file.")
    return DataError(f"{file.name}, line {line}: broken or cut off ({reason}). {AGAIN}")


class PublicSource:
    """Where files are looked for.

    Args:
        place: a folder (a clone, say), one file, a zip or tar archive of either, or the http(s) address of any of
            these; of a folder's address, files are fetched by their path below it.
        argument: the argument's name, for messages.
        cache_dir: where downloads are kept; default: the cache of `datasets`.
    Raises:
        DataError: nothing is there, or it cannot be fetched or unpacked.
    """

    def __init__(self, place: str, argument: str = "source", cache_dir: str | None = None):
        self.place, self.argument, self.cache_dir = place, argument, cache_dir
        self.is_url = bool(URL.match(place))
        self._manager: DownloadManager | None = None
        self.root: Path | None = None if self.is_url else Path(place).expanduser()
        if self.root is not None and not self.root.exists():
            raise DataError(f"{argument}: {place!r} does not exist. Name a folder, a file, an archive or a URL.")
        if urlsplit(place).path.lower().endswith(tuple(ARCHIVES)) and not (self.root and self.root.is_dir()):
            self.root, self.is_url = self._unpacked(), False

    @property
    def name(self) -> str:
        """What a published record may say of it: a URL without credentials and query, or the last part of a path."""
        if not URL.match(self.place):
            return Path(self.place).expanduser().resolve().name
        parts = urlsplit(self.place)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def is_file(self) -> bool:
        """Whether it is one file rather than a folder of files."""
        if self.is_url:
            return urlsplit(self.place).path.lower().endswith((".json", ".jsonl", ".tsv", ".txt"))
        return self.root.is_file()

    def find(self, paths: Sequence[str]) -> PublicFile | None:
        """The first of these paths that is there; `None` if none is. Of a source that is a file: that file."""
        if self.is_file:
            last = unquote(urlsplit(self.place).path).rsplit("/", 1)[-1] if self.is_url else self.root.name
            path = self._download(self.place) if self.is_url else self.root
            return None if path is None else PublicFile(path, last)
        for name in paths:
            path = self._download(self._address(name)) if self.is_url else self.root / name
            if path is not None and path.is_file():
                return PublicFile(path, name)
        return None

    def _address(self, name: str) -> str:
        parts = urlsplit(self.place)
        return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}").geturl()

    def _unpacked(self) -> Path:
        """The archive's content, unpacked once; a folder that is its only entry stands for the whole."""
        import datasets

        archive = self._download(self.place) if self.is_url else self.root
        if archive is None:
            raise DataError(f"{self.argument}: there is nothing at {self.name!r}.")
        kept = Path(self.cache_dir or datasets.config.HF_DATASETS_CACHE) / "unpacked" / content_digest(archive)
        if not kept.is_dir():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent) as partial:
                self._unpack(archive, f"{partial}/whole")
                os.replace(f"{partial}/whole", kept)
        inside = [path for path in kept.iterdir() if path.name != "__MACOSX"]
        return inside[0] if len(inside) == 1 else kept

    def _unpack(self, archive: Path, folder: str) -> None:
        kind = next(kind for ending, kind in ARCHIVES.items() if urlsplit(self.place).path.lower().endswith(ending))
        try:
            shutil.unpack_archive(archive, folder, kind, **({} if kind == "zip" else {"filter": "data"}))
        except (OSError, EOFError, shutil.ReadError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
            raise DataError(f"{self.argument}: {self.name!r} is broken or cut off ({error}). {AGAIN}") from error

    def _download(self, address: str) -> Path | None:
        """The file at an address, from the cache where it is the same there; `None` where there is none."""
        import aiohttp

        try:
            return Path(self._downloads().download(address))
        except (OSError, ValueError, aiohttp.ClientError) as error:
            cause = _cause(error)
            if isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) in (404, 410):
                return None
            reason = " ".join(URL_IN_TEXT.sub("the address", str(cause)).split())[:200] or type(cause).__name__
            raise DataError(
                f"{self.argument}: {self.name!r} cannot be fetched: {reason}. What arrived is kept; run it again, or "
                "name a local clone."
            ) from error

    def _downloads(self) -> DownloadManager:
        import datasets

        if self._manager is None:
            folder = self.cache_dir and str(Path(self.cache_dir) / "downloads")
            config = datasets.DownloadConfig(cache_dir=folder, max_retries=3, disable_tqdm=False)
            self._manager = datasets.DownloadManager(download_config=config)
        return self._manager


def _cause(error: BaseException) -> BaseException:
    """What lies at the bottom: fsspec reports every failed request as a missing file, and names the reason below."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
