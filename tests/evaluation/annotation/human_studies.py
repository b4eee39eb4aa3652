"""Small studies for the tests of human judgement."""

from __future__ import annotations

from contextlib import contextmanager

from hf_mlalign.evaluation.annotation.items import PairItem
from hf_mlalign.evaluation.annotation.store import JudgementStore
from hf_mlalign.evaluation.annotation.study import Study, Verdict

GOOD = ((5, 4), (2, 1))


def make_items(n: int, language: str = "de") -> list[PairItem]:
    return [
        PairItem(f"secret-id-{i}", language, (("user", f"Frage {i}?"),), f"Gut {i}.", f"Schlecht {i}.")
        for i in range(n)
    ]


@contextmanager
def open_study(folder, items, **options):
    with JudgementStore(folder, {"pairs": "p"}).open() as store:
        yield Study(items, store, **options)


def judge_all(study: Study, reader: str, languages=("de",), prefer: str = "Gut", points=GOOD) -> list[str]:
    """Judge whatever comes, always for the answer that begins with `prefer`; returns the tokens in order."""
    tokens = []
    while shown := study.next(reader, languages):
        first = shown.answers[0].startswith(prefer)
        study.save(reader, shown.token, Verdict("a" if first else "b", points if first else points[::-1]))
        tokens.append(shown.token)
    return tokens
