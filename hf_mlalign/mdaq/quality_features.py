"""Surface features of responses (shape, punctuation, script), computed for a whole batch with numpy only."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

CLASSES = (
    "separator", "newline", "space", "other_space", "digit", "upper", "lower", "comma", "period", "colon", "semicolon",
    "question", "exclamation", "quote", "open", "close", "star", "backtick", "dash", "bullet", "hash", "angle", "symbol",
    "latin_other", "greek", "cyrillic", "hebrew", "arabic", "devanagari", "bengali", "tamil", "telugu", "thai", "hangul",
    "kana", "han", "other_letter", "mark",
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
_LINES = (
    "log_characters", "log_lines", "log_paragraphs", "log_single_newlines", "log_bulleted", "log_numbered",
    "log_colon_lines", "log_trailing_spaces", "log_double_spaces", "starts_upper", "starts_lower", "starts_digit",
    "starts_bullet", "ends_period", "ends_other_mark", "ends_letter", "first_line_colon", "log_first_line",
    "log_last_line", "log_mean_line", "paragraph_ratio", "listed_ratio", "spaced_list", "outer_whitespace",
)  # fmt: skip
FEATURES = (
    *_LINES,
    *(f"log_{name}" for name in LOG_COUNTS),
    *(f"share_{name}" for name in SHARES),
    *(f"script_{name}" for name, _ in SCRIPTS),
)


_OUTER = FEATURES.index("outer_whitespace")
_CHUNK = 128


def surface_features(texts: Sequence[str]) -> np.ndarray:
    """Surface features of each text, (n, len(FEATURES)) float32; an empty text gets zeros.

    `log_*` are ln(1 + count), `share_*` and `script_*` shares of all characters and of all letters in [0, 1],
    the rest 0/1 or ratios in [0, 1].
    """
    out = np.zeros((len(texts), len(FEATURES)), np.float32)
    texts = list(texts)
    stripped = [text.strip().replace("\0", " ") for text in texts]
    kept = [i for i, text in enumerate(stripped) if text]
    for begin in range(0, len(kept), _CHUNK):
        chunk = kept[begin : begin + _CHUNK]
        out[chunk] = _features([stripped[i] for i in chunk])
        out[chunk, _OUTER] = [len(texts[i]) != len(stripped[i]) for i in chunk]
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
        category = unicodedata.category(chr(code))
        if category[0] == "L":
            name = {"Lu": "upper", "Ll": "lower"}.get(category, "latin_other") if code < 0x370 else "other_letter"
        else:
            name = {"M": "mark", "Z": "other_space", "C": "other_space"}.get(category[0], "symbol")
            name = "digit" if category == "Nd" else name
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
    n = len(texts)
    classes, owner = _classify(texts)
    counts = _histogram(classes, owner, n)
    total = np.fromiter((len(t) for t in texts), np.float64, n)
    columns = [
        *_line_features(classes, owner, total),
        *(np.log1p(counts[:, _CLASS[name]]) for name in LOG_COUNTS),
        *(counts[:, _CLASS[name]] / total for name in SHARES),
        *_shares_of_scripts(counts).T,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _line_features(classes: np.ndarray, owner: np.ndarray, total: np.ndarray) -> list[np.ndarray]:
    """The features of `_LINES`, each (n,); spaces and tabs at the ends of lines are skipped where a line is read."""
    n = len(total)

    def count(mask: np.ndarray, of: np.ndarray = owner) -> np.ndarray:
        return np.bincount(of[mask], minlength=n).astype(np.float64)

    newline, space = classes == _CLASS["newline"], classes == _CLASS["space"]
    trailing = count(space[:-1] & newline[1:], owner[:-1])
    double = count(space[:-1] & space[1:], owner[:-1])
    solid = ~(space | (classes == _CLASS["other_space"]))
    classes, owner = classes[solid], owner[solid]
    newline = classes == _CLASS["newline"]
    boundary = newline | (classes == _CLASS["separator"])
    before = np.concatenate([[True], boundary[:-1]])
    after = np.concatenate([boundary[1:], [True]])
    opens, closes = before & ~boundary, after & ~boundary
    following = np.concatenate([classes[1:], [0]])
    second = np.concatenate([classes[2:], [0, 0]])
    bulleted = np.flatnonzero(opens & _is(classes, "dash", "bullet", "star"))
    bulleted = bulleted[~_is(following[bulleted], "star", "dash")]
    marks = ("period", "close", "comma", "colon")
    numbered = np.flatnonzero(opens & (classes == _CLASS["digit"]))
    two = following[numbered] == _CLASS["digit"]
    numbered = numbered[_is(np.where(two, second[numbered], following[numbered]), *marks)]
    lines, bullets, numbers = np.maximum(count(opens, owner), 1), count(bulleted, owner), count(numbered, owner)
    breaks = count(newline & np.concatenate([[False], newline[:-1]]), owner)
    newlines = count(newline, owner)
    first, last = _first_and_last_line(opens, closes, boundary, owner, n)
    start, end, head = classes[first[0]], classes[last[1]], classes[first[1]]
    colon_lines = count(closes & (classes == _CLASS["colon"]), owner)
    listed = bullets + numbers
    return [
        np.log1p(total), np.log1p(lines), np.log1p(breaks), np.log1p(np.maximum(newlines - 2 * breaks, 0)),
        np.log1p(bullets), np.log1p(numbers), np.log1p(colon_lines), np.log1p(trailing), np.log1p(double),
        _is(start, "upper"), _is(start, "lower"), _is(start, "digit"), _is(start, "dash", "bullet", "star"),
        _is(end, "period", "question", "exclamation"), _is(end, "quote", "close", "backtick", "star", "colon"),
        end >= _CLASS["latin_other"], (lines > 1) & (head == _CLASS["colon"]),
        np.log1p(first[1] - first[0]), np.log1p(last[1] - last[0]), np.log1p(total / lines),
        np.minimum(breaks / lines, 1), np.minimum(listed / lines, 1), (listed > 1) & (breaks >= listed - 1),
        np.zeros(n),
    ]  # fmt: skip


def _first_and_last_line(opens, closes, boundary, owner, n):
    """Positions (start, end) of each text's first and last line; both (n,) integer arrays in a pair."""
    starts, ends = np.flatnonzero(opens), np.flatnonzero(closes)
    texts = owner[starts]
    low = np.searchsorted(texts, np.arange(n), side="left")
    high = np.searchsorted(texts, np.arange(n), side="right") - 1
    return (starts[low], ends[low]), (starts[high], ends[high])
