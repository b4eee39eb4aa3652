"""The Ray engine against the local one: 1, 2 and 4 workers, several nodes, and any of them lost in the middle."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from hf_mlalign import load_demo_pool
from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder
from hf_mlalign.core.errors import DataError
from hf_mlalign.data.layouts import recognise_layout
from hf_mlalign.distributed import RayEngine, build_pairs, cluster, score, select, to_dataset
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.mdaq.scorer import MDaQScorer
from hf_mlalign.mdaq.selection import METHODS, register_method
from hf_mlalign.mdaq.selector import MDaQSelector
from hf_mlalign.mdaq.shards import score_in_shards
from tests.reliability.ray_parts import PATIENCE, HashEncoder, HashScorer, Meeting, SlowDas, SlowReward, alive

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'hf-mlalign[ray]'")
REPO = Path(__file__).resolve().parents[2]
ROLES = {"prompt": "instruction", "response": "response"}
BLOCKS = 6


def until(true, seconds=60.0):
    """Wait for it."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    assert true()


class Nodes:
    """One Ray cluster for the module, which grows and loses nodes."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self.folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # Ray's sockets need short paths
        os.environ |= {"RAY_TMPDIR": self.folder, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
                       "PYTHONPATH": str(REPO)}  # fmt: skip
        options = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=options)
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        self.more = {}

    def workers(self, n):
        """Let the cluster have 1, 2 (on two nodes) or 4 cores (on three)."""
        for cpus in (1, 2):
            if n > cpus and cpus not in self.more:
                self.more[cpus] = self.cluster.add_node(num_cpus=cpus, object_store_memory=100 * 2**20)
        self.cluster.wait_for_nodes()
        assert ray.cluster_resources()["CPU"] == n

    def lose(self, node):
        """Kill a node with all that runs and lies on it."""
        self.more = {cpus: found for cpus, found in self.more.items() if found is not node}
        self.cluster.remove_node(node, allow_graceful=False)
        until(lambda: node.node_id not in [found["NodeID"] for found in ray.nodes() if found["Alive"]])

    def close(self):
        ray.shutdown()
        self.cluster.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes():
    import ray.data  # noqa: F401

    found = Nodes()
    yield found
    found.close()


@pytest.fixture(scope="module")
def pool():
    """704 rows in 11 languages, mixed; 3 cannot be scored."""
    rows = load_demo_pool().shuffle(seed=3).select(range(704)).to_pandas()
    rows = rows[["prompt_id", "language", "prompt", "response"]]
    rows.loc[[5, 300, 650], "response"] = None
    return Dataset.from_pandas(rows, preserve_index=False)


def on_ray(pool):
    """The pool in blocks, order kept."""
    parts = np.array_split(np.arange(len(pool)), BLOCKS)
    return ray.data.from_arrow([pool.select(part).flatten_indices().data.table for part in parts])


def selector(**options):
    settings = {"n_quality": 12, "n_diversity": 6, "n_clusters": 9, "model": HashScorer(), "column_mapping": ROLES}
    return MDaQSelector(**settings | options)


def equal(found, expected):
    """Same columns, types and values, row for row."""
    assert found.column_names == expected.column_names
    for name in expected.column_names:
        a, b = found.data.column(name).combine_chunks(), expected.data.column(name).combine_chunks()
        assert a.type == b.type, name
        assert a.to_pylist() == b.to_pylist(), name


def equal_selection(found, pool, fitted):
    result = fitted.result_
    assert found["prompt"][:] == pool["prompt"][:]
    assert np.array_equal(np.array(found["quality_score"][:], np.float32), result.scores, equal_nan=True)
    assert np.array_equal(found["cluster"][:], result.clusters)
    assert found["selection_reason"][:] == result.reasons.tolist()
    assert found["selected"][:] == (result.reasons != "").tolist()
    assert sum(found["selected"]) == len(result.selected) > 0


def equal_pairs(found, ds, builder, other):
    expected = builder.build(ds)
    equal(to_dataset(found), expected)
    assert other.result_.summary() == builder.result_.summary()
    assert other.result_.per_language().equals(builder.result_.per_language())


@pytest.mark.parametrize("n", [1, 2, 4])
def test_row_for_row_on_n_workers(nodes, pool, tmp_path, n):
    nodes.workers(n)
    ds = on_ray(pool)
    budgets = {1: None, 2: "proportional", 4: "total"}[n]
    options = {"budgets": budgets} if budgets is None else {"budgets": budgets, "n_quality": 90, "n_diversity": 20}
    found = to_dataset(select(ds, selector(**options), concurrency=n, batch_size=97))
    equal_selection(found, pool, selector(**options).fit(pool))

    builders = [CMAlignPreferenceBuilder(model=HashEncoder(), policy="random_pair", seed=n) for _ in range(2)]
    equal_pairs(build_pairs(ds, builders[0], blocks=3 * n), pool, builders[1], builders[0])

    assert files_of(sharded(pool, tmp_path / "ray", RayEngine())) == files_of(sharded(pool, tmp_path / "local"))


def test_parquet_files_and_columns_that_are_there(nodes, pool, tmp_path):
    nodes.workers(4)
    for part in range(3):
        pool.shard(3, part, contiguous=True).to_parquet(tmp_path / f"{part}.parquet")
    ds = ray.data.read_parquet(str(tmp_path))
    scored = score(ds, MDaQScorer(HashScorer(), ROLES), concurrency=2, embedding_dtype="float32")
    scorer = MDaQScorer(HashScorer(), ROLES, embeddings=True)
    local = pool.map(scorer, batched=True, features=scorer.features(pool.features))
    equal(to_dataset(scored, local.features), local)
    found = to_dataset(cluster(scored, n_clusters=5, n_quality=3, n_diversity=2, languages=["de", "hi", "sw"]))
    fitted = selector(n_clusters=5, n_quality=3, n_diversity=2, languages=["de", "hi", "sw"]).fit(pool)
    assert np.array_equal(found["cluster"][:], fitted.result_.clusters)
    assert found.features["embedding"] == local.features["embedding"]
    best, found = selector(languages=["de", "hi"], method="quality"), found.remove_columns("cluster")
    again = to_dataset(select(ray.data.from_huggingface(found), best, only_selected=True))
    assert again["row"][:] == best.fit(found).result_.selected.tolist()
    bad = ray.data.from_items([{"row": row, "prompt": "a", "response": row} for row in (2, 3)])
    with pytest.raises(DataError, match="Column 'response', row 2: expected text, found int"):
        to_dataset(score(bad, concurrency=1))


def sharded(pool, folder, engine=None, scorer=None):
    scorer = MDaQScorer(scorer or HashScorer(), ROLES, embeddings=True)
    schema = recognise_layout(pool.column_names, ROLES)
    score_in_shards(pool, schema, scorer, folder, shard_rows=64, batch_rows=30, engine=engine)
    return folder


def files_of(folder):
    """Path below the folder → content, but for `run.json`, which tells times."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and path.name not in ("run.json", ".lock")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def in_thread(function):
    """Run the function beside the test; `join` returns its value or raises its error."""
    found = {}

    def run():
        try:
            found["value"] = function()
        except BaseException as error:
            found["error"] = error

    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join(240)
        assert not thread.is_alive(), "still running"
        if "error" in found:
            raise found["error"]
        return found["value"]

    return join


