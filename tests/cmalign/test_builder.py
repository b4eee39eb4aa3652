"""The builder: exact pairs and counts, formats, splits, and every kind of bad input."""

import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, IterableDataset, List, Value, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.cmalign.build import build_pairs
from hf_mlalign.cmalign.builder import COLUMNS, CMAlignPreferenceBuilder
from hf_mlalign.cmalign.rewards import REWARDS, EmbeddingReward, load_reward, register_reward
from hf_mlalign.core.errors import DataError
from tests.cmalign.conftest import table, vectors_of

PLAIN = EmbeddingReward(centre=False)


def build(rows, ds=None, **options):
    builder = CMAlignPreferenceBuilder(options.pop("reward", PLAIN), **{"require_language": False, **options})
    return builder.build(table(rows) if ds is None else ds, embeddings=vectors_of(rows)), builder.result_


def test_pairs_by_hand(rows):
    pairs, result = build(rows)
    assert pairs.column_names == list(COLUMNS)
    assert len(pairs) == 1
    row = pairs[0]
    assert row["prompt"] == [{"role": "user", "content": "p1 in de"}]
    assert row["chosen"] == [{"role": "assistant", "content": "fair sechs"}]
    assert row["rejected"] == [{"role": "assistant", "content": "worse vier"}]
    assert row["reference_prompt"] == [{"role": "user", "content": "p1 in en"}]
    assert row["reference"] == [{"role": "assistant", "content": "fair two"}]  # (0.8 + 0.6) / 2 is the highest mean
    assert row["reference_consistency"] == pytest.approx(0.7)
    assert (row["language"], row["prompt_id"]) == ("de", "p1")
    assert (row["score_chosen"], row["score_rejected"]) == (pytest.approx(1.0), pytest.approx(-0.8))
    assert row["margin"] == pytest.approx(1.8)
    assert (row["candidate_chosen"], row["candidate_rejected"]) == (2, 0)
    assert result.drops().loc["de"].to_dict() == {
        "no_reference": 1, "low_consistency": 0, "too_few": 1, "identical": 0, "same_answer": 0, "tie": 0,
        "length_ratio": 0,
    }  # fmt: skip
    assert result.notes == ["1 of 3 prompts have no English samples."]


def test_row_order_does_not_matter(rows):
    expected, _ = build(rows)
    shuffled = [rows[i] for i in (4, 9, 1, 6, 0, 3, 10, 2, 8, 7, 5)]
    pairs, _ = build(shuffled)
    assert pairs.remove_columns(["candidate_chosen", "candidate_rejected"]).to_list() == (
        expected.remove_columns(["candidate_chosen", "candidate_rejected"]).to_list()
    )


def test_lists_of_responses_give_the_same_pairs(rows):
    expected, _ = build(rows)
    grouped: dict = {}
    for row in rows:
        grouped.setdefault(row[:2], []).append(row[2])
    data = {
        "prompt_id": [k[0] for k in grouped],
        "language": [k[1] for k in grouped],
        "prompt": [f"{k[0]} in {k[1]}" for k in grouped],
        "responses": list(grouped.values()),
    }
    pairs, _ = build(rows, Dataset.from_dict(data))
    assert pairs.to_list() == expected.to_list()


def test_english_pairs_and_standard_format(rows):
    pairs, _ = build(rows, include_english=True, output_format="standard")
    assert [(r["language"], r["chosen"], r["rejected"]) for r in pairs] == [
        ("en", "fair two", "bad three"),
        ("de", "fair sechs", "worse vier"),
    ]
    assert pairs[0]["prompt"] == "p1 in en"
    assert pairs[0]["reference"] == "fair two"


def test_multi_turn_prompts(rows):
    turns = [
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": r[0]}]
        for r in rows
    ]
    ds = table(rows).remove_columns("prompt").add_column("prompt", turns)
    pairs, _ = build(rows, ds)
    assert [t["content"] for t in pairs[0]["prompt"]] == ["Hi", "Yes?", "p1"]
    assert list(pairs[0]["prompt"][0]) == ["role", "content"]
    assert pairs[0]["reference_prompt"] == pairs[0]["prompt"]
    with pytest.raises(DataError, match="several messages"):
        build(rows, ds, output_format="standard")


