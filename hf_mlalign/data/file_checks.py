"""Data files looked at before a library opens them: what would hang it, crash it or fill the memory is refused."""

from __future__ import annotations

import io
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hf_mlalign.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_COLUMNS = 10_000
"""More columns than this are no table of texts (*ours*)."""
MOST_NESTING = 64
"""Deeper nested values are refused (*ours*); readers of JSON crash at some ten thousand levels."""
HEADER_BYTES = 2**24
"""A CSV file whose first line is longer has none (*ours*)."""
FOOTER_BYTES = 2**27
"""A Parquet file's description of itself may be so large (*ours*)."""
KEY_LINES = 20_000
"""Lines of JSON of which the keys are counted (*ours*)."""
CARD_CHARS = 2**20
"""So much of a card is looked at (*ours*)."""
RATIO, UNPACKED_BYTES = 100, 2**30
"""A compressed file that is larger than both, times its size and in bytes, is refused (*ours*)."""
BLOCK = 2**22
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def check_file(path: Path, kind: str) -> None:
    """DataError for a file that cannot be read safely.

    Args:
        path: a local file, perhaps compressed (.gz, .bz2, .xz).
        kind: "parquet", "arrow", "json" or "csv".
    Raises:
        DataError: no regular or readable file, no rows, too many columns, too deeply nested, damaged, not UTF-8, or a
            small compressed file that holds a huge one; file, line and remedy are named.
    """
    try:
        _check_regular(path)
        if kind == "parquet" and not _opener(path):
            _check_parquet(path)
        elif kind == "arrow" and not _opener(path):
            _check_arrow(path)
        elif kind in ("json", "csv"):
            _check_text(path, kind)
    except OSError as error:
        raise DataError(f"source: cannot read {str(path)!r}: {error.strerror or _shortened(error)}.") from error


def _check_regular(path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"source: {str(path)!r} is a pipe or a device, not a file. Save what it gives to a file.")
    if status.st_size == 0:
        raise DataError(f"source: {str(path)!r} is empty (0 bytes).")
    with open(path, "rb"):
        pass


def _opener(path: Path):
    import bz2
    import gzip
    import lzma

    return {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(path.suffix.lower())


def _check_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open(path, "rb") as handle:
        handle.seek(0, io.SEEK_END)
        handle.seek(max(0, handle.tell() - 8))
        tail = handle.read()
    if tail[4:] != b"PAR1":
        raise DataError(f"source: {str(path)!r} is no whole Parquet file (its end is missing). {_again(path)}")
    if int.from_bytes(tail[:4], "little") > FOOTER_BYTES:
        raise DataError(f"source: {str(path)!r} describes itself in more than {FOOTER_BYTES >> 20} MiB. {_columns()}")
    try:
        metadata = pq.read_metadata(path)
        check_width(metadata.num_columns, path)
        schema = metadata.schema.to_arrow_schema()
        if metadata.num_rows == 0:
            raise DataError(no_rows(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"source: {str(path)!r} is no Parquet file: {_shortened(error)}. {_again(path)}") from error
    _check_schema(schema, path)


def _check_arrow(path: Path) -> None:
    import pyarrow as pa

    rows = 0
    try:
        with pa.memory_map(str(path)) as source:
            batches = _arrow_batches(source)
            schema = next(batches)
            check_width(len(schema), path)
            _check_schema(schema, path)
            for batch in batches:
                batch.validate(full=True)
                rows += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"source: {str(path)!r} is no whole Arrow file: {_shortened(error)}. {_again(path)}") from error
    if not rows:
        raise DataError(no_rows(path))


def _arrow_batches(source) -> Iterator:
    """The schema, then the record batches of a stream or file."""
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(source)
        yield reader.schema
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
    except pa.ArrowInvalid:
        source.seek(0)
        reader = pa.ipc.open_stream(source)
        yield reader.schema
        yield from reader


def check_width(columns: int, path: Path) -> None:
    """DataError for more than `MOST_COLUMNS`."""
    if columns > MOST_COLUMNS:
        raise DataError(f"source: {str(path)!r} has more than {MOST_COLUMNS:,} columns. {_columns()}")


def _check_schema(schema: pa.Schema, path: Path) -> None:
    if len(set(schema.names)) < len(schema):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise DataError(f"source: {str(path)!r} has the column {twice[:80]!r} twice. Rename or drop one of them.")
    for field in schema:
        if _depth(field.type) > MOST_NESTING:
            raise DataError(
                f"source: {str(path)!r}, column {field.name[:80]!r} is nested deeper than {MOST_NESTING} levels. "
                "Keep texts and lists of messages."
            )


def _depth(kind: pa.DataType) -> int:
    """Levels of lists and structs in a type, counted without recursion."""
    deepest, waiting = 0, [(kind, 0)]
    while waiting:
        one, level = waiting.pop()
        deepest = max(deepest, level)
        waiting += [(one.field(i).type, level + 1) for i in range(one.num_fields)]
    return deepest


def _check_text(path: Path, kind: str) -> None:
    """Size when unpacked, encoding, the header of a CSV file, nesting and keys of JSON."""
    import lzma
    import zlib

    opener = _opener(path)
    size = path.stat().st_size
    limit = max(size * RATIO, UNPACKED_BYTES) if opener else None
    try:
        with (opener or open)(path, "rb") as handle:
            _check_start(handle, path, kind)
            if kind == "json":
                _check_json(handle, path, limit)
            elif limit:
                _check_unpacked(handle, path, limit)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"source: {str(path)!r} is not whole: {_shortened(error)}. {_again(path)}") from error
    except OSError as error:
        if opener is None or error.errno is not None:
            raise
        raise DataError(f"source: {str(path)!r} is not compressed as its ending says: {_shortened(error)}.") from error