def kill(meeting):
    """Kill a worker in the middle of its work, be sure that it is dead, and let the others go on."""
    process = meeting.begun()[0]
    assert alive(process)
    os.kill(process, signal.SIGKILL)
    until(lambda: not alive(process))
    meeting.go()


def lose(nodes, meeting):
    """The same with a whole node, on which a worker is in the middle of its work."""
    others = {node.node_id: node for node in nodes.more.values()}
    until(lambda: meeting.nodes() & set(others), PATIENCE)
    node = others[min(meeting.nodes() & set(others))]
    processes = meeting.begun(node.node_id)
    nodes.lose(node)
    until(lambda: not any(map(alive, processes)))
    meeting.go()


def slow_selector(meeting):
    register_method("slow_das", needs=("scores", "clusters"))(SlowDas(meeting))
    return selector(method="slow_das")


@pytest.mark.parametrize("whole_node", [False, True], ids=["worker", "node"])
@pytest.mark.parametrize("step", ["score", "select", "pairs", "engine"])
def test_lost_in_the_middle(nodes, pool, tmp_path, step, whole_node):
    nodes.workers(4)
    meeting = Meeting(tmp_path / "meeting")
    ds = on_ray(pool)
    strike = (lambda: lose(nodes, meeting)) if whole_node else lambda: kill(meeting)
    if step == "score":
        scorer = MDaQScorer(HashScorer(meeting), ROLES)
        join = in_thread(lambda: to_dataset(score(ds, scorer, concurrency=6, batch_size=40)))
        strike()
        found, local = join(), pool.map(MDaQScorer(HashScorer(), ROLES), batched=True)
        equal(found.remove_columns("embedding"), local)
    elif step == "select":
        join = in_thread(lambda: to_dataset(select(ds, slow_selector(meeting), concurrency=2)))
        strike()
        METHODS.pop("slow_das")
        equal_selection(join(), pool, selector().fit(pool))
    elif step == "pairs":
        builder = CMAlignPreferenceBuilder(SlowReward(meeting), model=HashEncoder())
        join = in_thread(lambda: build_pairs(ds, builder, blocks=8))
        strike()
        equal_pairs(join(), pool, CMAlignPreferenceBuilder(SlowReward(meeting), model=HashEncoder()), builder)
    else:
        join = in_thread(lambda: sharded(pool, tmp_path / "ray", RayEngine(), HashScorer(meeting)))
        strike()
        found, local = files_of(join()), files_of(sharded(pool, tmp_path / "local"))
        assert [found[name] for name in sorted(found)] == [local[name] for name in sorted(local)]
    begun = [path.name for path in meeting.folder.iterdir() if path.name != "go"]
    assert len(begun) > 1, "nobody took up the work"


