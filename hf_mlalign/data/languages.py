"""Language codes, names and scripts (through Unicode CLDR), and offline language identification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.validation import as_list, shown

MDAQ_LANGUAGES = ("ja", "ko", "ru", "pt", "el", "fr", "de", "es", "ar", "tl", "ms", "nl", "pl", "tr", "vi", "th", "hi",
                  "sw")  # fmt: skip
"""The 18 languages of M-DaQ (arXiv 2509.15549), ISO 639-1 (*paper*)."""

SPONTANEOUS_LANGUAGES = ("bg", "bn", "de", "en", "es", "fr", "hi", "is", "it", "ja", "ms", "nl", "no", "pl", "ru", "sl",
                         "sv", "sw", "th", "zh")  # fmt: skip
"""The 20 evaluation languages of spontaneous multilingual alignment (arXiv 2405.13816) (*paper*)."""

LONGEST = 100
"""No code or name of a language has more characters."""

_PREFERRED = {"fil": "tl", "iw": "he", "in": "id", "nb": "no", "nn": "no", "cmn": "zh", "arb": "ar",
              "zsm": "ms", "swh": "sw", "pes": "fa", "ell": "el"}  # fmt: skip


def normalise(code: str) -> str | None:
    """ISO 639-1 code of a language given as a code or an English name; `None` when it is unknown.

    Takes ISO 639-1 ("de"), ISO 639-3 ("deu"), BCP 47 ("pt-BR", "zh_Hans") and English names ("Swahili"), in any case.
    A language without an ISO 639-1 code keeps its ISO 639-3 code. Norwegian Bokmål and Nynorsk become "no",
    Filipino becomes "tl".
    """
    return _normalised(code) if isinstance(code, str) and len(code) <= LONGEST else None


@lru_cache(maxsize=4096)
def _normalised(code: str) -> str | None:
    text = code.strip().lower().replace("_", "-")
    base = text.split("-")[0]
    if base in _PREFERRED:
        return _PREFERRED[base]
    known = _english_names()
    if text in known:
        return _PREFERRED.get(known[text], known[text])
    return base if base in _codes() else _PREFERRED.get(_aliases().get(base), _aliases().get(base))


def check_languages(codes: Iterable[str], where: str = "languages") -> list[str]:
    """ISO 639-1 codes of `codes`, or a `DataError` that names the first unknown one, its row and its neighbours."""
    return [known_code(code, f"{where}, row {i}") for i, code in enumerate(as_list(codes, where))]


def known_code(code: str, where: str) -> str:
    """ISO 639-1 code of one language; a `DataError` that begins with `where` if it is unknown."""
    known = normalise(code)
    if known is None:
        raise DataError(
            f"{where}: unknown language {shown(code)}{_did_you_mean(code)}. Use ISO 639-1 codes such as "
            f"{listed(MDAQ_LANGUAGES[:5])}, or English names."
        )
    return known


def language_name(code: str, in_language: str = "en") -> str:
    """Name of a language, in English or in any other language (`in_language=code` gives the endonym)."""
    from babel import Locale, UnknownLocaleError

    try:
        name = Locale.parse(_cldr(in_language)).languages.get(_cldr(code))
    except (UnknownLocaleError, ValueError):
        name = None
    return name or _english_by_code().get(code, code)


def is_right_to_left(code: str) -> bool:
    """Whether the language's usual script runs from right to left."""
    from babel import Locale

    try:
        return Locale.parse(_cldr(code)).text_direction == "rtl"
    except Exception:  # babel knows no locale for some languages: left to right then
        return False


def _cldr(code: str) -> str:
    return "fil" if code == "tl" else code


class LanguageIdentifier:
    """Identify the language of texts offline (py3langid, whose model is part of its wheel).

    Args:
        languages: ISO 639-1 codes to choose among; the fewer, the surer. Default: the 18 languages of M-DaQ, English,
            Chinese, Italian, Indonesian, Bengali and Czech (*ours*).
        max_chars: only the first so many characters of a text are read (500, *ours*).
    Raises:
        DataError: a language py3langid does not know.
    """

    DEFAULT = (*MDAQ_LANGUAGES, "en", "zh", "it", "id", "bn", "cs")

    def __init__(self, languages: Sequence[str] | None = None, max_chars: int = 500):
        from py3langid.langid import MODEL_FILE
        from py3langid.langid import LanguageIdentifier as Py3LangId

        self._model = Py3LangId.from_model_file(MODEL_FILE, norm_probs=True)
        wanted = list(languages or self.DEFAULT)
        unknown = [c for c in wanted if c not in self._model.labels]
        if unknown:
            raise DataError(f"languages: no language identification for {listed(unknown)}. Leave them out.")
        self._model.set_languages(wanted)
        self.max_chars = max_chars

    def identify(self, texts: Iterable[str | None]) -> list[tuple[str | None, float]]:
        """(ISO 639-1 code, probability in [0, 1]) for each text; (None, 0.0) for missing or blank ones."""
        return [self._one(text) for text in texts]

    def _one(self, text: str | None) -> tuple[str | None, float]:
        if not isinstance(text, str) or not any(ch.isalpha() for ch in text[: self.max_chars]):
            return None, 0.0
        code, probability = self._model.classify(text[: self.max_chars])
        return str(code), float(probability)


@lru_cache(maxsize=1)
def _english_by_code() -> dict[str, str]:
    from babel import Locale

    names = {c: n for c, n in Locale("en").languages.items() if "_" not in c and len(c) <= 3}
    return {**names, "tl": "Tagalog"}


@lru_cache(maxsize=1)
def _english_names() -> dict[str, str]:
    names = {name.lower(): code for code, name in _english_by_code().items()}
    return {**names, "tagalog": "tl", "filipino": "tl", "farsi": "fa", "mandarin": "zh", "norwegian": "no",
            "standard arabic": "ar", "simplified chinese": "zh", "traditional chinese": "zh", "standard malay": "ms",
            "iranian persian": "fa", "panjabi": "pa", "haitian": "ht", "central khmer": "km",
            "plateau malagasy": "mg", "northern uzbek": "uz"}  # fmt: skip


@lru_cache(maxsize=1)
def _codes() -> frozenset[str]:
    return (frozenset(_english_by_code()) | {"tl", "no"}) - {"mul", "und", "zxx", "mis"}


@lru_cache(maxsize=1)
def _aliases() -> dict[str, str]:
    from babel.core import get_global

    return {k: v for k, v in get_global("language_aliases").items() if "_" not in k and "_" not in v}


def _did_you_mean(code) -> str:
    from difflib import get_close_matches

    if not isinstance(code, str) or len(code) > LONGEST:
        return ""
    near = get_close_matches(code.lower(), [*_codes(), *_english_names()], n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