def test_conversational_responses(rows):
    ds = table(rows).remove_columns("response")
    ds = ds.add_column("response", [[{"role": "assistant", "content": r[2]}] for r in rows])
    assert build(rows, ds)[0].to_list() == build(rows)[0].to_list()


def test_column_mapping_and_integer_ids(rows):
    ds = table(rows).rename_columns({"prompt_id": "qid", "response": "text"})
    ds = ds.remove_columns("qid").add_column("qid", [int(r[0][1:]) for r in rows])
    pairs, _ = build(rows, ds, column_mapping={"qid": "prompt_id", "text": "response"})
    assert pairs[0]["prompt_id"] == 1


def test_embedding_column(rows):
    features = Features({**table(rows).features, "embedding": List(Value("float32"), length=3)})
    ds = Dataset.from_dict({**table(rows).to_dict(), "embedding": vectors_of(rows)}, features=features)
    builder = CMAlignPreferenceBuilder(PLAIN, require_language=False)
    assert builder.build(ds).to_list() == build(rows)[0].to_list()


def test_storage_does_not_matter(rows):
    expected = build(rows)[0].to_list()
    ds = table(rows)
    chunked = concatenate_datasets([ds.select(range(4)), ds.select(range(4, 11))])
    assert build(rows, chunked)[0].to_list() == expected
    large = ds.cast(Features({name: Value("large_string") for name in ds.column_names}))
    assert build(rows, large)[0].to_list() == expected
    back = np.argsort([5, 3, 1, 0, 2, 4, 10, 9, 8, 7, 6])
    assert build(rows, ds.select([5, 3, 1, 0, 2, 4, 10, 9, 8, 7, 6]).select(back))[0].to_list() == expected


