"""Agreement across languages: worked by hand, against scikit-learn and krippendorff, and by simulation."""

import math
import uuid

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.metrics.consistency import (
    Bootstrap,
    answer_agreement,
    crosslingual_consistency,
    embedding_agreement,
)

NONE = Bootstrap(0)
LANGUAGES = ("de", "en", "sw")


def long_form(table: np.ndarray) -> tuple[list, list, list]:
    """(languages, prompts) of letters (or "") as answers, languages and prompt ids."""
    rows = [(str(a), LANGUAGES[i], p) for i, row in enumerate(table) for p, a in enumerate(row)]
    return tuple(map(list, zip(*rows)))


def test_by_hand():
    """Equal in 3 of 4. By chance: A 2/4·1/4 + B 1/4·2/4 + C 1/4·1/4 = 5/16. Kappa: (12/16 − 5/16)/(11/16) = 7/11."""
    found = answer_agreement(["A", "A", "B", "C", "A", "B", "B", "C"], ["en"] * 4 + ["de"] * 4, [1, 2, 3, 4] * 2,
                             bootstrap=NONE)  # fmt: skip
    assert found.pairs == [("de", "en")]
    assert found.observed[0, 0] == pytest.approx(0.75)
    assert found.corrected[0, 0] == pytest.approx(7 / 11)
    assert found.n_prompts.tolist() == [4]


letters = st.lists(st.lists(st.sampled_from(["A", "B", "C", ""]), min_size=5, max_size=5), min_size=3, max_size=3)


@settings(deadline=None, max_examples=60)
@given(letters)
def test_equals_the_libraries(table):
    """Kappa of each pair is scikit-learn's, alpha is krippendorff's, with missing answers."""
    table = np.asarray(table)
    found = answer_agreement(*long_form(table), bootstrap=NONE)
    for k, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        both = (table[i] != "") & (table[j] != "")
        chosen = {*table[i][both], *table[j][both]}
        if len(chosen) > 1:
            assert found.corrected[0, k] == pytest.approx(cohen_kappa_score(table[i][both], table[j][both]))
        else:
            assert math.isnan(found.corrected[0, k])
    codes = np.select([table == "A", table == "B", table == "C"], [0.0, 1.0, 2.0], np.nan)
    used = codes[:, (~np.isnan(codes)).sum(0) > 1]
    if len(set(used[~np.isnan(used)])) > 1:
        assert found.alpha[0] == pytest.approx(krippendorff.alpha(codes, level_of_measurement="nominal"))
    else:
        assert math.isnan(found.alpha[0])


def test_samples_of_a_cell_are_averaged():
    """en: A, A, B; de: A, B. Equal pairs: 2 · 1 + 1 · 1 of 6."""
    found = answer_agreement(["A", "A", "B", "A", "B"], ["en"] * 3 + ["de"] * 2, ["p"] * 5, bootstrap=NONE)
    assert found.observed[0, 0] == pytest.approx(0.5)


def test_unread_answers():
    answers, languages, prompts = ["A", "B", "A", None], ["en", "en", "de", "de"], [1, 2, 1, 2]
    excluded = answer_agreement(answers, languages, prompts, bootstrap=NONE)
    counted = answer_agreement(answers, languages, prompts, unread="disagree", bootstrap=NONE)
    assert (excluded.observed[0, 0], counted.observed[0, 0]) == (1.0, 0.5)
    assert (excluded.n_prompts[0], counted.n_prompts[0]) == (1, 2)


def test_a_language_that_always_says_a_earns_nothing():
    english = ["A"] * 70 + ["B"] * 30
    found = crosslingual_consistency(None, ["en"] * 100 + ["de"] * 100, [*range(100)] * 2,
                                     answers=english + ["A"] * 100, n_resamples=0)  # fmt: skip
    assert found["agreement"] == pytest.approx(0.7)
    assert found["kappa"] == pytest.approx(0)


def test_embeddings_by_hand():
    """Equal directions in each prompt: similarity 1. Means (½, ½)·(½, ½) = ½ by chance; corrected 1."""
    cells = (["en", "en", "de", "de"], [1, 2, 1, 2])
    found = embedding_agreement([[1, 0], [0, 2], [3, 0], [0, 1]], *cells, bootstrap=NONE)
    assert found.observed[0, 0] == pytest.approx(1)
    assert found.corrected[0, 0] == pytest.approx(1)
    crossed = embedding_agreement([[1, 0], [0, 2], [0, 3], [1, 0]], *cells, bootstrap=NONE)
    assert crossed.observed[0, 0] == pytest.approx(0)
    assert crossed.corrected[0, 0] == pytest.approx(-1)


