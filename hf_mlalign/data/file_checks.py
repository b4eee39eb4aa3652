"""Checks data files before a library opens them, and refuses what would hang it, crash it or fill the memory."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from hf_mlalign.core.errors import DataError

MOST_COLUMNS = 10_000
"""Tables with more columns are refused (*ours*)."""
MOST_NESTING = 64
"""More deeply nested values are refused (*ours*); readers of JSON crash at some ten thousand levels."""
SAMPLE_BYTES = 2**16
"""Bytes that are read of a CSV file to find its delimiter, and of any text file to guess its encoding (*ours*)."""
HEADER_BYTES = 2**24
"""A CSV file with a longer first line counts as one without a header (*ours*)."""
KEY_LINES = 20_000
"""Lines of JSON whose keys are counted (*ours*)."""
CARD_CHARS = 2**20
"""Bytes of a card that are checked (*ours*)."""
RATIO, UNPACKED_BYTES = 100, 2**30
"""A compressed file that unpacks to more than both, times its size and bytes, is refused (*ours*)."""
BLOCK = 2**22
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
AGAIN = "Download or write it again, or give it the ending of its format."
FEWER_COLUMNS = "Keep only the columns you need: prompts, responses, language, ids."


def check_file(path: Path, kind: str) -> None:
    """Raise a `DataError` if a file cannot be read safely.

    Args:
        path: a local file; it may be compressed (.gz, .bz2, .xz).
        kind: "parquet", "arrow", "json" or "csv".
    Raises:
        DataError: not a regular file, not readable, no rows, too many columns, nested too deeply, damaged, not UTF-8,
            or a small compressed file that holds a huge one. The message names file, line and remedy.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"source: {str(path)!r} is a pipe or a device, not a file. Save its output to a file.")
        if status.st_size == 0:
            raise DataError(f"source: {str(path)!r} is empty (0 bytes).")
        with open(path, "rb"):
            pass
        if kind in ("parquet", "arrow") and path.suffix.lower() not in OPENERS:
            _check_table_file(path, kind)
        elif kind in ("json", "csv"):
            _check_text_file(path, kind)
    except OSError as error:
        raise DataError(f"source: cannot read {str(path)!r}: {error.strerror or shortened(error)}.") from error


def _check_table_file(path: Path, kind: str) -> None:
    """Check that a Parquet or Arrow file has rows and a usable schema; of an Arrow file, check every batch."""
    import pyarrow.parquet as pq

    rows = 0
    try:
        if kind == "parquet":
            metadata = pq.read_metadata(path)
            _check_schema(metadata.schema.to_arrow_schema(), path)
            rows = metadata.num_rows
        else:
            with pa.memory_map(str(path)) as source:
                try:
                    reader = pa.ipc.open_file(source)
                    batches = map(reader.get_batch, range(reader.num_record_batches))
                except pa.ArrowInvalid:  # a stream, as `datasets` writes it
                    source.seek(0)
                    batches = reader = pa.ipc.open_stream(source)
                _check_schema(reader.schema, path)
                for batch in batches:
                    batch.validate(full=True)
                    rows += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        name = kind.capitalize()
        raise DataError(f"source: {str(path)!r} is not a complete {name} file: {shortened(error)}. {AGAIN}") from error
    if not rows:
        raise DataError(no_rows(path))


def _check_schema(schema: pa.Schema, path: Path) -> None:
    _check_width(len(schema), path)
    if len(set(schema.names)) < len(schema):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise DataError(f"source: {str(path)!r} has the column {twice[:80]!r} twice. Rename or drop one of them.")
    waiting = [(field.type, 0, field.name) for field in schema]
    while waiting:  # without recursion, which deep types would break
        kind, level, name = waiting.pop()
        if level > MOST_NESTING:
            raise DataError(
                f"source: {str(path)!r}, column {name[:80]!r} is nested deeper than {MOST_NESTING} levels. Keep texts "
                "and lists of messages."
            )
        waiting += [(kind.field(i).type, level + 1, name) for i in range(kind.num_fields)]


def _check_width(columns: int, path: Path) -> None:
    if columns > MOST_COLUMNS:
        raise DataError(f"source: {str(path)!r} has more than {MOST_COLUMNS:,} columns. {FEWER_COLUMNS}")


