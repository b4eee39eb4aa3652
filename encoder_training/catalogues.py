"""Reads parallel text from unpacked software packages: one group {language: text} for each English string."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from encoder_training.formats import (
    read_blocks,
    read_dictd,
    read_edict,
    read_ftl,
    read_mo,
    read_pak,
    read_properties,
    read_qm,
    strip_markup,
)
from hf_mlalign.core.errors import DataError

LANGUAGES = (
    "en", "ja", "ko", "ru", "pt", "el", "fr", "de", "es", "ar", "tl", "ms", "nl", "pl", "tr", "vi", "th", "hi", "sw",
    "id", "it", "zh",
)  # fmt: skip
"""The nineteen languages that the encoder is made for, and id, it and zh, which cost little and occur in the data."""

ALIASES = {"fil": "tl", "tgl": "tl", "c": "en", "en-us": "en", "en-gb": "en", "zsm": "ms", "swh": "sw", "in": "id"}
REGIONS = {"es-419", "es-es", "es-mx", "pt-br", "pt-pt", "hi-in", "zh-cn", "zh-hans", "ar-ma", "sw-ke", "sw-tz"}
FREEDICT = {
    "eng": "en", "ell": "el", "hin": "hi", "pol": "pl", "nld": "nl", "rus": "ru", "swh": "sw", "tur": "tr",
    "ara": "ar", "jpn": "ja", "ind": "id", "deu": "de", "fra": "fr", "spa": "es", "por": "pt", "ita": "it",
}  # fmt: skip
NOISE = re.compile(r"%\d*\$?[-+0-9.]*l?[a-zA-Z%]|\$\{?\w+\}?|\{[^{}]*\}|<[^>]*>|https?://\S+|\\[nrt]|^\w+\|", re.M)


def language_of(code: str) -> str | None:
    """The two-letter code of a locale name such as "pt_BR", "fil" or "zh-CN.UTF-8"; None for other languages."""
    code = code.split(".")[0].split("@")[0].replace("_", "-").lower()
    code = ALIASES.get(code, code)
    if code in LANGUAGES:
        return code
    base = code.split("-")[0]
    known = code in REGIONS or (len(code) == 5 and code == f"{base}-{base}") or code in {"ko-kr", "ja-jp", "el-gr"}
    return base if known and base in LANGUAGES else None


def clean(text: str) -> str:
    """An interface string without placeholders, accelerators, tags, entities and line breaks."""
    text = strip_markup(NOISE.sub(" ", text))
    text = re.sub(r"\(&?_?[A-Z]\)", "", text)
    return re.sub(r"(?<!\w)[&_](?=\w)|(?<=\w)[&_](?=\w)", "", text).strip(" .:…\t")


def usable(text: str) -> bool:
    """Whether a string is useful for training: two letters or more, and at least half of it letters."""
    letters = sum(c.isalpha() or c in "\u0e31\u0e34\u0e35" for c in text)
    return letters >= 2 and 2 * letters >= len(text.replace(" ", "")) and len(text) < 2000


class Collector:
    """Merges (English, language, translation) triples into groups, first translation wins."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, str]] = defaultdict(dict)

    def add(self, english: str, language: str, translation: str) -> None:
        english, translation = clean(english), clean(translation)
        if language != "en" and english != translation and usable(english) and usable(translation):
            self._groups[english].setdefault(language, translation)

    def groups(self) -> list[dict[str, str]]:
        """Groups with "en" and one language more, in the order in which the English texts were met."""
        return [{"en": english, **others} for english, others in self._groups.items()]


