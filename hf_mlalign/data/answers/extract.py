"""Final answers in free text: multiple-choice letters, numbers in the digits of any script, boxed answers."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_texts
from hf_mlalign.data.answers.cues import ANSWER_WORDS, EQUALS_WORDS, LETTER_SERIES, LOOK_ALIKES, VARIANTS

__all__ = ["KINDS", "answer_codes", "answer_spans", "extract_answers", "find_options", "parse_number"]

KINDS = ("auto", "choice", "number")
LETTERS = "ABCDEFGHIJ"
_LABELS = "".join(LETTER_SERIES) + "".join(VARIANTS)
_WORDS = sorted({word for words in ANSWER_WORDS.values() for word in words}, key=len, reverse=True)
_OPENING = r"[\s:：=＝>*_`~\"'“”„«»‘（(\[【<《$#.。।-]"
_CLOSING = r"[.．)）:：、,，\]】*>。।]"
_LATIN = r"A-Za-zÀ-ɏͰ-ϿЀ-ӿ0-9"
_OTHER = r"'’؀-ۿऀ-ॿঀ-৿\u0e31-\u0e4e가-힣"
_MARKER = re.compile("|".join(map(re.escape, _WORDS)))
_MARKED_LINE = re.compile(rf"(?:^|\n)[ \t*_#>-]*[^\n:：]{{0,25}}?(?:{_MARKER.pattern})[^\n:：]{{0,12}}[:：]")
_EXPLICIT = re.compile(rf"[^\n:：=]{{0,40}}?(?:[:：=—–]|{'|'.join(EQUALS_WORDS)})", re.IGNORECASE)
_LETTER = re.compile(rf"(?<![{_LATIN}])([{_LABELS}])(?![{_LATIN}{_OTHER}])")
_LEADING = re.compile(rf"^{_OPENING}*([{_LABELS}])(?:{_CLOSING}|\s*$)")
_MENTION = re.compile(rf"(?<![{_LATIN}])([{_LABELS}])(?=[.．)）:：、\]】])")
_OPTION_LINE = re.compile(rf"^[ \t]*[(（\[【]?([{_LABELS}])[.．)）:：、\]】 ][ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_HASHES = re.compile(r"(?m)^####[ \t]*([^\n]+?)\s*\Z")
_UNIT = re.compile(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*[^\W\d][^{}]*\}\s*(?:\^\s*\{?\d\}?)?")
_FORMULA = re.compile(r"(?<!m)\^(?!\s*\{?\s*\\circ)|\\sqrt|\d\s*\\[dt]?frac")
_LOWER_LABEL = re.compile(rf"^{_OPENING}*([a-j])(?:{_CLOSING}+(?=\s|$)|\s*$)")
_REACH = 80
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


class AnswerOptions(NamedTuple):
    """Options of a question: the script's labels, and (Latin letter, casefolded text) of each."""

    series: str
    items: tuple[tuple[str, str], ...]

    @property
    def letters(self) -> str:
        return LETTERS[: len(self.items)] if self.items else LETTERS


NO_OPTIONS = AnswerOptions(LETTERS, ())


def extract_answers(
    texts: Sequence[str | None],
    languages: Sequence[str] | str | None = None,
    prompts: Sequence[str | None] | None = None,
    kind: str = "auto",
) -> list[str | None]:
    """The final answer of each text, in a canonical form that can be compared across languages.

    Args:
        texts: n responses.
        languages: ISO 639-1 codes, one or n; they decide what "1.234" means (CLDR's decimal sign).
        prompts: the n questions. If a question lists options ("A. …", one per line), the answer is one of their
            letters, and an option's text counts as its letter.
        kind: "auto": a letter if the question lists options, otherwise a letter or number that the text itself marks
            as its answer ("Answer: 42", "答案是 B", `\\boxed{…}`, "#### 7", or the answer alone); "choice": a letter;
            "number": a number; if none is marked, the last one in the text (as MGSM is scored).
    Returns:
        n strings: "A" … "J"; a number as an exact fraction ("540", "-7/2"); or `None`.
    Raises:
        DataError: an unknown kind, or different lengths.
    """
    check_kind(kind)
    texts = as_texts(texts, "texts", missing=True)
    n = len(texts)
    one = languages is None or isinstance(languages, str)
    codes = [languages] * n if one else as_texts(languages, "languages", missing=True)
    asked = [None] * n if prompts is None else as_texts(prompts, "prompts", missing=True)
    if len(codes) != n or len(asked) != n:
        raise DataError(f"languages, prompts: {len(codes)} and {len(asked)} entries for {n} texts. Pass one per text.")
    return [_one(t, c, p, kind) for t, c, p in zip(texts, codes, asked, strict=True)]


