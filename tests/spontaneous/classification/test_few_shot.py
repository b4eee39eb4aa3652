"""Few-shot examples: balance, seed, and that no translation of one is scored."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.classification.few_shot import draw_shots
from hf_mlalign.spontaneous.classification.rows import Questions


def questions(n=30, languages=("de", "en", "sw"), classes=3, text=lambda code, i: f"{code} {i}", reverse=False):
    keys = [(code, i) for code in languages for i in range(n)][:: -1 if reverse else 1]
    return Questions([str(i) for _, i in keys], [code for code, _ in keys],
                     [{"text": text(code, i)} for code, i in keys], [i % classes for _, i in keys], {})  # fmt: skip


@settings(max_examples=40)
@given(st.integers(0, 12), st.integers(0, 99), st.booleans())
def test_balanced_and_held_out(n, seed, same):
    source = questions()
    shots = draw_shots(source, ["de", "en", "sw"], n, 3, seed, same)
    for language, rows in shots.rows.items():
        assert [source.languages[row] for row in rows] == [language] * n
        assert len(set(rows)) == n
        counts = Counter(source.classes[row] for row in rows)
        assert max(counts.values(), default=0) - min((counts[c] for c in range(3)), default=0) <= (n % 3 > 0)
        assert {source.ids[row] for row in rows} <= shots.held_out
    assert same == (len({tuple(ids) for ids in shots.ids().values()}) == 1) or n < 3
    if same:
        assert len(shots.held_out) == n


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_rows():
    a, b = draw_shots(questions(), ["de", "en"], 6, 3, 1), draw_shots(questions(reverse=True), ["de", "en"], 6, 3, 1)
    assert a.ids() == b.ids()
    assert a.ids() != draw_shots(questions(), ["de", "en"], 6, 3, 2).ids()
    own = draw_shots(questions(), ["de", "en"], 6, 3, 1, same=False)
    assert own.ids()["de"] != own.ids()["en"]
    assert own.ids()["de"] == draw_shots(questions(), ["de"], 6, 3, 1, same=False).ids()["de"]


def test_labels_are_mixed():
    orders = set()
    for seed in range(20):
        source = questions(classes=2)
        orders.add(tuple(source.classes[row] for row in draw_shots(source, ["en"], 4, 2, seed).rows["en"]))
    assert len(orders) == 6  # of 4 over 2


def test_the_remainder_goes_to_different_labels():
    extra = Counter()
    for seed in range(60):
        source = questions()
        rows = draw_shots(source, ["en"], 4, 3, seed).rows["en"]
        extra[Counter(source.classes[row] for row in rows).most_common(1)[0][0]] += 1
    assert set(extra) == {0, 1, 2}


def test_questions_with_an_examples_texts_are_held_out_too():
    source = questions(text=lambda code, i: f"{code} {i // 2}", classes=2)
    shots = draw_shots(source, ["en"], 2, 2)
    shown = {int(i) // 2 for i in shots.ids()["en"]}
    assert shots.held_out == {str(i) for i in range(30) if i // 2 in shown}


def test_questions_missing_in_a_language_or_of_two_classes_are_no_common_examples():
    whole = questions(9, ("de", "en"))
    part = Questions(whole.ids[3:], whole.languages[3:], whole.texts[3:], whole.classes[3:], {})
    for seed in range(9):
        assert not {"0", "1", "2"} & set(draw_shots(part, ["de", "en"], 6, 3, seed).ids()["en"])
    with pytest.raises(DataError, match="label 0 has 2 questions to draw 3 examples"):
        draw_shots(part, ["de", "en"], 9, 3)
    part.classes[0] = 1
    assert all("3" not in draw_shots(part, ["de", "en"], 3, 3, seed).ids()["en"] for seed in range(9))


def test_bad_numbers():
    with pytest.raises(DataError, match="n_shots: -1 is negative"):
        draw_shots(questions(), ["en"], -1, 3)
    with pytest.raises(DataError, match="seed: -2 is negative"):
        draw_shots(questions(), ["en"], 1, 3, -2)
    with pytest.raises(DataError, match="no rows in 'fr'"):
        draw_shots(questions(), ["fr"], 1, 3)
