"""Paths and names that stand in data lead nowhere outside of the folders a command was given."""

import http.client
import io
import json
import os
import threading
import zipfile
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, load_dataset

from hf_mlalign import load_demo_pool
from hf_mlalign.cmalign.build import build_pairs
from hf_mlalign.core.errors import DataError, listed, printable
from hf_mlalign.data.sources import load_source, load_splits
from hf_mlalign.hub.repository import upload
from hf_mlalign.mdaq.curation import curate
from tests.hub_server import HubServer

ESCAPES = ("../secret.csv", "/secret.csv", "x/../../secret.csv", "http://127.0.0.1:9/x.csv", "zip://a::../b.zip")


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret.csv").write_text("prompt,response\na,secret\n")
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.csv").write_text("prompt,response\na,b\n")
    return folder


@pytest.mark.parametrize("escape", [*ESCAPES, "{absolute}"])
@pytest.mark.parametrize("form", ["'{}'", "['rows.csv', '{}']", "[{{split: train, path: '{}'}}]"])
def test_a_card_cannot_name_data_elsewhere(secret, escape, form):
    file = escape.replace("{absolute}", str(secret.parent / "secret.csv"))
    card = f"---\nconfigs:\n- config_name: default\n  data_files: {form.format(file)}\n---\n"
    (secret / "README.md").write_text(card)
    with pytest.raises(DataError, match="outside the folder"):
        load_source(secret)
    (secret / "README.md").write_text(card.replace(file, "rows.csv"))
    assert load_source(secret)["response"][:][0] == "b"


def test_a_saved_dataset_cannot_name_files_elsewhere(tmp_path):
    for name, value in (("1", "a"), ("2", "secret")):
        Dataset.from_dict({"prompt": [value]}).save_to_disk(tmp_path / name)
    state = tmp_path / "1" / "state.json"
    found = json.loads(state.read_text())
    for file in ("../2/data-00000-of-00001.arrow", str(tmp_path / "2" / "data-00000-of-00001.arrow")):
        state.write_text(json.dumps({**found, "_data_files": [{"filename": file}]}))
        with pytest.raises(DataError, match="outside the folder"):
            load_source(tmp_path / "1")
    DatasetDict({"train": Dataset.from_dict({"prompt": ["a"]})}).save_to_disk(tmp_path / "3")
    (tmp_path / "3" / "dataset_dict.json").write_text('{"splits": ["../2"]}')
    with pytest.raises(DataError, match="outside the folder"):
        load_splits(tmp_path / "3")
    (tmp_path / "3" / "dataset_dict.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"dataset_dict.json' cannot be read"):
        load_splits(tmp_path / "3")


def test_ids_languages_and_texts_are_no_paths(tmp_path):
    """Whatever ids and texts hold, a run writes into its folder alone; languages are known codes."""
    pool = load_demo_pool(["en", "de"]).map(lambda row: {"prompt_id": f"../../{row['prompt_id']}/\0"})
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    build_pairs(pool, inside / "pairs", test_size=0.2)
    curate(pool, inside / "curated", n_quality=4, n_diversity=1,
           column_mapping={"prompt": "instruction", "response": "response"})  # fmt: skip
    assert {p.name for p in tmp_path.iterdir()} == {"a"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"b"}
    assert {p.name for p in inside.iterdir()} == {"pairs", "curated"}
    assert {p.name for p in (inside / "curated" / "data").iterdir()} == {"en.parquet", "de.parquet"}
    ids = load_dataset(str(inside / "pairs"), split="train")["prompt_id"][:]
    assert all(one.startswith("../../") for one in ids)
    for bad in ("../de", "/de", "de/..", ".", "", "de\0", "..", "README"):
        rows = {"prompt": ["a"], "response": ["b"], "language": [bad]}
        with pytest.raises(DataError, match="unknown language"):
            curate(Dataset.from_dict(rows), inside / "other")
    assert not (inside / "other" / "data").exists()


def test_a_foreign_record_names_no_files(tmp_path):
    """The report does not look for a pool where `run.json` says, unless it is a plain name beside the run."""
    from hf_mlalign.hub.run_record import RunRecord, describe_source
    from hf_mlalign.report.registry import ReportedRun
    from hf_mlalign.report.sections.curation_data import _pool

    pool = tmp_path / "pool.csv"
    pool.write_text("prompt,response\na,b\n")
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    for name, found in (("pool.csv", True), (str(pool), False), ("../pool.csv", False), ("..", False), ("", False)):
        source = {"name": name, "digest": describe_source(pool)["digest"]}
        record = RunRecord(command="curate", parameters={}, source=source)
        assert (_pool(ReportedRun(folder, "run", record, None, 0)) is not None) == found, name


def test_links_out_of_a_folder_are_not_uploaded(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    (tmp_path / "key").write_text("private")
    folder = tmp_path / "model"
    (folder / "part").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with HubServer("hf_" + "t" * 34) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.environment()["HF_ENDPOINT"])
        for place, target, message in (("a.txt", tmp_path / "key", "outside of"), ("part/x", "../../key", "outside"),
                                       ("gone", "nothing", "broken link"), ("loop", "loop", "broken link")):
            (folder / place).symlink_to(target)
            with pytest.raises(DataError, match=message):
                upload(folder, "me/model", "model", token="hf_" + "t" * 34)
            (folder / place).unlink()
        assert not hub.repos
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match="is not a file"):
        upload(folder, "me/model", "model", token="hf_" + "t" * 34)