def check_kind(kind: str, name: str = "kind") -> None:
    """DataError for an unknown kind of answers."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise DataError(f"{name}: unknown {kind!r}. Known: {', '.join(KINDS)}.")


def find_options(prompt: str | None) -> dict[str, str]:
    """Latin letter → casefolded text of the options that a question lists, one per line.

    Empty unless there are two or more in order. If there are several lists, the last one counts.
    """
    return dict(_options(prompt).items) if prompt else {}


def answer_codes(answers: Sequence[str | None]) -> np.ndarray:
    """(n,) int32 codes: equal answers get equal codes, a missing answer gets −1."""
    known: dict[str, int] = {}
    answers = as_texts(answers, "answers", missing=True)
    return np.fromiter((-1 if a is None else known.setdefault(a, len(known)) for a in answers), np.int32, len(answers))


def answer_spans(texts: Sequence[str | None]) -> list[str]:
    """The rest of the line after the last answer word that starts a line and has a colon ("Answer: …", "正确答案：…");
    "" if there is no such word."""
    texts = [text or "" for text in as_texts(texts, "texts", missing=True)]
    spans = ([_first_line(text[match.end() :]) for match in _MARKED_LINE.finditer(_lower(text))] for text in texts)
    return [next(filter(None, reversed(lines)), "") for lines in spans]


def _one(text: str | None, language: str | None, prompt: str | None, kind: str) -> str | None:
    if not text:
        return None
    options = _options(prompt) if prompt and kind != "number" else NO_OPTIONS
    boxed = _BOXED.findall(text) or ([] if options.items else _HASHES.findall(text))
    if boxed and not options.items and kind != "choice" and _FORMULA.search(_UNIT.sub("", boxed[-1])):
        return None
    found = _in_box(boxed[-1], language, options, kind) if boxed else None
    if found is not None:
        return found
    if options.items or kind == "choice":
        return _choice(text, options)
    if kind == "number":
        lines = (_first_line(text[end : end + _REACH]) for end in _marks(text))
        marked = (_number_in(line, language) for line in lines)
        return next((number for number in marked if number), None) or last_number(text, language)
    return _marked(text, language)


def _in_box(content: str, language: str | None, options: AnswerOptions, kind: str) -> str | None:
    content = re.sub(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}", r"\1", content).replace("{,}", ",")
    content = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", content).replace("\\!", "")
    letter = _LEADING.match(content.strip())
    if letter and kind != "number":
        return _allowed(letter.group(1), options)
    if options.items or kind == "choice":
        return _lower_letter(content.strip(), options)
    return parse_number(content.replace("$", "").replace("\\", ""), language)


def _choice(text: str, options: AnswerOptions) -> str | None:
    for end in _marks(text):
        line = _first_line(text[end : end + _REACH])
        for match in _LETTER.finditer(line):
            letter, after = _allowed(match.group(1), options), line[match.end() : match.end() + 2]
            # an "A", "E" or "I" before a space and a lower-case letter is probably a word
            is_word = match.start() and len(after) == 2 and after[0] == " " and after[1].islower()
            if letter and not (is_word and letter in "AEI"):
                return letter
        found = _lower_letter(line, options) or _option_text(line, options)
        if found:
            return found
    leading = _LEADING.match(text)
    if leading:
        return _allowed(leading.group(1), options)
    mentions = {_allowed(label, options) for label in _MENTION.findall(text)} - {None}
    if len(mentions) == 1:
        return mentions.pop()
    return _option_text(text.strip().rsplit("\n", 1)[-1], options)


def _marked(text: str, language: str | None) -> str | None:
    """A letter or a number that the text marks as its answer."""
    for end in _marks(text):
        explicit = _EXPLICIT.match(text, end)
        if explicit:
            line = _first_line(text[explicit.end() : explicit.end() + _REACH])
            found = _leading_letter(line) or _number_in(line, language)
            if found is not None:
                return found
    stripped = text.strip()
    if len(stripped) > 40:
        return None
    return _leading_letter(stripped) or (parse_number(stripped, language) if is_only_number(stripped) else None)


def _number_in(line: str, language: str | None) -> str | None:
    """The number of an answer line: the first one after the last equals sign, or else the first one."""
    return parse_number(re.split(r"[=＝≈]", line)[-1], language) or parse_number(line, language)


def _marks(text: str) -> list[int]:
    """Positions at which answer words end, the last one first."""
    return [match.end() for match in _MARKER.finditer(_lower(text))][::-1]


def _lower(text: str) -> str:
    lower = text.lower()
    return lower if len(lower) == len(text) else text


def _first_line(text: str) -> str:
    return text.lstrip(" \t:：*_#=＝\n\r").split("\n", 1)[0]


def _leading_letter(text: str) -> str | None:
    match = _LEADING.match(text)
    return _allowed(match.group(1), NO_OPTIONS) if match and match.group(1) != "I" else None


def _lower_letter(line: str, options: AnswerOptions) -> str | None:
    """The lower-case label that a line is or starts with ("b", "is (c)."), if the options are Latin letters."""
    if not options.items or options.series != LETTERS:
        return None
    explicit = _EXPLICIT.match(line)
    match = _LOWER_LABEL.match(line) or (_LOWER_LABEL.match(line[explicit.end() :]) if explicit else None)
    return _allowed(match.group(1).upper(), options) if match else None


def _allowed(label: str, options: AnswerOptions) -> str | None:
    """The Latin letter for a label of any script, if the options have it."""
    label = VARIANTS.get(label, label)
    if label in options.series:
        letter = LETTERS[options.series.index(label)]
    elif options.items and label.translate(LOOK_ALIKES) in LETTERS:
        letter = label.translate(LOOK_ALIKES)
    else:
        letter = next(LETTERS[s.index(label)] for s in LETTER_SERIES if label in s)
    return letter if letter in options.letters else None


def _option_text(line: str, options: AnswerOptions) -> str | None:
    """The letter of the only option whose text occurs in the line (the longest, if one contains another)."""
    line = line.casefold()
    hits = [(letter, text) for letter, text in options.items if len(text) > 1 and text in line]
    hits = [h for h in hits if not any(h[1] != other[1] and h[1] in other[1] for other in hits)]
    return hits[0][0] if len(hits) == 1 else None


@lru_cache(maxsize=65536)
def _options(prompt: str) -> AnswerOptions:
    lines = [(VARIANTS.get(label, label), text) for label, text in _OPTION_LINE.findall(prompt)]
    for series in LETTER_SERIES:
        listed = [(label, text) for label, text in lines if label in series]
        start = max((i for i, (label, _) in enumerate(listed) if label == series[0]), default=len(listed))
        run = []
        for position, (label, text) in enumerate(listed[start : start + len(series)]):
            if label != series[position]:
                break
            run.append((LETTERS[position], text.casefold()))
        if len(run) >= 2:
            return AnswerOptions(series, tuple(run))
    return NO_OPTIONS


def parse_number(text: str, language: str | None = None) -> str | None:
    """The first number in `text` as an exact fraction in a string ("1234", "-7/2"); `None` if there is none.

    Digits of any script are read. If there are two kinds of separators, the last one is the decimal sign. A repeated
    separator groups thousands. So does a single one before exactly three digits, unless a lone zero stands before it or
    it is a point in a language whose decimal sign is the point (CLDR; default: English). "5,600" is therefore 5600 in
    German too: models and MGSM's gold answers write numbers the English way in every language.
    """
    match = _NUMBER.search(ascii_digits(text))
    return _canonical(match.group(), language) if match else None


def last_number(text: str, language: str | None = None) -> str | None:
    """The last number in `text`, see `parse_number`."""
    found = _NUMBER.findall(ascii_digits(text))
    return _canonical(found[-1], language) if found else None


def is_only_number(text: str) -> bool:
    """Whether `text` is one number, with or without a currency sign or a short unit."""
    return _ONLY_NUMBER.match(ascii_digits(text)) is not None


def ascii_digits(text: str) -> str:
    """`text` with the decimal digits and number signs of every script replaced by those of ASCII."""
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
        head, _, tail = token.rpartition(marks[-1])
        if len(set(marks)) == 2:
            decimal = marks.count(marks[-1]) == 1
        elif len(marks) > 1:
            decimal = False
        else:
            decimal = len(tail) != 3 or head == "0" or (marks[-1] == "." and decimal_sign(language) == ".")
        token = re.sub(r"[.,]", "", head) + "." * decimal + tail
    return sign * Fraction(token) if len(token) <= MAX_DIGITS and re.fullmatch(r"\d+(?:\.\d+)?", token) else None


@lru_cache(maxsize=256)
def decimal_sign(language: str | None) -> str:
    """The decimal sign of a language with Western digits (CLDR); "." for an unknown one."""
    return "," if language in _DECIMAL_COMMA.split() else "."
