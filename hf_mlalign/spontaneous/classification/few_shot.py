"""Few-shot prompts: examples drawn with a seed, balanced over the labels, never a question that is scored; the prompts
of all questions as tokens, and what does not fit into the context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.spontaneous.classification.label_tokens import LabelledPrompt, tokenise
from hf_mlalign.spontaneous.classification.rows import Questions
from hf_mlalign.spontaneous.classification.tasks import Task
from hf_mlalign.spontaneous.options import ScoringOptions


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
        n: examples per prompt; 0 for none.
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
        shared: dict[str, int] = {}  # class of each question that has one and the same in every language
        for name, row in table[languages[0]].items():
            rows = [table[code].get(name) for code in languages]
            if None not in rows and len({questions.classes[other] for other in rows}) == 1:
                shared[name] = questions.classes[row]
        ids = _draw(shared, n, n_classes, [seed], "every language at once; or use --no-same-shots (same_shots=False)")
        rows = {language: [table[language][name] for name in ids] for language in languages}
    else:
        rows = {}
        for language in languages:
            own = {name: questions.classes[row] for name, row in table[language].items()}
            ids = _draw(own, n, n_classes, [seed, *language.encode()], repr(language))
            rows[language] = [table[language][name] for name in ids]
    shown = {(language, *questions.texts[row].values()) for language, chosen in rows.items() for row in chosen}
    every = zip(questions.ids, questions.languages, questions.texts)
    alike = frozenset(name for name, language, texts in every if (language, *texts.values()) in shown)
    return Shots(questions, rows, alike)


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


@dataclass(frozen=True)
class Group:
    """Rows of a language with the same examples in their prompts."""

    language: str
    shots: int
    rows: list[int]
    items: list[LabelledPrompt]
    content_free: list[LabelledPrompt]

    def only(self, keep: Callable[[int], bool]) -> Group:
        """The group with the rows for which `keep` is true."""
        kept = [(row, item) for row, item in zip(self.rows, self.items) if keep(row)]
        return replace(self, rows=[row for row, _ in kept], items=[item for _, item in kept])


def fitting_groups(
    task: Task,
    tokenizer,
    questions: Questions,
    shots: Shots,
    rows: Mapping[str, list[int]],
    options: ScoringOptions,
    room: int,
) -> tuple[list[Group], list[str]]:
    """The prompts of `rows` (language → rows), and notes on what was cut or left out to stay within `room` tokens.

    Raises:
        DataError: a question is too long without examples and `drop_long` is off, or nothing is left.
    """
    room = min(options.max_length or room, room)
    groups, too_long = _groups(task, tokenizer, questions, shots, rows, options, room)
    if too_long and not options.drop_long:
        row = too_long[0]
        raise DataError(
            f"question {questions.ids[row]!r} in {questions.languages[row]!r}: too long for {room:,} tokens even "
            f"without examples ({len(too_long):,} such rows). --drop-long (drop_long=True) leaves them out, in every "
            "language."
        )
    notes = []
    if too_long:
        ids = {questions.ids[row] for row in too_long}
        groups = [group.only(lambda row: questions.ids[row] not in ids) for group in groups]
        groups = [group for group in groups if group.rows]
        are = "questions are" if len(ids) > 1 else "question is"
        notes = [f"{len(ids):,} {are} too long without examples in some language and left out in all"]
    if not groups:
        raise DataError("ds: no question fits into the context in every language. Raise max_length, or leave out the "
                        "languages with the longest texts.")  # fmt: skip
    cut: dict[str, int] = {}
    for group in groups:
        if group.shots < len(shots.rows[group.language]):
            cut[group.language] = cut.get(group.language, 0) + len(group.rows)
    if n := sum(cut.values()):
        each = listed([f"{language} {count:,}" for language, count in cut.items()])
        notes.append(f"{n:,} prompt{'s were' if n > 1 else ' was'} too long and lost the first examples (column "
                     f"`shots`): {each}")  # fmt: skip
    return groups, notes


def _groups(
    task, tokenizer, questions, shots, rows, options: ScoringOptions, room: int
) -> tuple[list[Group], list[int]]:
    """All prompts as tokens, grouped by language and by how many examples fit; last, the rows too long even alone."""
    groups, too_long = [], []
    for language, members in sorted(rows.items()):
        labels = task.label_texts(language, options.labels_in)
        _, end = task.parts(language)
        solved = [(shots.source.texts[row], labels[shots.source.classes[row]]) for row in shots.rows[language]]
        left = members
        for dropped in range(len(solved) + 1):
            kept = solved[dropped:]
            prompts = [task.prompt(language, kept, questions.texts[row]) for row in left]
            items = tokenise(tokenizer, prompts, labels, end)
            fits = [item.longest <= room for item in items]
            empty = [task.prompt(language, kept, dict.fromkeys(task.fields, text)) for text in options.content_free]
            free = tokenise(tokenizer, empty, labels, end) if options.calibrate else []
            if any(fits):
                for i, item in enumerate(free):
                    if item.longest > room:
                        raise DataError(
                            f"content_free, entry {i} ({options.content_free[i][:20]!r}): too long in {language!r} "
                            f"with {len(kept)} examples ({item.longest:,} of {room:,} tokens). Give a shorter text."
                        )
                groups.append(Group(language, len(kept), [r for r, ok in zip(left, fits) if ok],
                                     [item for item, ok in zip(items, fits) if ok], free))  # fmt: skip
            left = [row for row, ok in zip(left, fits) if not ok]
            if not left:
                break
        too_long += left
    return groups, too_long
