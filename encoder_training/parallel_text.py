"""Parallel text for the encoder: groups {language: text} that say the same thing, by source, and a held-out part."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from encoder_training.catalogues import LANGUAGES
from hf_mlalign.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Group = dict[str, str]
Sources = dict[str, list[Group]]

TATOEBA = {
    "ara": "ar", "cmn": "zh", "deu": "de", "ell": "el", "fra": "fr", "hin": "hi", "ind": "id", "ita": "it",
    "jpn": "ja", "kor": "ko", "nld": "nl", "pol": "pl", "por": "pt", "rus": "ru", "spa": "es", "swh": "sw",
    "tgl": "tl", "tha": "th", "tur": "tr", "vie": "vi", "zsm": "ms",
}  # fmt: skip
HELD_OUT_GROUPS = 500
NEWS_DEV_EVERY = 5


def read_shared(folder: str | Path) -> Sources:
    """Groups of the Parquet files described in the data folder's README; gold answers and MGSM are not read.

    Returns:
        source ("revisions", "paragraphs", "prompts", "x_alpacaeval", "snli", "reviews", "questions", "tatoeba")
        → groups. Missing files are left out.

    Raises:
        DataError: none of the files exists.
    """
    import pandas as pd

    root = Path(folder)
    readers = {
        "expert_revisions": _revisions, "prompts": _prompts, "snli_20_languages": _snli,
        "emotion_20_languages": _reviews, "question_translation": _questions, "tatoeba": _tatoeba,
    }  # fmt: skip
    sources: Sources = {}
    for name, reader in readers.items():
        if (path := root / f"{name}.parquet").is_file():
            sources.update(reader(pd.read_parquet(path)))
    if not sources:
        raise DataError(f"data: no Parquet file of {sorted(readers)} in {root}. Pass the folder that holds them.")
    return {name: _known_languages(groups) for name, groups in sources.items()}


def read_mgsm(folder: str | Path) -> list[Group]:
    """MGSM questions, for held-out figures only; empty if the file is missing."""
    import pandas as pd

    path = Path(folder) / "mgsm.parquet"
    return _known_languages(_by_id(pd.read_parquet(path), "query")) if path.is_file() else []


def _known_languages(groups: Iterable[Group]) -> list[Group]:
    kept = ({lang: g[lang].strip() for lang in LANGUAGES if lang in g and g[lang] and g[lang].strip()} for g in groups)
    return [group for group in kept if len(group) > 1]


def _by_id(frame: pd.DataFrame, column: str) -> list[Group]:
    groups: dict[object, Group] = {}
    for identifier, language, text in zip(frame["id"], frame["language"], frame[column], strict=True):
        groups.setdefault(identifier, {})[language] = text
    return list(groups.values())


def _revisions(frame: pd.DataFrame) -> Sources:
    columns = ("raw_instruction", "raw_input", "raw_response", "revised_response")
    whole = [group for column in columns for group in _by_id(frame, column)]
    paragraphs = [part for group in whole for part in split_paragraphs(group)]
    return {"revisions": whole, "paragraphs": paragraphs}


def split_paragraphs(group: Group) -> list[Group]:
    """The group's paragraphs as groups: of the languages that have as many of them as English, and more than one."""
    parts = {lang: [p for p in re.split(r"\n+", text) if p.strip()] for lang, text in group.items()}
    count = len(parts.get("en", []))
    if count < 2:
        return []
    equal = {lang: p for lang, p in parts.items() if len(p) == count}
    return [{lang: p[at] for lang, p in equal.items()} for at in range(count)]


def _prompts(frame: pd.DataFrame) -> Sources:
    alpagasus = frame[(frame["source"] == "alpagasus") & (frame["language"] != "ja")]
    x_alpacaeval = frame[frame["source"] == "x-alpacaeval"]
    return {"prompts": _by_id(alpagasus, "prompt"), "x_alpacaeval": _by_id(x_alpacaeval, "prompt")}


def _snli(frame: pd.DataFrame) -> Sources:
    return {"snli": _by_id(frame, "premise") + _by_id(frame, "hypothesis")}


def _reviews(frame: pd.DataFrame) -> Sources:
    return {"reviews": _by_id(frame, "input")}


def _questions(frame: pd.DataFrame) -> Sources:
    sources = (re.sub(r"\nTranslate the input from .*$", "", text, flags=re.S) for text in frame["source"])
    triples = zip(sources, frame["source_language"], frame["target"], strict=True)
    return {"questions": [{language: source, "en": target} for source, language, target in triples]}


def _tatoeba(frame: pd.DataFrame) -> Sources:
    groups: dict[str, Group] = {}
    for language, source, english in zip(frame["language"], frame["source"], frame["english"], strict=True):
        if language in TATOEBA:
            groups.setdefault(english, {"en": english})[TATOEBA[language]] = source
    return {"tatoeba": list(groups.values())}


def read_tables(folder: str | Path) -> Sources:
    """Sentences and word lists from the tab-separated files `*_sentences.tsv` and `*_lexicon.tsv`.

    The header names the languages, English first; a word list's cells may hold alternatives separated by " / ".

    Raises:
        DataError: a row with another number of cells than the header.
    """
    sentences: list[Group] = []
    words: list[Group] = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        rows = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line.strip()]
        for number, row in enumerate(rows[1:], start=2):
            if len(row) != len(rows[0]):
                raise DataError(f"{path.name}: line {number} has {len(row)} cells, not {len(rows[0])}. Add the tabs.")
            group = {lang: cell.strip() for lang, cell in zip(rows[0], row, strict=True) if cell.strip()}
            (words.extend(alternatives(group)) if path.stem.endswith("_lexicon") else sentences.append(group))
    return {"news": _known_languages(sentences), "lexicon": _known_languages(words)}


def alternatives(group: Group) -> list[Group]:
    """One group for each position among the cells' alternatives; a cell with fewer repeats its last one."""
    cells = {lang: [a.strip() for a in cell.split(" / ") if a.strip()] for lang, cell in group.items()}
    cells = {lang: options for lang, options in cells.items() if options}
    count = max((len(options) for options in cells.values()), default=0)
    return [{lang: o[min(at, len(o) - 1)] for lang, o in cells.items()} for at in range(count)]


def hold_out(sources: Sources, seed: int = 0) -> tuple[Sources, Sources]:
    """Training and held-out groups.

    Held out: every fifth row of "news", and 500 random groups (at most a fifth) of "x_alpacaeval", "snli", "reviews"
    and "tatoeba". No held-out English text stays in the training part, whatever its source.
    """
    held: Sources = {}
    for name in ("x_alpacaeval", "snli", "reviews", "tatoeba"):
        groups = sources.get(name, [])
        count = min(HELD_OUT_GROUPS, len(groups) // 5)
        picked = random.Random(seed).sample(range(len(groups)), count)
        held[name] = [groups[at] for at in sorted(picked)]
    held["news"] = sources.get("news", [])[NEWS_DEV_EVERY - 1 :: NEWS_DEV_EVERY]
    unseen = {group.get("en", "").strip().lower() for groups in held.values() for group in groups} - {""}
    train = {
        name: [group for group in groups if group.get("en", "").strip().lower() not in unseen]
        for name, groups in sources.items()
    }
    return train, {name: groups for name, groups in held.items() if groups}