def _check_text_file(path: Path, kind: str) -> None:
    """Check encoding and unpacked size, the header of a CSV file, and nesting and keys of JSON."""
    opener = OPENERS.get(path.suffix.lower())
    try:
        with (opener or open)(path, "rb") as handle:
            start = handle.read(4)
            if not start:
                raise DataError(no_rows(path))
            if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start:
                raise DataError(
                    f"source: {str(path)!r} is UTF-16 or not text. Save it as UTF-8 (iconv -f utf-16 -t utf-8)."
                )
            handle.seek(0)
            limit = max(path.stat().st_size * RATIO, UNPACKED_BYTES) if opener else None
            if kind == "json":
                _check_json(handle, path, limit)
            else:
                _check_csv(handle, path, limit)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"source: {str(path)!r} is incomplete: {shortened(error)}. {AGAIN}") from error
    except OSError as error:
        if opener is None or error.errno is not None:
            raise
        raise DataError(f"source: {str(path)!r} is not a valid {path.suffix} file: {shortened(error)}.") from error


def _read_within(handle: IO[bytes], path: Path, limit: int | None, lines: bool) -> Iterator[bytes]:
    """Lines or blocks of a file; DataError if a compressed one unpacks to more than `limit` bytes."""
    seen = 0
    read, size = (handle.readline, -1 if limit is None else limit + 1) if lines else (handle.read, BLOCK)
    while part := read(size):
        seen += len(part)
        if limit is not None and seen > limit:
            raise DataError(
                f"source: {str(path)!r} unpacks to more than {RATIO} times its size and {UNPACKED_BYTES >> 30} GiB. If "
                "this is intended, unpack it and name the unpacked file."
            )
        yield part


def _check_csv(handle: IO[bytes], path: Path, limit: int | None) -> None:
    header = handle.readline(HEADER_BYTES)
    if len(header) == HEADER_BYTES:
        raise DataError(
            f"source: {str(path)!r} has no header: its first line is longer than {HEADER_BYTES >> 20} MiB. A CSV file "
            "starts with a line of column names."
        )
    _check_width(1 + max(header.count(delimiter.encode()) for delimiter in DELIMITERS), path)
    handle.seek(0)
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    for block in _read_within(handle, path, limit, lines=False):
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            raise _not_utf8(path, f"line {line}", error) from error
        line += block.count(b"\n")