def command(folder, *arguments, code="from hf_mlalign.cli.app import main; main()", **environment):
    run = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        run, cwd=folder, capture_output=True, text=True, timeout=400,
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def curating(output, *more):
    return ("curate", "pool.parquet", "-o", output, "--column-mapping", "prompt=instruction,response=response",
            "--n-quality", 9, "--n-diversity", 4, *more)  # fmt: skip


def test_the_command_starts_its_own_ray_and_writes_the_same_bytes(pool, tmp_path):
    pool.to_parquet(tmp_path / "pool.parquet")
    for output, more in (("local", ()), ("ray", ("--engine", "ray"))):
        done = command(tmp_path, *curating(output, *more))
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if line]
        assert [line for line in lines if "Scoring" not in line and "examples/s" not in line] == []
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("local", "ray")]
    assert records[0]["parameters"] == records[1]["parameters"]
    assert [r["results"]["engine"] for r in records] == [{"name": "local"}, {"name": "ray", "cluster": "own"}]
    again = command(tmp_path, *curating("ray"))
    assert "Nothing to do" in again.stdout, "the engine is no part of what was asked"


KILLED = """
import os, signal, sys
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.mdaq.shards import ShardStore
write, left = ShardStore.write, int(sys.argv[3])
def counted(self, begin, *arrays):
    write(self, begin, *arrays)
    print(begin, flush=True)
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
ShardStore.write = counted
from tests.reliability.ray_parts import HashScorer
curate("pool.parquet", "ray", column_mapping={"prompt": "instruction", "response": "response"}, n_quality=9,
       n_diversity=4, scorer=HashScorer(), shard_rows=50, engine=sys.argv[1], address=sys.argv[2] or None)
"""


def test_a_killed_driver_goes_on_where_it_stopped(nodes, pool, tmp_path):
    nodes.workers(4)
    pool.to_parquet(tmp_path / "pool.parquet")
    killed = command(tmp_path, "ray", nodes.cluster.address, 4, code=KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = killed.stdout.split()
    assert len(first) == 4
    done = command(tmp_path, "ray", nodes.cluster.address, 99, code=KILLED)
    assert done.returncode == 0, done.stderr
    shards = [str(begin) for begin in range(0, len(pool), 50)]
    assert sorted(first + done.stdout.split()) == sorted(shards), "each shard is scored once"
    local = curate(str(tmp_path / "pool.parquet"), tmp_path / "local", column_mapping=ROLES, n_quality=9, n_diversity=4,
                   scorer=HashScorer(), progress=False)  # fmt: skip
    found, expected = files_of(tmp_path / "ray"), files_of(local.folder)
    assert {name: found[name] for name in found if name != "README.md"} == {
        name: expected[name] for name in expected if name != "README.md"
    }


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_an_address_where_nothing_answers(pool, tmp_path, address):
    pool.to_parquet(tmp_path / "pool.parquet")
    done = command(tmp_path, *curating("out", "--engine", "ray", "--address", address))
    assert done.returncode == 2, done.stderr
    assert f"Error: --address: no Ray cluster answers at {address!r}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_on_clusters(nodes, tmp_path, capsys):
    """Its blocks run; they are left out of the default suite since they need Ray."""
    nodes.workers(4)
    rows = load_demo_pool(["de", "en"]).select_columns(["prompt", "response", "language"])
    rows.to_parquet(tmp_path / "my_pairs.parquet")
    page, space = (REPO / "docs" / "distributed.md").read_text(encoding="utf-8"), {}
    for block in re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for name in ("my_pairs.parquet", "curated"):  # the cluster's workers have a folder of their own
            block = block.replace(f'"{name}"', f'"{tmp_path / name}"')
        exec(compile(block, "distributed.md", "exec"), space)
    local = MDaQSelector(n_quality=20, n_diversity=5)
    assert space["curated"]["prompt"][:] == local.select(rows)["prompt"][:]
    assert Dataset.from_parquet([str(path) for path in sorted((tmp_path / "curated").iterdir())]).num_rows == 50
    assert "pairs from" in capsys.readouterr().out