def _check_start(handle: IO[bytes], path: Path, kind: str) -> None:
    start = handle.read(4)
    if not start:
        raise DataError(no_rows(path))
    if start[:2] in BOMS or b"\0" in start:
        raise DataError(f"source: {str(path)!r} is UTF-16 or no text. Save it as UTF-8 (iconv -f utf-16 -t utf-8).")
    handle.seek(0)
    if kind == "csv":
        header = handle.readline(HEADER_BYTES)
        if len(header) == HEADER_BYTES:
            raise DataError(
                f"source: {str(path)!r} has no header: its first line is longer than {HEADER_BYTES >> 20} MiB. "
                "A CSV file begins with a line of column names."
            )
        check_width(1 + max(header.count(b","), header.count(b"\t")), path)
        handle.seek(0)


def _check_unpacked(handle: IO[bytes], path: Path, limit: int) -> None:
    seen = 0
    while block := handle.read(BLOCK):
        seen += len(block)
        _refuse_bomb(seen, path, limit)


def _refuse_bomb(seen: int, path: Path, limit: int | None) -> None:
    if limit is not None and seen > limit:
        raise DataError(
            f"source: {str(path)!r} unpacks to more than {RATIO} times its size and {UNPACKED_BYTES >> 30} GiB. If "
            "that is meant, unpack it and name the unpacked file."
        )


def _check_json(handle: IO[bytes], path: Path, limit: int | None) -> None:
    keys: set[str] = set()
    seen = rows = 0
    for number, line in enumerate(_lines(handle, path, limit), 1):
        seen += len(line)
        _refuse_bomb(seen, path, limit)
        try:
            line.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"source: {str(path)!r}, line {number}: byte {error.start} is not UTF-8. Save the file as UTF-8 "
                "(iconv -f latin1 -t utf-8)."
            ) from error
        start = line.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if not rows and start and start not in b"[{":
            raise DataError(f"source: {str(path)!r}, line {number}: {line[:40]!r} is no row. Rows are JSON objects.")
        rows += bool(start)
        if line.count(b"[") + line.count(b"{") > MOST_NESTING and _json_depth(line) > MOST_NESTING:
            raise DataError(
                f"source: {str(path)!r}, line {number}: nested deeper than {MOST_NESTING} levels. Keep texts and lists "
                "of messages."
            )
        if number <= KEY_LINES:
            _count_keys(line, keys, path)
    if not rows:
        raise DataError(no_rows(path))


def _lines(handle: IO[bytes], path: Path, limit: int | None) -> Iterator[bytes]:
    """Lines; a line of a compressed file is not read beyond what the file may unpack to."""
    longest = -1 if limit is None else limit + 1
    while line := handle.readline(longest):
        yield line


