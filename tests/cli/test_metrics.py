"""`hf-mlalign metrics`, run as a user runs it."""

import os
import subprocess
import sys

import pytest

from hf_mlalign.evaluation.metrics.loading import metric_names, metric_script
from tests.hub_server import HubServer

COMMAND = [sys.executable, "-c", "from hf_mlalign.cli.app import main; main()", "metrics"]
ONE = "selection_diversity"


@pytest.fixture
def metrics(tmp_path):
    """The command in an empty folder with its own caches."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1", **variables}
        folder = tmp_path / "empty"
        folder.mkdir(exist_ok=True)
        return subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True)

    return run


def test_install_list_and_a_warning_of_another_space(metrics):
    with HubServer() as hub:
        hub.create("space", f"hf_mlalign/{ONE}", {f"{ONE}.py": b"print('other code')"})
        first = metrics("install", **hub.environment(token=False))
    assert first.returncode == 0, first.stderr
    for name in metric_names():
        assert f"hf_mlalign/{name}: installed" in first.stdout
    warnings = [line for line in first.stderr.splitlines() if "Warning" in line]
    assert len(warnings) == 1
    assert f"a Space hf_mlalign/{ONE} with other code" in warnings[0]
    assert f'hf_mlalign.load_metric("{ONE}")' in warnings[0]
    again = metrics("install", HF_ENDPOINT="http://127.0.0.1:9")
    assert again.stdout.count("already installed") == len(metric_names())
    assert "Not checked on the Hub" in again.stdout
    assert "cannot be reached" in again.stdout


def test_list_and_another_namespace(tmp_path, monkeypatch):
    import evaluate
    from typer.testing import CliRunner

    from hf_mlalign.cli.app import app

    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    done = CliRunner().invoke(app, ["metrics", "install", ONE, "--namespace", "me", "--no-check-hub"])
    assert f"me/{ONE}: installed" in done.output
    assert "Hub" not in done.output
    listed = CliRunner().invoke(app, ["metrics", "list"]).output
    assert listed.count("no (hf-mlalign metrics install)") == len(metric_names())
    CliRunner().invoke(app, ["metrics", "install", "--no-check-hub"])
    listed = CliRunner().invoke(app, ["metrics", "list"]).output
    assert str(metric_script(ONE)) in listed
    assert listed.count(str(tmp_path)) == len(metric_names())


def test_push_makes_private_gradio_spaces_that_load(metrics, tmp_path):
    requirement = "hf-mlalign @ https://example.org/hf_mlalign.whl"
    with HubServer() as hub:
        done = metrics("push", "--namespace", "me", ONE, "--requirement", requirement, **hub.environment())
        assert done.returncode == 0, done.stderr
        repo, files = hub.repos["space", f"me/{ONE}"], hub.files("space", f"me/{ONE}")
        again = metrics("push", "--namespace", "me", ONE, **hub.environment())
    assert done.stdout.strip().endswith(f"/spaces/me/{ONE}")
    assert again.returncode == 0, again.stderr
    assert (repo.private, repo.sdk) == (True, "gradio")
    assert set(files) == {f"{ONE}.py", "README.md", "app.py", "requirements.txt"}
    assert files[f"{ONE}.py"] == metric_script(ONE).read_bytes()
    assert files["requirements.txt"].decode() == requirement + "\n"
    assert "hf_test" not in done.stdout + done.stderr


def test_push_in_public(metrics):
    with HubServer() as hub:
        done = metrics("push", "--namespace", "me", "--public", **hub.environment())
        assert done.returncode == 0, done.stderr
        assert {name for _, name in hub.repos} == {f"me/{name}" for name in metric_names()}
        assert not any(repo.private for repo in hub.repos.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "--namespace", "me", ONE], "'me/selection_diversity' was not uploaded"),
        (["push", "--namespace", "not a name!", ONE], "was not uploaded"),
        (["push", "--namespace", "me", "winrates"], "no metric 'winrates'"),
        (["install", "winrates"], "no metric 'winrates'"),
    ],
)
def test_errors_end_with_2(metrics, arguments, message):
    done = metrics(*arguments, HF_ENDPOINT="http://127.0.0.1:9", HF_TOKEN="hf_secret")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
