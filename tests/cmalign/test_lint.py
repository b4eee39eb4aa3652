"""lint_preferences: each trap on its own, and clean data."""

import pytest
from datasets import Dataset, DatasetDict

from hf_mlalign.cmalign.lint import SEVERITIES, TRAPS, lint_preferences
from hf_mlalign.core.errors import DataError

GERMAN = "Das Museum öffnet um neun Uhr morgens und schließt spät am Abend, Nummer"
OTHER = "Sie können das Museum von neun Uhr morgens bis zum Abend besuchen, Zahl"
ENGLISH = "The museum opens at nine in the morning and closes late in the evening, number"


def rows(n=100, **changes):
    """n clean rows; changes: function of i or a value for a column."""
    base = {
        "prompt": lambda i: f"Wann öffnet das Museum Nummer {i}?",
        "chosen": lambda i: f"{GERMAN if i % 2 else OTHER} {i}.",
        "rejected": lambda i: f"{OTHER if i % 2 else GERMAN} {i}.",
        "language": lambda i: "de" if i % 2 else "fr",
    }
    base.update(changes)
    return Dataset.from_dict(
        {k: [f(i) if callable(f) else f for i in range(n)] for k, f in base.items() if f is not None}
    )


def clean(**changes):
    return rows(**{"language": None, **changes})


def test_clean_data_has_no_findings():
    assert lint_preferences(clean()) == []
    assert str(lint_preferences(clean())) == "No known trap found."


@pytest.mark.parametrize(
    ("changes", "code", "count"),
    [
        ({"rejected": lambda i: None if i == 3 else f"{OTHER} {i}"}, "missing-text", 1),
        ({"chosen": lambda i: " " if i < 2 else f"{OTHER} {i}"}, "empty-text", 2),
        ({"rejected": lambda i: f"{GERMAN if i % 2 else OTHER} {i}." if i < 5 else f"{GERMAN} x{i}"},
         "identical-pair", 5),
        ({"rejected": lambda i: f"{ENGLISH} {i}"}, "language-shortcut", 100),
        ({"chosen": lambda i: f"{GERMAN} {i} und noch mehr Worte"}, "length-bias", 100),
        ({"rejected": lambda i: "Ja" if i < 7 else f"{OTHER} {i}"}, "length-outlier", 7),
        ({"chosen": lambda i: f"Wann öffnet das Museum Nummer {i}? {GERMAN}" if i < 4 else f"{GERMAN} {i}"},
         "prompt-in-completion", 4),
        ({"prompt": lambda i: f"Wann? {i % 50}", "chosen": lambda i: f"{GERMAN} {i % 50}", "rejected": lambda i:
          f"{OTHER} {i % 50}"}, "duplicate-row", 50),
        ({"margin": lambda i: 0.0 if i < 9 else 1.0}, "tie", 9),
        ({"language": lambda i: "de" if i < 90 else "fr"}, "one-language-dominates", 90),
        ({"language": lambda i: "fr" if i % 2 else "de"}, "wrong-language", 50),
        ({"language": "de", "reference": lambda i: f"{GERMAN if i % 2 else OTHER} {i}."}, "reference-repeated", 100),
    ],
)  # fmt: skip
def test_each_trap(changes, code, count):
    found = lint_preferences(clean(**changes))
    assert code in found.codes
    finding = next(f for f in found if f.code == code)
    assert finding.count == count
    assert code in str(found)


def test_contradicting_pairs():
    ds = clean(
        prompt="Wann öffnet das Museum?",
        chosen=lambda i: [GERMAN, OTHER][i % 2],
        rejected=lambda i: [OTHER, GERMAN][i % 2],
    )
    finding = lint_preferences(ds)[0]
    assert (finding.code, finding.severity, finding.count) == ("contradicting-pairs", "error", 100)