def test_lists_with_vectors_and_finish_reasons(rows):
    order = sorted({row[:2] for row in rows}, reverse=True)
    groups = [[row for row in rows if row[:2] == key] for key in order]
    ds = Dataset.from_dict(
        {
            "prompt_id": [key[0] for key in order],
            "language": [key[1] for key in order],
            "prompt": ["x"] * len(order),
            "responses": [[row[2] for row in group] for group in groups],
            "embedding": [vectors_of(group).tolist() for group in groups],
            "finish_reason": [["length" if row[2] == "worse vier" else "stop" for row in group] for group in groups],
        }
    )
    builder = CMAlignPreferenceBuilder(PLAIN, require_language=False)
    pairs = builder.build(ds)
    assert [(r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in pairs] == [("fair sechs", "good fünf")]
    assert builder.result_.sample_drops().loc["de", "truncated"] == 1
    short = ds.remove_columns("finish_reason").add_column("finish_reason", [["stop"]] * len(ds))
    with pytest.raises(DataError, match="one entry per response"):
        builder.build(short)


def test_what_a_reward_sees(rows):
    seen = {}

    def reward(samples):
        seen.update(vars(samples), texts=samples.texts, prompts=samples.prompt_texts, vectors=samples.embeddings,
                    references=samples.reference_texts, names=samples.languages)  # fmt: skip
        return samples.lengths

    shuffled = [rows[i] for i in (4, 0, 3, 1, 5, 2, 6, 7, 8, 9, 10)]
    build(shuffled, reward=reward)
    german = seen["names"].index("de")
    where = seen["language"] == german
    assert [t for t, w in zip(seen["texts"], where, strict=True) if w][:3] == ["good fünf", "worse vier", "fair sechs"]
    assert seen["vectors"][where][:3].tolist() == vectors_of([("", "", t) for t in ("good", "worse", "fair")]).tolist()
    assert [t for t, w in zip(seen["references"], where, strict=True) if w] == ["fair two"] * 3 + ["", "", "good nine"]
    assert seen["prompts"][0] == "p1 in de"


def test_texts_are_encoded_once(rows, counting_encoder):
    builder = CMAlignPreferenceBuilder("embedding", model=counting_encoder, require_language=False)
    builder.build(table([*rows, ("p3", "de", "good elf")]).select(range(len(rows))))
    assert sorted(counting_encoder.seen) == sorted({r[2] for r in rows})


def test_split_keeps_a_prompt_together():
    rows = [(f"p{i}", lang, f"{word} {lang} {i}") for i in range(20) for lang in ("en", "de", "fr")
            for word in ("good", "fair", "bad")]  # fmt: skip
    pairs, _ = build(rows, test_size=0.25)
    assert isinstance(pairs, DatasetDict)
    assert (len(pairs["train"]), len(pairs["test"])) == (30, 10)
    assert not set(pairs["train"]["prompt_id"]) & set(pairs["test"]["prompt_id"])
    again, _ = build(rows, test_size=0.25)
    assert again["test"].to_list() == pairs["test"].to_list()
    other, _ = build(rows, test_size=0.25, seed=1)
    assert other["test"]["prompt_id"] != pairs["test"]["prompt_id"]
    with pytest.raises(DataError, match="test_size"):
        build(rows, test_size=0.001)


def guarded(samples, ds_columns=None, **options):
    """Counts for one prompt with a good English pair and the given German samples, beside a prompt that works."""
    base = [("ok", lang, f"{word} text") for lang in ("en", "de") for word in ("good", "bad")]
    rows = [
        *base,
        ("x", "en", "good x"),
        ("x", "en", "good y"),
        ("x", "en", "fair x"),
        *[("x", "de", text) for text in samples],
    ]
    ds = table(rows, **(ds_columns(rows) if ds_columns else {}))
    pairs, result = build(rows, ds, **options)
    return pairs, result


@pytest.mark.parametrize(
    ("samples", "options", "guard"),
    [
        (["good same", " good same "], {}, "identical"),
        (["good a", "good b"], {}, "tie"),
        (["good a", "fair b"], {"min_margin": 0.5}, "tie"),
        (["good a", "bad " + "b" * 99], {}, "length_ratio"),
        (["good a"], {}, "too_few"),
        (["good a", None], {}, "too_few"),
        (["good a", " \n"], {}, "too_few"),
        (["good a", "bad"], {"min_chars": 5}, "too_few"),
    ],
)
def test_pair_guards(samples, options, guard):
    pairs, result = guarded(samples, **options)
    assert pairs["prompt_id"] == ["ok"]
    drops = result.drops().loc["de"]
    assert drops[guard] == 1
    assert drops.sum() == 1


def test_low_consistency_of_the_reference():
    rows = [("a", "en", "good 1"), ("a", "en", "good 2"), ("a", "de", "good 3"), ("a", "de", "bad 4"),
            ("b", "en", "good 1"), ("b", "en", "bad 2"), ("b", "de", "good 3"), ("b", "de", "bad 4")]  # fmt: skip
    pairs, result = build(rows, min_reference_consistency=0.5)
    assert pairs["prompt_id"] == ["a"]
    assert result.drops().loc["de", "low_consistency"] == 1


def test_sample_guards_are_counted():
    _, result = guarded(["good a", "bad b", None, "", "  "])
    assert result.sample_drops().loc["de", "empty"] == 3
    _, result = guarded(["good a", "bad bb", "bad"], min_chars=4)
    assert result.sample_drops().loc["de", "too_short"] == 1
    finish = lambda rows: {"finish_reason": ["length" if r[2] == "bad cut" else "stop" for r in rows]}  # noqa: E731
    pairs, result = guarded(["good a", "fair b", "bad cut"], finish)
    assert result.sample_drops().loc["de", "truncated"] == 1
    assert pairs[1]["rejected"][0]["content"] == "fair b"
    pairs, _ = guarded(["good a", "fair b", "bad cut"], finish, drop_truncated=False)
    assert pairs[1]["rejected"][0]["content"] == "bad cut"


def test_samples_in_a_wrong_language_are_not_used():
    rows = [
        ("p", "en", "good The museum opens at nine in the morning and closes late in the evening."),
        ("p", "en", "good Every day the museum is open from nine in the morning until late in the evening."),
        ("p", "en", "fair You can visit the museum from nine in the morning until the evening."),
        ("p", "de", "bad The museum opens at nine in the morning and closes late in the evening."),
        ("p", "de", "good Das Museum öffnet um neun Uhr morgens und schließt spät am Abend."),
        ("p", "de", "fair Sie können das Museum von neun Uhr morgens bis zum Abend besuchen."),
    ]
    pairs, result = build(rows, require_language=True)
    assert pairs[0]["rejected"][0]["content"].startswith("fair Sie")
    assert result.sample_drops().loc["de", "wrong_language"] == 1
    pairs, _ = build(rows)
    assert pairs[0]["rejected"][0]["content"].startswith("bad The")


def test_answers_choose_reference_and_pairs():
    ask = "Which?\nA. one\nB. two\nC. three"
    texts = {
        "en": ["Answer: B. two", "Answer: B. two!", "Answer: A. one"],
        "de": ["Antwort: C. drei", "Antwort: B. zwei", "Antwort: A. eins", "weiß nicht"],
    }
    rows = [("q", lang, text) for lang, group in texts.items() for text in group]
    ds = table(rows).remove_columns("prompt").add_column("prompt", [ask] * len(rows))
    vectors = np.eye(7, 4, dtype=np.float32) + 1
    builder = CMAlignPreferenceBuilder("answer", require_language=False, policy="all_pairs", drop_same_answer=False)
    pairs = builder.build(ds, embeddings=vectors)
    assert builder.result_.scores[builder.result_.samples.language == 1].tolist() == pytest.approx(
        [0, 0.5 + 1 / 3, 1 / 6, 0]
    )
    assert pairs[0]["reference_consistency"] == pytest.approx(2 / 3)
    assert pairs[0]["reference"][0]["content"].startswith("Answer: B")
    auto = CMAlignPreferenceBuilder("auto", require_language=False)
    row = auto.build(ds, embeddings=vectors)[0]
    assert row["chosen"][0]["content"] == "Antwort: B. zwei"
    assert row["rejected"][0]["content"] == "weiß nicht"


def test_pairs_with_the_same_answer_are_dropped():
    ask = "Which?\nA. one\nB. two"
    rows = [(p, lang, f"Answer: {letter}. {i}") for p, letters in (("p", "AB"), ("q", "AA"))
            for lang in ("en", "de") for i, letter in enumerate(letters)]  # fmt: skip
    ds = table(rows).remove_columns("prompt").add_column("prompt", [ask] * len(rows))
    vectors = np.random.default_rng(0).standard_normal((len(rows), 4))
    for drop, ids in ((True, ["p"]), (False, ["p", "q"])):
        builder = CMAlignPreferenceBuilder("auto", require_language=False, drop_same_answer=drop)
        assert builder.build(ds, embeddings=vectors)["prompt_id"] == ids
        assert builder.result_.drops().loc["de", "same_answer"] == int(drop)


def test_open_questions_use_embeddings(rows):
    pairs, _ = build(rows, reward=load_reward("auto", centre=False))
    assert pairs[0]["margin"] == pytest.approx(0.9)  # half of the cosines' difference
    with pytest.raises(DataError, match=r"No pair is left.*not_scored"):
        build(rows, reward=load_reward("answer", centre=False))


def test_votes_need_no_english():
    rows = [("q", lang, f"Answer: {letter}") for lang, letters in (("de", "AAB"), ("fr", "AB")) for letter in letters]
    builder = CMAlignPreferenceBuilder("vote", require_language=False)
    pairs = builder.build(table(rows))
    assert pairs["score_chosen"] == pytest.approx([0.6, 0.6])
    assert pairs["score_rejected"] == pytest.approx([0.4, 0.4])
    assert pairs["reference"] == [None, None]


def test_controls(rows):
    pairs, _ = build(rows, reward="length")
    assert pairs[0]["chosen"][0]["content"] == "worse vier"
    assert pairs[0]["reference"][0]["content"] == "bad three"
    pairs, _ = build(rows, reward="first_english")
    assert pairs[0]["reference"][0]["content"] == "good one"
    first, _ = build(rows, reward="random")
    again, _ = build(rows, reward="random")
    assert first.to_list() == again.to_list()
    assert len(first) == 2  # without English, too


def test_own_reward(rows):
    @register_reward("brevity")
    def brevity(samples, weight=1.0):
        return -weight * samples.lengths

    try:
        pairs, _ = build(rows, reward="brevity", reward_options={"weight": 2.0})
        assert pairs[0]["margin"] == pytest.approx(2.0)
    finally:
        del REWARDS["brevity"]
    pairs, _ = build(rows, reward=lambda samples: [len(text) for text in samples.texts])
    assert pairs[0]["chosen"][0]["content"] == "worse vier"


def test_rewards_that_misbehave(rows):
    with pytest.raises(DataError, match=r"returned shape \(3,\) for 11 samples"):
        build(rows, reward=lambda samples: [1, 2, 3])
    with pytest.raises(DataError, match="not numbers"):
        build(rows, reward=lambda samples: samples.texts)
    half = lambda s: np.where(np.arange(len(s)) == 3, np.nan, s.lengths)  # noqa: E731
    pairs, result = build(rows, reward=half)
    assert result.sample_drops().loc["de", "not_scored"] == 1
    assert pairs[0]["chosen"][0]["content"] == "fair sechs"
    infinite = lambda s: np.where(np.arange(len(s)) == 3, np.inf, s.lengths)  # noqa: E731
    assert build(rows, reward=infinite)[1].sample_drops().loc["de", "not_scored"] == 1
    with pytest.raises(DataError, match="No pair is left"):
        build(rows, reward=lambda samples: np.full(len(samples), np.nan))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": "best"}, "reward: unknown 'best'"),
        ({"reward": 3}, "cannot be called"),
        ({"reward": EmbeddingReward}, "cannot be called with samples"),
        ({"reward": "embedding", "reward_options": {"center": 1}}, "does not take these options"),
        ({"reward": PLAIN, "reward_options": {"centre": 1}}, "only a reward given by name"),
        ({"reward": "implicit"}, "reference_model"),
        ({"policy": "best"}, "policy: unknown"),
        ({"output_format": "alpaca"}, "output_format"),
        ({"test_size": 1.0}, "test_size"),
        ({"min_margin": -1}, "min_margin"),
        ({"max_length_ratio": 0.5}, "max_length_ratio"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        CMAlignPreferenceBuilder(**options)


def test_bad_datasets(rows):
    ds = table(rows)
    for bad, message in [
        (DatasetDict(train=ds), "Expected one split"),
        (IterableDataset.from_generator(lambda: iter(())), "streaming does not work"),
        (ds.select([]), "empty"),
        (ds.remove_columns("language"), "No column for language"),
        (ds.remove_columns("response"), r"response \(or responses\)"),
        (ds.add_column("responses", [["a"]] * len(rows)), "Both 'response'"),
        (ds.map(lambda r, i: {"prompt_id": None if i == 4 else r["prompt_id"]},
                                                          with_indices=True), "'prompt_id', row 4: missing"),
        (ds.remove_columns("language").add_column("language", ["en"] * 5 + ["xx1"] * 6), "row 5: unknown language"),
        (ds.map(lambda r, i: {"prompt": None if i == 2 else r["prompt"]}, with_indices=True),
         "'prompt', row 2: missing"),
        (ds.remove_columns("prompt").add_column("prompt", list(range(len(rows)))), "not texts or role"),
        (ds.remove_columns("response").add_column("response", [["a"]] * len(rows)), "role responses"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=message):
            build(rows, bad)
    with pytest.raises(DataError, match="unknown roles: answer"):
        build(rows, column_mapping={"response": "answer"})
    with pytest.raises(DataError, match="missing columns: text"):
        build(rows, column_mapping={"text": "response"})
    with pytest.raises(DataError, match=r"embeddings has shape \(3, 3\) for 11 samples"):
        CMAlignPreferenceBuilder().build(ds, embeddings=np.ones((3, 3)))


def test_ids_that_do_not_join(rows):
    apart = [(f"{lang}-{i}", lang, text) for i, lang, text in rows]
    with pytest.raises(DataError, match=r"no id occurs both in English.*'en-p1'.*'de-p1'"):
        build(apart)


def test_one_id_for_different_prompts(rows):
    ds = table(rows).map(lambda r, i: {"prompt": "another one" if i == 5 else r["prompt"]}, with_indices=True)
    pairs, result = build(rows, ds)
    assert pairs[0]["prompt"][0]["content"] == "another one"
    assert (
        "1 pair combines samples whose prompts differ in wording (first: prompt_id 'p1' in 'de', rows 5 and 3)"
        in (result.notes[-1])
    )


def test_no_english_at_all(rows):
    with pytest.raises(DataError, match="--reward vote"):
        build([row for row in rows if row[1] == "de"])


def test_duplicate_sample_ids(rows):
    numbers = [0, 1, 2, 0, 0, 1, 0, 1, 0, 1, 0]
    with pytest.raises(
        DataError, match=r"'sample_id', row 4: sample 0 of prompt 'p1' in 'de' was there before \(1 such"
    ):
        build(rows, table(rows, sample_id=numbers))
    models = ["a", "a", "a", "a", "b", "a", "a", "a", "a", "a", "a"]
    pairs, _ = build(rows, table(rows, sample=numbers, model=models))
    assert (pairs[0]["candidate_chosen"], pairs[0]["candidate_rejected"]) == (2, 0)


def test_sample_numbers_are_kept(rows):
    pairs, _ = build(rows, table(rows, sample_id=[0, 1, 2, 17, 3, 5, 0, 1, 0, 1, 0]))
    assert (pairs[0]["candidate_chosen"], pairs[0]["candidate_rejected"]) == (5, 17)


def test_one_sample_each():
    rows = [("p", "en", "good a"), ("p", "de", "good b")]
    with pytest.raises(DataError, match=r"No pair is left.*1 too_few"):
        build(rows)


def test_result_tables(rows):
    _, result = build(rows)
    frame = result.per_language().set_index("language")
    assert frame.loc["de", ["samples", "prompts", "pairs"]].tolist() == [6, 3, 1]
    assert frame.loc["all", "pairs"] == 1
    assert json.loads(json.dumps(result.table()))["de"]["no_reference"] == 1
    assert "1 pair from 11 samples of 3 prompts" in result.summary()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["en", "de", "fr"]), st.sampled_from(
    ["good a", "good b", "fair c", "bad d", "worse e", "", None, "x" * 50])), min_size=1, max_size=40),
    st.booleans())  # fmt: skip
