"""Question-translation data (arXiv 2405.13816): rows that teach to translate questions, without their answers."""

from __future__ import annotations

import inspect
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import check_whole, shown
from hf_mlalign.data.languages import check_languages, known_code
from hf_mlalign.spontaneous.questions.choice import choose, drop_unusable, test_keys
from hf_mlalign.spontaneous.questions.leaks import Detector
from hf_mlalign.spontaneous.questions.reading import (
    AUTHORS_LINE,
    FORMS,
    PIVOT,
    Key,
    Question,
    find_columns,
    ranks,
    read_questions,
)
from hf_mlalign.spontaneous.questions.result import QuestionResult
from hf_mlalign.spontaneous.questions.templates import GENERAL, Templates, text_digest

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

DIRECTIONS = {"x-en": ("x-en",), "en-x": ("en-x",), "both": ("x-en", "en-x")}
INSTRUCTION_LANGUAGES = ("en", "source")
FORMATS = ("standard", "conversational")
COLUMNS = ("prompt", "completion", "language", "source_language", "target_language", "question_id", "task")


@runtime_checkable
class Translator(Protocol):
    """Whatever can translate questions, e.g. `hf_mlalign.spontaneous.questions.translator.QuestionTranslator`."""

    def translate(self, ids: Sequence[str], texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """The n texts in `target` (ISO 639-1); `None` where there is no usable translation."""

    def describe(self) -> Mapping[str, Any]:
        """What identifies its translations."""


class QuestionTranslationBuilder:
    """Turns parallel questions into prompt/completion rows for `trl.SFTTrainer` (loss on the completion only).

    Args:
        languages: languages beside English (ISO 639-1 codes or English names); default: all that are there.
        tasks: keep only questions of these tasks (values of the task column); a text is one task.
        direction: "x-en" (*authors' script*), "en-x" or "both".
        mix: "even" (as many questions of each language), "all", or language → weight (*ours*: "even").
        n_per_language: at most so many questions a language (10,000, *authors' script*); `None`: no bound.
        template: "general" (*authors' script*), "task" (by the task column), or the name of a template.
        templates: file or mapping of templates; see `questions_templates.Templates`.
        instruction_language: "en" (*authors' script*) or "source", the language of the text to translate; where a
            template has no wording in that language it is English.
        output_format: "standard", plain texts (*ours*: the paper's models are base models), or "conversational".
        answers: questions in which an answer has slipped in are dropped and counted ("drop", *ours*), or an "error".
        detector: says of n texts which hold an answer; default `questions_answers.marked_answers`. Answer columns,
            where there are any, are compared in any case. Known in the record by its name and the digest of its code,
            and by its `describe()` if it has one: what it reads from elsewhere is not seen.
        deduplicate: drop questions whose prompt is there already in that language (*ours*).
        strip_pattern: regular expression cut from the end of every text (the authors' literal instruction line).
        test_size: share of the questions, in [0, 1), for a test split; a question is in one split in all languages.
        seed: of the choice, the split and the order (0, *authors' script*).
        form, column_mapping: see `questions_reading.find_columns`.
        source_language, target_language: of pairs without such columns.
        translator: translates what a language lacks (English included).
    Raises:
        DataError: an option out of range.
    """

    def __init__(
        self,
        *,
        languages: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        direction: str = "x-en",
        mix: str | Mapping[str, float] = "even",
        n_per_language: int | None = 10_000,
        template: str = GENERAL,
        templates: str | Path | Mapping[str, Any] | None = None,
        instruction_language: str = "en",
        output_format: str = "standard",
        answers: str = "drop",
        detector: Detector | None = None,
        deduplicate: bool = True,
        strip_pattern: str | None = AUTHORS_LINE,
        test_size: float = 0.0,
        seed: int = 0,
        form: str = "auto",
        column_mapping: Mapping[str, str] | None = None,
        source_language: str | None = None,
        target_language: str | None = None,
        translator: Translator | None = None,
    ):
        given = {name: value for name, value in locals().items() if name != "self"}
        _check_choices(direction, instruction_language, output_format, answers, form)
        _check_numbers(n_per_language, test_size, seed)
        self.languages = None if languages is None else [c for c in check_languages(_several(languages)) if c != PIVOT]
        if self.languages is not None and not self.languages:
            raise DataError("languages: none beside English. Name the languages to translate from or to.")
        self.mix = _weights(mix)
        self.templates = Templates(templates, template)
        self.strip = _pattern(strip_pattern)
        if translator is not None and not isinstance(translator, Translator):
            raise DataError(f"translator: {type(translator).__name__} has no translate() and describe().")
        self.tasks = None if tasks is None else set(_several(tasks))
        self.directions, self.n_per_language = DIRECTIONS[direction], n_per_language
        self.seed, self.test_size = seed, test_size
        self.instruction_language, self.conversational = instruction_language, output_format == "conversational"
        self.raise_on_answer, self.detector, self.deduplicate = answers == "error", detector, deduplicate
        self.form, self.column_mapping, self.translator = form, column_mapping, translator
        self.fixed = {"source_language": source_language, "target_language": target_language}
        self.options = _plain(given, self.templates)
        self.result_: QuestionResult | None = None

    def build(self, ds: Dataset) -> Dataset | DatasetDict:
        """The rows, shuffled; with `test_size` a `DatasetDict` of train and test.

        Args:
            ds: parallel questions in long, wide or pairs form.
        Returns:
            prompt, completion (texts or messages), language (the one beside English), source_language,
            target_language, question_id, task. `result_` holds the counts.
        Raises:
            DataError: bad input, or nothing usable in it.
        """
        begun = time.perf_counter()
        fixed = [role for role, code in self.fixed.items() if code]
        columns = find_columns(ds, self.column_mapping, self.form, fixed)
        questions = read_questions(ds, columns, tuple(self.fixed.values()))
        counts, notes = Counter(), []
        questions = self._wanted(questions)
        self._strip(questions, notes)
        if self.translator is not None:
            self._translate(questions, counts)
        counts.update((q.language, "questions") for q in questions)
        self.result_ = QuestionResult(self.options, sorted({q.language for q in questions}), counts, notes)
        usable = drop_unusable(
            questions, counts, ["english" if d == "en-x" else "text" for d in self.directions],
            translated=self.translator is not None, deduplicate=self.deduplicate,
            raise_on_answer=self.raise_on_answer, detector=self.detector,
        )  # fmt: skip
        if not usable:
            raise DataError(f"No question is left: each needs its English text. {self.result_.summary()}")
        chosen = choose(usable, self.mix, self.n_per_language, self.seed, counts)
        self._note_shares(notes)
        built = self._split(chosen)
        self.result_.seconds = time.perf_counter() - begun
        return built

    def _wanted(self, questions: list[Question]) -> list[Question]:
        """Questions of the wanted tasks and languages; where a translator is given, also those it must translate."""
        if self.tasks is not None:
            there = {q.task for q in questions}
            if absent := sorted(self.tasks - there):
                raise DataError(f"tasks: no questions of {listed(absent)}. There are: {listed(sorted(there))}.")
            questions = [q for q in questions if q.task in self.tasks]
        languages = self.languages
        if languages is None:
            languages = list(dict.fromkeys(q.language for q in questions if q.language != PIVOT))
            if not languages:
                raise DataError("languages: only English questions are there. Name the languages to translate them to, "
                                "and give a translator.")  # fmt: skip
        there = {q.language for q in questions} - {PIVOT}
        absent = [code for code in languages if code not in there]
        if absent and self.translator is None:
            raise DataError(f"languages: no questions in {listed(absent)}. There are: {listed(sorted(there))}. "
                            "Leave them out or give a translator.")  # fmt: skip
        kept = [q for q in questions if q.language in languages]
        return kept if self.translator is None else kept + _to_translate(questions, kept, languages)

    def _strip(self, questions: list[Question], notes: list[str]) -> None:
        stripped = 0
        for q in questions if self.strip else ():
            for side in ("text", "english"):
                text = getattr(q, side)
                if text is not None and (found := self.strip.search(text)):
                    setattr(q, side, text[: found.start()])
                    stripped += side == "text"
        if stripped:
            notes.append(f"An instruction line was cut from the end of {stripped:,} questions.")

    def _translate(self, questions: list[Question], counts: Counter) -> None:
        for code in sorted({q.language for q in questions}):
            for have, lack, source, target in (("english", "text", PIVOT, code), ("text", "english", code, PIVOT)):
                rows = [q for q in questions if q.language == code and _blank(q, lack) and not _blank(q, have)]
                if not rows:
                    continue
                ids = ["/".join(filter(None, q.key)) for q in rows]
                found = self.translator.translate(ids, [getattr(q, have) for q in rows], source, target)
                for q, text in zip(rows, found, strict=True):
                    setattr(q, lack, text)
                counts[code, "translated"] += sum(text is not None for text in found)

    def _note_shares(self, notes: list[str]) -> None:
        kept = {code: self.result_.counts[code, "kept"] for code in self.result_.languages}
        if empty := [code for code, number in kept.items() if not number]:
            notes.append(f"No usable question in {listed(empty)}.")
        fewest = min(filter(None, kept.values()), default=0)
        if self.mix == "even" and self.n_per_language and fewest < self.n_per_language:
            notes.append(f"{fewest:,} questions a language, not {self.n_per_language:,}: no more are usable in each.")

    def _split(self, chosen: list[Question]) -> Dataset | DatasetDict:
        from datasets import DatasetDict

        held = test_keys(chosen, self.test_size, self.seed) if self.test_size else set()
        rows = [(q, direction) for q in chosen for direction in self.directions]
        order = np.argsort(ranks(["\0".join((*q.key, q.language, d)) for q, d in rows], self.seed), kind="stable")
        rows = [rows[i] for i in order]
        counts = self.result_.counts
        counts.update((q.language, "rows") for q, _ in rows)
        if not held:
            return self._table(rows)
        counts.update((q.language, "test" if q.key in held else "train") for q, _ in rows)
        parts = {name: [r for r in rows if (r[0].key in held) == (name == "test")] for name in ("train", "test")}
        return DatasetDict({name: self._table(part) for name, part in parts.items()})

    def _table(self, rows: list[tuple[Question, str]]) -> Dataset:
        from datasets import Dataset

        return Dataset.from_list([self._row(q, direction) for q, direction in rows])

    def _row(self, q: Question, direction: str) -> dict[str, Any]:
        forward = direction == "x-en"
        source, target = (q.language, PIVOT) if forward else (PIVOT, q.language)
        question, translation = (q.text, q.english) if forward else (q.english, q.text)
        template = self.templates.of(q.task)
        language = PIVOT if self.instruction_language == "en" else source
        prompt: Any = template.prompt_for(question.strip(), source, target, language)
        completion: Any = template.completion.format(translation=translation.strip())
        if self.conversational:
            prompt = [{"role": "user", "content": prompt.strip()}]
            completion = [{"role": "assistant", "content": completion}]
        return dict(zip(COLUMNS, (prompt, completion, q.language, source, target, q.id, q.task), strict=True))


def _to_translate(questions: list[Question], kept: list[Question], languages: list[str]) -> list[Question]:
    """Questions that have an English text but no row in a language."""
    english: dict[Key, Question] = {}
    for q in questions:
        if not _blank(q, "english"):
            english.setdefault(q.key, q)
    there = {(q.key, q.language) for q in kept}
    return [
        Question(q.id, q.task, code, None, q.english, q.golds)
        for code in languages
        for key, q in english.items()
        if (key, code) not in there
    ]


def _blank(q: Question, side: str) -> bool:
    text = getattr(q, side)
    return not (text and text.strip())


def _check_choices(direction: str, instruction_language: str, output_format: str, answers: str, form: str) -> None:
    choices = {
        "direction": (direction, DIRECTIONS),
        "instruction_language": (instruction_language, INSTRUCTION_LANGUAGES),
        "output_format": (output_format, FORMATS),
        "answers": (answers, ("drop", "error")),
        "form": (form, FORMS),
    }
    for name, (value, known) in choices.items():
        if not isinstance(value, str) or value not in known:
            raise DataError(f"{name}: unknown {value!r}. Known: {listed(known)}.")


def _check_numbers(n_per_language: int | None, test_size: float, seed: int) -> None:
    if n_per_language is not None and (not isinstance(n_per_language, Integral) or n_per_language < 1):
        raise DataError(f"n_per_language: {shown(n_per_language)} is not a whole number above 0. None takes all.")
    if not isinstance(test_size, Real) or not 0 <= test_size < 1:
        raise DataError(f"test_size: {shown(test_size)} is no share in [0, 1).")
    check_whole(seed, "seed")


def _weights(mix: str | Mapping[str, float]) -> str | dict[str, float]:
    if isinstance(mix, str):
        if mix not in ("even", "all"):
            raise DataError(f'mix: unknown {mix!r}. Use "even", "all" or a mapping of languages to weights.')
        return mix
    if not isinstance(mix, Mapping):
        raise DataError(f'mix: {shown(mix)}. Use "even", "all" or a mapping of languages to weights.')
    weights = {known_code(code, "mix"): weight for code, weight in mix.items()}
    bad = [code for code, weight in weights.items() if not isinstance(weight, Real) or not 0 < weight < float("inf")]
    if bad or not weights:
        raise DataError(f"mix: the weight of {listed(bad) if bad else 'no language'} is not a positive number.")
    return weights


def _pattern(text: str | None) -> re.Pattern | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise DataError(f"strip_pattern: {text!r} is no regular expression: {error}.") from error


def _several(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


def _plain(given: Mapping[str, Any], templates: Templates) -> dict[str, Any]:
    """The builder's arguments as JSON values; files by name and digest, without their folders."""
    plain = dict(given)
    if plain["translator"] is not None:
        plain["translator"] = dict(plain["translator"].describe())
    if plain["detector"] is not None:
        plain["detector"] = _identity(plain["detector"])
    if plain["templates"] is not None:
        named = not isinstance(plain["templates"], Mapping)
        plain["templates"] = {"file": Path(plain["templates"]).name} if named else {}
        plain["templates"]["digest"] = templates.digest
    return plain


def _identity(detector: Detector) -> dict[str, Any]:
    """Name of a function or of an object's class, digest of its code, and what its `describe()` says."""
    code = detector if hasattr(detector, "__code__") else type(detector)
    try:
        text = inspect.getsource(code)
    except (OSError, TypeError):
        text = _bytecode(getattr(code, "__code__", None))
    described = detector.describe() if hasattr(detector, "describe") else {}
    return {"name": code.__qualname__, "digest": text_digest(text), **described}


def _bytecode(code: Any) -> str:
    """A code object as text that is the same on every run."""
    if not hasattr(code, "co_code"):
        return repr(code) if isinstance(code, (str, bytes, int, float, type(None))) else type(code).__name__
    return "\n".join([code.co_code.hex(), *code.co_names, *map(_bytecode, code.co_consts)])
