"""Metrics by path and by name: fresh processes, empty folders, no network, other contents, two installers at once."""

import http.server
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import hf_mlalign
from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.metrics.loading import (
    check_spaces,
    install_metrics,
    installed_path,
    metric_names,
    metric_script,
    metrics_folder,
)
from tests.hub_server import HubServer

NAMES = metric_names()
ONE = "selection_diversity"
NO_DNS = """
import socket
def no_name(*arguments, **options):
    raise socket.gaierror(-2, "Name or service not known")
socket.getaddrinfo = no_name
"""
SMALL = {
    "crosslingual_consistency": 'dict(languages=["en", "de"], prompt_ids=[1, 1], answers=["A", "A"])',
    "selection_diversity": 'dict(data=["one text", "another one"])',
    "winrate": "dict(predictions=[1.0, 0.5, 0.0])",
}


def fresh(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """A new process in an empty folder, with its own caches."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=empty, env={**environment, **variables}, timeout=300,
                          capture_output=True, text=True)  # fmt: skip


def _dynamic_modules() -> dict:
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "evaluate_modules"}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty module cache for this process; returns the folder of its metrics."""
    import evaluate

    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")
    before = _dynamic_modules()
    for name in before:
        del sys.modules[name]
    yield tmp_path / "modules" / "evaluate_modules" / "metrics"
    for name in _dynamic_modules():
        del sys.modules[name]
    sys.modules.update(before)


def test_names_and_folder():
    assert {"crosslingual_consistency", "selection_diversity"} <= set(NAMES)
    assert metric_script(f"hf_mlalign/{ONE}") == metrics_folder() / ONE / f"{ONE}.py"
    with pytest.raises(DataError, match="no metric 'winrates'.*There are: crosslingual_consistency"):
        hf_mlalign.load_metric("winrates")


@pytest.mark.parametrize(
    ("variables", "before"),
    [({"HF_EVALUATE_OFFLINE": "1"}, ""), ({}, NO_DNS), ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "")],
    ids=["offline flag", "no DNS", "no server"],
)
def test_each_metric_by_its_name_without_network(cache, tmp_path, variables, before):
    """Installed in this process; loaded by name and used in a fresh one, in an empty folder."""
    assert all(one.changed for one in install_metrics())
    code = before + "import evaluate, time\n"
    for name in NAMES:
        code += f"""
start = time.perf_counter()
metric = evaluate.load("hf_mlalign/{name}")
seconds = time.perf_counter() - start
assert metric.compute(**{SMALL[name]})
print(type(metric).__module__.split(".")[2], seconds)
"""
    modules = str(cache.parents[1])
    done = fresh(code, tmp_path, HF_MODULES_CACHE=modules, HF_UPDATE_DOWNLOAD_COUNTS="0", **variables)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [module for module, _ in lines] == [f"hf_mlalign--{name}" for name in NAMES]
    assert all(float(seconds) < 30 for _, seconds in lines)


def test_installing_twice_changes_nothing(cache):
    first = install_metrics()
    moments = {path: path.stat().st_mtime_ns for path in cache.rglob("*.py")}
    second = install_metrics()
    assert [one.changed for one in first] == [True] * len(NAMES)
    assert [one.changed for one in second] == [False] * len(NAMES)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.py")} == moments
    assert [one.name for one in first] == [f"hf_mlalign/{name}" for name in NAMES]
    assert all(installed_path(name) == one.path for name, one in zip(NAMES, first))


def test_a_newer_other_content_gives_way_and_stays(cache):
    """evaluate takes the script that was modified last: after installing, that is the packaged one."""
    one = install_metrics([ONE])[0]
    other = one.path.parents[1] / ("0" * 64) / one.path.name
    other.parent.mkdir()
    other.write_text("# downloaded later")
    future = time.time() + 1000
    os.utime(other, (future, future))
    assert installed_path(ONE) is None
    again = install_metrics([ONE])[0]
    assert again.changed
    assert installed_path(ONE) == one.path
    assert other.read_text() == "# downloaded later"
    assert not install_metrics([ONE])[0].changed