def test_every_group_is_a_pair_or_a_counted_drop(cells, english):
    rows = [(f"p{i}", lang, text) for i, lang, text in cells]
    builder = CMAlignPreferenceBuilder(PLAIN, require_language=False, include_english=english)
    try:
        builder.build(table(rows), embeddings=vectors_of(rows))
    except DataError:
        if builder.result_ is None:
            return
    result = builder.result_
    groups = {(i, lang) for i, lang, _ in cells if english or lang != "en"}
    assert len(result.chosen) + int(result.drops().to_numpy().sum()) == len(groups)
    assert (result.margins > 0).all()


def test_from_a_source(rows, tmp_path):
    many = [(f"{p}-{i}", lang, f"{text} {i}") for i in range(4) for p, lang, text in rows]
    table(many).to_parquet(str(tmp_path / "samples.parquet"))
    out = build_pairs(
        tmp_path / "samples.parquet", tmp_path / "out", reward="length", require_language=False, test_size=0.25
    )
    assert sorted(str(p.relative_to(out.folder)) for p in out.folder.rglob("*.parquet")) == [
        "data/test/de.parquet", "data/train/de.parquet"
    ]  # fmt: skip
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["parameters"]["reward"] == "length"
    assert record["results"]["pairs"] == {"train": len(out.dataset["train"]), "test": len(out.dataset["test"])}
    with pytest.raises(DataError, match="output.*require_language was False, now True"):
        build_pairs(tmp_path / "samples.parquet", tmp_path / "out", reward="length")
    again = build_pairs(
        tmp_path / "samples.parquet", tmp_path / "out", reward="length", require_language=False, test_size=0.25
    )
    assert again.result is None
    assert {name: part.to_list() for name, part in again.dataset.items()} == {
        name: part.to_list() for name, part in out.dataset.items()
    }
    assert again.record.results == out.record.results


