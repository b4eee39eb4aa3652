"""The Quality Scoring Model: arithmetic by hand, towers, training, files, pickles, odd input, the bundled model."""

import pickle

import numpy as np
import pytest
from datasets.fingerprint import Hasher
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq.quality.accuracy import pairs_table
from hf_mlalign.mdaq.quality.head import (
    FEATURES,
    SCRIPTS,
    ExactWeights,
    HeadShape,
    QualityHead,
    arrays_expected,
    gelu,
    in_steps,
    negative_distance,
    script_shares,
    surface_features,
    triplet_losses,
)
from hf_mlalign.mdaq.quality.scorer import QualityScorer, evaluate_pairs
from hf_mlalign.mdaq.quality.training import HeadTraining, TripletInputs, _even_weights, _order, broken_responses
from hf_mlalign.models.encoder import BUNDLED

GOOD = "Here is an answer:\n\n- first point, explained well.\n\n- second point, explained well."
TOPICS = ("apples", "rivers", "music", "trains", "bread", "winter", "stars", "maps")


def feature(text: str, name: str) -> float:
    return float(surface_features([text])[0, FEATURES.index(name)])


def toy_triplets(n: int = 96) -> tuple[list[str], list[str], list[str]]:
    topics = [f"{TOPICS[i % len(TOPICS)]} {i}" for i in range(n)]
    instructions = [f"Tell me about {topic}." for topic in topics]
    return instructions, [GOOD.replace("point", topic) for topic in topics], [f"{topic} ok" for topic in topics]


@pytest.fixture(scope="module")
def trained() -> QualityScorer:
    return QualityScorer.load(BUNDLED / "encoder").train(*toy_triplets(), settings=HeadTraining(members=1, epochs=20))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_score_depends_on_its_row_alone_to_the_last_bit(threads):
    """Whatever the batch, a row's place in it, and the threads."""
    from threadpoolctl import threadpool_limits

    words = [f"{topic} {i} " + "and so on " * (i % 7) for i in range(100) for topic in TOPICS[:3]]
    answers = [f"{text}. {GOOD[: i % len(GOOD)]}" for i, text in enumerate(words)]
    scorer, draw = QualityScorer.load(), np.random.default_rng(0)
    whole = scorer.score(words, answers)
    with threadpool_limits(threads, user_api="blas"):
        for size in (1, 2, 3, 5, 12, 63, 257):
            rows = draw.permutation(len(words))[:size]
            part = scorer.score([words[i] for i in rows], [answers[i] for i in rows])
            assert np.array_equal(part, whole[rows]), size


class TestExactWeights:
    def test_any_order_of_the_terms_gives_the_same(self):
        draw = np.random.default_rng(0)
        weights, x = draw.normal(size=(5, 300)), np.clip(draw.normal(size=(8, 300)), -4, 4)
        order = draw.permutation(300)
        straight, other = ExactWeights(weights)(in_steps(x)), ExactWeights(weights[:, order])(in_steps(x[:, order]))
        assert np.array_equal(straight, other)
        np.testing.assert_allclose(straight, x @ weights.T, atol=2e-5)

    def test_by_hand(self):
        product = ExactWeights(np.array([[0.5, -2.0], [0.0, 0.0]]))(in_steps(np.array([[3.0, 0.25]])))
        assert product.tolist() == [[1.0, 0.0]]
        assert product.dtype == np.float32

    def test_weights_of_any_size(self):
        for size in (1e-6, 1.0, 1e6):
            product = ExactWeights(np.full((1, 4), size))(in_steps(np.ones((1, 4))))
            assert product[0, 0] == pytest.approx(4 * size, rel=1e-5)


class FixedScorer:
    """Score = minus the number of "x" in the response; NaN for "?"."""

    def score(self, instructions, responses):
        return np.array([np.nan if r == "?" else -r.count("x") for r in responses], dtype=np.float32)


