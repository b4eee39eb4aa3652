"""Language codes, names and scripts (langcodes: IANA and Unicode CLDR), and offline language identification."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import product
from string import ascii_lowercase
from typing import Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import as_list, shown

MDAQ_LANGUAGES = ("ja", "ko", "ru", "pt", "el", "fr", "de", "es", "ar", "tl", "ms", "nl", "pl", "tr", "vi", "th", "hi",
                  "sw")  # fmt: skip
"""The 18 languages of M-DaQ (arXiv 2509.15549), ISO 639-1 (*paper*)."""

SPONTANEOUS_LANGUAGES = ("bg", "bn", "de", "en", "es", "fr", "hi", "is", "it", "ja", "ms", "nl", "no", "pl", "ru", "sl",
                         "sv", "sw", "th", "zh")  # fmt: skip
"""The 20 evaluation languages of spontaneous multilingual alignment (arXiv 2405.13816) (*paper*)."""

LONGEST = 100
"""Longest code or name of a language, in characters."""

_OURS = {"fil": "tl", "nb": "no", "nn": "no", "hbs": "sh", "fat": "fat"}
"""Codes that langcodes resolves differently (*ours*): Filipino is Tagalog, Bokmål and Nynorsk are Norwegian."""
_NOT_ONE_LANGUAGE = ("und", "mul", "mis", "zxx")
_RIGHT_TO_LEFT = ("Arab", "Hebr", "Thaa", "Syrc", "Nkoo", "Adlm", "Rohg", "Mand", "Samr", "Mend", "Yezi")
_MORE_NAMES = {"bahasa melayu": "ms", "yorùbá": "yo"}
"""Names that CLDR does not list."""
_QUALIFIER = re.compile(r"\s*\(.*\)\s*$|,?\s+(?:language|simplified|traditional|brasileiro)\s*$", re.IGNORECASE)
"""What may follow a name: "Chinese (Simplified)", "português brasileiro"."""
_OWN_NAMES = {"id": "Indonesia", "ms": "Melayu"}
"""Names of languages in the language itself, from CLDR; langcodes puts "bahasa" before them."""
_SCRIPTS = {"azb": "Arab"}
"""Scripts of languages that CLDR does not list."""


def normalise(code: str) -> str | None:
    """The code of a language, given as a code or a name; `None` if it is unknown.

    Takes ISO 639-1 ("de"), ISO 639-3 ("deu"), BCP 47 and locales ("pt-BR", "zh_Hans", "apc_Arab", "en_US.UTF-8"), and
    names in English or in the language itself ("Swahili", "Türkçe"), in any case. Codes are tried first: "ga" is Irish.

    Returns:
        The ISO 639-1 code, or the ISO 639-3 code if there is none, without script and region. The main language of a
        group has the code of the group: "arb" is "ar", "swh" is "sw". Bokmål and Nynorsk are "no", Filipino is "tl".
        Normalising a result again returns it unchanged.
    """
    return _normalised(code) if isinstance(code, str) and len(code) <= LONGEST else None


@lru_cache(maxsize=4096)
def _normalised(code: str) -> str | None:
    from language_data.names import normalize_name

    tag = re.sub(r"[.@].*", "", code.strip().lower().replace("_", "-"))  # en_US.UTF-8
    if found := _from_tag(tag):
        return found
    # a name in any language, English first; script, region and the like may follow it. `langcodes.find` would also take
    # a longer text that merely begins with a name, e.g. "French cooking"
    name = unicodedata.normalize("NFC", code.encode("utf-8", "replace").decode())
    for part in (name, _QUALIFIER.sub("", name)):
        key = normalize_name(part)
        if len(key) < (3 if key.isascii() else 2) or "\0" in key:
            continue
        tags = (names[key][0].decode() for names in _names() if key in names)
        if found := _MORE_NAMES.get(key) or next(tags, None):
            return _from_tag(found)
    return None


@lru_cache(maxsize=1)
def _names() -> tuple[Any, Any]:
    """Name → tag, of English names and of names in all languages."""
    from language_data.names import load_trie
    from language_data.util import data_filename

    english, any_language = (load_trie(data_filename(f"trie/{code}/name_to_language.marisa")) for code in ("en", "und"))
    return english, any_language


def _from_tag(tag: str) -> str | None:
    """The language code of a BCP 47 tag; `None` if it does not name one language."""
    from langcodes import Language, LanguageTagError

    try:
        parsed = Language.get(tag, normalize=False)
    except LanguageTagError:
        return None
    base = (parsed.extlangs or [parsed.language or "und"])[-1]
    if len(base) > 3 or base in _NOT_ONE_LANGUAGE or "qaa" <= base <= "qtz":
        return None
    if base in _OURS:
        return _OURS[base]
    standard = Language.get(base)
    plain = Language.make(language=standard.language)
    if not (plain.is_valid() or plain.has_name_data()) or (parsed.variants and not parsed.is_valid()):
        return None
    if standard.script or standard.territory:  # "prs" is more than the Persian of Afghanistan
        return base
    group = standard.prefer_macrolanguage().language
    found = group if len(standard.language) == 3 and len(group) == 2 else standard.language
    return _OURS.get(found, found)


def check_languages(codes: Iterable[str], where: str = "languages") -> list[str]:
    """ISO 639-1 codes of `codes`; a `DataError` names the first unknown one, its row and similar names."""
    return [known_code(code, f"{where}, row {i}") for i, code in enumerate(as_list(codes, where))]


def known_code(code: str, where: str) -> str:
    """ISO 639-1 code of one language; a `DataError` that starts with `where` if it is unknown."""
    known = normalise(code)
    if known is None:
        near = []
        if isinstance(code, str) and len(code) <= LONGEST:
            codes = [pair for pair in map("".join, product(ascii_lowercase, repeat=2)) if _from_tag(pair) == pair]
            names = [language_name(one).lower() for one in codes]
            near = get_close_matches(code.lower(), [*codes, *names], n=2, cutoff=0.6)
        meant = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        raise DataError(f"{where}: unknown language {shown(code)}{meant}. Use ISO 639-1 codes such as "
                        f"{listed(MDAQ_LANGUAGES[:5])}, or English names.")  # fmt: skip
    return known


def language_name(code: str, in_language: str = "en") -> str:
    """Name of a language, in English or in another language (`in_language=code`: in the language itself).

    An unknown code is returned unchanged. If `in_language` is unknown, the English name is returned.
    """
    from langcodes import Language

    known, other = _from_tag(code), _from_tag(in_language) or "en"
    if known is None:
        return code
    if known == other and known in _OWN_NAMES:
        return _OWN_NAMES[known]
    language, other = (Language.make(language="fil" if one == "tl" else one) for one in (known, other))
    return language.language_name(other)


def usual_script(code: str) -> str:
    """ISO 15924 code of the language's usual script, e.g. "Latn"; "" for an unknown language."""
    from langcodes import Language

    return _SCRIPTS.get(code, Language.get(code).maximize().script) if _from_tag(code) else ""