def test_pairs_without_any_answer_are_no_same_answers():
    rows = [("p", "en", "good Answer: 4"), ("p", "en", "good Answer: 4."), ("p", "de", "fair x"), ("p", "de", "bad y")]
    _, result = build(rows, drop_same_answer=True)
    assert len(result.chosen) == 1


def test_a_function_keeps_its_name_and_marks(monkeypatch):
    def brevity(samples, scale):
        return -scale * samples.lengths

    brevity.uses_answers = True
    monkeypatch.setattr("hf_mlalign.cmalign.rewards.REWARDS", dict(REWARDS))
    from hf_mlalign.cmalign import rewards

    rewards.register_reward("short")(brevity)
    reward = rewards.load_reward("short", scale=2)
    assert (rewards.name_of(reward), reward.uses_answers, hasattr(reward, "rank_references")) == ("short", True, False)
    for options in ({}, {"scale": 1, "size": 2}):
        with pytest.raises(DataError, match="does not take these options"):
            rewards.load_reward("short", **options)


def test_whole_prompts_of_several_turns(rows):
    seen = []

    def reward(samples):
        seen.extend(samples.prompt_messages_of(np.arange(2)))
        return samples.lengths

    turns = [[{"role": "user", "content": "Hi"}, {"role": "user", "content": r[1]}] for r in rows]
    build(rows, table(rows).remove_columns("prompt").add_column("prompt", turns), reward=reward)
    assert seen == [turns[0]] * 2