class TestArithmetic:
    def test_score_by_hand(self):
        a = np.array([[0.0, 0.0], [1.0, 2.0]])
        b = np.array([[3.0, 4.0], [1.0, 2.0]])
        np.testing.assert_array_equal(negative_distance(a, b), [-5.0, 0.0])

    def test_triplet_loss_by_hand(self):
        anchor = np.zeros((3, 2))
        positive = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0]])
        negative = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
        np.testing.assert_allclose(triplet_losses(anchor, positive, negative), [5 - 1 + 0.3, 0.3, 0.0], rtol=1e-6)

    def test_loss_agrees_with_sentence_transformers(self):
        import torch
        from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss

        generator = np.random.default_rng(0)
        a, p, n = generator.normal(size=(3, 7, 5)).astype(np.float32)
        theirs = TripletLoss(None, distance_metric=TripletDistanceMetric.EUCLIDEAN, triplet_margin=0.3)
        loss = theirs.compute_loss_from_embeddings([torch.from_numpy(v) for v in (a, p, n)], None)
        assert float(loss) == pytest.approx(float(triplet_losses(a, p, n).mean()), abs=1e-5)

    def test_gelu_is_torch_gelu(self):
        import torch

        x = np.linspace(-6, 6, 101, dtype=np.float32)
        expected = torch.nn.functional.gelu(torch.from_numpy(x), approximate="tanh").numpy()
        np.testing.assert_allclose(gelu(x), expected, atol=1e-6)

    def test_head_by_hand(self):
        shape = HeadShape(dimension=2, hidden=1, output=1, members=2)
        arrays = {name: np.zeros(size) for name, size in arrays_expected(shape).items()}
        arrays["feature_scale"] += 1
        arrays["instruction.linear"][:, 0, 0] = [1.0, 2.0]
        arrays["instruction.bias"][1, 0] = 10.0
        vectors = QualityHead(shape, arrays).instruction_vectors(np.array([[3.0, 5.0]], np.float32), ["a"])
        np.testing.assert_allclose(vectors, np.array([[3.0, 16.0]]) / np.sqrt(2), rtol=1e-6)

    def test_wrong_weights_are_refused(self):
        shape = HeadShape(dimension=2, hidden=1, output=1, members=1)
        arrays = {name: np.zeros(size) for name, size in arrays_expected(shape).items()}
        with pytest.raises(DataError, match=r"response\.out.*train again"):
            QualityHead(shape, arrays | {"response.out": np.zeros((1, 2, 2))})


class TestFeatures:
    def test_layout_by_hand(self):
        text = "Here:\n\n- one\n\n- two\n1. three"
        assert feature(text, "log_lines") == pytest.approx(np.log1p(4))
        assert feature(text, "log_paragraphs") == pytest.approx(np.log1p(2))
        assert feature(text, "log_single_newlines") == pytest.approx(np.log1p(1))
        assert feature(text, "log_bulleted") == pytest.approx(np.log1p(2))
        assert feature(text, "log_numbered") == pytest.approx(np.log1p(1))
        assert feature(text, "log_characters") == pytest.approx(np.log1p(len(text)))
        assert (feature(text, "first_line_colon"), feature(text, "ends_letter")) == (1.0, 0.0)
        assert feature("a **b** c", "log_bold") == pytest.approx(np.log1p(1))
        assert feature("x \ny", "log_trailing_spaces") == pytest.approx(np.log1p(1))
        assert feature("10. ten", "log_numbered") == pytest.approx(np.log1p(1))
        assert feature("1985 was", "log_numbered") == 0.0

    def test_ends(self):
        assert feature("Das ist es.", "ends_period") == 1.0
        assert feature("これです。", "ends_period") == 1.0
        assert feature("これで", "ends_letter") == 1.0
        assert feature("a b a b", "unique_words") == 0.5

    def test_scripts(self):
        shares = script_shares(["abc дом", "", "你好", "สวัสดี", "한국"])
        names = [name for name, _ in SCRIPTS]
        assert shares[0, names.index("latin")] == shares[0, names.index("cyrillic")] == 0.5
        assert shares[1].sum() == 0
        assert [names[i] for i in shares[2:].argmax(1)] == ["han", "thai", "hangul"]

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\n -*1.:\0aé")), max_size=60)))
    def test_each_text_alone_and_in_a_batch(self, texts):
        batch = surface_features(texts)
        assert batch.shape == (len(texts), len(FEATURES))
        assert np.isfinite(batch).all()
        for text, row in zip(texts, batch, strict=True):
            np.testing.assert_array_equal(surface_features([text])[0], row)


