"""Texts of the small-scale experiment: what the tiny model is pretrained, tuned and scored on, kept apart by id."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hf_mlalign.data.languages import SPONTANEOUS_LANGUAGES

TATOEBA = {
    "ben": "bn", "bul": "bg", "cmn": "zh", "deu": "de", "fra": "fr", "isl": "is", "ita": "it", "jpn": "ja", "nld": "nl",
    "nob": "no", "pol": "pl", "rus": "ru", "slv": "sl", "spa": "es", "swe": "sv", "tha": "th", "zsm": "ms",
}  # fmt: skip
PRETRAINING_QUESTIONS = 5000
"""SNLI questions with a smaller id are pretraining text; the others are kept for question translation."""
TRAINING_PREMISES = 100
"""The first so many SNLI premises are pretraining text and English training rows; the others are scored."""
TRAINING_REVIEWS = 250
"""Reviews with a smaller id are pretraining text and English training rows; the others are scored."""
LONGEST_REVIEW = 350
LONGEST_TEXT = 1500
BILINGUAL_SHARE = 0.2
LANGUAGE_POWER = 0.5

Pair = tuple[str, str]


@dataclass
class Corpus:
    """Pretraining texts by language, and pairs (text, English text) by the first one's language."""

    texts: dict[str, list[str]]
    pairs: dict[str, list[Pair]]


def read_corpus(folder: Path) -> Corpus:
    """Every text that the tiny model may see; nothing of `scored_snli` and `scored_reviews`."""
    texts: dict[str, list[str]] = {language: [] for language in SPONTANEOUS_LANGUAGES}
    pairs: dict[str, list[Pair]] = {language: [] for language in SPONTANEOUS_LANGUAGES}

    def add(language: str, text: str | None) -> None:
        if language in texts and text and text.strip():
            texts[language].append(text.strip()[:LONGEST_TEXT])

    for language, text, english in _pairs(folder):
        add(language, text)
        if language in pairs and language != "en":
            pairs[language].append((text.strip()[:400], english.strip()[:400]))
    for language, text in _texts(folder):
        add(language, text)
    return Corpus(
        {language: sorted(set(found)) for language, found in texts.items()},
        {language: sorted(set(found)) for language, found in pairs.items() if found},
    )


def _pairs(folder: Path) -> Iterable[tuple[str, str, str]]:
    for row in pd.read_parquet(folder / "tatoeba.parquet").itertuples():
        if row.language in TATOEBA:
            yield TATOEBA[row.language], row.source, row.english
    questions = pd.read_parquet(folder / "question_translation.parquet")
    for row in questions[questions.task == "gsm8k"].itertuples():
        yield row.source_language, row.source, row.target
    revisions = pd.read_parquet(folder / "expert_revisions.parquet")
    yield from _with_english(revisions, "raw_instruction")
    prompts = pd.read_parquet(folder / "prompts.parquet")
    yield from _with_english(prompts[prompts.source == "x-alpacaeval"], "prompt")


def _with_english(frame: pd.DataFrame, column: str) -> Iterable[tuple[str, str, str]]:
    english = frame[frame.language == "en"].set_index("id")[column].to_dict()
    for row in frame[frame.language != "en"].itertuples():
        if row.id in english and english[row.id] != getattr(row, column):
            yield row.language, getattr(row, column), english[row.id]


def _texts(folder: Path) -> Iterable[tuple[str, str]]:
    questions = pd.read_parquet(folder / "question_translation.parquet")
    for row in questions[(questions.task == "snli") & (questions.id < PRETRAINING_QUESTIONS)].itertuples():
        yield row.source_language, question_lines(row.source)
        yield "en", question_lines(row.target)
    for row in questions[questions.task == "gsm8k"].itertuples():
        yield "en", row.target
    for row in pd.read_parquet(folder / "expert_revisions.parquet").itertuples():
        yield row.language, f"{row.revised_instruction}\n{row.revised_input or ''}".strip()
        yield row.language, row.revised_response
    for row in pd.read_parquet(folder / "prompts.parquet").itertuples():
        yield row.language, row.prompt
    for row in pd.read_parquet(folder / "x_alpacaeval_responses.parquet").itertuples():
        yield row.language, row.response
    for row in training_part(snli_rows(folder), "snli").itertuples():
        yield row.language, f"{row.premise}\n{row.hypothesis}"
    for row in training_part(review_rows(folder), "emotion").itertuples():
        yield row.language, row.input


