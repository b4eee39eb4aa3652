"""Sources that are not a folder here: URLs of folders, files and archives; and sets that go to the Hub."""

import functools
import http.server
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from contextlib import contextmanager

import datasets
import pytest

from tests.dataset_scripts.layouts import SCRIPTS, arguments, run, small, write
from tests.hub_server import HubServer

TOKEN = "hf_" + "d" * 34


@contextmanager
def served(folder, log, broken=(), cut=()):
    """A folder on loopback HTTP; `broken` paths answer 500, of `cut` ones half arrives."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            log.append((self.command, self.path))

        def copyfile(self, source, outputfile):
            whole = source.read()
            outputfile.write(whole[: len(whole) // 2] if self.path in cut else whole)
            self.close_connection = True

        def send_head(self):
            if self.path.split("?")[0] in broken:
                return self.send_error(500)
            return super().send_head()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def user(name, home, *command, **environment):
    """Run a script as a user who is online."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home / "home"), **environment}
    return subprocess.run([sys.executable, SCRIPTS / f"{name}.py", *map(str, command)], cwd=home, env=environment,
                          capture_output=True, text=True, timeout=120)  # fmt: skip


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Downloads are allowed in this process (the test session as a whole is offline), into a cache of the test's own.

    The shared cache would know the address of an earlier server wherever the same port is lent again.
    """
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", str(tmp_path / "downloads"))


def rows_of(folder, name):
    return datasets.Dataset.from_parquet(str(folder / "data" / f"{name}.parquet"))[:]


@pytest.fixture
def revisions(tmp_path):
    write("expert_revisions", tmp_path, small("expert_revisions"))
    assert run("expert_revisions", *arguments("expert_revisions", tmp_path), "--output", tmp_path / "local") == 0
    return tmp_path


def test_urls_are_fetched_once(revisions, online, capsys):
    """Paths with blanks and leading dots are asked for, fallbacks tried, and nothing is loaded twice."""
    log = []
    with served(revisions, log) as url:
        options = ["--source", f"{url}/source/", "--english-source", f"{url}/second", "--languages", "de", "en",
                   "--cache-dir", revisions / "cache", "--output", revisions / "out"]  # fmt: skip
        assert run("expert_revisions", *options) == 0
        loaded = [path for method, path in log if method == "GET"]
        assert any(path.startswith("/second/.ipynb_checkpoints/Expert%20Revision") for path in loaded)
        log.clear()
        assert run("expert_revisions", *options) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert not [path for method, path in log if method == "GET" and "German" in path]
    for name in ("de", "en"):
        assert rows_of(revisions / "out", name) == rows_of(revisions / "local", name)
    assert "127.0.0.1" in (revisions / "out" / "run.json").read_text()


def test_what_the_server_refuses_says_so(revisions, online, capsys):
    with served(revisions, [], broken=("/source/data/MIDB_train/German.json",)) as url:
        options = ["--source", f"http://user:secret@{url[7:]}/source?token=secret", "--languages", "de"]
        assert run("expert_revisions", *options, "--output", revisions / "out") == 2
        error = capsys.readouterr().err
    assert "source: 'http://127.0.0.1" in error
    assert "cannot be fetched: 500" in error
    assert "secret" not in error
    assert run("expert_revisions", "--source", f"{url}/source", "--output", revisions / "out") == 2
    assert "Connect call failed" in capsys.readouterr().err
    assert not (revisions / "out").exists()


def test_half_a_file_is_no_file(revisions, online):
    """The connection ends in the middle; nothing is built from what arrived, and the next run has all of it."""
    path = "/source/data/MIDB_train/German.json"
    for cut, code in (((path,), 2), ((), 0)):
        with served(revisions, [], cut=cut) as url:
            options = ["--source", f"{url}/source", "--languages", "de"]
            assert run("expert_revisions", *options, "--output", revisions / "out") == code
        assert (revisions / "out").exists() == (code == 0)
    assert rows_of(revisions / "out", "de")["raw_response"] == rows_of(revisions / "local", "de")["raw_response"]


def test_offline_says_so(tmp_path, capsys):
    assert run("mgsm", "--source", "http://127.0.0.1:9/x", "--output", tmp_path / "out") == 2
    assert "cannot be fetched: Offline mode is enabled" in capsys.readouterr().err


def archive(folder, path, kind):
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as whole:
            for file in folder.rglob("*"):
                whole.write(file, f"repository-main/{file.relative_to(folder)}")
    else:
        with tarfile.open(path, "w:gz") as whole:
            whole.add(folder, "repository-main")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives_are_unpacked(kind, tmp_path):
    write("mgsm", tmp_path, small("mgsm"))
    path = tmp_path / f"url-nlp.{kind}"
    archive(tmp_path / "source", path, kind)
    options = ["--output", tmp_path / "out", "--cache-dir", tmp_path / "cache"]
    assert run("mgsm", "--source", path, *options) == 0
    assert run("mgsm", "--source", tmp_path / "source", "--output", tmp_path / "plain") == 0
    assert rows_of(tmp_path / "out", "zh") == rows_of(tmp_path / "plain", "zh")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_broken_archive_says_so_every_time(kind, tmp_path, capsys):
    """What a first run unpacked of a cut archive must not stand for the whole in the second."""
    write("mgsm", tmp_path, small("mgsm", n=400))
    path = tmp_path / f"url-nlp.{kind}"
    archive(tmp_path / "source", path, kind)
    path.write_bytes(path.read_bytes()[:-600])
    for _ in range(2):
        assert run("mgsm", "--source", path, "--output", tmp_path / "out", "--cache-dir", tmp_path / "cache") == 2
        assert f"'url-nlp.{kind}' is broken or cut off" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_archive_from_a_url_and_a_push_that_is_loaded_back(tmp_path):
    write("mgsm", tmp_path, small("mgsm"))
    archive(tmp_path / "source", tmp_path / "main.zip", "zip")
    with served(tmp_path, []) as url, HubServer(TOKEN) as hub:
        options = ["--source", f"{url}/main.zip", "--output", "out", "--push-to-hub", "me/mgsm"]
        done = user("mgsm", tmp_path, *options, **hub.environment())
        assert done.returncode == 0, done.stderr
        assert "loaded back and compared: 3 configurations" in done.stdout
        assert hub.repos["dataset", "me/mgsm"].private
        assert {"README.md", "run.json", "data/de.parquet", "data/zh.parquet"} == set(hub.files("dataset", "me/mgsm"))
        assert b'load_dataset("me/mgsm", "de", split="test")' in hub.files("dataset", "me/mgsm")["README.md"]
        code = "import datasets; print(datasets.load_dataset('me/mgsm', 'de', split='test')['query'][:])"
        environment = {**os.environ, **hub.environment(), "HF_HOME": str(tmp_path / "other")}
        loaded = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        pushed = user("mgsm", tmp_path, *options, **hub.environment())
    assert loaded.stdout.strip() == str(rows_of(tmp_path / "out", "de")["query"]), loaded.stderr
    assert "Nothing to do" in pushed.stdout
    assert "Uploaded to" in pushed.stdout
    assert TOKEN not in done.stdout + done.stderr