def read_catalogues(folder: str | Path, log: Callable[[str], None] = print) -> dict[str, list[dict[str, str]]]:
    """Groups by source from a folder with one unpacked package per subfolder.

    Returns:
        source ("interface", "browser", "help", "story", "dictionary", "pivot") → list of {language: text}.

    Raises:
        DataError: the folder is missing.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"catalogues: {root} is not a folder. Unpack packages: dataset_scripts/fetch_catalogues.sh.")
    packages = sorted(p for p in root.iterdir() if p.is_dir())
    sources = {
        "story": _mo_groups(p for p in packages if p.name.startswith(("wesnoth", "widelands"))),
        "interface": _mo_groups(p for p in packages if not p.name.startswith(("wesnoth", "widelands", "iso-codes"))),
        "names": _mo_groups(p for p in packages if p.name.startswith("iso-codes")),
        "browser": _browser_groups(packages),
        "help": _help_groups(packages),
        **_dictionary_groups(packages),
    }
    for name, groups in sources.items():
        log(f"{name}: {len(groups)} groups")
    return sources


def _files(packages: Iterable[Path], *endings: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted(p for p in package.rglob("*") if p.name.endswith(endings) and p.is_file())


def _mo_groups(packages: Iterable[Path]) -> list[dict[str, str]]:
    """Groups of all .mo and .qm catalogues; the language is the last path component that names one."""
    collector = Collector()
    for path in _files(packages, ".mo", ".qm"):
        parts = [*path.parts[-5:-1], path.stem, re.split(r"[_-]", path.stem, maxsplit=1)[-1]]
        language = next((found for part in reversed(parts) if (found := language_of(part))), None)
        if language in (None, "en"):
            continue
        try:
            messages = (read_mo if path.suffix == ".mo" else read_qm)(path.read_bytes())
        except (DataError, OSError):
            continue
        for english, translation in messages.items():
            collector.add(english, language, translation)
    return collector.groups()


def _browser_groups(packages: list[Path]) -> list[dict[str, str]]:
    """Groups of Chromium locale packs (by resource id) and Mozilla language packs (by file and key)."""
    packs: dict[str, dict[str, dict]] = {"pak": {}, "firefox": {}, "thunderbird": {}}
    for path in _files(packages, ".pak"):
        language = language_of(path.stem)
        if language and "_" not in path.stem:
            packs["pak"].setdefault(language, read_pak(path.read_bytes()))
    for path in _files(packages, ".xpi"):
        language = language_of(path.name.removeprefix("langpack-").split("@")[0])
        if language:
            packs["firefox" if "firefox" in path.name else "thunderbird"][language] = _mozilla_strings(path)
    collector = Collector()
    for strings in packs.values():
        english = strings.get("en", {})
        for language in sorted(strings):
            for key, translation in strings[language].items():
                if key in english:
                    collector.add(english[key], language, translation)
    return collector.groups()


def _mozilla_strings(path: Path) -> dict[str, str]:
    locale = path.name.removeprefix("langpack-").split("@")[0]
    strings: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            reader = {"ftl": read_ftl, "properties": read_properties}.get(name.rpartition(".")[2])
            if reader:
                key = re.sub(rf"(?<=/){re.escape(locale)}(?=/)", "*", name)
                text = archive.read(name).decode("utf-8", "replace")
                strings.update({f"{key}#{k}": v for k, v in reader(text).items()})
    return strings


def _help_groups(packages: list[Path]) -> list[dict[str, str]]:
    """Paragraphs of manuals: by `id` if they have one, or else by position in files with equally many blocks."""
    documents: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in _files(packages, ".html", ".page", ".docbook", ".utf8"):
        language, key = _document_key(path)
        if language:
            documents[key].setdefault(language, path)
    collector = Collector()
    for versions in documents.values():
        if "en" not in versions or len(versions) < 2:
            continue
        english = read_blocks(versions["en"].read_text("utf-8", "replace"))
        for language in sorted(set(versions) - {"en"}):
            blocks = read_blocks(versions[language].read_text("utf-8", "replace"))
            for source, target in _align(english, blocks):
                collector.add(source, language, target)
    return collector.groups()


def _document_key(path: Path) -> tuple[str | None, str]:
    """The document's language and its path with the language taken out."""
    if match := re.fullmatch(r"(.+)\.([A-Za-z]{2}(?:[-_][A-Za-z]{2})?)\.(html|utf8)", path.name):
        return language_of(match[2]), "/".join([*path.parts[-4:-1], match[1]])
    for at in range(len(path.parts) - 2, 0, -1):
        language = language_of(path.parts[at])
        if language:
            return language, "/".join([*path.parts[at - 2 : at], *path.parts[at + 1 :]])
    return None, ""


def _align(english: list[tuple[str, str]], other: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    named = {identifier: text for identifier, text in other if identifier}
    shared = [(text, named[identifier]) for identifier, text in english if identifier in named]
    if len(shared) >= max(3, len(english) // 2):
        yield from shared
    elif len(english) == len(other):
        yield from ((a[1], b[1]) for a, b in zip(english, other, strict=True))


def _dictionary_groups(packages: list[Path]) -> dict[str, list[dict[str, str]]]:
    """Word pairs with English ("dictionary") and between two other languages ("pivot")."""
    groups: dict[str, list[dict[str, str]]] = {"dictionary": [], "pivot": []}
    seen: set[tuple[str, str, str]] = set()
    for path in _files(packages, ".dict.dz", "share/edict/edict", "edict"):
        if match := re.match(r"freedict-(\w{3})-(\w{3})\.dict\.dz", path.name):
            pair = FREEDICT.get(match[1]), FREEDICT.get(match[2])
            words = read_dictd(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
        elif path.name == "edict":
            pair, words = ("ja", "en"), read_edict(path.read_bytes().decode("euc_jp", "replace"))
        else:
            continue
        if None in pair:
            continue
        for source, target in words:
            key = (pair[0], source, target)
            if key not in seen and len(source) < 60 and usable(source) and usable(target):
                seen.add(key)
                groups["dictionary" if "en" in pair else "pivot"].append({pair[0]: source, pair[1]: target})
    return groups
