"""Numbers in text: the digits of every script, the separators of every language, exact values."""

from __future__ import annotations

import re
import sys
import unicodedata
from fractions import Fraction
from functools import lru_cache

MAX_DIGITS = 100
"""Longer runs of digits are not read as numbers (*ours*)."""

_SPACES = "\u00a0\u202f\u2009 "
_GROUPED = rf"\d{{1,3}}(?:[{_SPACES}'’]\d{{3}})+(?:[.,]\d+)?(?!\d)"
_NUMBER = re.compile(rf"(?<![A-Za-z0-9.])[-−–]?(?:{_GROUPED}|\d+(?:[.,]\d+)*)(?:\s*/\s*\d+)?")
_ONLY_NUMBER = re.compile(r"^\W*[-−–]?\d[\d.,'’/\u00a0\u202f\u2009 ]*\W*[^\W\d]{0,12}\W*$")
_DECIMAL_COMMA = (
    "af agq ast az bas be bg bgn blo br bs ca cs cv da de dsb dua dyo el eo es et eu ewo ff fi fo fr fy gl hr hsb "
    "ht hu hy ia id ie is it jgo jv ka kab kea kgp kk kkj kl ksf ku ky lb lij ln lo lt lu lv mgh mk mua nb nl nmg "
    "nn nnh no nr pl ps pt rn ro ru rw sah sc se seh sg shi sk sl smn sq sr ss su sv tg tk tok tr ts tt tzm uk uz "
    "ve vec vi wo yav yrl zgh"
)
"""Languages whose decimal sign is not the point (Unicode CLDR 47, with Western digits)."""
_OTHER_SIGNS = {"．": ".", "，": ",", "٫": ".", "٬": "'", "－": "-", "／": "/"}


def parse_number(text: str, language: str | None = None) -> str | None:
    """The first number in `text` as an exact fraction in a string ("1234", "-7/2"); `None` if there is none.

    Digits of any script are read. Of two kinds of separators the last is the decimal sign; a repeated one groups
    thousands. A single one before exactly three digits groups thousands, too, unless a lone zero stands before it or it
    is a point in a language whose decimal sign is the point (CLDR; default: English). So "5,600" is 5600 in German as
    well: models and MGSM's gold answers write numbers the English way in every language.
    """
    match = _NUMBER.search(ascii_digits(text))
    return _canonical(match.group(), language) if match else None


def last_number(text: str, language: str | None = None) -> str | None:
    """The last number in `text`, see `parse_number`."""
    found = _NUMBER.findall(ascii_digits(text))
    return _canonical(found[-1], language) if found else None


def is_only_number(text: str) -> bool:
    """Whether `text` is one number, perhaps with a sign of currency or a short unit."""
    return _ONLY_NUMBER.match(ascii_digits(text)) is not None


def ascii_digits(text: str) -> str:
    """`text` with the decimal digits and number signs of every script replaced by ASCII ones."""
    return text if text.isascii() else text.translate(_digit_table())


@lru_cache(maxsize=1)
def _digit_table() -> dict[int, str]:
    codes = (c for c in range(0x660, sys.maxunicode + 1) if unicodedata.category(chr(c)) == "Nd")
    table = {c: str(unicodedata.decimal(chr(c))) for c in codes}
    return table | {ord(sign): plain for sign, plain in _OTHER_SIGNS.items()}


def _canonical(token: str, language: str | None) -> str | None:
    token = token.strip().replace("−", "-").replace("–", "-")
    top, _, bottom = token.partition("/")
    value = _fraction(top.strip(), language)
    below = _fraction(bottom.strip(), language) if bottom else Fraction(1)
    return None if value is None or not below else str(value / below)


def _fraction(token: str, language: str | None) -> Fraction | None:
    sign = -1 if token.startswith("-") else 1
    token = re.sub(rf"['’{_SPACES}]", "", token.lstrip("-"))
    marks = re.findall(r"[.,]", token)
    if marks:
        token = _plain_decimal(token, marks, language)
    return sign * Fraction(token) if len(token) <= MAX_DIGITS and re.fullmatch(r"\d+(?:\.\d+)?", token) else None


def _plain_decimal(token: str, marks: list[str], language: str | None) -> str:
    last = marks[-1]
    head, _, tail = token.rpartition(last)
    if len(set(marks)) == 2:
        decimal = marks.count(last) == 1
    elif len(marks) > 1:
        decimal = False
    else:
        decimal = len(tail) != 3 or head == "0" or (last == "." and decimal_sign(language) == ".")
    head = re.sub(r"[.,]", "", head)
    return f"{head}.{tail}" if decimal else head + tail


@lru_cache(maxsize=256)
def decimal_sign(language: str | None) -> str:
    """The decimal sign of a language with Western digits (CLDR); "." for an unknown one."""
    return "," if language in _DECIMAL_COMMA.split() else "."
