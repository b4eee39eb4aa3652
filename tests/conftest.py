"""Shared fixtures: the folder of real data, small tables, a counting encoder."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("no_clock", deadline=None)
settings.load_profile("no_clock")

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real multilingual data; the test is skipped where it is missing."""
    folder = Path(os.environ.get("MLALIGN_DATA", REPO.parent / "shared" / "data"))
    if not (folder / "expert_revisions.parquet").is_file():
        pytest.skip(f"real data not found in {folder}; set MLALIGN_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _private_caches(tmp_path_factory):
    """Keep the datasets cache of the tests away from the user's."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets-cache")


class CountingEncoder:
    """An encoder whose vectors can be computed by hand and which counts what it was given."""

    dimension = 4

    def __init__(self):
        self.seen: list[str] = []

    def encode(self, texts):
        self.seen.extend(texts)
        rows = [[len(t), t.count("a"), t.count("e"), 1.0] for t in texts]
        return np.asarray(rows, dtype=np.float32).reshape(len(texts), 4)


@pytest.fixture
def counting_encoder() -> CountingEncoder:
    return CountingEncoder()
