"""Surface features of responses (shape, punctuation, script), computed for a whole batch with numpy only."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CLASSES = (
    "separator", "newline", "space", "other_space", "digit", "upper", "lower", "comma", "period", "colon",
    "semicolon", "question", "exclamation", "quote", "open", "close", "star", "backtick", "dash", "bullet", "hash",
    "angle", "symbol", "latin_other", "greek", "cyrillic", "hebrew", "arabic", "devanagari", "bengali", "tamil",
    "telugu", "thai", "hangul", "kana", "han", "other_letter", "mark",
)  # fmt: skip
_CLASS = {name: i for i, name in enumerate(CLASSES)}
SCRIPTS = (
    ("latin", ("upper", "lower", "latin_other")),
    *((name, (name,)) for name in CLASSES[_CLASS["greek"] : _CLASS["mark"]]),
)
_CHARACTERS = {
    "newline": "\n", "space": " ", "comma": ",，、،", "period": ".。．।۔…", "colon": ":：", "semicolon": ";；؛",
    "question": "?？؟", "exclamation": "!！", "quote": "\"“”„«»「」『』'’‘", "open": "([（【", "close": ")]）】",
    "star": "*", "backtick": "`", "dash": "-–—", "bullet": "•·●▪‣◦", "hash": "#", "angle": "<>", "separator": "\0",
}  # fmt: skip
_RANGES = (
    ("greek", 0x370, 0x3FF), ("cyrillic", 0x400, 0x52F), ("hebrew", 0x590, 0x5FF), ("arabic", 0x600, 0x77F),
    ("devanagari", 0x900, 0x97F), ("bengali", 0x980, 0x9FF), ("tamil", 0xB80, 0xBFF), ("telugu", 0xC00, 0xC7F),
    ("thai", 0xE00, 0xE7F), ("hangul", 0x1100, 0x11FF), ("kana", 0x3040, 0x30FF), ("hangul", 0xAC00, 0xD7AF),
    ("han", 0x3400, 0x9FFF),
)  # fmt: skip
LOG_COUNTS = (
    "colon", "semicolon", "question", "exclamation", "quote", "open", "star", "backtick", "bullet", "hash", "angle",
)  # fmt: skip
SHARES = ("digit", "upper", "comma", "period", "space", "dash", "symbol")
_LAYOUT = (
    "log_characters", "log_lines", "log_paragraphs", "log_single_newlines", "log_bulleted", "log_numbered",
    "log_colon_lines", "log_trailing_spaces", "log_double_spaces", "starts_upper", "starts_lower", "starts_digit",
    "starts_bullet", "ends_period", "ends_other_mark", "ends_letter", "first_line_colon", "log_first_line",
    "log_last_line", "log_mean_line", "paragraph_ratio", "listed_ratio", "spaced_list", "log_bold", "log_open_breaks",
    "log_sentences", "log_mean_sentence", "list_then_text", "text_then_list", "spaced_bullets", "spaced_numbers",
)  # fmt: skip
_WORDS = ("log_words", "log_mean_word", "unique_words", "outer_whitespace")
FEATURES = (
    *_LAYOUT,
    *(f"log_{name}" for name in LOG_COUNTS),
    *(f"share_{name}" for name in SHARES),
    *(f"script_{name}" for name, _ in SCRIPTS),
    *_WORDS,
)
_CHUNK = 128


def surface_features(texts: Sequence[str]) -> np.ndarray:
    """Surface features of each text, (n, len(FEATURES)) float32; an empty text gets zeros.

    `log_*` are ln(1 + count), `share_*` and `script_*` shares of all characters and of all letters in [0, 1],
    the rest 0/1 or ratios in [0, 1].
    """
    out = np.zeros((len(texts), len(FEATURES)), np.float32)
    texts = list(texts)
    stripped = [text.replace("\0", " ").strip() for text in texts]
    kept = [i for i, text in enumerate(stripped) if text]
    for begin in range(0, len(kept), _CHUNK):
        chunk = kept[begin : begin + _CHUNK]
        out[chunk, : -len(_WORDS)] = _features([stripped[i] for i in chunk])
        out[chunk, -len(_WORDS) :] = _word_features([stripped[i] for i in chunk], [texts[i] for i in chunk])
    return out


def script_shares(texts: Sequence[str]) -> np.ndarray:
    """Share of each text's letters in each of `SCRIPTS`, (n, len(SCRIPTS)) float32; zeros where there is no letter."""
    if not len(texts):
        return np.zeros((0, len(SCRIPTS)), np.float32)
    classes, owner = _classify([text.replace("\0", " ") for text in texts])
    return _shares_of_scripts(_histogram(classes, owner, len(texts)))


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """Class of each code point of the basic plane, and of all others at the last index; (65537,) uint8."""
    table = np.full(0x10001, _CLASS["symbol"], np.uint8)
    for code in range(0x10000):
        character, category = chr(code), unicodedata.category(chr(code))
        if category[0] == "L":
            name = {"Lu": "upper", "Ll": "lower"}.get(category, "latin_other") if code < 0x370 else "other_letter"
        elif character.isspace():
            name = "other_space"
        else:
            name = {"Nd": "digit", "Mn": "mark", "Mc": "mark", "Me": "mark", "Cf": "mark"}.get(category, "symbol")
        table[code] = _CLASS[name]
    for name, low, high in _RANGES:
        block = table[low : high + 1]
        block[(block == _CLASS["other_letter"]) | (block == _CLASS["mark"])] = _CLASS[name]
    table[0x1E00:0x1F00] = _CLASS["latin_other"]
    for name, characters in _CHARACTERS.items():
        table[[ord(c) for c in characters]] = _CLASS[name]
    return table


