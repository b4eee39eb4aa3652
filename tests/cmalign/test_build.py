"""Pairs from a file to a folder: what a killed run keeps, and what is checked before any work."""

import pytest

from hf_mlalign import load_demo_pool
from hf_mlalign.cmalign.build import WORK, build_pairs
from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import LOCK
from hf_mlalign.models.encoder import SentenceEncoder
from tests.tiny_models import saved, tiny_llama


class Counting(SentenceEncoder):
    """The bundled encoder; Ctrl-C comes when it is asked for the `stop`-th time."""

    def __init__(self, stop: int | None = None):
        super().__init__()
        self.stop, self.calls = stop, 0

    def encode(self, texts, show_progress=False):
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        return super().encode(texts, show_progress)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "pool.parquet"
    load_demo_pool(["de", "en"]).to_parquet(path)
    return path


def test_vectors_are_kept_while_pairs_are_built(pool, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_mlalign.cmalign.consistency.KEPT_TEXTS", 50)
    whole = Counting()
    wanted = build_pairs(pool, tmp_path / "whole", model=whole)
    assert whole.calls > 3
    with pytest.raises(KeyboardInterrupt):
        build_pairs(pool, tmp_path / "out", model=Counting(stop=4))
    assert list((tmp_path / "out" / WORK).glob("*.rows"))
    rest = Counting()
    found = build_pairs(pool, tmp_path / "out", model=rest)
    assert rest.calls == whole.calls - 3
    assert found.dataset["train"].to_list() == wanted.dataset["train"].to_list()
    assert not (tmp_path / "out" / WORK).exists()


def test_scores_of_a_model_are_kept(pool, tmp_path):
    name = saved(tiny_llama(), tmp_path / "model")
    options = {"reward": "hidden_state", "reward_options": {"model": name}}
    wanted = build_pairs(pool, tmp_path / "whole", **options)
    kept = tmp_path / "out"

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.Dataset.to_parquet", stop)
        with pytest.raises(KeyboardInterrupt):
            build_pairs(pool, kept, **options)
    sizes = {path.name: path.stat().st_size for path in (kept / WORK).glob("*.rows")}
    assert len(sizes) == 3  # English samples, references, candidates
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.LlamaModel.forward", stop)
        found = build_pairs(pool, kept, **options)
    assert found.dataset["train"].to_list() == wanted.dataset["train"].to_list()


def test_the_folder_is_checked_before_anything_is_encoded(pool, tmp_path):
    from filelock import FileLock

    (tmp_path / "busy").mkdir()
    encoder = Counting(stop=1)
    with FileLock(tmp_path / "busy" / LOCK), pytest.raises(DataError, match="another process is writing"):
        build_pairs(pool, tmp_path / "busy", model=encoder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        build_pairs(pool, tmp_path / "file" / "pairs", model=encoder)
    assert encoder.calls == 0


def test_what_a_kill_left_in_a_finished_folder_is_removed(pool, tmp_path):
    build_pairs(pool, tmp_path / "out")
    (tmp_path / "out" / WORK).mkdir()
    (tmp_path / "out" / WORK / "x.rows").write_bytes(b"x")
    again = build_pairs(pool, tmp_path / "out")
    assert again.result is None
    assert not (tmp_path / "out" / WORK).exists()