def question_lines(text: str) -> str:
    """The premise and hypothesis lines of an SNLI question, without its answer line and what follows.

    >>> question_lines('Premise: A dog.\\nHypothesis: A cat.\\nAnswer: "')
    'Premise: A dog.\\nHypothesis: A cat.'
    """
    return "\n".join(text.split("\n")[:2])


def snli_rows(folder: Path) -> pd.DataFrame:
    """snli_20_languages with a column `training`: whether the row's English premise is one of the first ones."""
    frame = pd.read_parquet(folder / "snli_20_languages.parquet")
    english = frame[frame.language == "en"].sort_values("id")
    first = set(english.premise.drop_duplicates().head(TRAINING_PREMISES))
    ids = set(english[english.premise.isin(first)].id)
    return frame.assign(training=frame.id.isin(ids))


def review_rows(folder: Path) -> pd.DataFrame:
    """emotion_20_languages with a column `training`."""
    frame = pd.read_parquet(folder / "emotion_20_languages.parquet")
    return frame.assign(training=frame.id < TRAINING_REVIEWS)


def training_part(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    """The rows that may be trained on."""
    assert task in ("snli", "emotion")
    return frame[frame.training]


def scored_part(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    """The rows that are scored: never trained on; reviews only where the English one is short."""
    frame = frame[~frame.training]
    if task == "emotion":
        english = frame[frame.language == "en"]
        frame = frame[frame.id.isin(english[english.input.str.len() <= LONGEST_REVIEW].id)]
    return frame.sort_values(["language", "id"]).reset_index(drop=True)


def translation_questions(folder: Path, languages: Iterable[str]) -> pd.DataFrame:
    """SNLI rows of question_translation in `languages` that are kept for question translation: ids from
    `PRETRAINING_QUESTIONS` on whose English premise is in no pretraining question."""
    frame = pd.read_parquet(folder / "question_translation.parquet")
    frame = frame[frame.task == "snli"]
    premise = frame.target.str.split("\n").str[0].str.lower()
    seen = set(premise[frame.id < PRETRAINING_QUESTIONS])
    kept = (frame.id >= PRETRAINING_QUESTIONS) & ~premise.isin(seen) & frame.source_language.isin(set(languages))
    return frame[kept].sort_values(["id", "source_language"]).reset_index(drop=True)


def fold(text: str) -> str:
    """`text` with runs of blanks (not line ends) made one."""
    return re.sub(r"[^\S\n]+", " ", text).strip()


class Stream:
    """An endless, seeded stream of documents: monolingual texts and, for `BILINGUAL_SHARE` of them, a text and its
    English translation in either order on two lines. Languages are drawn by their characters to the power of
    `LANGUAGE_POWER`; within a language every text is used once before any is used again."""

    def __init__(self, corpus: Corpus, seed: int = 0):
        self._rng = np.random.default_rng(seed)
        self._mono = _Deck({k: v for k, v in corpus.texts.items() if v}, self._rng)
        self._both = _Deck(corpus.pairs, self._rng)

    def draw(self) -> tuple[str, str]:
        """(language, document); the language of a bilingual document is "x+en"."""
        if self._rng.random() >= BILINGUAL_SHARE:
            language, text = self._mono.draw()
            return language, fold(text)
        language, pair = self._both.draw()
        if self._rng.random() < 0.5:
            pair = pair[::-1]
        return f"{language}+en", fold(f"{pair[0]}\n{pair[1]}")


class _Deck:
    def __init__(self, items: dict[str, list], rng: np.random.Generator):
        self._items, self._rng = items, rng
        self._names = sorted(items)
        sizes = np.array([sum(len(str(item)) for item in items[name]) for name in self._names], dtype=float)
        length = np.array([np.mean([len(str(item)) for item in items[name]]) for name in self._names])
        weights = sizes**LANGUAGE_POWER / length
        self._weights = weights / weights.sum()
        self._order = {name: rng.permutation(len(items[name])) for name in self._names}
        self._at = dict.fromkeys(self._names, 0)

    def draw(self):
        name = self._names[self._rng.choice(len(self._names), p=self._weights)]
        order, at = self._order[name], self._at[name]
        if at == len(order):
            self._order[name], at = self._rng.permutation(len(order)), 0
        self._at[name] = at + 1
        return name, self._items[name][self._order[name][at]]
