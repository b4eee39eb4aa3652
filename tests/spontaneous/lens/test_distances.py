"""Hidden states, principal components, distances and retrieval: by hand, against scikit-learn, by properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.lens.distances import geometry, hidden_states, pca
from hf_mlalign.spontaneous.lens.result import MEASURES, Geometry
from tests.tiny_models import byte_tokenizer, tiny_gpt2, tiny_llama

TEXTS = ["one", "two words", "eins", "zwei Wörter", "moja", "maneno mawili"]
LANGUAGES = ["en", "en", "de", "de", "sw", "sw"]
IDS = ["a", "b"] * 3


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_hidden_states_are_those_of_transformers(build, pooling):
    model, tokenizer = build(), byte_tokenizer()
    found = hidden_states(model, tokenizer, TEXTS, pooling=pooling, batch_size=4)
    assert found.shape == (3, 6, 32)
    assert found.dtype == np.float32
    raw = []
    last = model.model.layers[-1] if hasattr(model, "model") else model.transformer.h[-1]
    last.register_forward_hook(lambda module, args, output: raw.append(output))
    for i, text in enumerate(TEXTS):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        for layer, state in enumerate((*states[:-1], raw[-1])):
            expected = state[0].mean(dim=0) if pooling == "mean" else state[0, -1]
            np.testing.assert_allclose(found[layer, i], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_hidden_states_do_not_depend_on_the_batch_or_the_store(tmp_path):
    one = hidden_states(tiny_llama(), byte_tokenizer(), TEXTS, batch_size=1)
    stored = hidden_states(tiny_llama(), byte_tokenizer(), TEXTS, batch_size=6, store=tmp_path / "deep" / "s.npy")
    assert isinstance(stored, np.memmap)
    np.testing.assert_allclose(one, stored, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "deep" / "s.npy"), stored)


def test_special_tokens_are_not_pooled():
    from tokenizers.processors import TemplateProcessing

    plain, framed = byte_tokenizer(), byte_tokenizer()
    framed.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A <|end|>", special_tokens=[("<s>", 1), ("<|end|>", 2)]
    )
    for pooling in ("mean", "last"):
        without = hidden_states(tiny_llama(), plain, TEXTS, pooling=pooling)
        found = hidden_states(tiny_llama(), framed, TEXTS, pooling=pooling)
        np.testing.assert_allclose(found[0], without[0], rtol=1e-5)
        assert abs(found[1] - without[1]).max() > 1e-3


def test_long_texts():
    texts = ["x" * 600, "y"]
    with pytest.raises(DataError, match="texts, row 0: 600 tokens, the context of the model has 512. Cut with"):
        hidden_states(tiny_llama(), byte_tokenizer(), texts)
    cut = hidden_states(tiny_llama(), byte_tokenizer(), texts, max_length=10)
    np.testing.assert_allclose(cut[:, 0], hidden_states(tiny_llama(), byte_tokenizer(), ["x" * 10])[:, 0], rtol=1e-4)


def test_projection_is_that_of_sklearn():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    for n, width in ((30, 8), (12, 40)):
        states = rng.normal(size=(3, n, width)).astype(np.float32) * np.linspace(3, 1, width, dtype=np.float32)
        found = geometry(states, ["en", "de"] * (n // 2), components=3)
        for layer in range(3):
            expected = PCA(3, svd_solver="full").fit(states[layer].astype(np.float64))
            np.testing.assert_allclose(found.explained[layer], expected.explained_variance_ratio_, rtol=1e-5)
            np.testing.assert_allclose(found.axes[layer], expected.components_, atol=1e-5)
            np.testing.assert_allclose(found.points[layer], expected.transform(states[layer]), atol=1e-4)


def test_distances_by_hand():
    """English at (±1, 0), German at (4, 3 ± 7): means 5 apart, spreads of variance 1 and 49: √25, so 1 spread."""
    states = np.array([[[1, 0], [-1, 0], [4, 10], [4, -4]]], dtype=np.float32)
    found = geometry(states, ["en", "en", "de", "de"], components=1)
    assert found.names == ("en", "de")
    np.testing.assert_allclose(found.distance, [[0, 5]])
    np.testing.assert_allclose(found.distance_in_spreads, [[0, 1]])
    np.testing.assert_allclose(found.between_share, [25 / (100 + 25)])  # between: 4 · 2.5²; within: 2 · 1 + 2 · 49
    assert np.isnan(found.to_english).all()
    assert found.pairs.tolist() == [0, 0]


def test_no_spread_is_no_number():
    states = np.array([[[1.0, 0], [0, 1.0]]], dtype=np.float32)
    found = geometry(states, ["en", "de"], ["a", "a"], components=1)
    assert np.isnan(found.distance_in_spreads).all()
    np.testing.assert_allclose(found.distance, [[0, np.sqrt(2)]], rtol=1e-6)


def test_retrieval_by_hand():
    """Two English texts on the axes; German `a` near its own, German `b` nearer to the English `a` than to `b`."""
    states = np.array([[[1, 0], [0, 1], [3, 1], [2, 1]]], dtype=np.float32)
    found = geometry(states, ["en", "en", "de", "de"], ["a", "b", "a", "b"], components=1)
    np.testing.assert_allclose(found.to_english, [[1, 0.5]])
    np.testing.assert_allclose(found.from_english, [[1, 1]])  # b: cos(0,1 | 2,1) = 0.45 against 0.32
    np.testing.assert_allclose(found.to_english_centred, [[1, 1]])
    assert found.pairs.tolist() == [2, 2]


def test_retrieval_uses_only_common_ids_and_splits_ties():
    rows = np.tile(np.array([1.0, 2.0, 3.0], dtype=np.float32), (9, 1))[None] + 0
    found = geometry(rows, ["en"] * 5 + ["de"] * 4, [1, 2, 3, 4, 5, 4, 3, 2, 99], components=1)
    assert found.pairs.tolist() == [5, 3]
    np.testing.assert_allclose(found.to_english, [[1 / 5, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(found.from_english, [[1 / 5, 1 / 3]], rtol=1e-6)


def test_centred_retrieval_sees_through_a_shift():
    rng = np.random.default_rng(1)
    english = rng.normal(size=(50, 16))
    states = np.concatenate([english, english + 40 * rng.normal(size=16)])[None].astype(np.float32)
    found = geometry(states, ["en"] * 50 + ["de"] * 50, [*range(50)] * 2)
    assert found.to_english_centred[0, 1] == 1
    assert found.to_english[0, 1] < 0.5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 12), st.integers(2, 10))
def test_numbers_do_not_depend_on_rotation_shift_or_row_order(seed, n, width):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(1, 2 * n, width))
    codes, ids = ["en", "de"] * n, [i // 2 for i in range(2 * n)]
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    order = rng.permutation(2 * n)
    plain = geometry(states, codes, ids)
    turned = geometry((states @ turn)[:, order], [codes[i] for i in order], [ids[i] for i in order])
    for name in (*MEASURES, "between_share", "explained"):
        np.testing.assert_allclose(getattr(turned, name), getattr(plain, name), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(abs(turned.points), abs(plain.points[:, order]), rtol=1e-3, atol=1e-3)
    shifted = geometry(states + 5, codes, ids)
    for name in ("distance", "distance_in_spreads", "to_english_centred", "explained", "points"):
        np.testing.assert_allclose(getattr(shifted, name), getattr(plain, name), rtol=1e-3, atol=1e-4)


def test_axes_of_another_result():
    rng = np.random.default_rng(2)
    states = rng.normal(size=(2, 8, 5)).astype(np.float32)
    before = geometry(states, ["en", "de"] * 4)
    same = geometry(states, ["en", "de"] * 4, axes=before)
    np.testing.assert_allclose(same.points, before.points, atol=1e-5)
    moved = geometry(states + before.axes[:, :1], ["en", "de"] * 4, axes=before)
    np.testing.assert_allclose(moved.points - before.points, np.broadcast_to([1, 0], (2, 8, 2)), atol=1e-5)
    np.testing.assert_allclose(moved.explained, before.explained, rtol=1e-4)
    with pytest.raises(DataError, match="axes: made for the shape"):
        geometry(states[:1], ["en", "de"] * 4, axes=before)


def test_pca_from_model_to_file(tmp_path):
    result = pca(tiny_llama(), byte_tokenizer(), TEXTS, LANGUAGES, IDS)
    assert result.n_layers == 3
    assert result.names == ("en", "de", "sw")
    frame = result.per_language()
    assert list(frame.columns) == ["language", "layer", "n", "pairs", *MEASURES]
    assert frame.query("language == 'sw' and layer == 2")["distance"].item() == result.distance[2, 2]
    assert result.to_pandas().query("layer == 1 and row == 4")["pc2"].item() == result.points[1, 4, 1]
    loaded = Geometry.load(result.save(tmp_path / "g.npz"))
    for name, value in vars(result).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"languages": ["de"] * 6}, "there is no 'en' to compare with. Found: de"),
        ({"languages": ["en"]}, "languages has 1 entries for 6 texts"),
        ({"ids": ["a"]}, "ids has 1 entries"),
        ({"ids": ["a"] * 6}, "ids, row 1: 'a' in 'en' is already in row 0"),
        ({"texts": [*TEXTS[:5], " "]}, "texts, row 5"),
        ({"pooling": "max"}, "Use 'mean' or 'last'"),
        ({"components": 9}, "components: 9 is not between 1 and 6"),
        ({"texts": [*TEXTS[:5], "<|end|>"]}, "row 5: the tokenizer makes no token of it but special ones"),
        ({"max_length": 0}, "max_length: 0 is not positive"),
        ({"batch_size": 0}, "batch_size: 0 is not positive"),
    ],
)
def test_bad_input_is_refused(changes, message):
    given = {"texts": TEXTS, "languages": LANGUAGES, "ids": IDS} | changes
    with pytest.raises(DataError, match=message):
        pca(tiny_llama(), byte_tokenizer(), **given)


def test_states_that_are_not_finite():
    states = np.ones((2, 2, 3), dtype=np.float32)
    states[1, 0, 0] = np.inf
    with pytest.raises(DataError, match="layer 1: not finite"):
        geometry(states, ["en", "de"])