def test_archives_are_unpacked_into_their_folder(tmp_path):
    import shutil
    import tarfile

    from shared.public_files import PublicSource

    for name in ("../evil.txt", str(tmp_path / "evil.txt")):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(name, "x")
            archive.writestr("good.txt", "x")
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo(name)
            archive.addfile(entry, io.BytesIO())
        for ending in ("zip", "tar.gz"):
            folder = tmp_path / "deep" / "er" / ending
            archive = tmp_path / f"a.{ending}"
            with suppress(DataError):
                PublicSource._unpack(_Archive(archive), archive, str(folder))
            assert not (tmp_path / "evil.txt").exists()
            assert not (tmp_path / "deep" / "er" / "evil.txt").exists()
            shutil.rmtree(folder, ignore_errors=True)


class _Archive:
    def __init__(self, path):
        self.place, self.argument, self.name = str(path), "source", path.name


def test_the_annotation_page_serves_no_files(tmp_path):
    from hf_mlalign.evaluation.annotation.app import serve
    from tests.evaluation.annotation.human_studies import make_items, open_study

    (tmp_path / "secret.txt").write_text("secret")
    stop, began, address = threading.Event(), threading.Event(), []
    with open_study(tmp_path / "study", make_items(2)) as study:
        started = lambda where: (address.append(where), began.set())  # noqa: E731
        page = threading.Thread(target=serve, args=(study,), kwargs={"on_start": started, "stop": stop})
        page.start()
        try:
            assert began.wait(60)
            host = address[0].split("//")[1].strip("/")
            file = str(tmp_path / "secret.txt")
            store = str(next((tmp_path / "study").iterdir()))
            for path in (f"/..{file}", f"/../../../../../..{file}", f"/%2e%2e{file}", f"/file={file}",
                         f"/gradio_api/file={file}", f"/gradio_api/file=/..{file}", f"/static/../..{file}",
                         f"/assets/../../../../../..{file}", f"/gradio_api/file={store}",
                         "/gradio_api/file=/etc/passwd"):  # fmt: skip
                connection = http.client.HTTPConnection(host, timeout=20)
                connection.request("GET", path)
                reply = connection.getresponse()
                body = reply.read()
                assert reply.status >= 300 or (b"secret" not in body and b"root:" not in body), path
                connection.close()
        finally:
            stop.set()
            page.join(30)


def test_metrics_are_installed_in_the_cache_alone():
    from hf_mlalign.evaluation.metrics.loading import install_metrics

    for namespace in ("../x", "/x", "a/b", "", "..", "a\0", ".x"):
        with pytest.raises(DataError, match="namespace"):
            install_metrics(namespace=namespace)
    for name in ("../winrate", "/etc/passwd", "hf_mlalign/../x", ""):
        with pytest.raises(DataError, match="no metric"):
            install_metrics([name])


def test_what_a_terminal_would_obey_is_escaped():
    text = "a\x1b[31mb\x07\x9b\u202ec\u2066\u200f\ud800\x7f\rd"
    assert printable(text) == r"a\x1b[31mb\x07\x9b\u202ec\u2066\u200f\ud800\x7f\rd"
    for kept in ("plain\n\ttext", "👩‍👩‍👧 Grüße 日本 العربية नमस्ते", "می‌خواهم"):
        assert printable(kept) == kept
    assert len(listed(["x" * 10**6] * 3)) < 1000


def test_parquet_names_stay_inside(tmp_path):
    """Names of columns and splits with slashes are data."""
    pq.write_table(pa.table({"../x": ["a"], "prompt": ["b"], "response": ["c"]}), tmp_path / "x.parquet")
    assert load_source(tmp_path / "x.parquet").column_names[0] == "../x"
    with pytest.raises(DataError):
        load_source(tmp_path / "x.parquet", split="../../x")
    assert {p.name for p in tmp_path.iterdir()} == {"x.parquet"}
