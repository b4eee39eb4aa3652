"""Few-shot prompts of all questions as tokens, and what does not fit into the context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.spontaneous.classification.few_shot import Shots
from hf_mlalign.spontaneous.classification.label_tokens import tokenise
from hf_mlalign.spontaneous.classification.rows import Questions
from hf_mlalign.spontaneous.classification.tasks import LABEL_LANGUAGES, Task
from hf_mlalign.spontaneous.classification.trie import Item

CONTENT_FREE = ("N/A",)


@dataclass(frozen=True)
class PromptOptions:
    """What the score of a label depends on, the model and the data aside; see `evaluate_classification`."""

    labels_in: str = "question"
    normalise: bool = False
    calibrate: bool = False
    content_free: tuple[str, ...] = CONTENT_FREE
    max_length: int | None = None
    drop_long: bool = False

    def __post_init__(self):
        if self.labels_in not in LABEL_LANGUAGES:
            raise DataError(f"labels_in: {self.labels_in!r} is not one of {listed(LABEL_LANGUAGES)}.")
        if self.calibrate and not self.content_free:
            raise DataError("content_free: none given. Give at least one text, e.g. 'N/A'.")
        for i, text in enumerate(self.content_free):
            if not isinstance(text, str) or (text and not text.strip()):
                raise DataError(f"content_free, entry {i}: {text!r} is no text. Give texts such as 'N/A', or ''.")
        if self.max_length is not None and self.max_length < 1:
            raise DataError(f"max_length: {self.max_length} is not positive.")


@dataclass(frozen=True)
class Group:
    """Rows of a language with the same examples in their prompts."""

    language: str
    shots: int
    rows: list[int]
    items: list[Item]
    content_free: list[Item]

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
    options: PromptOptions,
    room: int,
) -> tuple[list[Group], list[str]]:
    """The prompts of `rows` (language → rows), and notes on what was cut or left out to stay within `room` tokens.

    Raises:
        DataError: a question is too long without examples and `drop_long` is off, or nothing is left.
    """
    groups, too_long = _groups(task, tokenizer, questions, shots, rows, options, min(options.max_length or room, room))
    notes = []
    if too_long:
        ids = {questions.ids[row] for row in too_long}
        groups = [group.only(lambda row: questions.ids[row] not in ids) for group in groups]
        groups = [group for group in groups if group.rows]
        notes = [f"{len(ids):,} questions are too long without examples in some language and left out in all"]
    if not groups:
        raise DataError("ds: no question fits into the context in every language. Raise max_length, or leave out the "
                        "languages with the longest texts.")  # fmt: skip
    return groups, [*notes, *_cut(groups, shots)]


def _groups(
    task, tokenizer, questions, shots, rows, options: PromptOptions, room: int
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
                _check_content_free(free, options.content_free, language, len(kept), room)
                groups.append(Group(language, len(kept), [r for r, ok in zip(left, fits) if ok],
                                     [item for item, ok in zip(items, fits) if ok], free))  # fmt: skip
            left = [row for row, ok in zip(left, fits) if not ok]
            if not left:
                break
        too_long += left
    if too_long and not options.drop_long:
        row = too_long[0]
        raise DataError(
            f"question {questions.ids[row]!r} in {questions.languages[row]!r}: too long for {room:,} tokens even "
            f"without examples ({len(too_long):,} such rows). drop_long=True leaves them out, in every language."
        )
    return groups, too_long


def _check_content_free(items: Sequence[Item], texts: Sequence[str], language: str, shots: int, room: int) -> None:
    for i, item in enumerate(items):
        if item.longest > room:
            raise DataError(f"content_free, entry {i} ({texts[i][:20]!r}): too long in {language!r} with {shots} "
                            f"examples ({item.longest:,} of {room:,} tokens). Give a shorter text.")  # fmt: skip


def _cut(groups: Sequence[Group], shots: Shots) -> list[str]:
    cut: dict[str, int] = {}
    for group in groups:
        if group.shots < len(shots.rows[group.language]):
            cut[group.language] = cut.get(group.language, 0) + len(group.rows)
    each = listed([f"{language} {n:,}" for language, n in cut.items()])
    n = sum(cut.values())
    return [f"{n:,} prompts were too long and lost their first examples (column `shots`): {each}"] if cut else []