class TestTraining:
    def test_learns_a_toy_set(self, trained):
        figures = evaluate_pairs(trained, *toy_triplets())
        assert figures["all"]["accuracy"] >= 0.98

    def test_parameters_change_and_the_seed_decides(self):
        inputs = {}
        for key, epochs, seed in (("a", 1, 0), ("b", 1, 0), ("c", 3, 0), ("d", 1, 1)):
            scorer = QualityScorer.load(BUNDLED / "encoder")
            scorer.train(*toy_triplets(16), settings=HeadTraining(members=1, epochs=epochs, seed=seed))
            inputs[key] = scorer._head.arrays
        for name, array in inputs["a"].items():
            np.testing.assert_array_equal(array, inputs["b"][name])
            if not name.startswith("feature"):
                assert np.abs(array - inputs["c"][name]).max() > 1e-5, name
        assert np.abs(inputs["a"]["response.linear"] - inputs["d"]["response.linear"]).max() > 1e-3

    def test_response_vectors_do_not_see_the_instruction(self, trained):
        alone = trained.encode_responses([GOOD])
        np.testing.assert_allclose(trained.encode_responses(["x", GOOD])[1:], alone, atol=1e-5)

    def test_broken_responses(self):
        broken = broken_responses(["ask"] * 200, ["y" * 100] * 200)
        copies = [b for b in broken if b == "ask"]
        cut = [len(b) for b in broken if b != "ask"]
        assert 5 < len(copies) < 60
        assert min(cut) >= 25
        assert max(cut) <= 80

    def test_even_weights(self):
        inputs = TripletInputs.build(
            lambda texts: np.zeros((len(texts), 2), np.float32), ["q", "q"], ["aaaa", "a" * 99], ["bbbb", "b"]
        )
        weights = _even_weights(inputs, 3.0)
        np.testing.assert_allclose(weights, np.array([4.0, 1.0]) / 2.5, rtol=1e-5)

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 9))
    def test_order_is_a_permutation_in_pieces_of_groups(self, groups, seed):
        groups = np.unique(groups, return_inverse=True)[1]
        order = _order(groups, np.random.default_rng(seed))
        assert sorted(order) == list(range(len(groups)))
        changes = np.flatnonzero(np.diff(groups[order])) + 1
        pieces = np.diff(np.concatenate([[0], changes, [len(order)]]))
        assert pieces.sum() == len(groups)
        assert len(pieces) <= sum(-(-size // 4) for size in np.bincount(groups))

    @pytest.mark.parametrize(("bad", "message"), [(None, "negatives, row 1"), (" ", "negatives, row 1")])
    def test_bad_triplets(self, bad, message):
        with pytest.raises(DataError, match=message):
            QualityScorer.load(BUNDLED / "encoder").train(["a", "b"], ["c", "d"], ["e", bad])

    def test_no_triplets(self):
        with pytest.raises(DataError, match="no triplet"):
            QualityScorer.load(BUNDLED / "encoder").train([], [], [])


class TestFiles:
    def test_round_trip(self, trained, tmp_path):
        instructions, good, bad = toy_triplets(8)
        loaded = QualityScorer.load(trained.save(tmp_path / "q", card="# card"))
        np.testing.assert_array_equal(
            loaded.score(instructions * 2, good + bad), trained.score(instructions * 2, good + bad)
        )
        assert sorted(p.name for p in (tmp_path / "q").iterdir()) == ["README.md", "config.json", "quality.safetensors"]

    def test_another_encoder_is_refused(self, trained, tmp_path):
        folder = trained.save(tmp_path / "q")
        config = (folder / "config.json").read_text()
        (folder / "config.json").write_text(config.replace('"encoder_hash": "', '"encoder_hash": "0'))
        with pytest.raises(DataError, match="another encoder"):
            QualityScorer.load(folder)

    def test_local_encoder_travels_along(self, tmp_path):
        import shutil

        shutil.copytree(BUNDLED / "encoder", tmp_path / "mine")
        scorer = QualityScorer.load(tmp_path / "mine").train(
            *toy_triplets(8), settings=HeadTraining(members=1, epochs=1)
        )
        scorer.save(tmp_path / "q")
        expected = scorer.score(["Name a fruit."], [GOOD])
        shutil.rmtree(tmp_path / "mine")
        shutil.move(tmp_path / "q", tmp_path / "moved")
        np.testing.assert_array_equal(QualityScorer.load(tmp_path / "moved").score(["Name a fruit."], [GOOD]), expected)

    def test_fingerprint_is_stable_after_use(self):
        scorer = QualityScorer.load()
        before = Hasher.hash(scorer)
        scorer.score(["Name a fruit."], ["An apple."])
        assert Hasher.hash(scorer) == before
        again = pickle.loads(pickle.dumps(scorer))
        assert again._encoder is None
        assert Hasher.hash(again) == before
        np.testing.assert_array_equal(again.score(["a"], ["b"]), scorer.score(["a"], ["b"]))

    def test_trained_but_unsaved_pickles_with_its_head(self, trained):
        again = pickle.loads(pickle.dumps(trained))
        np.testing.assert_array_equal(again.score(["a"], [GOOD]), trained.score(["a"], [GOOD]))
        assert again.content_hash == trained.content_hash != QualityScorer.load().content_hash


class TestScore:
    def test_null_rules_and_dedup(self, counting_encoder):
        scorer = QualityScorer.load(counting_encoder)
        scores = scorer.score(["aae", "aae", None, "q", " "], ["aae", "e", "x", "\n", "x"])
        np.testing.assert_array_equal(np.isnan(scores), [False, False, True, True, True])
        np.testing.assert_allclose(scores[:2], [0.0, -np.sqrt(4 + 4 + 0)])
        assert sorted(counting_encoder.seen) == ["aae", "aae", "e"]

    def test_nothing(self):
        assert QualityScorer.load().score([], []).shape == (0,)

    @pytest.mark.parametrize(("args", "message"), [((["a"], []), "1 instructions but 0"), ((["a"], [3]), "row 0.*int")])
    def test_bad_arguments(self, args, message):
        with pytest.raises(DataError, match=message):
            QualityScorer.load().score(*args)

    def test_odd_texts(self):
        scores = QualityScorer.load().score(["a"] * 4, ["\ud800x", "\0", "word " * 100_000, "🙂"])
        assert np.isfinite(scores).all()
        assert (scores <= 0).all()

    def test_parts_give_the_same_scores(self):
        instructions, good, _ = toy_triplets(10)
        scorer = QualityScorer.load()
        expected = scorer.score(instructions, good)
        np.testing.assert_allclose(scorer.score(instructions, good, batch_size=3), expected, atol=1e-5)
        given_vectors = scorer.encode_instructions(instructions, scorer.encoder.encode(instructions))
        np.testing.assert_allclose(
            scorer.score_embedded(given_vectors, scorer.encode_responses(good)), expected, atol=1e-5
        )
        np.testing.assert_allclose(scorer.embeddings_of(given_vectors), scorer.encoder.encode(instructions), atol=1e-6)


class TestPairs:
    def test_by_hand(self):
        figures = evaluate_pairs(
            FixedScorer(),
            ["q"] * 6,
            ["aaaa", "aaxx", "aaaaaaaaaaaa", "same", "a", "?"],
            ["xaaa", "aaaa", "a", "same", "b", "a"],
            ["en", "en", "de", "de", "de", "de"],
        )
        assert figures["all"]["n"] == 5
        assert figures["en"] == {
            "n": 2, "accuracy": 0.5, "longer_wins": 0.5, "random": 0.5, "matched_n": 2, "matched_accuracy": 0.5,
            "matched_longer_wins": 0.5,
        }  # fmt: skip
        assert figures["de"]["accuracy"] == pytest.approx((0.5 + 0.5 + 0) / 3)
        assert "| en | 2 | 0.500 |" in pairs_table(figures)


def test_bundled_model_is_small():
    assert sum(p.stat().st_size for p in (BUNDLED / "qsm").iterdir()) <= 4 * 2**20


@pytest.mark.real_data
def test_bundled_model_on_held_out_samples(shared_data):
    from hf_mlalign.launch.train_qsm import read_revisions, sanity_checks

    pairs = read_revisions(shared_data / "expert_revisions.parquet")
    held = pairs[pairs["held_out"]]
    scorer = QualityScorer.load()
    figures = evaluate_pairs(scorer, *(list(held[c]) for c in ("instruction", "positive", "negative", "language")))
    assert figures["all"]["accuracy"] >= 0.90
    assert figures["all"]["matched_accuracy"] >= 0.86
    assert min(row["accuracy"] for row in figures.values()) >= 0.86
    checks = sanity_checks(scorer, pairs)
    assert checks["the instruction repeated"] >= 0.8
    assert checks["cut off in mid-sentence"] >= 0.78
    assert min(checks.values()) >= 0.56
