"""The bundled encoder, its memory and its pickled state."""

import pickle

import numpy as np
import pytest
from datasets.fingerprint import Hasher

from hf_mlalign.core.errors import DataError
from hf_mlalign.models.encoder import BUNDLED, EmbeddingCache, SentenceEncoder, load_encoder, model_hash


def test_bundled_encoder_is_small_and_plain():
    folder = BUNDLED / "encoder"
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 16_000_000
    from sentence_transformers import SentenceTransformer

    vectors = SentenceTransformer(str(folder)).encode(["Good morning", "Guten Morgen", "The engine has failed"])
    ours = load_encoder().encode(["Good morning", "Guten Morgen", "The engine has failed"])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(ours, unit, atol=1e-5)
    assert ours.dtype == np.float32
    assert ours[0] @ ours[1] > ours[0] @ ours[2]


def test_odd_texts():
    encoder = load_encoder()
    huge = "palabra " * 700_000
    vectors = encoder.encode(["", "\ud800", huge, "palabra " * 2500])
    assert vectors.shape == (4, encoder.dimension)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[2], vectors[3], atol=1e-6)  # cut at 20,000 characters
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_prompt_is_put_before_each_text():
    plain, prompted = load_encoder(), load_encoder(prompt="query: ")
    np.testing.assert_allclose(prompted.encode(["cat"]), plain.encode(["query: cat"]), atol=1e-6)


def test_state_is_stable_after_use_and_survives_pickling():
    encoder = SentenceEncoder()
    before = Hasher.hash(encoder)
    vectors = encoder.encode(["a test"])
    assert Hasher.hash(encoder) == before
    again = pickle.loads(pickle.dumps(encoder))
    assert again._model is None
    np.testing.assert_array_equal(again.encode(["a test"]), vectors)


def test_hash_follows_content(tmp_path):
    (tmp_path / "weights").write_bytes(b"1")
    first = model_hash(tmp_path)
    (tmp_path / "README.md").write_text("a card does not count")
    assert model_hash(tmp_path) == first
    (tmp_path / "weights").write_bytes(b"22")
    assert model_hash(tmp_path) != first
    assert model_hash("user/model") != model_hash("user/model", "v2")


def test_any_object_with_encode_will_do(counting_encoder):
    assert load_encoder(counting_encoder) is counting_encoder
    with pytest.raises(DataError, match="int has no encode"):
        load_encoder(3)


def test_memory_encodes_each_text_once(counting_encoder):
    memory = EmbeddingCache(counting_encoder.encode)
    long = "x" * 100
    first = memory(["a", "b", "a", long])
    second = memory([long, "c", "b"])
    assert counting_encoder.seen == ["a", "b", long, "c"]
    np.testing.assert_array_equal(first[[0, 1, 3]], counting_encoder.encode(["a", "b", long]))
    np.testing.assert_array_equal(second, counting_encoder.encode([long, "c", "b"]))
    assert memory([]).shape == (0, 4)


def test_memory_is_bounded(counting_encoder):
    memory = EmbeddingCache(counting_encoder.encode, max_bytes=3 * 16)
    for batch in (["a", "b"], ["c", "d"], ["a"]):
        np.testing.assert_array_equal(memory(batch)[:, 0], [1] * len(batch))
    assert counting_encoder.seen == ["a", "b", "c", "d", "a"]  # a and b were forgotten to make room
    assert memory._bytes <= 3 * 16


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(DataError, match="cannot load '/no/such/model'"):
        load_encoder("/no/such/model").encode(["x"])
