"""What is refused before a library opens it, and what is not."""

import gzip
import json
import lzma
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import content_digest, read_small
from hf_mlalign.data import file_checks
from hf_mlalign.data.file_checks import MOST_COLUMNS, MOST_NESTING, check_file, check_values
from hf_mlalign.data.sources import load_source


def write(path, data: bytes):
    path.write_bytes(data)
    return path


def nested(levels: int) -> bytes:
    return b'{"a": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}\n"


def test_nesting_is_counted_outside_of_strings(tmp_path):
    path = tmp_path / "x.jsonl"
    check_file(write(path, nested(MOST_NESTING)), "json")
    for bad in (nested(MOST_NESTING + 1), b'{"a": 1}\n' + nested(100_000), nested(100)[:-120],
                b'{"s": "' + b"]" * 500 + b'", "a": ' + b"[" * 100 + b"]" * 100 + b"}\n",
                b'{"s": "\\"' + b"]" * 500 + b'\\\\", "a": ' + b"[" * 100 + b"]" * 100 + b"}\n"):  # fmt: skip
        with pytest.raises(DataError, match=r"line \d: nested deeper than 64 levels"):
            check_file(write(path, bad), "json")
    for good in (b'{"a": "' + b"[{" * 10_000 + b'"}\n', b'{"a": "\\"' + b"[" * 10_000 + b'"}\n',
                 b'{"a": [' + b"[1]," * 10_000 + b"[]]}\n", json.dumps([{"a": [{}]}] * 1000).encode()):  # fmt: skip
        check_file(write(path, good), "json")


def test_columns_are_counted(tmp_path):
    names = [f"c{i}" for i in range(MOST_COLUMNS)]
    check_file(write(tmp_path / "x.csv", ",".join(names).encode() + b"\n"), "csv")
    check_file(write(tmp_path / "x.jsonl", json.dumps(dict.fromkeys(names)).encode()), "json")
    more = [*names, "one more"]
    lines = b"".join(json.dumps({name: 1}).encode() + b"\n" for name in more)
    for name, data in (("x.csv", ",".join(more).encode()), ("x.tsv", "\t".join(more).encode()),
                       ("x.jsonl", json.dumps(dict.fromkeys(more)).encode()), ("y.jsonl", lines)):  # fmt: skip
        with pytest.raises(DataError, match="more than 10,000 columns"):
            check_file(write(tmp_path / name, data), "json" if "json" in name else "csv")
    pq.write_table(pa.table({name: [1] for name in more}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="more than 10,000 columns"):
        check_file(tmp_path / "x.parquet", "parquet")


def test_encodings(tmp_path):
    path = tmp_path / "x.jsonl"
    check_file(write(path, '{"a": "Grüße 日本"}\n'.encode()), "json")
    with pytest.raises(DataError, match="line 2: byte 8 is not UTF-8"):
        check_file(write(path, b'{"a": "x"}\n{"a": "x\xe9"}\n'), "json")
    with pytest.raises(DataError, match="UTF-16"):
        check_file(write(path, '{"a": 1}'.encode("utf-16")), "json")
    for data, name in ((b'\xef\xbb\xbf{"prompt": "a"}\n', "b.jsonl"), (b"\xef\xbb\xbfprompt\na\n", "b.csv")):
        assert load_source(write(tmp_path / name, data)).to_dict() == {"prompt": ["a"]}


def test_compressed_files(tmp_path, monkeypatch):
    monkeypatch.setattr(file_checks, "UNPACKED_BYTES", 2**20)
    rows = b'{"a": "x"}\n'
    for name, data in (("x.jsonl.gz", gzip.compress(rows)), ("x.jsonl.xz", lzma.compress(rows))):
        check_file(write(tmp_path / name, data), "json")
    bomb = write(tmp_path / "b.jsonl.gz", gzip.compress(rows * 10**6))
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        check_file(bomb, "json")
    bomb = write(tmp_path / "b.csv.gz", gzip.compress(b"a,b\n" * 10**6))
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        check_file(bomb, "csv")
    with pytest.raises(DataError, match="is incomplete"):
        check_file(write(tmp_path / "c.jsonl.gz", gzip.compress(rows * 100)[:-9]), "json")
    with pytest.raises(DataError, match="is not a valid .gz file"):
        check_file(write(tmp_path / "c.jsonl.gz", rows), "json")


def test_things_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="pipe or a device"):
        load_source(tmp_path / "x.jsonl")
    content_digest(tmp_path / "x.jsonl")  # does not hang
    with pytest.raises(DataError, match="task: .*pipe or a device"):
        read_small(tmp_path / "x.jsonl", "task")
    with pytest.raises(DataError, match="larger than 16 MiB"):
        read_small(write(tmp_path / "big", b"x" * (2**24 + 1)), "task")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    with pytest.raises(DataError, match="leads nowhere"):
        load_source(tmp_path / "loop.csv")
    with pytest.raises(DataError, match=r"0 bytes"):
        load_source(write(tmp_path / "e.csv", b""))


def test_damaged_texts_are_found_by_row(tmp_path):
    values = pa.array([b"good", b"also good", b"\xff\xfe", b"good"], pa.binary())
    bad = pa.Array.from_buffers(pa.string(), len(values), values.buffers())
    table = pa.table({"a": pa.chunked_array([pa.array(["x"] * 10), bad])})
    with pytest.raises(DataError, match="column 'a', row 12"):
        check_values(table, "x.parquet")
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="column 'a', row 12.*UTF-8"):
        load_source(tmp_path / "x.parquet")


def test_columns_of_one_name(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="has the column 'a' twice"):
        load_source(tmp_path / "x.parquet")


def test_text_views_are_texts(tmp_path):
    pq.write_table(pa.table({"a": pa.array(["x"], pa.string_view())}), tmp_path / "x.parquet")
    assert load_source(tmp_path / "x.parquet").features["a"].dtype == "large_string"


def test_file_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"\xff.csv")
    write(tmp_path / name, b"prompt\na\n")
    assert load_source(tmp_path / name)["prompt"][:] == ["a"]
    assert content_digest(tmp_path / name)