def _json_depth(line: bytes) -> int:
    """Deepest nesting of brackets outside of strings."""
    import numpy as np

    bare = np.frombuffer(STRING.sub(b"", line), np.uint8)
    level = deepest = 0
    for begin in range(0, len(bare), BLOCK):
        block = bare[begin : begin + BLOCK]
        steps = ((block == 91) | (block == 123)).astype(np.int8) - ((block == 93) | (block == 125)).astype(np.int8)
        levels = np.cumsum(steps, dtype=np.int64)
        deepest = max(deepest, level + int(levels.max(initial=0)))
        level += int(levels[-1])
    return deepest


def _count_keys(line: bytes, keys: set[str], path: Path) -> None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return  # a part of a JSON file, or damaged: the reader of the rows says where
    for one in row if isinstance(row, list) else [row]:
        if isinstance(one, dict):
            keys.update(one)
            check_width(len(keys), path)


def check_inside(folder: Path) -> None:
    """DataError where a folder's own description of its data names files outside of it."""
    for card in (folder / "README.md", folder / ".huggingface.yaml"):
        if card.is_file():
            _refuse_outside(folder, card.name, _data_files(card))
    for record in [folder / "dataset_dict.json", *sorted(folder.glob("**/state.json"))]:
        if record.is_file():
            _refuse_outside(record.parent, record.relative_to(folder), _saved_names(record))


def _data_files(card: Path) -> list[str]:
    """What the metadata of a card name as data."""
    import yaml

    text = card.read_text(encoding="utf-8", errors="replace")[:CARD_CHARS]
    if card.suffix == ".md":
        text = text.partition("---\n")[2].partition("\n---")[0] if text.startswith("---") else ""
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return []  # the library that reads the card says what is wrong with it
    configs = found.get("configs") if isinstance(found, dict) else None
    named = [(one.get("data_files"), one.get("data_dir")) for one in configs or () if isinstance(one, dict)]
    return list(_strings(named))


def _saved_names(record: Path) -> list[str]:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = _shortened(error)
        raise DataError(f"source: {str(record)!r} cannot be read: {reason}. Save the dataset again.") from error
    named = [found.get("splits"), found.get("_data_files")] if isinstance(found, dict) else []
    return list(_strings(named))


def _strings(value: object) -> Iterator[str]:
    """All texts in nested lists and mappings, without their keys."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, (list, tuple)):
            waiting += one


def _refuse_outside(folder: Path, name: object, files: list[str]) -> None:
    for file in files:
        inside = (folder / file).resolve().is_relative_to(folder.resolve()) if "\0" not in file else False
        if not inside or ".." in Path(file).parts or "://" in file or "::" in file:
            raise DataError(
                f"source: {str(folder / str(name))!r} names {file[:200]!r}, which is outside of the folder. If you "
                "trust it, name that file as the source."
            )


def check_texts(table: pa.Table, path: str | Path) -> None:
    """DataError where a loaded table has damaged values, texts that are not UTF-8 among them (column and row)."""
    import pyarrow as pa

    for name, column in zip(table.column_names, table.columns, strict=True):
        row = 0
        for chunk in column.chunks:
            try:
                chunk.validate(full=True)
            except (pa.ArrowException, UnicodeDecodeError) as error:
                found = row + _first_bad(chunk)
                raise DataError(
                    f"source: {str(path)!r}, column {name!r}, row {found}: {_shortened(error)}. Save texts as UTF-8."
                ) from error
            row += len(chunk)


def _first_bad(chunk: pa.Array) -> int:
    """Number of the first value that is not valid, found by halving."""
    import pyarrow as pa

    low, high = 0, len(chunk)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            chunk.slice(low, middle - low).validate(full=True)
            low = middle
        except pa.ArrowException:
            high = middle
    return low


def no_rows(path: str | Path) -> str:
    """The message for a file without rows."""
    return f"source: {str(path)!r} holds no rows."


def _columns() -> str:
    return "Keep the columns that are needed: prompts, responses, language, ids."


def _again(path: Path) -> str:
    return "Fetch or write it again, or name the format it has by its ending."


def _shortened(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