def test_columns_of_wrong_forms(rows):
    ds = table(rows)
    parts = [[{"role": "user", "content": [{"type": "text", "text": "x"}]}]] * len(rows)
    for bad, message in [
        (ds.remove_columns("prompt").add_column("prompt", parts), "'prompt', row 0: the content of a message"),
        (ds.remove_columns("prompt_id").add_column("prompt_id", [[1]] * len(rows)), "'prompt_id', row 0: holds"),
    ]:
        with pytest.raises(DataError, match=message):
            build(rows, bad)
    with pytest.raises(DataError, match="to the role 'response'"):
        build(rows, column_mapping={"response": "response", "prompt": "response"})


def test_lists_of_fixed_length_and_repeated_lists():
    rows = [("p", lang, f"{word} {lang}") for lang in ("en", "de") for word in ("good", "bad")]
    data = {"prompt_id": ["p", "p"], "language": ["en", "de"], "prompt": ["x", "y"],
            "responses": [["good en", "bad en"], ["good de", "bad de"]]}  # fmt: skip
    ds = Dataset.from_dict(data)
    fixed = ds.cast(Features({**ds.features, "responses": List(Value("string"), length=2)}))
    assert build(rows, fixed)[0]["chosen"] == [[{"role": "assistant", "content": "good de"}]]
    with pytest.raises(DataError, match="'responses', row 2: responses of prompt 'p' in 'en' were there before"):
        build(rows, concatenate_datasets([ds, ds]))
