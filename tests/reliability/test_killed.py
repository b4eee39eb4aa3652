"""The real command, killed with SIGKILL at seeded random moments of its work, run again until it is done."""

import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.reliability.commands import (
    AT_ONCE,
    CHAT,
    COMMANDS,
    HUB,
    RUN,
    arguments,
    asked_again,
    differences,
    environment,
    result,
    served,
    url_of,
    write_inputs,
)

KILLS = 2
MODELS = "faiss, sentence_transformers, "
IMPORTS = {
    "score": f"{MODELS}hf_mlalign.mdaq.scoring", "sample": "hf_mlalign.generation.sampler, datasets, huggingface_hub",
    "judge": "hf_mlalign.evaluation.judges.run, datasets, huggingface_hub", "curate": f"{MODELS}hf_mlalign.mdaq.curation",  # noqa: E501
    "build-pairs": f"{MODELS}hf_mlalign.cmalign.build", "push": "hf_mlalign.hub.publish, datasets, huggingface_hub",
}  # fmt: skip
BEGUN = "import sys; sys.stdin.readline()\n"
"""The child waits, imports done, for a line: moments are counted from there."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder, prompts=32, judged=20)
    return folder


def start(name: str, url: str, folder, server) -> subprocess.Popen:
    code = f"import {IMPORTS[name]}\nprint('ready', flush=True)\n{BEGUN}from hf_mlalign.cli.app import main; main()"
    child = subprocess.Popen(
        [RUN[0], "-c", code, *arguments(name, url)], cwd=folder, env=environment(folder, server), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    return child


def go(child: subprocess.Popen, seconds: float | None = None) -> tuple[int, float]:
    """Let it work, kill it after so many seconds; returns (exit code, seconds it ran)."""
    begin = time.perf_counter()
    child.stdin.write("\n")
    child.stdin.flush()
    try:
        errors = child.communicate(timeout=seconds)[1]
        assert child.returncode == 0, errors[-3000:]
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    return child.returncode, time.perf_counter() - begin


def outcome(name: str, folder, server) -> dict:
    return server.files("dataset", "me/set") if name in HUB else result(folder / "out")


def linked(inputs, folder):
    for path in inputs.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random_moments(name, inputs, tmp_path):
    folder, moments = linked(inputs, tmp_path), random.Random(name)
    delay = 0.02 if name in CHAT else 0.0
    with served(name, delay) as server:
        child = start(name, url_of(server), folder, server)
        seconds = go(child)[1]
        wanted = outcome(name, folder, server)
    shutil.rmtree(folder / "out", ignore_errors=True)
    with served(name, delay) as server:
        killed = begun = 0
        for part in range(KILLS):
            child = start(name, url_of(server), folder, server)
            code, _ = go(child, seconds * (part + moments.random()) / KILLS)
            killed += code == -signal.SIGKILL
            begun += bool(server.requests if name in CHAT else server.log if name in HUB else (folder / "out").exists())
            if name in HUB and ("dataset", "me/set") in server.repos:
                assert outcome(name, folder, server) in ({}, wanted)
        assert go(start(name, url_of(server), folder, server))[0] == 0
        assert killed
        assert begun, "no kill hit any work"
        assert differences(outcome(name, folder, server), wanted) == []
        if name in CHAT:
            assert asked_again(server.bodies) <= killed * AT_ONCE
        if name in HUB:
            assert server.objects.again == []
            assert len(server.repos["dataset", "me/set"].commits) == 2  # the empty one, and ours