def test_rows_may_come_in_any_order():
    rng = np.random.default_rng(3)
    answers, languages, prompts = long_form(rng.choice(list("ABC"), (3, 12)))
    order = rng.permutation(36)
    first = answer_agreement(answers, languages, prompts, bootstrap=NONE)
    again = answer_agreement(*[[x[i] for i in order] for x in (answers, languages, prompts)], bootstrap=NONE)
    np.testing.assert_allclose(first.corrected, again.corrected)
    np.testing.assert_allclose(first.alpha, again.alpha)


def test_resamples_are_whole_prompts():
    """A bootstrap written as a loop over drawn prompts, with scikit-learn's kappa, has the same spread."""
    rng = np.random.default_rng(0)
    table = rng.choice(list("ABC"), (2, 60), p=[0.6, 0.3, 0.1])
    table[1, :35] = table[0, :35]
    found = answer_agreement(*long_form(table), bootstrap=Bootstrap(2000, seed=1))
    drawn = rng.integers(60, size=(1000, 60))
    loop = [cohen_kappa_score(table[0][rows], table[1][rows]) for rows in drawn]
    assert found.corrected[1:, 0].std() == pytest.approx(np.std(loop), rel=0.08)
    assert found.corrected[1:, 0].mean() == pytest.approx(np.mean(loop), abs=0.01)


def test_intervals_cover_what_they_should():
    """Of 400 simulated studies of 100 prompts, 95 % intervals hold the true kappa in 93 to 97 %, give or take 2.2 %."""
    shares = ([0.7, 0.1, 0.1, 0.1], [0.25] * 4)

    def study(rng: np.random.Generator, n: int) -> np.ndarray:
        truth = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
        rows = [np.where(rng.random(n) < 0.6, truth, rng.choice(4, n, p=share)) for share in shares]
        return np.asarray(list("ABCD"))[np.asarray(rows)]

    true = answer_agreement(*long_form(study(np.random.default_rng(0), 200_000)), bootstrap=NONE).corrected[0, 0]
    hits = 0
    for seed in range(1, 401):
        bootstrap = Bootstrap(250, seed=seed)
        found = answer_agreement(*long_form(study(np.random.default_rng(seed), 100)), bootstrap=bootstrap)
        interval = bootstrap.interval(found.corrected[:, 0], "kappa", 100)
        hits += interval["kappa_ci_low"] <= true <= interval["kappa_ci_high"]
    assert 0.93 - 0.022 <= hits / 400 <= 0.97 + 0.022


def test_full_agreement_in_few_prompts_is_no_certainty():
    """Three of three: agreement at least 0.025^(1/3) (Clopper-Pearson). By chance 1/3 for kappa; alpha expects
    disagreement 1 − 3·2²/(6·5) + 6/30 = 4/5 (coincidences without pairs of a value with itself)."""
    found = crosslingual_consistency(None, ["en"] * 3 + ["de"] * 3, [1, 2, 3] * 2, answers=list("ABCABC"))
    low = 0.025 ** (1 / 3)
    for row in (found, found["per_pair"]["de-en"], found["per_language"]["de"]):
        assert (row["agreement_ci_low"], row["agreement_ci_high"]) == pytest.approx((low, 1))
        assert (row["kappa_ci_low"], row["kappa_ci_high"]) == pytest.approx(((low - 1 / 3) / (2 / 3), 1))
    assert (found["alpha_ci_low"], found["alpha_ci_high"]) == pytest.approx((1 - (1 - low) / 0.8, 1))
    without = crosslingual_consistency(None, ["en"] * 3 + ["de"] * 3, [1, 2, 3] * 2, answers=list("ABCABC"),
                                       n_resamples=0)  # fmt: skip
    assert math.isnan(without["agreement_ci_low"])
    assert math.isnan(without["kappa_ci_low"])