def _classify(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Classes of all characters of the texts, a separator after each text, and the index of the owner of each."""
    joined = "\0".join(texts) + "\0"
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter((len(t) + 1 for t in texts), np.int64, len(texts))
    return _table()[np.minimum(codes, 0x10000)], np.repeat(np.arange(len(texts), dtype=np.int32), lengths)


def _histogram(classes: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """How many characters of each class each text has, (n, len(CLASSES)) float64."""
    width = len(CLASSES)
    return np.bincount(owner * width + classes, minlength=n * width).reshape(n, width).astype(np.float64)


def _shares_of_scripts(counts: np.ndarray) -> np.ndarray:
    letters = np.stack([counts[:, [_CLASS[c] for c in members]].sum(1) for _, members in SCRIPTS], axis=1)
    return (letters / np.maximum(letters.sum(1, keepdims=True), 1)).astype(np.float32)


def _is(classes: np.ndarray, *names: str) -> np.ndarray:
    return _members(names)[classes]


@lru_cache(maxsize=64)
def _members(names: tuple[str, ...]) -> np.ndarray:
    table = np.zeros(len(CLASSES), bool)
    table[[_CLASS[name] for name in names]] = True
    return table


def _features(texts: Sequence[str]) -> np.ndarray:
    """All features but those of `_WORDS`, of stripped, non-empty texts."""
    n = len(texts)
    classes, owner = _classify(texts)
    counts = _histogram(classes, owner, n)
    total = np.fromiter((len(t) for t in texts), np.float64, n)
    columns = [
        *_Layout.read(classes, owner, total).features(),
        *(np.log1p(counts[:, _CLASS[name]]) for name in LOG_COUNTS),
        *(counts[:, _CLASS[name]] / total for name in SHARES),
        *_shares_of_scripts(counts).T,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _word_features(stripped: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """log_words, log_mean_word, unique_words (share of distinct words) and outer_whitespace, (n, 4)."""
    rows = []
    for text, whole in zip(stripped, texts, strict=True):
        words = text.lower().split()
        n = max(len(words), 1)
        rows.append((np.log1p(n), np.log1p(len(text) / n), len(set(words)) / n, len(whole) != len(text)))
    return np.array(rows)


@dataclass
class _Layout:
    """Where the lines of n texts begin and end. Spaces and tabs are taken out first; arrays over characters otherwise.

    `opens`, `closes`: first and last character of a line. `first`, `last`: positions (start, end) of each text's first
    and last line. `bullets`, `numbers`, `breaks`, `lines`: counts a text (of empty lines: breaks).
    """

    classes: np.ndarray
    owner: np.ndarray
    total: np.ndarray
    trailing: np.ndarray
    double: np.ndarray

    @classmethod
    def read(cls, classes: np.ndarray, owner: np.ndarray, total: np.ndarray) -> _Layout:
        n = len(total)
        newline, space = classes == _CLASS["newline"], classes == _CLASS["space"]
        trailing = np.bincount(owner[:-1][space[:-1] & newline[1:]], minlength=n)
        double = np.bincount(owner[:-1][space[:-1] & space[1:]], minlength=n)
        solid = ~(space | (classes == _CLASS["other_space"]))
        return cls(classes[solid], owner[solid], total, trailing, double)

    def __post_init__(self) -> None:
        classes = self.classes
        self.newline = classes == _CLASS["newline"]
        boundary = self.newline | (classes == _CLASS["separator"])
        self.opens = np.concatenate([[True], boundary[:-1]]) & ~boundary
        self.closes = np.concatenate([boundary[1:], [True]]) & ~boundary
        self.lines = np.maximum(self.count(self.opens), 1)
        self.breaks = self.count(self.newline & np.concatenate([[False], self.newline[:-1]]))
        self.bullets, self.numbers = self._list_items()
        starts, ends = np.flatnonzero(self.opens), np.flatnonzero(self.closes)
        texts = self.owner[starts]
        low = np.searchsorted(texts, np.arange(len(self.total)), side="left")
        high = np.searchsorted(texts, np.arange(len(self.total)), side="right") - 1
        self.first, self.last = (starts[low], ends[low]), (starts[high], ends[high])

    def count(self, mask: np.ndarray) -> np.ndarray:
        """How many characters of each text the mask (or positions) marks, (n,) float64."""
        return np.bincount(self.owner[mask], minlength=len(self.total)).astype(np.float64)

    def _list_items(self) -> tuple[np.ndarray, np.ndarray]:
        following = np.concatenate([self.classes[1:], [0, 0]])
        bullets = np.flatnonzero(self.opens & _is(self.classes, "dash", "bullet", "star"))
        bullets = bullets[~_is(following[bullets], "star", "dash")]
        numbers = np.flatnonzero(self.opens & (self.classes == _CLASS["digit"]))
        two = following[numbers] == _CLASS["digit"]
        mark = np.where(two, following[numbers + 1], following[numbers])
        return self.count(bullets), self.count(numbers[_is(mark, "period", "close", "comma", "colon")])

    def features(self) -> list[np.ndarray]:
        """The features of `_LAYOUT`, each (n,)."""
        return [*self._line_features(), *self._list_features()]

    def _line_features(self) -> list[np.ndarray]:
        (first, first_end), (last, last_end) = self.first, self.last
        start, head, end = self.classes[first], self.classes[first_end], self.classes[last_end]
        single = np.maximum(self.count(self.newline) - 2 * self.breaks, 0)
        colons = self.count(self.closes & (self.classes == _CLASS["colon"]))
        counts = (
            self.total, self.lines, self.breaks, single, self.bullets, self.numbers, colons, self.trailing, self.double,
        )  # fmt: skip
        return [
            *map(np.log1p, counts),
            _is(start, "upper"), _is(start, "lower"), _is(start, "digit"), _is(start, "dash", "bullet", "star"),
            _is(end, "period", "question", "exclamation"), _is(end, "quote", "close", "backtick", "star", "colon"),
            end >= _CLASS["latin_other"], (self.lines > 1) & (head == _CLASS["colon"]),
            np.log1p(first_end - first), np.log1p(last_end - last), np.log1p(self.total / self.lines),
        ]  # fmt: skip

    def _list_features(self) -> list[np.ndarray]:
        star, newline, listed = self.classes == _CLASS["star"], self.newline, self.bullets + self.numbers
        bold = self.count(np.flatnonzero(star[:-1] & star[1:])) / 2
        open_breaks = self.count(np.flatnonzero(newline[:-2] & newline[1:-1] & newline[2:]))
        stops = self.count(_is(self.classes, "period", "question", "exclamation"))
        item = _is(self.classes, "dash", "bullet", "star", "digit")
        return [
            np.minimum(self.breaks / self.lines, 1), np.minimum(listed / self.lines, 1),
            (listed > 1) & (self.breaks >= listed - 1), np.log1p(bold), np.log1p(open_breaks),
            np.log1p(stops), np.log1p(self.total / (stops + 1)),
            (listed > 1) & ~item[self.last[0]], (listed > 1) & ~item[self.first[0]],
            (self.bullets > 1) & (self.breaks >= self.bullets - 1),
            (self.numbers > 1) & (self.breaks >= self.numbers - 1),
        ]  # fmt: skip
