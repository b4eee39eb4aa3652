"""Files that no command can read, or that hold something else than their name says."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MILLION = 1_000_000
DEEP = 100_000
Builder = Callable[[pa.Table, Path], Path]
BUILDERS: dict[str, Builder] = {}


def broken(name: str):
    """Register what writes a broken file called `name` from a good table; it returns the path to name."""

    def register(build: Builder) -> Builder:
        BUILDERS[name] = build
        return build

    return register


def parquet(table: pa.Table, **options) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def jsonl(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in table.to_pylist())


def csv(table: pa.Table, sep: str = ",") -> bytes:
    quote = lambda value: '"' + str(value).replace('"', '""') + '"'  # noqa: E731
    rows = [table.column_names, *(row.values() for row in table.to_pylist())]
    return "".join(sep.join(map(quote, row)) + "\n" for row in rows).encode()


def arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


WRITERS: dict[str, Callable[[pa.Table], bytes]] = {
    "parquet": parquet, "jsonl": jsonl, "csv": csv, "tsv": lambda table: csv(table, "\t"), "arrow": arrow,
    "json": lambda table: json.dumps(table.to_pylist()).encode(),
}  # fmt: skip


def _simple(name: str, ending: str, make: Callable[[pa.Table], bytes]) -> None:
    def build(table: pa.Table, folder: Path) -> Path:
        path = folder / f"x.{ending}"
        path.write_bytes(make(table))
        return path

    BUILDERS[name] = build


for _ending, _write in WRITERS.items():
    _simple(f"empty.{_ending}", _ending, lambda table: b"")
    _simple(f"half.{_ending}", _ending, lambda table, write=_write: write(table)[: len(write(table)) // 2 - 3])
    _simple(f"nul.{_ending}", _ending, lambda table: b"\0" * 4096)
    _simple(f"image.{_ending}", _ending, lambda table: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    _simple(f"no-rows.{_ending}", _ending, lambda table, write=_write: write(table.slice(0, 0)))
for _ending in ("parquet", "arrow"):
    _simple(f"jsonl.{_ending}", _ending, jsonl)
for _ending in ("jsonl", "csv", "json"):
    _simple(f"parquet.{_ending}", _ending, parquet)
    _simple(f"utf16.{_ending}", _ending, lambda table, w=WRITERS[_ending]: w(table).decode().encode("utf-16"))
    _simple(f"latin1.{_ending}", _ending, lambda table, w=WRITERS[_ending]: w(table).replace(b"Wie", b"W\xef\xe9"))
    _simple(f"not-gzip.{_ending}.gz", f"{_ending}.gz", WRITERS[_ending])
    _simple(f"half-gzip.{_ending}.gz", f"{_ending}.gz", lambda t, w=WRITERS[_ending]: gzip.compress(w(t))[:-20])
_simple("deep.jsonl", "jsonl", lambda table: b'{"prompt": ' + b"[" * DEEP + b"]" * DEEP + b"}\n")
_simple("deep-objects.jsonl", "jsonl", lambda table: b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"\n")
_simple("deep.json", "json", lambda table: b"[" * DEEP + b"]" * DEEP)
_simple("open.json", "json", lambda table: b"[" * DEEP)
_simple("null-line.jsonl", "jsonl", lambda table: jsonl(table) + b"null\n")
_simple("number-line.jsonl", "jsonl", lambda table: jsonl(table) + b"5\n")
_simple("list-line.jsonl", "jsonl", lambda table: b"[[[]]]\n" + jsonl(table))
_simple("nulls.json", "json", lambda table: b"[null, null]")
_simple("lists.json", "json", lambda table: b"[[1], [2]]")
_simple("object.json", "json", lambda table: b'{"a": {"b": 1}}')
_masked = b'{"a": "' + b"]" * DEEP + b'", "b": ' + b"[" * DEEP + b"]" * DEEP + b"}\n"
_simple("masked-depth.jsonl", "jsonl", lambda table: _masked)
_simple("numbers.jsonl", "jsonl", lambda table: b"1\n2\n3\n")
_simple("texts.json", "json", lambda table: b'["a", "b"]')
_simple("number.json", "json", lambda table: b"42")
_simple("null.json", "json", lambda table: b"null")
_simple("mixed.jsonl", "jsonl", lambda table: b'{"prompt": 1, "language": "de"}\n{"prompt": {"a": []}}\n')
_simple("huge-number.jsonl", "jsonl", lambda table: b'{"prompt_id": 1' + b"0" * 5000 + b', "prompt": "a"}\n')
_simple("twice.jsonl", "jsonl", lambda table: b'{"prompt": "a", "prompt": "b", "language": "de"}\n' * 3)
_simple("surrogate.jsonl", "jsonl", lambda table: b'{"prompt": "\\ud800", "response": "\\udfff"}\n' * 3)
_simple("ragged.csv", "csv", lambda table: csv(table) + b"1,2,3,4,5,6,7,8,9,10,11,12,13\n")
_simple("open-quote.csv", "csv", lambda table: csv(table) + b'"no end,' * 100)
_simple("twice.csv", "csv", lambda table: b"prompt,prompt,language\n" + b"a,b,de\n" * 3)
_simple("no-header.csv", "csv", lambda table: b"\n\n\n")
_simple("wide.csv", "csv", lambda table: b",".join(b"c%d" % i for i in range(MILLION)) + b"\n" + b"1," * MILLION)
_simple("wide.jsonl", "jsonl", lambda table: b"{" + b",".join(b'"c%d":1' % i for i in range(MILLION)) + b"}\n")
_simple("bomb.jsonl.gz", "jsonl.gz", lambda table: gzip.compress(b'{"prompt": "' + b"a" * 100_000_000 + b'"}\n', 1))
_simple("bomb.csv.gz", "csv.gz", lambda table: gzip.compress(b"a" * 100_000_000, 1))


@broken("wide.parquet")
def _wide_parquet(table: pa.Table, folder: Path) -> Path:
    one = pa.array([1])
    wide = pa.Table.from_arrays([one] * 100_000, names=[f"c{i}" for i in range(100_000)])
    pq.write_table(wide, folder / "x.parquet", compression="none", use_dictionary=False, write_statistics=False)
    return folder / "x.parquet"


@broken("deep.parquet")
def _deep_parquet(table: pa.Table, folder: Path) -> Path:
    pq.write_table(pa.table({"prompt": _nested(pa.array(["a"]), 200)}), folder / "x.parquet")
    return folder / "x.parquet"


@broken("deep.arrow")
def _deep_arrow(table: pa.Table, folder: Path) -> Path:
    (folder / "x.arrow").write_bytes(arrow(pa.table({"prompt": _nested(pa.array(["a"]), 60)})))
    return folder / "x.arrow"


def _nested(values: pa.Array, depth: int) -> pa.Array:
    for _ in range(depth):
        values = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    return values


@broken("a-folder-called-x.parquet")
def _folder(table: pa.Table, folder: Path) -> Path:
    (folder / "x.parquet").mkdir()
    return folder / "x.parquet"


@broken("mixed-folder")
def _mixed(table: pa.Table, folder: Path) -> Path:
    (folder / "mixed").mkdir()
    for ending, write in WRITERS.items():
        (folder / "mixed" / f"x.{ending}").write_bytes(write(table))
    (folder / "mixed" / "notes.docx").write_bytes(b"?")
    return folder / "mixed"


@broken("good-and-broken-folder")
def _good_and_broken(table: pa.Table, folder: Path) -> Path:
    (folder / "some").mkdir()
    (folder / "some" / "a.parquet").write_bytes(parquet(table))
    (folder / "some" / "b.parquet").write_bytes(parquet(table)[:-9])
    return folder / "some"


@broken("other-columns-folder")
def _other_columns(table: pa.Table, folder: Path) -> Path:
    (folder / "some").mkdir()
    (folder / "some" / "a.parquet").write_bytes(parquet(table))
    (folder / "some" / "b.parquet").write_bytes(parquet(pa.table({"q": [1]})))
    return folder / "some"


@broken("loop")
def _loop(table: pa.Table, folder: Path) -> Path:
    os.symlink("x.parquet", folder / "x.parquet")
    return folder / "x.parquet"


@broken("loop-in-folder")
def _loop_in_folder(table: pa.Table, folder: Path) -> Path:
    (folder / "some").mkdir()
    os.symlink(".", folder / "some" / "again")
    os.symlink("lost.parquet", folder / "some" / "gone.parquet")
    return folder / "some"


@broken("fifo")
def _fifo(table: pa.Table, folder: Path) -> Path:
    os.mkfifo(folder / "x.jsonl")
    return folder / "x.jsonl"


@broken("fifo-in-folder")
def _fifo_in_folder(table: pa.Table, folder: Path) -> Path:
    (folder / "some").mkdir()
    os.mkfifo(folder / "some" / "x.jsonl")
    return folder / "some"


@broken("device.jsonl")
def _device(table: pa.Table, folder: Path) -> Path:
    os.symlink("/dev/zero", folder / "x.jsonl")
    return folder / "x.jsonl"


@broken("saved-half")
def _saved(table: pa.Table, folder: Path) -> Path:
    from datasets import Dataset

    Dataset(table).save_to_disk(str(folder / "saved"))
    for path in (folder / "saved").glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:200])
    return folder / "saved"


@broken("saved-foreign")
def _saved_foreign(table: pa.Table, folder: Path) -> Path:
    (folder / "saved").mkdir()
    (folder / "saved" / "dataset_info.json").write_text("[]")
    (folder / "saved" / "state.json").write_text('{"_data_files": 3}')
    return folder / "saved"


@broken("script-folder")
def _script(table: pa.Table, folder: Path) -> Path:
    (folder / "set").mkdir()
    (folder / "set" / "set.py").write_text("open('touched', 'w').close()")
    return folder / "set"


def _column(name: str, make: Callable[[pa.Table, str], pa.Array]) -> None:
    """A good Parquet file in which every text column but the language is replaced."""

    def build(table: pa.Table, folder: Path) -> Path:
        for i, field in enumerate(table.schema):
            if pa.types.is_string(field.type) and field.name not in ("language",):
                table = table.set_column(i, field.name, make(table, field.name))
        pq.write_table(table, folder / "x.parquet")
        return folder / "x.parquet"

    BUILDERS[f"{name} for text"] = build


_column("nulls", lambda t, name: pa.nulls(len(t)))
_column("null texts", lambda t, name: pa.nulls(len(t), pa.string()))
_column("dates", lambda t, name: pa.array(np.arange(len(t), dtype="int32"), pa.int32()).cast(pa.date32()))
_column("times", lambda t, name: pa.array(np.arange(len(t)), pa.timestamp("us", "UTC")))
_column("binary", lambda t, name: pa.array([b"\xff\x00"] * len(t), pa.binary()))
_column("struct", lambda t, name: pa.array([{"a": 1, "b": [1]}] * len(t)))
_column("maps", lambda t, name: pa.array([[("a", 1)]] * len(t), pa.map_(pa.string(), pa.int64())))
_column("lists", lambda t, name: pa.array([["a"]] * len(t)))
_column("uneven lists", lambda t, name: pa.array([[["a"] * (i % 3)] * (i % 2) for i in range(len(t))]))
_column("numbers", lambda t, name: pa.array(np.arange(len(t)), pa.float64()))
_column("decimals", lambda t, name: pa.array(np.arange(len(t))).cast(pa.decimal128(38, 2)))
_column("flags", lambda t, name: pa.array([True] * len(t)))
_column("durations", lambda t, name: pa.array(np.arange(len(t)), pa.duration("s")))
_column("dictionary", lambda t, name: t[name].combine_chunks().dictionary_encode())
_column("large text", lambda t, name: t[name].cast(pa.large_string()))
_column("text view", lambda t, name: t[name].cast(pa.string_view()))
_column("unknown languages and texts", lambda t, name: pa.array(["\x1b[31mred\x1b[0m"] * len(t)))


@broken("invalid utf8 in parquet")
def _invalid(table: pa.Table, folder: Path) -> Path:
    bad = pa.array([b"\xff\xfe\x80abc"] * len(table), pa.binary())
    bad = pa.Array.from_buffers(pa.string(), len(bad), bad.buffers())
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type) and field.name != "language":
            table = table.set_column(i, field.name, bad)
    pq.write_table(table, folder / "x.parquet")
    return folder / "x.parquet"


@broken("columns twice in parquet")
def _twice(table: pa.Table, folder: Path) -> Path:
    names = [*table.column_names, table.column_names[0]]
    pq.write_table(pa.Table.from_arrays([*table.columns, table.column(0)], names=names), folder / "x.parquet")
    return folder / "x.parquet"


def _language(name: str, values: Callable[[int], pa.Array]) -> None:
    def build(table: pa.Table, folder: Path) -> Path:
        if "language" in table.column_names:
            table = table.set_column(table.column_names.index("language"), "language", values(len(table)))
        pq.write_table(table, folder / "x.parquet")
        return folder / "x.parquet"

    BUILDERS[f"{name} for language"] = build


_language("numbers", lambda n: pa.array(np.arange(n)))
_language("nulls", lambda n: pa.nulls(n, pa.string()))
_language("paths", lambda n: pa.array(["../../../evil", "/tmp/evil"] * n).slice(0, n))
_language("control characters", lambda n: pa.array(["\x1b]0;x\x07[red]\u202e"] * n))
_language("lists", lambda n: pa.array([["de"]] * n))
_language("binary", lambda n: pa.array([b"de"] * n))