def is_right_to_left(code: str) -> bool:
    """Whether the language's usual script runs from right to left."""
    return usual_script(code) in _RIGHT_TO_LEFT


class LanguageIdentifier:
    """Identify the language of texts offline (py3langid, whose model is part of its wheel).

    Args:
        languages: ISO 639-1 codes to choose among; fewer languages give surer results. Default: the 18 languages of
            M-DaQ, English, Chinese, Italian, Indonesian, Bengali and Czech (*ours*).
        max_chars: characters of a text that are read (500, *ours*).
    Raises:
        DataError: a language that py3langid does not know.
    """

    DEFAULT = (*MDAQ_LANGUAGES, "en", "zh", "it", "id", "bn", "cs")

    def __init__(self, languages: Sequence[str] | None = None, max_chars: int = 500):
        from py3langid.langid import MODEL_FILE
        from py3langid.langid import LanguageIdentifier as Py3LangId

        self._model = Py3LangId.from_model_file(MODEL_FILE, norm_probs=True)
        wanted = list(languages or self.DEFAULT)
        unknown = [c for c in wanted if c not in self._model.labels]
        if unknown:
            raise DataError(f"languages: {listed(unknown)} cannot be identified. Leave them out.")
        self._model.set_languages(wanted)
        self.max_chars = max_chars

    def identify(self, texts: Iterable[str | None]) -> list[tuple[str | None, float]]:
        """(ISO 639-1 code, probability in [0, 1]) for each text; (None, 0.0) for missing or blank ones."""
        found: list[tuple[str | None, float]] = []
        for text in texts:
            start = text[: self.max_chars] if isinstance(text, str) else ""
            code, probability = self._model.classify(start) if any(map(str.isalpha, start)) else (None, 0.0)
            found.append((code and str(code), float(probability)))
        return found
