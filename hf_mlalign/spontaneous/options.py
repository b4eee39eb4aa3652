"""Options of the jobs of this room: training rows from parallel questions, few-shot classification, lenses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.options import Options, SourceOptions, option
from hf_mlalign.core.validation import shown
from hf_mlalign.data.languages import known_code

AUTHORS_LINE = r"\n?[ \t]*Translate the input from [^\n:]+ to [^\n:]+:\s*\Z"
"""The instruction that the authors' data carries at the end of each question."""
Detector = Callable[[Sequence[str]], Sequence[bool]]
"""Says for n texts which hold an answer."""


@runtime_checkable
class Translator(Protocol):
    """Whatever can translate questions, e.g. `hf_mlalign.spontaneous.QuestionTranslator`."""

    def translate(self, ids: Sequence[str], texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """The n texts in `target` (ISO 639-1); `None` for one without a usable translation."""

    def describe(self) -> Mapping[str, Any]:
        """What identifies its translations."""


@dataclass(kw_only=True)
class BuilderOptions(Options):
    """Options of `QuestionTranslationBuilder`."""

    job = "questions"

    languages: list[str] | None = option(
        None, "Languages beside English, e.g. de,zh (default: all).", panel="Selection"
    )
    tasks: list[str] | None = option(None, "Keep only these tasks, e.g. snli.", panel="Selection")
    direction: str = option(
        "x-en", "x-en (authors), en-x or both.", origin="authors' script", panel="Selection",
        choices=("x-en", "en-x", "both"),
    )  # fmt: skip
    mix: str | dict[str, float] = option(
        "even", "even (the same number per language), all, or weights such as de=2,zh=1.", panel="Selection"
    )
    n_per_language: int | None = option(
        10_000, "At most this many questions per language (authors: 10000; 0: all).", origin="authors' script",
        panel="Selection", low=0,
    )  # fmt: skip
    answers: str = option(
        "drop", "Questions that hold an answer: drop them, or stop with an error.", panel="Selection",
        choices=("drop", "error"),
    )  # fmt: skip
    deduplicate: bool = option(True, "Drop questions that occur twice in a language.", panel="Selection")
    seed: int = option(
        0, "Seed of the choice, the split and the order.", origin="authors' script", panel="Selection", low=0
    )
    template: str = option(
        "general", "general (authors), task, or the name of a template.", origin="authors' script", panel="Rows"
    )
    templates: str | Path | dict[str, Any] | None = option(
        None, "YAML or JSON file of your own templates.", panel="Rows", shown="bundled"
    )
    instruction_language: str = option(
        "en", "en (authors), or source: the text's language.", origin="authors' script", panel="Rows",
        choices=("en", "source"),
    )  # fmt: skip
    output_format: str = option(
        "standard", "standard (texts) or conversational (messages).", panel="Rows",
        choices=("standard", "conversational"),
    )  # fmt: skip
    test_size: float = option(0.0, "Share of the questions for a test split, in [0, 1).", panel="Rows", low=0)
    form: str = option(
        "auto", "Form of the source; give it if it could be read in two ways.", panel="Data",
        choices=("auto", "long", "wide", "pairs"),
    )  # fmt: skip
    source_language: str | None = option(None, "Language of the column source, in the form pairs.", panel="Data")
    target_language: str | None = option(None, "Language of the column target, in the form pairs.", panel="Data")
    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. frage=de,question=en or text=question.", panel="Data"
    )
    translator: str | Translator | None = option(
        None, "Model that translates what is missing; with --base-url, the name the server knows it by.",
        panel="Model",
    )  # fmt: skip
    strip_pattern: str | None = option(
        AUTHORS_LINE, "Regular expression that is cut from the end of every text.", origin="authors' script",
        panel="Rows", shown="the authors' instruction line", on_command_line=False,
    )  # fmt: skip
    detector: Detector | None = option(
        None, "Function that says which of n texts hold an answer.", panel="Selection",
        shown="marked answers", on_command_line=False,
    )  # fmt: skip

    def check(self) -> None:
        if isinstance(self.mix, str) and "=" in self.mix:
            try:
                self.mix = {
                    code.strip(): float(weight) for code, weight in (part.split("=") for part in self.mix.split(","))
                }
            except ValueError as error:
                raise DataError(f"mix (--mix): {self.mix!r} is not of the form de=2,zh=1.") from error
        if isinstance(self.mix, Mapping):
            self.mix = {known_code(code, "mix"): weight for code, weight in self.mix.items()}
            positive = (isinstance(w, Real) and 0 < w < float("inf") for w in self.mix.values())
            bad = [code for code, good in zip(self.mix, positive, strict=True) if not good]
            if bad or not self.mix:
                which = listed(bad) if bad else "no language"
                raise DataError(f"mix: the weight of {which} is not a positive number.")
        elif self.mix not in ("even", "all"):
            raise DataError(f'mix: unknown {shown(self.mix)}. Use "even", "all" or weights such as de=2,zh=1.')
        if self.n_per_language == 0:
            self.n_per_language = None
        if not self.test_size < 1:
            raise DataError(f"test_size: {self.test_size} is out of range. Use a share in [0, 1).")


@dataclass(kw_only=True)
class QuestionsOptions(BuilderOptions, SourceOptions):
    """Options of `build_questions`."""

    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. frage=de,question=en or text=question.", panel="Data"
    )
    translator_kind: str = option(
        "seq2seq", "seq2seq (NLLB, M2M-100, Marian) or causal.", panel="Model", in_record=False,
        choices=("seq2seq", "causal"),
    )  # fmt: skip
    base_url: str | None = option(
        None, "OpenAI-compatible server that translates, up to /v1.", panel="Model", in_record=False
    )
    max_tokens: int = option(512, "Longest translation in tokens.", panel="Model", low=1, in_record=False)
    batch_size: int = option(16, "Questions per batch of a local translator.", panel="Model", low=1, in_record=False)
    device: str | None = option(None, "Device of a local translator.", panel="Model", in_record=False)
    overwrite: bool = option(False, "Replace the rows in the folder.", panel="Output", in_record=False)