def test_a_damaged_copy_and_leftovers_of_a_killed_run_are_mended(cache):
    one = install_metrics([ONE])[0]
    one.path.write_text("import evaluate\n")
    (one.path.parents[1] / ".partial-1").mkdir()
    assert installed_path(ONE) is None
    assert install_metrics([ONE])[0].changed
    assert one.path.read_bytes() == metric_script(ONE).read_bytes()
    one.path.parent.joinpath("__init__.py").unlink()
    assert install_metrics([ONE])[0].changed
    assert one.path.parent.joinpath("__init__.py").is_file()


def _install_at_once(barrier, results) -> None:
    barrier.wait()
    results.put(sum(one.changed for one in install_metrics()))


def test_many_installers_at_once(cache):
    """Of six processes that start together exactly one writes each metric, and the others find it whole."""
    import evaluate  # noqa: F401 (once, before the forks)

    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.SimpleQueue()
    children = [context.Process(target=_install_at_once, args=(barrier, results)) for _ in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    assert sum(results.get() for _ in children) == len(NAMES)
    assert not list(cache.rglob(".partial*"))
    assert all(installed_path(name) for name in NAMES)


@pytest.mark.parametrize("namespace", ["", "../up", "a/b", "-x"])
def test_a_namespace_that_cannot_be_one(namespace):
    with pytest.raises(DataError, match="namespace"):
        install_metrics([ONE], namespace=namespace)


def test_a_cache_that_cannot_be_written(tmp_path, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="HF_MODULES_CACHE"):
        install_metrics([ONE])


def test_a_lock_that_is_held(cache, monkeypatch):
    from filelock import FileLock

    from hf_mlalign.evaluation.metrics import loading

    monkeypatch.setattr(loading, "LOCK_SECONDS", 0.2)
    cache.mkdir(parents=True)
    with FileLock(cache / "hf_mlalign--selection_diversity.lock"), pytest.raises(DataError, match="has been locked"):
        install_metrics([ONE])


def test_load_metric_heeds_no_other_module_of_that_name(cache, tmp_path, monkeypatch):
    """Not one in the working directory, and not one in the cache, even where evaluate keeps the packaged one."""
    from evaluate.loading import files_to_hash

    digest = files_to_hash([str(metric_script(ONE))])
    for folder in (tmp_path / "selection_diversity", tmp_path / "hf_mlalign" / "selection_diversity",
                   cache / f"hf_mlalign--{ONE}" / ("0" * 64), cache / ONE / digest):  # fmt: skip
        folder.mkdir(parents=True)
        (folder / "selection_diversity.py").write_text("raise RuntimeError('foreign code')")
    monkeypatch.chdir(tmp_path)
    metric = hf_mlalign.load_metric("hf_mlalign/selection_diversity", keep_in_memory=True)
    assert metric.compute(data=["a", "b"])["n"] == 2
    assert metric.keep_in_memory


@pytest.fixture
def ask(monkeypatch):
    """Function from an endpoint to what `check_spaces` says of one metric there."""
    import evaluate
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "")

    def answer(endpoint: str, timeout: float = 20):
        monkeypatch.setattr(evaluate.config, "HF_ENDPOINT", endpoint)
        monkeypatch.setattr(evaluate.config, "HUB_EVALUATE_URL", endpoint + "/spaces/{path}/resolve/{revision}/{name}")
        return check_spaces({f"hf_mlalign/{ONE}": metric_script(ONE)}, timeout)[f"hf_mlalign/{ONE}"]

    return answer


def space_of(content: bytes | None, private: bool = False) -> HubServer:
    hub = HubServer()
    if content is not None:
        hub.create("space", "hf_mlalign/selection_diversity", {"selection_diversity.py": content}, private=private)
    return hub


