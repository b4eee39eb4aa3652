"""Few-shot examples: drawn with a seed, balanced over the labels, never a question that is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.classification.rows import Questions


@dataclass(frozen=True)
class Shots:
    """The examples of each language.

    Attributes:
        source: the questions they are taken from.
        rows: language → rows of `source`, in the order they are shown.
        held_out: ids of `source` that must not be scored in any language: the examples, and questions whose texts equal
            an example's.
    """

    source: Questions
    rows: dict[str, list[int]]
    held_out: frozenset[str]

    def ids(self) -> dict[str, list[str]]:
        """Language → ids of its examples."""
        return {language: [self.source.ids[row] for row in rows] for language, rows in self.rows.items()}

    def texts(self, language: str) -> set[tuple[str, ...]]:
        """The examples' texts."""
        return {tuple(self.source.texts[row].values()) for row in self.rows[language]}


def draw_shots(
    questions: Questions, languages: Sequence[str], n: int, n_classes: int, seed: int = 0, same: bool = True
) -> Shots:
    """Draw `n` examples for each language.

    Every label gets n // n_classes of them, and the rest go to different labels by chance; the order is shuffled.

    Args:
        n: examples a prompt; 0 for none.
        seed: of the draw; the draw does not depend on the order of the rows.
        same: the same questions in every language (*authors' script*), or each language its own.
    Raises:
        DataError: n or the seed is negative, or a label has too few questions (in every language, with `same`).
    """
    if n < 0 or seed < 0:
        raise DataError(f"{'n_shots' if n < 0 else 'seed'}: {min(n, seed)} is negative.")
    table = questions.by_language
    missing = [language for language in languages if language not in table]
    if n and missing:
        raise DataError(f"shots_from: no rows in {missing[0]!r}. Add them, or leave the language out.")
    if not n:
        return Shots(questions, {language: [] for language in languages}, frozenset())
    if same:
        shared = _shared_classes(questions, languages)
        ids = _draw(shared, n, n_classes, [seed], "every language at once; or set same_shots=False")
        rows = {language: [table[language][name] for name in ids] for language in languages}
    else:
        rows = {}
        for language in languages:
            own = {name: questions.classes[row] for name, row in table[language].items()}
            ids = _draw(own, n, n_classes, [seed, *language.encode()], repr(language))
            rows[language] = [table[language][name] for name in ids]
    return Shots(questions, rows, _held_out(questions, rows))


def _shared_classes(questions: Questions, languages: Sequence[str]) -> dict[str, int]:
    """Class of each question that is there in every language with one and the same class."""
    table = questions.by_language
    found: dict[str, int] = {}
    for name, row in table[languages[0]].items():
        rows = [table[language].get(name) for language in languages]
        if None not in rows and len({questions.classes[r] for r in rows}) == 1:
            found[name] = questions.classes[row]
    return found


def _draw(classes: dict[str, int], n: int, n_classes: int, seed: list[int], where: str) -> list[str]:
    rng = np.random.default_rng(seed)
    extra = set(rng.permutation(n_classes)[: n % n_classes].tolist())
    drawn: list[str] = []
    for number in range(n_classes):
        pool = sorted(name for name, c in classes.items() if c == number)
        wanted = n // n_classes + (number in extra)
        if len(pool) < wanted:
            raise DataError(
                f"n_shots: label {number} has {len(pool)} questions to draw {wanted} examples from in {where}. "
                "Ask for fewer examples, or give shots_from."
            )
        drawn += [pool[i] for i in rng.choice(len(pool), wanted, replace=False)]
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _held_out(questions: Questions, rows: dict[str, list[int]]) -> frozenset[str]:
    shown = {(language, *questions.texts[row].values()) for language, chosen in rows.items() for row in chosen}
    alike = {
        name
        for name, language, texts in zip(questions.ids, questions.languages, questions.texts)
        if (language, *texts.values()) in shown
    }
    return frozenset(alike)
