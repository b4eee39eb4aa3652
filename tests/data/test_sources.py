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
        (tmp_path / "bad.parquet", "bad.parquet' is not a complete Parquet file"),
        (tmp_path / "x.docx", "no known ending"),
        (tmp_path / "empty", "cannot read"),
        ("not a/repo/id", "no file or folder"),
        ("nobody/no-such-dataset", "cannot read 'nobody/no-such-dataset'"),
    ]:
        with pytest.raises(DataError, match=message):
            load_source(source)


GERMAN = 'Frage;Antwort;Wert\n"Wie spät; ist es?";Drei;1,5\nUnd jetzt, bitte?;Vier;2,5\n'


def test_delimiters(tmp_path, caplog):
    (tmp_path / "de.csv").write_text(GERMAN, encoding="utf-8-sig")
    assert load_source(tmp_path / "de.csv")[:] == {
        "Frage": ["Wie spät; ist es?", "Und jetzt, bitte?"], "Antwort": ["Drei", "Vier"], "Wert": ["1,5", "2,5"]
    }  # fmt: skip
    assert "de.csv: read with semicolons between the columns." in caplog.text
    for name, delimiter in (("a.csv", "|"), ("b.csv", "\t"), ("c.tsv", "\t"), ("d.tsv", ","), ("e.csv", ",")):
        text = "prompt,response\np1,r1\np2,r2\n".replace(",", delimiter)
        (tmp_path / name).write_text(text)
        assert load_source(tmp_path / name)[:] == ROWS, name
    with gzip.open(tmp_path / "de.csv.gz", "wt") as handle:
        handle.write(GERMAN)
    assert load_source(tmp_path / "de.csv.gz").column_names == ["Frage", "Antwort", "Wert"]


def test_commas_are_not_news(tmp_path, caplog):
    (tmp_path / "a.csv").write_text('prompt,response\n"a; b, c\nd",r1\n"x; y",r2\n')
    assert load_source(tmp_path / "a.csv")["prompt"][:] == ["a; b, c\nd", "x; y"]
    (tmp_path / "one.csv").write_text("prompt\na;b\nc;d\n")
    assert load_source(tmp_path / "one.csv")[:] == {"prompt": ["a;b", "c;d"]}
    (tmp_path / "short.csv").write_text("prompt,response\na,b\nc\n")
    assert load_source(tmp_path / "short.csv")[:] == {"prompt": ["a", "c"], "response": ["b", None]}
    assert not caplog.records


def test_delimiters_of_several_files(tmp_path):
    (tmp_path / "a.csv").write_text("prompt;response\np1;r1\n")
    (tmp_path / "b.csv").write_text("prompt;response\np2;r2\n")
    assert load_source(tmp_path)[:] == load_source(tmp_path / "*.csv")[:] == ROWS
    (tmp_path / "b.csv").write_text("prompt,response\np2,r2\n")
    for source in (tmp_path, tmp_path / "*.csv"):
        named = "has (semicolons|commas) between its columns, but .* has (semicolons|commas)"
        with pytest.raises(DataError, match=named):
            load_source(source)


def test_more_fields_than_the_header(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,response\na,b\nHello, you,c\n")
    with pytest.raises(DataError, match="line 3 has 3 fields, the header has 2. Put texts with commas or line breaks"):
        load_source(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("prompt\nHello, you\n")
    with pytest.raises(DataError, match="line 2 has 2 fields, the header has 1"):
        load_source(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("encoding", "guessed", "text"),
    [
        ("cp1252", "cp1252|latin|cp1250|cp1254", "F,A\n" + "Wie spät ist es für Bäcker?,Größtenteils fünf Uhr\n" * 5),
        ("cp1251", "cp1251|mac_cyrillic", "вопрос,ответ\n" + "Который сейчас час?,Сейчас пять часов вечера\n" * 5),
        ("shift_jis", "cp932|shift_jis", "質問,答え\n" + "今は何時ですか、教えてください,五時です、はい\n" * 5),
    ],
)
def test_other_encodings_are_named(tmp_path, encoding, guessed, text):
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    line = 1 if encoding != "cp1252" else 2
    with pytest.raises(DataError, match=rf"a.csv', line {line}: byte \d+ is not UTF-8; the file may be in ({guessed})"):
        load_source(tmp_path / "a.csv")
    rows = "".join(json.dumps({"a": line}, ensure_ascii=False) + "\n" for line in text.splitlines())
    (tmp_path / "a.jsonl").write_bytes(rows.encode(encoding))
    with pytest.raises(DataError, match=r"a.jsonl', line \d: byte \d+ is not UTF-8; the file may be in \w+\."):
        load_source(tmp_path / "a.jsonl")


def test_a_dataset_is_its_own_source():
    ds = Dataset.from_dict(ROWS)
    assert load_source(ds) is ds
