"""The six commands that write or send something: inputs, arguments, servers, and what must come out of them."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.evaluation.judges.judge_models import grading, longer
from tests.hub_server import HubServer
from tests.processes import REPO
from tests.servers import ChatServer

COMMANDS = ("score", "sample", "judge", "curate", "build-pairs", "push")
CHAT, HUB = ("sample", "judge"), ("push",)
LOCAL = tuple(name for name in COMMANDS if name not in HUB)
RUN = [sys.executable, "-c", "from hf_mlalign.cli.app import main; main()"]
AT_ONCE = 2
"""Requests that the clients of the tests have under way together."""


def write_inputs(folder: Path, prompts: int = 8, judged: int = 6) -> None:
    """What the commands read: `pool.parquet`, `prompts.jsonl`, `rows.jsonl`, and `pairs`, a finished run to push."""
    from datasets import Dataset

    from hf_mlalign import load_demo_pool
    from hf_mlalign.cmalign.build import build_pairs

    pool = load_demo_pool(["de", "en"])
    ids = set(sorted(set(pool["prompt_id"]))[:prompts])
    pool = pool.select([row for row, name in enumerate(pool["prompt_id"]) if name in ids])
    pool.to_parquet(folder / "pool.parquet")
    first = [row for row, number in enumerate(pool["sample"]) if number == 0]
    pool.select(first).select_columns(["prompt_id", "language", "prompt"]).to_json(folder / "prompts.jsonl")
    candidates = ["long answer", "x"]
    rows = [{"prompt_id": i, "language": code, "prompt": f"Q{i} {code}", "candidate": candidates[i % 4 == 0],
             "baseline": "short"} for i in range(judged) for code in ("en", "de")]  # fmt: skip
    Dataset.from_list(rows).to_json(folder / "rows.jsonl")
    build_pairs(pool, folder / "pairs")


def arguments(name: str, url: str = "", output: str = "out") -> list[str]:
    """The command's arguments, in the folder of the inputs."""
    mapping = ["--column-mapping", "prompt=instruction,response=response"]
    server = ["--model", "tiny", "--base-url", url, "--concurrency", str(AT_ONCE)]
    return [name, *{
        "score": ["pool.parquet", *mapping, "--output", output],
        "sample": ["prompts.jsonl", *server, "--n", "2", "--output", output],
        "judge": ["rows.jsonl", "--judge", "llm", *server, "--output", output],
        "curate": ["pool.parquet", *mapping, "--n-quality", "6", "--n-diversity", "2", "--output", output],
        "build-pairs": ["pool.parquet", "--output", output],
        "push": ["pairs", "me/set"],
    }[name]]  # fmt: skip


@contextmanager
def served(name: str, delay: float = 0.0) -> Iterator[ChatServer | HubServer | None]:
    """The server that a command talks to."""
    if name in CHAT:
        answer = grading(longer) if name == "judge" else _answer
        with ChatServer(answer, delay=delay) as server:
            yield server
    elif name in HUB:
        with HubServer(lfs_from=1000) as hub:
            hub.objects = Arrived()
            yield hub
    else:
        yield None


def _answer(body: dict) -> str:
    return f"{body['messages'][-1]['content'][:40]} é {body['seed'] % 1000}"


def url_of(server: ChatServer | HubServer | None) -> str:
    return server.base_url if isinstance(server, ChatServer) else ""


def environment(folder: Path, server: ChatServer | HubServer | None = None) -> dict[str, str]:
    """Variables for a child: one thread, a cache of its own, the server it may talk to."""
    online = server.environment() if isinstance(server, HubServer) else {"HF_HUB_OFFLINE": "0" if server else "1"}
    return {
        **os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(REPO), "HF_HOME": str(folder / "home"), **online,
    }  # fmt: skip


def result(folder: Path) -> dict[str, Any]:
    """What a command left, times taken out: file → content; the lines of an answer log sorted, locks left out."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or path.name == ".lock":
            continue
        if path.name == "run.json":
            files[name] = _record(path)
        elif path.name == "answers.jsonl":
            files[name] = sorted(path.read_text(encoding="utf-8").splitlines())
        else:
            files[name] = path.read_bytes()
    return files


def _record(path: Path) -> dict:
    record = json.loads(path.read_text(encoding="utf-8"))
    for name in ("started", "finished", "seconds"):
        record.pop(name)
    for name in ("usage", "drawn", "rounds"):  # what this process asked for, less what was there; how often it did
        record["results"].pop(name, None)
    return record


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Names of files that are missing, too many or other."""
    return sorted(name for name in {**found, **wanted} if found.get(name) != wanted.get(name))


def asked_again(bodies: list[dict]) -> int:
    """How many requests a server got more than once."""
    asked = Counter(json.dumps([body["messages"], body["seed"]]) for body in bodies)
    return sum(asked.values()) - len(asked)


class Arrived(dict):
    """The large files that a Hub holds, and how often each arrived whole."""

    def __init__(self):
        super().__init__()
        self.times: Counter[str] = Counter()

    def __setitem__(self, name: str, data: bytes) -> None:
        super().__setitem__(name, data)
        self.times[name] += 1

    def clear(self) -> None:
        super().clear()
        self.times.clear()

    @property
    def again(self) -> list[str]:
        """Those that arrived more than once."""
        return [name for name, count in self.times.items() if count > 1]
