"""Question-translation data (arXiv 2405.13816): rows that teach a model to translate questions, without answers."""

from __future__ import annotations

import inspect
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.options import takes
from hf_mlalign.data.languages import check_languages
from hf_mlalign.spontaneous.options import BuilderOptions, Translator
from hf_mlalign.spontaneous.questions.choice import choose_questions, drop_unusable, test_keys
from hf_mlalign.spontaneous.questions.reading import (
    PIVOT,
    SIDES,
    Key,
    ParallelQuestion,
    find_columns,
    ranks,
    read_parallel_questions,
)
from hf_mlalign.spontaneous.questions.templates import Templates, text_digest

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, DatasetDict

DIRECTIONS = {"x-en": ("x-en",), "en-x": ("en-x",), "both": ("x-en", "en-x")}
COLUMNS = ("prompt", "completion", "language", "source_language", "target_language", "question_id", "task")
MEANINGS = {
    "no_text": "missing or blank in this language",
    "no_english": "missing or blank in English",
    "not_translated": "the translator gave no usable text",
    "untranslated": "the same text in both languages",
    "answer": "it holds an answer",
    "duplicate": "the question occurs twice in this language",
    "not_chosen": "usable, but more than this language's share",
}
"""Reason → why a question gives no row."""
_COUNTS = ("questions", "translated", *MEANINGS, "kept", "rows", "train", "test")


@dataclass
class QuestionResult:
    """Counts of one build of question-translation rows.

    Attributes:
        parameters: the builder's options, as they stand in run.json.
        languages: ISO 639-1 codes of the languages beside English, sorted.
        counts: (language, column of `per_language`) → number.
        notes: everything that differs from what was asked for.
        seconds: wall-clock time of the build.
    """

    parameters: dict[str, Any]
    languages: list[str]
    counts: Counter = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    seconds: float = float("nan")

    def per_language(self) -> pd.DataFrame:
        """One row per language and a last row "all": language, questions found, translated by the translator, dropped
        for each reason that dropped anything, kept, and rows (two per question with direction "both")."""
        import pandas as pd

        counts = {name: [self.counts[code, name] for code in self.languages] for name in _COUNTS}
        always = {"questions", "kept", "rows"}
        table = {name: [*values, sum(values)] for name, values in counts.items() if name in always or any(values)}
        return pd.DataFrame({"language": [*self.languages, "all"], **table})

    def drops(self) -> dict[str, int]:
        """Reason → questions dropped over all languages; reasons that dropped nothing are left out."""
        totals = {reason: sum(self.counts[code, reason] for code in self.languages) for reason in MEANINGS}
        return {reason: number for reason, number in totals.items() if number}

    def summary(self) -> str:
        """One sentence on what was built and what was left out."""
        total = self.per_language().iloc[-1]
        dropped = [f"{number:,} {reason} ({MEANINGS[reason]})" for reason, number in self.drops().items()]
        return (
            f"{total['rows']:,} rows from {total['kept']:,} of {total['questions']:,} questions in "
            f"{len(self.languages)} languages. Left out: {'; '.join(dropped) if dropped else 'nothing'}."
            + "".join(f" {note}" for note in self.notes)
        )


