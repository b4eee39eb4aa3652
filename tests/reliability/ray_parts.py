"""What the tests of the Ray engine run on its workers: models without weights, and steps that wait to be killed."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np

from hf_mlalign.cmalign.rewards import AutoReward
from hf_mlalign.mdaq.selection import METHODS

PATIENCE = 150.0


class HashEncoder:
    """Random unit vectors, the same for a text wherever it is encoded."""

    dimension = 12
    content_hash = "hash-encoder-1"

    def encode(self, texts):
        out = np.empty((len(texts), self.dimension), np.float32)
        for i, text in enumerate(texts):
            seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
            out[i] = np.random.default_rng(seed).standard_normal(self.dimension)
        return out / np.linalg.norm(out, axis=1, keepdims=True)


class HashScorer:
    """A Quality Scoring Model on `HashEncoder`; with a meeting, each process waits there before its first batch."""

    name = content_hash = "hash-scorer-1"
    embedding_dimension = HashEncoder.dimension

    def __init__(self, meeting=None):
        self.encoder, self.meeting = HashEncoder(), meeting

    def encode_instructions(self, texts, embeddings=None):
        return self.encoder.encode(list(texts)) if embeddings is None else embeddings

    encode_responses = encode_instructions

    def embeddings_of(self, anchors):
        return anchors

    def score_embedded(self, anchors, answers):
        if self.meeting:
            self.meeting.wait()
        return -np.linalg.norm(anchors - answers, axis=1).astype(np.float32)


class Meeting:
    """A folder where workers say that they are in the middle of their work, and wait until the test lets them go on."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir()

    def wait(self):
        """Called by a worker."""
        import ray

        own = self.folder / f"{os.getpid()}-{ray.get_runtime_context().get_node_id()}"
        own.touch()
        end = time.monotonic() + PATIENCE
        while not (self.folder / "go").exists() and time.monotonic() < end:
            time.sleep(0.02)

    def begun(self, node=""):
        """Processes that wait here, on a node if one is named; at least one."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            names = [path.name for path in self.folder.glob(f"*-*{node}")]
            if names:
                return [int(name.split("-")[0]) for name in names]
            time.sleep(0.02)
        raise AssertionError(f"no worker began on node {node!r}: {[p.name for p in self.folder.iterdir()]}")

    def nodes(self):
        """Ids of the nodes on which somebody waits."""
        return {path.name.split("-")[1] for path in self.folder.glob("*-*")}

    def go(self):
        (self.folder / "go").touch()


class SlowDas:
    """The method `das`, with a meeting before it."""

    def __init__(self, meeting):
        self.meeting = meeting

    def __call__(self, pool, n_quality, n_diversity, seed):
        self.meeting.wait()
        return METHODS["das"].run(pool, n_quality, n_diversity, seed)


class SlowReward(AutoReward):
    """The reward `auto`, with a meeting before it."""

    def __init__(self, meeting):
        super().__init__()
        self.meeting = meeting

    def __call__(self, samples):
        self.meeting.wait()
        return super().__call__(samples)


def alive(process):
    """Whether the process runs (a dead one that nobody has waited for does not)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
