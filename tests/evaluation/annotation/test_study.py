"""Who sees what, what is kept, and that nothing is lost."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.annotation.store import JUDGEMENTS, read_judgements
from hf_mlalign.evaluation.annotation.study import HOLD_SECONDS, Verdict, reader_name
from tests.evaluation.annotation.human_studies import GOOD, judge_all, make_items, open_study


def test_each_item_once_and_the_shared_ones_for_all(tmp_path):
    with open_study(tmp_path / "j", make_items(20), overlap=0.25, per_item=1) as study:
        ana, bo = judge_all(study, "Ana"), judge_all(study, "Bo")
    assert (len(set(ana)), len(ana)) == (20, 20)
    assert len(bo) == 5
    assert [token for token in ana if token in bo] == bo  # the shared ones come in one order


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), per_item=st.integers(1, 4), overlap=st.sampled_from([0.0, 0.3, 1.0]),
       readers=st.integers(1, 5), seed=st.integers(0, 9))  # fmt: skip
def test_every_item_gets_as_many_readers_as_asked(tmp_path_factory, n, per_item, overlap, readers, seed):
    folder = tmp_path_factory.mktemp("study") / "j"
    with open_study(folder, make_items(n), per_item=per_item, overlap=overlap, seed=seed) as study:
        for reader in range(readers):
            judge_all(study, str(reader))
    times = Counter(judgement.item for judgement in read_judgements(folder))
    shared = max(1, round(overlap * n)) if overlap else 0
    assert sorted(times.values()) == sorted([readers] * shared + [min(readers, per_item)] * (n - shared))


def test_what_one_reader_has_open_is_kept_from_others_for_a_while(tmp_path):
    now = [0.0]
    with open_study(tmp_path / "j", make_items(2), overlap=0, clock=lambda: now[0]) as study:
        a = study.next("Ana", ["de"]).token
        assert study.next("Ana", ["de"]).token == a
        b = study.next("Bo", ["de"]).token
        assert {a, b} == set(study._by_token)
        assert study.next("Cy", ["de"]) is None
        now[0] = HOLD_SECONDS + 1
        assert study.next("Cy", ["de"]) is not None


def test_sides_are_drawn_for_each_reader_and_item(tmp_path):
    items = make_items(200)
    with open_study(tmp_path / "j", items, overlap=1.0) as study:
        first = {r: [study._sides(r, item)[0] == "candidate" for item in items] for r in ("Ana", "Bo")}
    assert 70 < sum(first["Ana"]) < 130
    assert 70 < sum(a == b for a, b in zip(first["Ana"], first["Bo"])) < 130
    with open_study(tmp_path / "k", items, overlap=1.0, seed=1) as other:
        assert [other._sides("Ana", item)[0] == "candidate" for item in items] != first["Ana"]
    with open_study(tmp_path / "l", items[::-1], overlap=1.0) as again:  # the order of rows does not matter
        assert [again._sides("Ana", item)[0] == "candidate" for item in items] == first["Ana"]


def test_judgements_are_read_back_to_candidate_and_baseline(tmp_path):
    with open_study(tmp_path / "j", make_items(30), overlap=1.0) as study:
        judge_all(study, "Ana", prefer="Gut")
        judge_all(study, "Bo", prefer="Schlecht")
    for judgement in read_judgements(tmp_path / "j"):
        liked, other = ("candidate", "baseline") if judgement.annotator == "Ana" else ("baseline", "candidate")
        assert judgement.preference == liked
        assert (getattr(judgement, f"{liked}_quality"), getattr(judgement, f"{liked}_culture")) == (5, 4)
        assert (getattr(judgement, f"{other}_quality"), getattr(judgement, f"{other}_culture")) == (2, 1)
    assert {judgement.first for judgement in read_judgements(tmp_path / "j")} == {"candidate", "baseline"}


def test_only_languages_the_reader_reads(tmp_path):
    with open_study(tmp_path / "j", [*make_items(4), *make_items(3, "ar")], overlap=0.5) as study:
        assert study.languages == {"ar": 3, "de": 4}
        assert study.progress("Ana", ["ar"]) == (0, 3)
        judge_all(study, "Ana", ["ar"])
        assert study.progress("Ana", ["ar"]) == (3, 3)
        assert study.progress("Ana", ["ar", "de"]) == (3, 7)
        assert study.next("Ana", ["fr"]) is None


def test_go_back_correct_and_go_on_after_a_restart(tmp_path):
    items = make_items(5)
    with open_study(tmp_path / "j", items, overlap=1.0) as study:
        tokens = []
        for _ in range(3):
            tokens.append(study.next("Ana", ["de"]).token)
            study.save("Ana", tokens[-1], Verdict("a", GOOD))
        open_token = study.next("Ana", ["de"]).token
    with open_study(tmp_path / "j", items, overlap=1.0) as study:
        assert study.next("Ana", ["de"]).token == open_token
        back = study.previous("Ana", open_token)
        assert (back.token, back.earlier) == (tokens[2], {"preference": "a", "points": [[5, 4], [2, 1]]})
        assert study.previous("Ana", tokens[2]).token == tokens[1]
        assert study.previous("Ana", tokens[0]) is None
        study.save("Ana", tokens[1], Verdict("tie", ((3, 3), (3, 3))))
        assert study.next("Ana", ["de"]).token == open_token
        assert study.progress("Ana", ["de"]) == (3, 5)
    assert len((tmp_path / "j" / JUDGEMENTS).read_text().splitlines()) == 4
    assert Counter(judgement.preference for judgement in read_judgements(tmp_path / "j"))["tie"] == 1


def test_cannot_judge_leaves_the_item_to_others(tmp_path):
    with open_study(tmp_path / "j", make_items(1), overlap=0) as study:
        study.save("Ana", study.next("Ana", ["de"]).token, Verdict(None))
        assert study.next("Ana", ["de"]) is None
        shown = study.next("Bo", ["de"])
        study.save("Bo", shown.token, Verdict("b", GOOD))
        study.save("Bo", shown.token, Verdict(None))
        assert study.next("Cy", ["de"]) is not None
    said = [(judgement.preference, judgement.candidate_quality) for judgement in read_judgements(tmp_path / "j")]
    assert said == [(None, None), (None, None)]


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (Verdict("c", GOOD), "preference"),
        (Verdict("a"), "each answer needs points"),
        (Verdict("a", ((5, 4), (0, 1))), "from 1 to 5"),
        (Verdict("a", ((5, 4), (6, 1))), "from 1 to 5"),
        (Verdict("a", ((5, 4), (True, 1))), "needs points"),
        (Verdict("a", (("5", 4), (1, 1))), "needs points"),
    ],
)
def test_incomplete_verdicts_are_refused(tmp_path, verdict, message):
    with open_study(tmp_path / "j", make_items(1)) as study:
        token = study.next("Ana", ["de"]).token
        with pytest.raises(DataError, match=message):
            study.save("Ana", token, verdict)
        with pytest.raises(DataError, match="this item does not exist"):
            study.save("Ana", "0" * 32, Verdict("a", GOOD))
    assert (tmp_path / "j" / JUDGEMENTS).read_bytes() == b""


def test_without_points(tmp_path):
    with open_study(tmp_path / "j", make_items(1), points=False) as study:
        study.save("Ana", study.next("Ana", ["de"]).token, Verdict("both_bad"))
    assert read_judgements(tmp_path / "j")[0].preference == "both_bad"


@pytest.mark.parametrize(("options", "message"), [({"per_item": 0}, "per_item"), ({"overlap": 1.5}, "overlap")])
def test_options_out_of_range(tmp_path, options, message):
    with pytest.raises(DataError, match=message), open_study(tmp_path / "j", make_items(1), **options):
        pass


def test_names():
    assert reader_name("  Zoë\u202e \t Mü\x00ller ") == "Zoë Mü ller"
    assert reader_name("Zoe\u0308") == "Zoë"
    for name in ("", "  ", "\u200b", "x" * 65):
        with pytest.raises(DataError, match="1 to 64"):
            reader_name(name)