class QuestionTranslationBuilder:
    """Turns parallel questions into prompt/completion rows for `trl.SFTTrainer` (loss on the completion only).

    Its options are those of `BuilderOptions`, as keywords or as `options=`. Beside what the command line can give:

    - languages and tasks: ISO 639-1 codes or English names; a text is one entry.
    - mix: "even" (as many questions of each language, *ours*), "all", or language → weight.
    - templates: a file or a mapping; see `hf_mlalign.spontaneous.questions.templates.Templates`.
    - detector: recorded by its name, the digest of its code, and its `describe()` if it has one; what it reads from
      elsewhere is not recorded. Answer columns, if there are any, are compared in any case.
    - translator: an object with `translate` and `describe`, which translates what a language lacks (English included).
    - test_size: a question is in one split in all languages.

    Raises:
        DataError: an option is unknown or out of range.
    """

    @takes(BuilderOptions)
    def __init__(self, *, options: BuilderOptions):
        self.options, self.translator = options, options.translator
        self.languages = None
        if options.languages is not None:
            self.languages = [code for code in check_languages(options.languages) if code != PIVOT]
            if not self.languages:
                raise DataError("languages: only English is named. Also name the languages to translate from or to.")
        self.templates = Templates(options.templates, options.template)
        try:
            self.strip = re.compile(options.strip_pattern) if options.strip_pattern else None
        except re.error as error:
            message = f"strip_pattern: {options.strip_pattern!r} is not a regular expression: {error}."
            raise DataError(message) from error
        if self.translator is not None and not isinstance(self.translator, Translator):
            raise DataError(f"translator: {type(self.translator).__name__} has no translate() and describe().")
        self.directions = DIRECTIONS[options.direction]
        self.result_: QuestionResult | None = None

    def parameters(self) -> dict[str, Any]:
        """The options as JSON values, for run.json; files by name and digest, without their folders."""
        given = self.options.parameters()
        if self.translator is not None:
            given["translator"] = dict(self.translator.describe())
        if self.options.detector is not None:
            detector = self.options.detector
            code = detector if hasattr(detector, "__code__") else type(detector)
            try:
                text = inspect.getsource(code)
            except (OSError, TypeError):
                text = _bytecode(getattr(code, "__code__", None))
            described = detector.describe() if hasattr(detector, "describe") else {}
            given["detector"] = {"name": code.__qualname__, "digest": text_digest(text), **described}
        if (templates := self.options.templates) is not None:
            name = {} if isinstance(templates, Mapping) else {"file": Path(templates).name}
            given["templates"] = {**name, "digest": self.templates.digest}
        return given

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
        begun, options = time.perf_counter(), self.options
        fixed = options.source_language, options.target_language
        given = [role for role, code in zip(SIDES, fixed, strict=True) if code]
        questions = read_parallel_questions(ds, find_columns(ds, options.column_mapping, options.form, given), fixed)
        counts, notes = Counter(), []
        questions = self._wanted(questions)
        stripped = 0
        for q in questions if self.strip else ():
            for side in ("text", "english"):
                text = getattr(q, side)
                if text is not None and (found := self.strip.search(text)):
                    setattr(q, side, text[: found.start()])
                    stripped += side == "text"
        if stripped:
            notes.append(f"An instruction line was cut from the end of {stripped:,} question{'s' * (stripped > 1)}.")
        if self.translator is not None:
            self._translate(questions, counts)
        counts.update((q.language, "questions") for q in questions)
        self.result_ = QuestionResult(self.parameters(), sorted({q.language for q in questions}), counts, notes)
        usable = drop_unusable(
            questions, counts, ["english" if d == "en-x" else "text" for d in self.directions],
            translated=self.translator is not None, deduplicate=options.deduplicate,
            raise_on_answer=options.answers == "error", detector=options.detector,
        )  # fmt: skip
        if not usable:
            raise DataError(f"No question is left: each needs its English text. {self.result_.summary()}")
        chosen = choose_questions(usable, options.mix, options.n_per_language, options.seed, counts)
        kept = {code: counts[code, "kept"] for code in self.result_.languages}
        if empty := [code for code, number in kept.items() if not number]:
            notes.append(f"No usable question in {listed(empty)}.")
        fewest, most = min(filter(None, kept.values()), default=0), options.n_per_language
        if options.mix == "even" and most and fewest < most:
            notes.append(f"{fewest:,} questions per language instead of {most:,}: no more are usable in each.")
        built = self._split(chosen)
        self.result_.seconds = time.perf_counter() - begun
        return built

    def _wanted(self, questions: list[ParallelQuestion]) -> list[ParallelQuestion]:
        """Questions of the wanted tasks and languages; where a translator is given, also those it must translate."""
        if self.options.tasks is not None:
            tasks, there = set(self.options.tasks), {q.task for q in questions}
            if absent := sorted(tasks - there):
                raise DataError(f"tasks: no questions of {listed(absent)}. There are: {listed(sorted(there))}.")
            questions = [q for q in questions if q.task in tasks]
        languages = self.languages
        if languages is None:
            languages = list(dict.fromkeys(q.language for q in questions if q.language != PIVOT))
            if not languages:
                raise DataError("languages: all questions are English. Name the languages to translate them to, "
                                "and give a translator (--translator).")  # fmt: skip
        there = {q.language for q in questions} - {PIVOT}
        absent = [code for code in languages if code not in there]
        if absent and self.translator is None:
            raise DataError(f"languages: no questions in {listed(absent)}. There are: {listed(sorted(there))}. "
                            "Leave them out or give a translator (--translator).")  # fmt: skip
        kept = [q for q in questions if q.language in languages]
        if self.translator is None:
            return kept
        english: dict[Key, ParallelQuestion] = {}
        for q in questions:
            if not _blank(q, "english"):
                english.setdefault(q.key, q)
        there = {(q.key, q.language) for q in kept}
        return kept + [ParallelQuestion(q.id, q.task, code, None, q.english, q.golds)
                       for code in languages for key, q in english.items() if (key, code) not in there]  # fmt: skip

    def _translate(self, questions: list[ParallelQuestion], counts: Counter) -> None:
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

    def _split(self, chosen: list[ParallelQuestion]) -> Dataset | DatasetDict:
        from datasets import Dataset, DatasetDict

        options = self.options
        held = test_keys(chosen, options.test_size, options.seed) if options.test_size else set()
        rows = [(q, direction) for q in chosen for direction in self.directions]
        order = np.argsort(ranks(["\0".join((*q.key, q.language, d)) for q, d in rows], options.seed), kind="stable")
        rows = [rows[i] for i in order]
        counts = self.result_.counts
        counts.update((q.language, "rows") for q, _ in rows)
        if not held:
            return Dataset.from_list([self._row(*row) for row in rows])
        counts.update((q.language, "test" if q.key in held else "train") for q, _ in rows)
        parts = {name: [r for r in rows if (r[0].key in held) == (name == "test")] for name in ("train", "test")}
        return DatasetDict({name: Dataset.from_list([self._row(*r) for r in part]) for name, part in parts.items()})

    def _row(self, q: ParallelQuestion, direction: str) -> dict[str, Any]:
        forward = direction == "x-en"
        source, target = (q.language, PIVOT) if forward else (PIVOT, q.language)
        question, translation = (q.text, q.english) if forward else (q.english, q.text)
        template = self.templates.of(q.task)
        language = PIVOT if self.options.instruction_language == "en" else source
        prompt: Any = template.prompt_for(question.strip(), source, target, language)
        completion: Any = template.completion.format(translation=translation.strip())
        if self.options.output_format == "conversational":
            prompt = [{"role": "user", "content": prompt.strip()}]
            completion = [{"role": "assistant", "content": completion}]
        return dict(zip(COLUMNS, (prompt, completion, q.language, source, target, q.id, q.task), strict=True))


def _blank(q: ParallelQuestion, side: str) -> bool:
    text = getattr(q, side)
    return not (text and text.strip())


def _bytecode(code: Any) -> str:
    """A code object as text that is the same on every run."""
    if not hasattr(code, "co_code"):
        return repr(code) if isinstance(code, (str, bytes, int, float, type(None))) else type(code).__name__
    return "\n".join([code.co_code.hex(), *code.co_names, *map(_bytecode, code.co_consts)])