@dataclass(kw_only=True)
class ScoringOptions(Options):
    """Options of `evaluate_classification`."""

    job = "classify"

    languages: list[str] | None = option(None, "Score only these, e.g. en,de,sw.", panel="Data")
    seen: list[str] | None = option(
        None, "Languages that were trained on, e.g. de,sw; the others count as unseen.", panel="Data", in_record=False
    )
    limit: int | None = option(
        None, "Score only this many questions, of those that exist in every language.", panel="Data", low=1,
        in_record=False,
    )  # fmt: skip
    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. review=input,label=answer.", panel="Data", in_record=False
    )
    n_shots: int | None = option(
        None, "Examples per prompt (default: the task's; 2, 6 and 4 for emotion, snli and paws).",
        origin="authors' script", panel="Prompt", low=0, shown="the task's",
    )  # fmt: skip
    same_shots: bool = option(True, "The same examples in every language.", origin="authors' script", panel="Prompt")
    seed: int = option(0, "Seed of the few-shot draw.", origin="authors' script", panel="Prompt", low=0)
    max_length: int | None = option(
        None, "Longest prompt and label in tokens (default: the context); longer ones lose examples.",
        panel="Prompt", low=1, shown="the context",
    )  # fmt: skip
    drop_long: bool = option(
        False, "Leave out questions that are too long even without examples.", panel="Prompt", in_record=False
    )
    labels_in: str = option(
        "question", "Labels in the question's language, or in english as in the authors' main scripts.",
        panel="Scoring", choices=("question", "english"),
    )  # fmt: skip
    normalise: bool = option(False, "Divide a label's log-probability by its number of tokens.", panel="Scoring")
    calibrate: bool = option(False, "Subtract the label's score in a content-free prompt.", panel="Scoring")
    content_free: list[str] = option(
        ["N/A"], "Content-free texts; their scores are averaged as probabilities.", panel="Scoring",
        on_command_line=False,
    )  # fmt: skip
    batch_tokens: int = option(512, "Tokens per batch.", panel="Model", low=1, in_record=False)
    method: str = option(
        "auto", "auto, trie (reads shared prefixes once) or full (one pass per label); the results are the same.",
        panel="Model", choices=("auto", "trie", "full"), in_record=False, on_command_line=False,
    )  # fmt: skip
    overwrite: bool = option(False, "Start over where the folder holds another run.", panel="Output", in_record=False)

    def check(self) -> None:
        if self.calibrate and not self.content_free:
            raise DataError("content_free: none given. Give at least one text, e.g. 'N/A'.")
        for i, text in enumerate(self.content_free):
            if text and not text.strip():
                raise DataError(f"content_free, entry {i}: {text!r} is not a text. Give texts such as 'N/A', or ''.")


@dataclass(kw_only=True)
class ClassifyOptions(ScoringOptions, SourceOptions):
    """Options of `classify`."""

    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. review=input,label=answer.", panel="Data", in_record=False
    )
    model: str | Path | None = option(
        None, "Causal LM: a folder or Hub name.", panel="Model", shown="required", in_record=False
    )
    adapter: str | Path | None = option(None, "LoRA adapter to put on the model.", panel="Model", in_record=False)
    dtype: str = option(
        "auto", "Type of the weights: auto, float32, bfloat16 or float16.", panel="Model", in_record=False
    )
    device: str | None = option(None, "cpu, cuda, or auto to shard the model.", panel="Model", in_record=False)
    task: str | Path | None = option(
        None, "emotion, snli, paws, or a YAML file.", panel="Prompt", shown="required", in_record=False
    )
    baseline: str | Path | None = option(
        None, "Folder of an earlier run to compare with.", panel="Scoring", in_record=False
    )


@dataclass(kw_only=True)
class LensOptions(SourceOptions):
    """Options of `run_lens`. On the command line the model is the argument, and the source is `--data`."""

    job = "lens"

    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. question=prompt,label=answer.", panel="Data"
    )
    languages: list[str] | None = option(None, "Keep only these, e.g. de,ja,sw.", panel="Data")
    limit: int | None = option(None, "Use only this many ids, in the order of the source.", panel="Data", low=1)
    english: str = option("en", "Language to compare with.", origin="authors' script", panel="Lens")
    span: str = option(
        "first", "first (first tokens of the answer) or word (the whole answer).",
        origin="authors' script", panel="Lens", choices=("first", "word"),
    )  # fmt: skip
    pooling: str = option(
        "mean", "Hidden states: mean over the tokens, or last token.", panel="Lens", choices=("mean", "last")
    )
    max_length: int | None = option(
        None, "Hidden states: cut prompts to this many tokens (default: longer ones are an error).", panel="Lens", low=1
    )
    model: str | Path | None = option(
        None, "Causal LM: a local folder or a Hub model (user/name).", panel="Model", shown="required"
    )
    adapter: str | Path | None = option(None, "PEFT adapter whose effect is shown.", panel="Model")
    dtype: str = option("auto", "Type of the weights, e.g. bfloat16; auto: as saved.", panel="Model")
    device: str | None = option(
        None, "Device, e.g. cpu or cuda; default: the best one available.", panel="Model", in_record=False
    )
    batch_size: int = option(8, "Prompts per batch.", panel="Model", low=1, in_record=False)
    overwrite: bool = option(False, "Start over where the folder holds another run.", panel="Output", in_record=False)