@pytest.mark.parametrize(("share", "n_prompts"), [(0.98, 30), (0.87, 30), (0.98, 100)])
def test_intervals_cover_high_agreement(share, n_prompts):
    """In 300 simulated studies each, 95 % intervals hold the true agreement, kappa and alpha in 93 % or more (less
    1.5 % for chance)."""
    rng, hits = np.random.default_rng(1), np.zeros(3)
    names = ("agreement", "kappa", "alpha")
    truth = dict(zip(names, (share, 1 - (1 - share) / 0.75, 1 - (1 - share) / 0.75)))
    for seed in range(300):
        first = rng.integers(0, 4, n_prompts)
        second = np.where(rng.random(n_prompts) < share, first, (first + rng.integers(1, 4, n_prompts)) % 4)
        found = crosslingual_consistency(None, ["en"] * n_prompts + ["de"] * n_prompts, [*range(n_prompts)] * 2,
                                         answers=[*first, *second], n_resamples=200, seed=seed)  # fmt: skip
        hits += [found[f"{name}_ci_low"] <= truth[name] <= found[f"{name}_ci_high"] for name in names]
    assert (hits / 300 >= 0.915).all(), hits / 300


def test_a_missing_response_takes_no_part_in_the_similarity(counting_encoder):
    """de lacks prompt 3 and sw prompt 1; the other pairs are of equal texts."""
    responses = ["tree", "fig", "pear", "tree", "fig", None, "  ", "fig", "pear"]
    found = crosslingual_consistency(responses, ["en"] * 3 + ["de"] * 3 + ["sw"] * 3, [1, 2, 3] * 3,
                                     model=counting_encoder, n_resamples=0)  # fmt: skip
    assert found["n_missing"] == 2
    assert found["similarity"] == pytest.approx(1)
    assert [found["per_language"][code]["n_missing"] for code in ("de", "en", "sw")] == [1, 0, 1]
    assert [row["n_prompts"] for row in found["per_pair"].values()] == [2, 1, 2]
    assert sorted(counting_encoder.seen) == ["fig", "pear", "tree"]


def test_a_language_without_responses_keeps_the_pairs(counting_encoder):
    found = crosslingual_consistency(["Answer: A", "", "Jibu: A"], ["en", "de", "sw"], [1, 1, 1], n_resamples=0,
                                     model=counting_encoder)  # fmt: skip
    assert math.isnan(found["per_pair"]["de-en"]["similarity"])
    assert found["per_pair"]["en-sw"]["similarity"] == pytest.approx(found["similarity"])
    nothing = crosslingual_consistency(["", None], ["en", "de"], [1, 1], model=counting_encoder)
    assert (nothing["n_missing"], math.isnan(nothing["similarity"])) == (2, True)


def test_a_response_that_is_no_text_is_named():
    with pytest.raises(DataError, match="responses, row 1: int instead of a text"):
        crosslingual_consistency(["A", 7], ["en", "de"], [1, 1])


ZEROS = {"list": [0, 0, 1, 1], "array": np.array([0, 0, 1, 1]), "floats": [0.0, 0.0, 1.0, 1.0]}


@pytest.mark.parametrize("answers", ZEROS.values(), ids=ZEROS)
def test_zero_is_an_answer(answers):
    found = crosslingual_consistency(None, ["en", "de"] * 2, [1, 1, 2, 2], answers=answers, n_resamples=0)
    assert (found["n_read"], found["agreement"], found["kappa"]) == (4, 1, 1)


def test_only_nothing_is_unread():
    answers = [0, "0", None, 1, math.nan, ""]
    found = crosslingual_consistency(None, ["en", "de"] * 3, [1, 1, 2, 2, 3, 3], answers=answers, n_resamples=0)
    assert (found["n_read"], found["agreement"]) == (3, 1)


def test_prompt_ids_without_a_type_of_arrow():
    ids = [uuid.UUID(int=i) for i in (1, 2)] * 2
    for given_ids in (ids, [2**70, 2**71] * 2):
        found = crosslingual_consistency(None, ["en", "en", "de", "de"], given_ids, answers=list("ABAB"), n_resamples=0)
        assert (found["n_prompts"], found["agreement"]) == (2, 1)