@pytest.mark.parametrize(
    ("content", "private", "token", "state"),
    [
        (metric_script(ONE).read_bytes(), False, False, "same"),
        (b"print('other code')", False, False, "other"),
        (metric_script(ONE).read_bytes() + b"\n# a comment more\n", False, False, "other"),
        (None, False, False, "absent"),
        (b"print('other code')", True, False, "absent"),
        (b"print('other code')", True, True, "other"),
    ],
)
def test_what_the_hub_answers(ask, monkeypatch, content, private, token, state):
    monkeypatch.setenv("HF_TOKEN", "hf_test" if token else "")
    with space_of(content, private) as hub:
        found = ask(hub.endpoint)
        assert found.state == state
        assert "hf_test" not in found.reason
        assert {method for method, _ in hub.log} == {"GET"}


@pytest.mark.parametrize("fault", [500, 429, "cut"])
def test_a_hub_with_faults_is_unknown(ask, fault):
    with HubServer(fault=lambda number, method, path: fault) as hub:
        assert ask(hub.endpoint).state == "unknown"


def test_a_space_of_that_name_comes_before_the_installed_module(tmp_path):
    """What the docs warn of, with evaluate itself; and load_metric is not led astray."""
    head = b"def _compute(self, data, languages, **options):"
    other = metric_script(ONE).read_bytes().replace(head, head + b"\n        return {'foreign': 1}\n")
    code = """
from hf_mlalign import load_metric
from hf_mlalign.evaluation.metrics.loading import install_metrics
import evaluate
install_metrics(["selection_diversity"])
print(evaluate.load("hf_mlalign/selection_diversity").compute(data=["a", "b"]))
print(load_metric("selection_diversity").compute(data=["a", "b"]))
"""
    with space_of(other) as hub:
        lines = fresh(code, tmp_path, **hub.environment()).stdout.strip().splitlines()
    assert lines[0] == "{'foreign': 1}"
    assert "'vendi_score'" in lines[1]


@contextmanager
def silent_server(drip: bool, stop_after: int = 10**6):
    """Accepts connections and never answers; with `drip` it begins to and sends a byte every now and then."""
    server = socket.create_server(("127.0.0.1", 0))
    stop, kept = threading.Event(), []

    def serve(connection, stop_after=stop_after):
        connection.recv(4096)
        if drip:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while drip and stop_after and not stop.wait(0.05):
            stop_after -= 1
            with suppress(OSError):
                connection.sendall(b"#")
        if drip:
            connection.close()

    def accept():
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            kept.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        stop.set()
        server.close()
        for connection in kept:
            connection.close()


@contextmanager
def chunked_server(content: bytes, size: int):
    """Answers each GET with `content` in chunks of `size` bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(OSError):
                for start in range(0, len(content), size):
                    part = content[start : start + size]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("more", "state"), [(b"", "same"), (b"#", "other"), (b"#" * 3_000_000, "other")], ids=["same", "one", "huge"]
)
def test_an_answer_in_chunks_is_read_whole(ask, more, state):
    with chunked_server(metric_script(ONE).read_bytes() + more, 997 if len(more) < 2 else 2**16) as endpoint:
        assert ask(endpoint).state == state


@pytest.mark.parametrize("drip", [False, True])
def test_a_hub_that_never_answers_is_not_waited_for(ask, drip):
    with silent_server(drip) as endpoint:
        found = ask(endpoint, timeout=0.5)
    assert found.state == "unknown"
    assert "no whole answer within 0.5 s" in found.reason or (not drip and "cannot be reached" in found.reason)


def test_an_answer_that_breaks_off_is_unknown(ask):
    with silent_server(drip=True, stop_after=3) as endpoint:
        assert "cannot be reached" in ask(endpoint).reason


def test_what_cannot_be_checked_is_said(ask, monkeypatch):
    import evaluate
    import huggingface_hub.constants

    assert "cannot be reached" in ask("http://127.0.0.1:9").reason
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, which evaluate ignores" in ask("http://127.0.0.1:9").reason
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    assert "HF_EVALUATE_OFFLINE is set" in ask("http://127.0.0.1:9").reason
