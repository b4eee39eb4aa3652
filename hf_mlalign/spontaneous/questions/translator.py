"""Translate questions by a seq2seq model, a causal LM or a server: resumable, checked, every failure kept with its
reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import LanguageIdentifier, language_name
from hf_mlalign.generation.requests import Answer, Backend, PromptTable, Sampling, build_requests
from hf_mlalign.generation.sampler import load_backend, run_missing
from hf_mlalign.generation.seq2seq_backend import Seq2SeqBackend
from hf_mlalign.generation.store import AnswerStore
from hf_mlalign.spontaneous.questions.reading import same_text

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("seq2seq", "causal")
PROMPT = "Translate the input from {source} to {target}. Give the translation only.\n\n{question}"
"""What a causal LM or a server is asked (*ours*)."""
MEANINGS = {
    "failed": "the model or server gave no answer",
    "empty": "blank",
    "truncated": "cut by max_tokens",
    "untranslated": "the same text as the question",
    "length_ratio": "much longer or shorter than the others in proportion to the question",
    "wrong_language": "clearly in another language",
}
ENOUGH = 5
"""This many translations give a median of length ratios worth comparing with (*ours*)."""
READABLE = 20
"""Characters a text needs for its language to be identified (*ours*)."""
Reason = tuple[str, str]
_ALIKE = ({"id", "ms"}, {"no", "da"}, {"sl", "hr", "bs"})


@dataclass(frozen=True)
class Failure:
    """A question without a usable translation; `reason` is a key of `MEANINGS`."""

    id: str
    source: str
    target: str
    question: str
    translation: str
    reason: str
    detail: str = ""


class QuestionTranslator:
    """Translates questions, for `QuestionTranslationBuilder(translator=…)` or on its own.

    Args:
        model: name or folder of a model, a pair (model, tokenizer), or a `Backend` that answers chats (a server:
            `ServerBackend(base_url, model)`).
        kind: "seq2seq" (NLLB, M2M-100, MADLAD, Marian, …) or "causal"; a `Backend` is always asked in a chat.
        output: folder in which every translation is saved as soon as it arrives, one folder per pair of languages;
            after a kill the same call asks only for what is missing. `None`: nothing is written.
        prompt: what a causal LM or server is asked, with {source}, {target} (names) and {question}.
        max_tokens: longest translation in tokens (512, *ours*).
        temperature: 0 takes the likeliest token (*ours*).
        max_length_ratio: a translation's characters over those of the question may be at most this many times the
            median of this pair of languages, or this many times less (3, *ours*); `None`: no check. Fewer than 5
            translations have no such median: they may be up to 9 (3²) times as long or as short as the question.
        min_probability: a translation identified as another language with at least this probability fails (0.9,
            *ours*); `None`: no check. Texts of fewer than 20 characters and languages the identifier does not know are
            not checked; neighbours such as Indonesian and Malay count as one.
        batch_size: questions per batch of a local model (16, *ours*).
        device: of a local model.
        language_codes: ISO 639-1 → language tag of a seq2seq tokenizer, where it is not recognised.
        prefix: put before each question for a seq2seq model; see `Seq2SeqBackend`.
        progress: show a progress bar.
    Attributes:
        failures_: every failure so far.
        counts_: (source, target, "asked", "usable" or a reason) → number.
    Raises:
        DataError: an option out of range.
    """

    def __init__(
        self,
        model: str | Path | tuple[Any, Any] | Backend,
        *,
        kind: str = "seq2seq",
        output: str | Path | None = None,
        prompt: str = PROMPT,
        max_tokens: int = 512,
        temperature: float = 0.0,
        max_length_ratio: float | None = 3.0,
        min_probability: float | None = 0.9,
        batch_size: int = 16,
        device: str | None = None,
        language_codes: Mapping[str, str] | None = None,
        prefix: str = "",
        progress: bool = True,
    ):
        if kind not in KINDS:
            raise DataError(f"kind: unknown {kind!r}. Known: seq2seq, causal.")
        if max_length_ratio is not None and not max_length_ratio > 1:
            raise DataError(f"max_length_ratio: {max_length_ratio} is not above 1. None switches the check off.")
        if min_probability is not None and not 0 < min_probability <= 1:
            raise DataError(f"min_probability: {min_probability} is not in (0, 1]. None switches the check off.")
        if "{question}" not in prompt:
            raise DataError("prompt: {question} is missing.")
        self._model, self.kind, self.prompt = model, kind, prompt
        self.output = None if output is None else Path(output)
        self.settings = Sampling(temperature, 1.0, max_tokens)
        self.max_length_ratio, self.min_probability = max_length_ratio, min_probability
        self.batch_size, self.device, self.progress = batch_size, device, progress
        self.seq2seq_options = {"language_codes": language_codes, "prefix": prefix}
        self.failures_: list[Failure] = []
        self.counts_: Counter = Counter()
        self._backend: Backend | None = None

    def describe(self) -> dict[str, Any]:
        """Model and settings that decide the translations."""
        backend = self._resolved()
        asked = {} if isinstance(backend, Seq2SeqBackend) else {"prompt": self.prompt}
        return {**backend.describe(), **vars(self.settings), **asked, "max_length_ratio": self.max_length_ratio,
                "min_probability": self.min_probability}  # fmt: skip

    def translate(self, ids: Sequence[str], texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """The n texts in `target`; `None` where there is no usable translation (see `failures_`).

        Args:
            ids: a name for each question, under which its translation is kept.
            texts: the questions.
            source, target: ISO 639-1 codes.
        Raises:
            DataError: two questions with one id, a folder with other translations, a model or server that cannot be
                used, or a language the model does not know.
        """
        if not texts:
            return []
        answers, reasons = self._ask(ids, texts, source, target)
        found = {}
        for row, answer in answers.items():
            if answer.finish_reason == "length":
                reasons[row] = "truncated", ""
            elif not answer.text.strip():
                reasons[row] = "empty", ""
            elif same_text(answer.text) == same_text(texts[row]):
                reasons[row] = "untranslated", ""
            else:
                found[row] = answer.text.strip()
        reasons |= self._doubtful(found, texts, source, target)
        self.counts_[source, target, "asked"] += len(texts)
        self.counts_[source, target, "usable"] += len(texts) - len(reasons)
        for row, (reason, detail) in sorted(reasons.items()):
            self.counts_[source, target, reason] += 1
            text = answers[row].text if row in answers else ""
            self.failures_.append(Failure(str(ids[row]), source, target, texts[row], text, reason, detail))
        return [None if row in reasons else found[row] for row in range(len(texts))]

    def counts(self) -> pd.DataFrame:
        """One row per pair of languages: asked, usable, and failures by reason."""
        import pandas as pd

        pairs = sorted({key[:2] for key in self.counts_})
        names = ["asked", "usable", *(r for r in MEANINGS if any(self.counts_[(*p, r)] for p in pairs))]
        table = {name: [self.counts_[(*pair, name)] for pair in pairs] for name in names}
        return pd.DataFrame(table, index=pd.MultiIndex.from_tuples(pairs, names=["source", "target"]))

    def failures(self) -> pd.DataFrame:
        """One row per failure: id, source, target, question, translation, reason, detail."""
        import pandas as pd

        return pd.DataFrame([vars(f) for f in self.failures_], columns=list(Failure.__dataclass_fields__))

    def _ask(self, ids, texts, source: str, target: str) -> tuple[dict[int, Answer], dict[int, Reason]]:
        """Answers and failures by row; what the store has is not asked for again."""
        backend = self._resolved()
        backend = backend.for_source(source) if isinstance(backend, Seq2SeqBackend) else backend
        names = {"source": language_name(source), "target": language_name(target)}
        if not isinstance(backend, Seq2SeqBackend):
            texts = [self.prompt.format(question=text, **names) for text in texts]
        table = PromptTable([str(name) for name in ids], [target] * len(ids), list(texts))
        rows = {name: row for row, name in enumerate(table.ids)}
        if len(rows) < len(table):
            raise DataError("ids: two questions have one id. Give every question an id of its own.")
        requests = build_requests(table, 1, 0, None, False)
        output = None if self.output is None else self.output / f"{source}-{target}"
        store = AnswerStore(output, {**backend.describe(), **vars(self.settings)})
        with store.open():
            label = f"Translating {source}→{target}"
            failed = run_missing(backend, self.settings, store, requests, label, "question", progress=self.progress)
        answers = {rows[r.prompt_id]: store.answers[r.key] for r in requests if store.has(r)}
        return answers, {rows[r.prompt_id]: ("failed", why) for r, why in failed}

    def _resolved(self) -> Backend:
        if self._backend is None:
            local = {"batch_size": self.batch_size, "device": self.device}
            if self.kind == "causal" or not isinstance(self._model, (str, Path, tuple, list)):
                self._backend = load_backend(self._model, **local)
            else:
                pair = self._model if isinstance(self._model, (tuple, list)) else (self._model,)
                self._backend = Seq2SeqBackend(*pair, **local, **self.seq2seq_options)
        return self._backend

    def _doubtful(self, found: Mapping[int, str], texts: Sequence[str], source: str, target: str) -> dict[int, Reason]:
        """Translations of an odd length or in another language."""
        out: dict[int, Reason] = {}
        if self.max_length_ratio is not None and found:
            ratios = {row: len(text) / len(texts[row].strip()) for row, text in found.items()}
            middle, bound = (median(ratios.values()), 1) if len(ratios) >= ENOUGH else (1.0, 2)
            most = self.max_length_ratio**bound
            for row, ratio in ratios.items():
                if not 1 / most <= ratio / middle <= most:
                    detail = f"{ratio:.2f} times as many characters; usual are {middle:.2f}"
                    out[row] = "length_ratio", detail
        identifier = None if self.min_probability is None else _identifier(*sorted((source, target)))
        if identifier is not None:
            rows = [row for row, text in found.items() if len(text) >= READABLE]
            for row, (code, p) in zip(rows, identifier.identify(found[row] for row in rows), strict=True):
                alike = any({code, target} <= group for group in _ALIKE)
                if code not in (None, target) and p >= self.min_probability and not alike:
                    out[row] = "wrong_language", f"{code} with probability {p:.2f}"
        return out


@lru_cache(maxsize=8)
def _identifier(one: str, other: str) -> LanguageIdentifier | None:
    try:
        return LanguageIdentifier(sorted({*LanguageIdentifier.DEFAULT, one, other}))
    except DataError:  # a language that cannot be identified
        return None