def _check_json(handle: IO[bytes], path: Path, limit: int | None) -> None:
    keys: set[str] = set()
    rows = 0
    for number, line in enumerate(_read_within(handle, path, limit, lines=True), 1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            raise _not_utf8(path, f"line {number}", error) from error
        start = line.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
        if not rows and start and start not in b"[{":
            raise DataError(f"source: {str(path)!r}, line {number}: {line[:40]!r} is not a row. Write JSON objects.")
        rows += bool(start)
        if line.count(b"[") + line.count(b"{") > MOST_NESTING and _json_depth(line) > MOST_NESTING:
            raise DataError(
                f"source: {str(path)!r}, line {number}: nested deeper than {MOST_NESTING} levels. Keep texts and lists "
                "of messages."
            )
        if number <= KEY_LINES:
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue  # a part of a JSON file, or damaged: the reader of the rows says where
            for row in found if isinstance(found, list) else [found]:
                keys.update(row if isinstance(row, dict) else ())
                _check_width(len(keys), path)
    if not rows:
        raise DataError(no_rows(path))


def _not_utf8(path: Path, place: str, error: UnicodeDecodeError) -> DataError:
    """The error for a text file in another encoding, guessed from the bytes around the first bad one."""
    import charset_normalizer

    begin = max(0, error.start - SAMPLE_BYTES // 2)
    guess = charset_normalizer.from_bytes(error.object[begin : begin + SAMPLE_BYTES]).best()
    encoding = guess.encoding if guess and guess.encoding not in ("utf_8", "ascii") else "cp1252"
    return DataError(
        f"source: {str(path)!r}, {place}: byte {error.start} is not UTF-8; the file may be in {encoding}. Save it as "
        f"UTF-8 (iconv -f {encoding.replace('_', '-')} -t utf-8)."
    )


def _json_depth(line: bytes) -> int:
    """Deepest nesting of brackets outside strings."""
    bare = np.frombuffer(STRING.sub(b"", line), np.uint8)
    level = deepest = 0
    for begin in range(0, len(bare), BLOCK):
        block = bare[begin : begin + BLOCK]
        levels = level + np.cumsum(np.isin(block, list(b"[{")).astype(np.int64) - np.isin(block, list(b"]}")))
        deepest = max(deepest, int(levels.max(initial=0)))
        level = int(levels[-1])
    return deepest


def csv_delimiter(path: Path) -> str:
    """The delimiter of a CSV or TSV file: comma or tab by its ending, or else the one that its first rows agree on.

    Raises:
        DataError: rows have more fields than the header (first line named).
    """
    with OPENERS.get(path.suffix.lower(), open)(path, "rb") as handle:
        start = handle.read(SAMPLE_BYTES)
    text = start.decode("utf-8-sig", "ignore")
    expected = "\t" if ".tsv" in map(str.lower, path.suffixes) else ","
    others: list[str] = []
    with_wide_row = None
    for delimiter in (expected, *(one for one in DELIMITERS if one != expected)):
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        lines = [(rows.line_num, len(row)) for row in rows if row]
        if len(start) == SAMPLE_BYTES:
            del lines[-1:]  # cut off
        width = lines[0][1] if lines else 1
        wide = next((place for place in lines if place[1] > width), None)
        if delimiter == expected:
            if width > 1 and wide is None:
                return expected
            with_wide_row = wide and (width, *wide)
        elif width > 1 and len(lines) > 1 and all(fields == width for _, fields in lines):
            others.append(delimiter)
    if not others and with_wide_row:
        width, line, fields = with_wide_row
        raise DataError(
            f"source: {str(path)!r}, line {line} has {fields} fields, the header has {width}. Put texts with "
            f"{DELIMITERS[expected]} or line breaks into double quotes."
        )
    return others[0] if others else expected


def check_inside(folder: Path) -> None:
    """Raise a `DataError` if a folder's description of its data names files outside it."""
    import yaml

    named: list[tuple[Path, Any]] = []
    for card in (folder / "README.md", folder / ".huggingface.yaml"):
        text = card.read_text(encoding="utf-8", errors="replace")[:CARD_CHARS] if card.is_file() else ""
        if card.suffix == ".md":
            text = text.partition("---\n")[2].partition("\n---")[0] if text.startswith("---") else ""
        try:
            found = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError):
            continue  # the library that reads the card reports what is wrong with it
        configs = (found.get("configs") or ()) if isinstance(found, dict) else ()
        named += [(card, [one.get("data_files"), one.get("data_dir")]) for one in configs if isinstance(one, dict)]
    for record in filter(Path.is_file, [folder / "dataset_dict.json", *sorted(folder.glob("**/state.json"))]):
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            reason = shortened(error)
            raise DataError(f"source: {str(record)!r} cannot be read: {reason}. Save the dataset again.") from error
        if isinstance(found, dict):
            named.append((record, (found.get("splits"), found.get("_data_files"))))
    named.reverse()
    while named:  # texts in nested lists and mappings, without their keys
        description, value = named.pop()
        if isinstance(value, (dict, list, tuple)):
            named += [(description, one) for one in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, str):
            path = Path(value)
            inside = "\0" not in value and (description.parent / path).resolve().is_relative_to(folder.resolve())
            if not inside or ".." in path.parts or "://" in value or "::" in value:
                raise DataError(
                    f"source: {str(description)!r} names {value[:200]!r}, which is outside the folder. If you trust "
                    "it, name that file as the source."
                )


def check_values(table: pa.Table, path: str | Path) -> None:
    """Raise a `DataError` for damaged values of a loaded table, such as texts that are not UTF-8 (column and row)."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        begin = 0
        for chunk in column.chunks:
            try:
                chunk.validate(full=True)
            except (pa.ArrowException, UnicodeDecodeError) as error:
                index = re.search(r"at string index (\d+)", str(error))
                row = begin + (int(index[1]) if index else 0)
                raise DataError(
                    f"source: {str(path)!r}, column {name!r}, row {row}: {shortened(error)}. Save texts as UTF-8."
                ) from error
            begin += len(chunk)


def no_rows(path: str | Path) -> str:
    """The message for a file without rows."""
    return f"source: {str(path)!r} holds no rows."


def shortened(error: BaseException) -> str:
    """The message of a library's error, on one line."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
