"""`hf-mlalign score` as it is launched: two processes give the files of one, and a kill at any moment costs nothing."""

import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from datasets import load_dataset

from hf_mlalign import load_demo_pool
from hf_mlalign.hub.run_record import read_record
from hf_mlalign.launch import configs
from tests.mdaq.test_scoring import files
from tests.processes import environment

SCORE = ["-m", "hf_mlalign", "score", "pool.parquet", "--shard-rows", "40"]
SHARDS = 16
LAUNCH = ["-m", "accelerate.commands.launch", "--config_file", str(configs.config_path("cpu_two_processes")),
          "--main_process_port", "0"]  # fmt: skip
COMMAND = Path(sys.executable).parent / "hf-mlalign"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A pool, and its scores by one undisturbed process in `one`."""
    folder = tmp_path_factory.mktemp("score")
    pool = load_demo_pool(["de", "en", "sw", "ar", "ja"])
    pool.select([i % len(pool) for i in range(40 * SHARDS - 7)]).to_parquet(folder / "pool.parquet")
    done = finished(folder, *SCORE, "-o", "one")
    assert "with 1 process …" in done.stdout
    assert len(files(folder / "one")) == SHARDS + 1
    return folder


def start(folder: Path, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *arguments], env=environment(folder), cwd=folder, text=True,
                            start_new_session=True, **options)  # fmt: skip


def every(child: subprocess.Popen) -> list[psutil.Process]:
    """The process and those it started, which the launcher puts into sessions of their own."""
    with suppress(psutil.NoSuchProcess):
        launcher = psutil.Process(child.pid)
        return [*launcher.children(recursive=True), launcher]
    return []


def kill(child: subprocess.Popen) -> None:
    """kill -9 of all."""
    for process in every(child):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()


def finished(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess:
    child = start(folder, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, errors = child.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        kill(child)
        raise
    assert child.returncode == code, errors[-3000:]
    return subprocess.CompletedProcess(arguments, child.returncode, out, errors)


def shards(output: Path) -> int:
    return len(list(output.glob(".work/*/rows-*.arrow")))


def wait_for(output: Path, count: int, child: subprocess.Popen) -> None:
    """Until so many shards are there."""
    ends = time.monotonic() + 200
    while shards(output) < count:
        assert child.poll() is None, "it ended too soon"
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_two_processes_give_the_files_of_one(folder):
    done = finished(folder, *LAUNCH, *SCORE, "-o", "two", "--world-size", "2")
    assert done.stdout.count("Scoring 16 shards with 2 processes …") == 1
    assert done.stdout.count("Saved to two") == 1
    assert files(folder / "two") == files(folder / "one")
    rows = load_dataset(str(folder / "two"), split="train")
    assert len(rows) == 40 * SHARDS - 7
    assert None not in rows["quality_score"][:]
    again = finished(folder, *LAUNCH, *SCORE, "-o", "two")
    assert again.stdout.count("Nothing to do") == 1


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_rank_killed_in_the_middle_ends_all_and_the_rerun_gives_the_same(folder, rank):
    output = folder / f"rank{rank}"
    child = start(folder, *LAUNCH, *SCORE, "-o", output.name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(output, 3, child)
        ranks = {process.environ().get("RANK"): process for process in every(child)}
        ranks[rank].kill()
        assert child.wait(timeout=60) != 0
        assert not psutil.wait_procs(ranks.values(), timeout=30)[1]
    finally:
        kill(child)
    assert read_record(output).state == "running"
    assert not (output / "data").exists()
    there = shards(output)
    assert 3 <= there < SHARDS
    done = finished(folder, *LAUNCH, *(SCORE if rank == "0" or not COMMAND.is_file() else [str(COMMAND), *SCORE[2:]]),
                    "-o", output.name)  # fmt: skip
    assert f"Scoring {SHARDS - there} shards with 2 processes; {there} more are done already" in done.stdout
    assert files(output) == files(folder / "one")


def test_killed_at_random_moments_and_gone_on_with_another_number_of_processes(folder):
    output, chance = folder / "killed", random.Random(0)
    for launch in ([], LAUNCH, []):
        child = start(folder, *launch, *SCORE, "-o", output.name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(output, shards(output) + 1, child)
        time.sleep(chance.random() * 0.2)
        kill(child)
        if read_record(output).state == "finished":
            break
        assert not (output / "data").exists() or len(list((output / "data").iterdir())) == SHARDS
    finished(folder, *SCORE, "-o", output.name)
    assert files(output) == files(folder / "one")


def test_errors_end_every_process(folder):
    wrong = finished(folder, *LAUNCH, *SCORE, "-o", "wrong", "--column-mapping", "nothing=instruction", code=1)
    assert wrong.stderr.count("column_mapping names missing columns") == 1
    assert "Scoring" not in wrong.stdout
    alone = finished(folder, *SCORE, "-o", "wrong", "--world-size", "2", code=2)
    assert "2 processes were asked for, 1 are running" in alone.stderr
    assert "Traceback" not in alone.stderr


def test_a_second_command_is_refused(folder):
    first = start(folder, *LAUNCH, *SCORE, "-o", "busy", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(folder / "busy", 1, first)
        stopped = every(first)
        for process in stopped:
            process.suspend()
        second = finished(folder, *SCORE, "-o", "busy", code=2)
        assert "another process is writing to 'busy'" in second.stderr
        for process in stopped:
            process.resume()
        assert first.wait(timeout=120) == 0
    finally:
        kill(first)
    assert files(folder / "busy") == files(folder / "one")
