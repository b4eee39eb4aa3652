"""Files, folders, patterns and everything that cannot be read."""

import gzip
import json

import pytest
from datasets import Dataset, DatasetDict

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.sources import load_source

ROWS = {"prompt": ["p1", "p2"], "response": ["r1", "r2"]}


def test_every_file_type(tmp_path):
    ds = Dataset.from_dict(ROWS)
    ds.to_parquet(tmp_path / "a.parquet")
    ds.to_json(tmp_path / "a.jsonl")
    ds.to_csv(tmp_path / "a.csv", index=False)
    ds.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    (tmp_path / "a.json").write_text(
        json.dumps([{"prompt": "p1", "response": "r1"}, {"prompt": "p2", "response": "r2"}])
    )
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as handle:
        handle.write((tmp_path / "a.jsonl").read_text())
    for name in ("a.parquet", "a.jsonl", "a.csv", "a.tsv", "a.json", "b.jsonl.gz", "*.parquet"):
        assert load_source(tmp_path / name)[:] == ROWS, name
    assert len(load_source(tmp_path / "a.parquet", split="train[:1]")) == 1


def test_folders(tmp_path):
    DatasetDict({"train": Dataset.from_dict(ROWS), "test": Dataset.from_dict(ROWS)}).save_to_disk(tmp_path / "saved")
    assert len(load_source(tmp_path / "saved")) == 2
    assert len(load_source(tmp_path / "saved", split="test")) == 2
    with pytest.raises(DataError, match="split: no 'dev'. Splits found: train, test"):
        load_source(tmp_path / "saved", split="dev")
    (tmp_path / "files").mkdir()
    Dataset.from_dict(ROWS).to_parquet(tmp_path / "files" / "x.parquet")
    assert load_source(tmp_path / "files")[:] == ROWS


def test_folders_of_one_name_are_told_apart(tmp_path):
    """With a card that names the files, `load_dataset` alone would take them for the same."""
    card = "---\nconfigs:\n- config_name: default\n  data_files: '*.parquet'\n---\n"
    for name, value in (("1", "a"), ("2", "b"), ("1", "c")):
        folder = tmp_path / name / "out"
        folder.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict({"x": [value]}).to_parquet(folder / "rows.parquet")
        (folder / "README.md").write_text(card)
        assert load_source(folder)["x"][:] == [value]
        assert load_source(folder, split="train[:1]")["x"][:] == [value]


def test_unreadable_sources(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 this is no parquet")
    (tmp_path / "x.docx").write_text("?")
    (tmp_path / "empty").mkdir()
    for source, message in [
        (tmp_path / "none.jsonl", "no file or folder"),
        (tmp_path / "bad.parquet", "bad.parquet' is no whole Parquet file"),
        (tmp_path / "x.docx", "no known ending"),
        (tmp_path / "empty", "cannot read"),
        ("not a/repo/id", "no file or folder"),
        ("nobody/no-such-dataset", "cannot read 'nobody/no-such-dataset'"),
    ]:
        with pytest.raises(DataError, match=message):
            load_source(source)