def test_splits():
    ds = clean(prompt_id=lambda i: f"p{i}")
    leaky = DatasetDict(train=ds.select(range(80)), test=ds.select(range(70, 100)))
    finding = next(f for f in lint_preferences(leaky) if f.code == "split-leak")
    assert (finding.split, finding.count, finding.rows) == ("test", 10, (0, 1, 2, 3, 4))
    assert (
        "split-leak"
        not in lint_preferences(DatasetDict(train=ds.select(range(70)), test=ds.select(range(70, 100)))).codes
    )
    other_language = ds.select(range(5)).map(lambda r: {"prompt": "A translation of it, " + r["prompt"]})
    assert "split-leak" in lint_preferences(DatasetDict(train=ds, test=other_language)).codes


def test_conversational_and_implicit_prompts():
    def turn(role, text):
        return {"role": role, "content": text}

    explicit = clean(
        prompt=lambda i: [turn("user", f"Wann? {i}")],
        chosen=lambda i: [turn("assistant", f"{GERMAN} {i}")],
        rejected=lambda i: [turn("assistant", f"{GERMAN} {i}")],
    )
    assert lint_preferences(explicit).codes == ["identical-pair"]
    implicit = clean(
        prompt=None,
        chosen=lambda i: [turn("user", f"Wann? {i % 60}"), turn("assistant", f"{GERMAN} {i % 60}")],
        rejected=lambda i: [turn("user", f"Wann? {i % 60}"), turn("assistant", f"{OTHER} {i % 60}")],
    )
    assert "duplicate-row" in lint_preferences(implicit).codes


def test_mixed_formats():
    ds = clean(chosen=lambda i: [{"role": "assistant", "content": "x"}])
    found = lint_preferences(ds)
    assert found.codes == ["mixed-format"]
    assert not found.ok


def test_bad_input():
    with pytest.raises(DataError, match="No column rejected"):
        lint_preferences(Dataset.from_dict({"chosen": ["a"]}))
    with pytest.raises(DataError, match=r"Expected a datasets\.Dataset"):
        lint_preferences([1])


def test_empty_split():
    ds = clean(n=120)
    found = lint_preferences(DatasetDict(train=ds, test=ds.select([])))
    assert [(f.code, f.severity, f.split) for f in found] == [("empty-split", "error", "test")]


@pytest.mark.parametrize(("margin", "code"), [("0.5", "bad-margin"), (None, "tie")])
def test_margins_that_are_no_numbers(margin, code):
    assert lint_preferences(clean(margin=lambda i: margin)).codes == [code]


def test_completion_that_repeats_the_last_user_turn():
    def turns(i):
        texts = ["Guten Tag!", "Guten Tag, was kann ich tun?", f"Wann öffnet das Museum Nummer {i}?"]
        return [{"role": r, "content": t} for r, t in zip(("user", "assistant", "user"), texts, strict=True)]

    def answer(i, text, question=""):
        return [{"role": "assistant", "content": f"{question}{text} {i}."}]

    def chosen(i):
        return answer(i, GERMAN, f"Wann öffnet das Museum Nummer {i}? " if i < 4 else "")

    explicit = clean(prompt=turns, chosen=chosen, rejected=lambda i: answer(i, OTHER))
    implicit = clean(prompt=None, chosen=lambda i: turns(i) + chosen(i), rejected=lambda i: turns(i) + answer(i, OTHER))
    for ds in (explicit, implicit):
        finding = next(f for f in lint_preferences(ds) if f.code == "prompt-in-completion")
        assert finding.count == 4


def test_every_trap_has_a_severity_and_a_message():
    assert {severity for severity, _ in TRAPS.values()} == set(SEVERITIES)
    assert all(message.endswith(".") for _, message in TRAPS.values())


def test_findings_come_worst_first():
    found = lint_preferences(
        clean(rejected=lambda i: f"{GERMAN if i % 2 else OTHER} {i}." if i < 5 else f"{ENGLISH} {i}", margin=0.0)
    )
    assert found.codes == ["identical-pair", "language-shortcut", "length-bias", "tie"]
    assert [finding.severity for finding in found] == ["error", "warning", "warning", "info"]
    assert not found.ok