def test_whole_result(counting_encoder):
    responses = ["Answer: A", "Answer: B", "Antwort: A", "Antwort: B", "Jibu: A", "sijui"]
    result = crosslingual_consistency(responses, ["English", "en", "de", "de", "sw", "sw"], [1, 2] * 3,
                                      model=counting_encoder, n_resamples=50)  # fmt: skip
    assert (result["n_responses"], result["n_read"], result["n_prompts"], result["n_languages"]) == (6, 5, 2, 3)
    assert result["agreement"] == result["agreement_with_pivot"] == 1
    assert result["per_pair"]["de-sw"]["n_prompts_read"] == 1
    assert result["per_pair"]["de-sw"]["n_prompts"] == 2
    assert result["per_language"]["sw"]["n_read"] == 1
    assert result["per_language"]["de"]["similarity"] == result["per_pair"]["de-en"]["similarity"]
    assert -1 <= result["similarity_ci_low"] <= result["similarity"] <= result["similarity_ci_high"] <= 1 + 1e-6
    assert len(counting_encoder.seen) == 6
    assert set(result["per_language"]["en"]) == {"n_responses", "n_missing", "n_read"}


def test_ready_answers_need_no_texts_and_a_missing_pivot_gives_nan():
    result = crosslingual_consistency(None, ["de", "de", "sw", "sw"], [1, 2, 1, 2], answers=["x", "y", "x", "y"])
    assert result["kappa"] == 1
    assert math.isnan(result["kappa_with_pivot"])
    assert "similarity" not in result


def test_texts_without_answers_are_still_compared(counting_encoder):
    result = crosslingual_consistency(["ein Haus", "ein Baum", "a house", "a tree"], ["de", "de", "en", "en"],
                                      ["h", "t"] * 2, model=counting_encoder, n_resamples=20)  # fmt: skip
    assert math.isnan(result["kappa"])
    assert result["n_read"] == 0
    assert result["per_pair"]["de-en"]["similarity_ci_low"] <= result["similarity"]


def test_same_bits_for_the_same_seed():
    answers, languages, prompts = long_form(np.random.default_rng(5).choice(list("ABC"), (3, 30)))
    results = [crosslingual_consistency(None, languages, prompts, answers=answers, seed=s) for s in (4, 4, 5)]
    assert results[0] == results[1]
    assert results[0]["kappa_ci_low"] != results[2]["kappa_ci_low"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"languages": ["en", "en", "en"]}, "at least two languages"),
        ({"languages": ["en", "xx1", "de"]}, "row 1: unknown language 'xx1'"),
        ({"prompt_ids": [1, 2]}, "prompt_ids has 2 entries, languages 3"),
        ({"answers": ["A"]}, "answers has 1 entries, languages 3"),
        ({"answers": None}, "neither is given"),
        ({"unread": "ignore"}, "unread: 'ignore'"),
        ({"confidence": 95}, "confidence: 95"),
        ({"n_resamples": -1}, "n_resamples: -1"),
        ({"seed": -1}, "seed: -1"),
        ({"prompt_ids": [1, None, 2]}, "'prompt_ids', row 1: missing"),
        ({"prompt_ids": [1, 1, math.nan]}, "'prompt_ids', row 2: missing"),
        ({"prompt_ids": "abc"}, "prompt_ids: 'abc' is not a list"),
        ({"pivot": "no language"}, "pivot: unknown language"),
    ],
)
def test_bad_input(change, message):
    given = {"languages": ["en", "de", "de"], "prompt_ids": [1, 1, 2], "answers": ["A", "A", "B"], **change}
    with pytest.raises(DataError, match=message):
        crosslingual_consistency(None, given.pop("languages"), given.pop("prompt_ids"), **given)


def test_embeddings_with_nan_are_named():
    with pytest.raises(DataError, match="embeddings, row 1: holds NaN"):
        embedding_agreement([[1.0, 0], [math.nan, 1]], ["en", "de"], [1, 1])


@pytest.mark.real_data
def test_real_models_agree_more_in_close_languages(shared_data):
    """599 questions, six languages: Llama's answers agree beyond chance, German with English more than Japanese."""
    import pandas as pd

    rows = pd.read_parquet(shared_data / "xcsqa_samples.parquet").query("model == 'llama'").explode("samples")
    result = crosslingual_consistency(list(rows["samples"]), list(rows["language"]), list(rows["id"]), embeddings=False,
                                      prompts=list(rows["input"]), answer_kind="choice", n_resamples=200)  # fmt: skip
    assert result["n_read"] > 0.95 * result["n_responses"]
    assert result["alpha_ci_low"] > 0.4
    assert result["per_language"]["de"]["kappa_ci_low"] > result["per_language"]["ja"]["kappa_ci_high"]
