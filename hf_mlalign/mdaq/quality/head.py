"""The head of the Quality Scoring Model: surface features of texts (shape, punctuation, script), and two small towers
over them and the vectors of a frozen encoder. It uses only numpy, which is safe in forks."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from math import floor, log2, sqrt

import numpy as np

from hf_mlalign.core.errors import DataError

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
TEXTS_AT_ONCE = 128


def surface_features(texts: Sequence[str]) -> np.ndarray:
    """Surface features of each text, (n, len(FEATURES)) float32; an empty text gets zeros.

    `log_*` are ln(1 + count), `share_*` and `script_*` shares of all characters and of all letters in [0, 1],
    the rest 0/1 or ratios in [0, 1].
    """
    out = np.zeros((len(texts), len(FEATURES)), np.float32)
    texts = list(texts)
    stripped = [text.replace("\0", " ").strip() for text in texts]
    kept = [i for i, text in enumerate(stripped) if text]
    for begin in range(0, len(kept), TEXTS_AT_ONCE):
        chunk = kept[begin : begin + TEXTS_AT_ONCE]
        part = [stripped[i] for i in chunk]
        classes, owner = _classify(part)
        counts = _histogram(classes, owner, len(part))
        total = np.fromiter((len(text) for text in part), np.float64, len(part))
        words = []
        for i in chunk:
            found = stripped[i].lower().split()
            n = max(len(found), 1)
            size = len(stripped[i])
            words.append((np.log1p(n), np.log1p(size / n), len(set(found)) / n, len(texts[i]) != size))
        columns = [
            *_Layout.read(classes, owner, total).features(),
            *(np.log1p(counts[:, _CLASS[name]]) for name in LOG_COUNTS),
            *(counts[:, _CLASS[name]] / total for name in SHARES),
            *_shares_of_scripts(counts).T,
        ]
        out[chunk, : -len(_WORDS)] = np.stack(columns, axis=1).astype(np.float32)
        out[chunk, -len(_WORDS) :] = np.array(words)
    return out


def script_shares(texts: Sequence[str]) -> np.ndarray:
    """Share of each text's letters in each of `SCRIPTS`, (n, len(SCRIPTS)) float32; zeros without letters."""
    if not len(texts):
        return np.zeros((0, len(SCRIPTS)), np.float32)
    classes, owner = _classify([text.replace("\0", " ") for text in texts])
    return _shares_of_scripts(_histogram(classes, owner, len(texts)))


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """(65537,) uint8: class of each code point of the basic plane; the last entry is the class of all others."""
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
    """Classes of all characters of the texts, with a separator after each text, and the index of each one's text."""
    joined = "\0".join(texts) + "\0"
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter((len(t) + 1 for t in texts), np.int64, len(texts))
    return _table()[np.minimum(codes, 0x10000)], np.repeat(np.arange(len(texts), dtype=np.int32), lengths)


def _histogram(classes: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """Number of characters of each class in each text, (n, len(CLASSES)) float64."""
    width = len(CLASSES)
    return np.bincount(owner * width + classes, minlength=n * width).reshape(n, width).astype(np.float64)


def _shares_of_scripts(counts: np.ndarray) -> np.ndarray:
    letters = np.stack([counts[:, [_CLASS[c] for c in members]].sum(1) for _, members in SCRIPTS], axis=1)
    return (letters / np.maximum(letters.sum(1, keepdims=True), 1)).astype(np.float32)


@lru_cache(maxsize=64)
def _members(*names: str) -> np.ndarray:
    """Which classes these are, (len(CLASSES),) bool."""
    table = np.zeros(len(CLASSES), bool)
    table[[_CLASS[name] for name in names]] = True
    return table


@dataclass
class _Layout:
    """Where the lines of n texts start and end, after spaces and tabs are removed; otherwise arrays over characters.

    `opens`, `closes`: first and last character of a line. `first`, `last`: positions (start, end) of each text's first
    and last line. `bullets`, `numbers`, `breaks` (empty lines), `lines`: counts per text.
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
        following = np.concatenate([classes[1:], [0, 0]])
        bullets = np.flatnonzero(self.opens & _members("dash", "bullet", "star")[classes])
        self.bullets = self.count(bullets[~_members("star", "dash")[following[bullets]]])
        numbers = np.flatnonzero(self.opens & (classes == _CLASS["digit"]))
        two = following[numbers] == _CLASS["digit"]
        mark = np.where(two, following[numbers + 1], following[numbers])
        self.numbers = self.count(numbers[_members("period", "close", "comma", "colon")[mark]])
        starts, ends = np.flatnonzero(self.opens), np.flatnonzero(self.closes)
        texts = self.owner[starts]
        low = np.searchsorted(texts, np.arange(len(self.total)), side="left")
        high = np.searchsorted(texts, np.arange(len(self.total)), side="right") - 1
        self.first, self.last = (starts[low], ends[low]), (starts[high], ends[high])

    def count(self, mask: np.ndarray) -> np.ndarray:
        """Number of characters of each text that the mask (or positions) marks, (n,) float64."""
        return np.bincount(self.owner[mask], minlength=len(self.total)).astype(np.float64)

    def features(self) -> list[np.ndarray]:
        """The features of `_LAYOUT`, each (n,)."""
        (first, first_end), (last, last_end) = self.first, self.last
        start, head, end = self.classes[first], self.classes[first_end], self.classes[last_end]
        single = np.maximum(self.count(self.newline) - 2 * self.breaks, 0)
        colons = self.count(self.closes & (self.classes == _CLASS["colon"]))
        counts = (
            self.total, self.lines, self.breaks, single, self.bullets, self.numbers, colons, self.trailing, self.double,
        )  # fmt: skip
        star, newline, listed = self.classes == _CLASS["star"], self.newline, self.bullets + self.numbers
        bold = self.count(np.flatnonzero(star[:-1] & star[1:])) / 2
        open_breaks = self.count(np.flatnonzero(newline[:-2] & newline[1:-1] & newline[2:]))
        stops = self.count(_members("period", "question", "exclamation")[self.classes])
        item = _members("dash", "bullet", "star", "digit")[self.classes]
        return [
            *map(np.log1p, counts),
            *(_members(*names)[start] for names in (("upper",), ("lower",), ("digit",), ("dash", "bullet", "star"))),
            _members("period", "question", "exclamation")[end],
            _members("quote", "close", "backtick", "star", "colon")[end],
            end >= _CLASS["latin_other"], (self.lines > 1) & (head == _CLASS["colon"]),
            np.log1p(first_end - first), np.log1p(last_end - last), np.log1p(self.total / self.lines),
            np.minimum(self.breaks / self.lines, 1), np.minimum(listed / self.lines, 1),
            (listed > 1) & (self.breaks >= listed - 1), np.log1p(bold), np.log1p(open_breaks),
            np.log1p(stops), np.log1p(self.total / (stops + 1)),
            (listed > 1) & ~item[self.last[0]], (listed > 1) & ~item[self.first[0]],
            (self.bullets > 1) & (self.breaks >= self.bullets - 1),
            (self.numbers > 1) & (self.breaks >= self.numbers - 1),
        ]  # fmt: skip


CLIP = 4.0
"""Standardised surface features are clipped to ±`CLIP` (*ours*), so that odd texts cannot dominate a vector."""

STEPS, BOUND = 2.0**20, 16.0
"""Inputs of a product, within ±`BOUND`, are rounded to multiples of 1 / `STEPS` (*ours*); see `ExactWeights`."""


@dataclass(frozen=True)
class HeadShape:
    """Sizes of a head. The numbers are *ours*, chosen on a development split (docs/appendix/qsm.md)."""

    dimension: int
    """Length of the encoder's vectors."""
    hidden: int = 256
    """Units of the hidden layer of each tower."""
    output: int = 64
    """Length of the vectors of one member."""
    members: int = 4
    """Independently initialised heads whose vectors are concatenated."""

    @property
    def instruction_inputs(self) -> int:
        return self.dimension + len(SCRIPTS)

    @property
    def response_inputs(self) -> int:
        return self.dimension + len(FEATURES)

    @classmethod
    def from_dict(cls, values: Mapping) -> HeadShape:
        return cls(**{f.name: int(values[f.name]) for f in fields(cls)})

    def to_dict(self) -> dict:
        return asdict(self)


def arrays_expected(shape: HeadShape) -> dict[str, tuple[int, ...]]:
    """Name → shape of every array of a head."""
    m, h, o = shape.members, shape.hidden, shape.output
    expected: dict[str, tuple[int, ...]] = {"feature_mean": (len(FEATURES),), "feature_scale": (len(FEATURES),)}
    for tower, width in (("instruction", shape.instruction_inputs), ("response", shape.response_inputs)):
        expected |= {f"{tower}.linear": (m, o, width), f"{tower}.bias": (m, o)}
        expected |= {f"{tower}.hidden": (m, h, width), f"{tower}.hidden_bias": (m, h), f"{tower}.out": (m, o, h)}
    return expected


class QualityHead:
    """v_instruction from the instruction alone and v_response from the response alone.

    Each tower is `linear(x) + out(gelu(hidden(x)))`. For an instruction, x is its unit-length encoder vector and the
    shares of the scripts of its letters; for a response, its unit-length encoder vector and its standardised surface
    features. The members' vectors are concatenated and divided by √members.

    Args:
        shape: sizes.
        arrays: name → float array, see `arrays_expected`.
    Raises:
        DataError: an array is missing or has another shape.
    """

    def __init__(self, shape: HeadShape, arrays: Mapping[str, np.ndarray]):
        for name, size in arrays_expected(shape).items():
            found = arrays[name].shape if name in arrays else None
            if found != size:
                raise DataError(
                    f"quality head: array {name!r} has shape {found}, expected {size}. The weights belong to another "
                    "version or encoder: train again with python -m hf_mlalign.launch.train_qsm."
                )
        self.shape = shape
        self.arrays = {name: np.ascontiguousarray(arrays[name], np.float32) for name in arrays_expected(shape)}
        self._weights = {
            name: [ExactWeights(weights) for weights in array] for name, array in self.arrays.items() if array.ndim == 3
        }

    @property
    def width(self) -> int:
        """Length of v_instruction and v_response."""
        return self.shape.members * self.shape.output

    def instruction_vectors(self, embeddings: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """v_instruction, (n, width) float32, from the encoder's (n, dimension) unit-length vectors and the texts."""
        return self._tower("instruction", instruction_inputs(embeddings, texts))

    def response_vectors(self, embeddings: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """v_response, (n, width) float32, from the encoder's (n, dimension) unit-length vectors and the texts."""
        features = standardise(surface_features(texts), self.arrays["feature_mean"], self.arrays["feature_scale"])
        return self._tower("response", np.concatenate([embeddings, features], axis=1))

    def _tower(self, tower: str, x: np.ndarray) -> np.ndarray:
        linear, hidden, out = (self._weights[f"{tower}.{part}"] for part in ("linear", "hidden", "out"))
        bias, hidden_bias = (self.arrays[f"{tower}.{part}"] for part in ("bias", "hidden_bias"))
        x = in_steps(x)
        vectors = [
            linear[i](x) + bias[i] + out[i](in_steps(gelu(hidden[i](x) + hidden_bias[i])))
            for i in range(self.shape.members)
        ]
        return (np.concatenate(vectors, axis=1) / np.float32(sqrt(self.shape.members))).astype(np.float32)


class ExactWeights:
    """A weight matrix whose products do not depend, to the last bit, on the other rows of a batch or on threads.

    Libraries add the terms of a product in an order that depends on the number of rows and on a row's position, and
    each order rounds differently. Here inputs and weights are first rounded to few enough bits that float64 holds every
    partial sum exactly, so that every order gives the same result. Exact for inputs within ±`BOUND`; accurate to 1e-15
    beyond.

    Args:
        weights: (outputs, inputs).
    """

    def __init__(self, weights: np.ndarray):
        weights = weights.astype(np.float64)
        largest = float(np.abs(weights).sum(axis=1).max(initial=0.0)) or 1.0
        steps = 2.0 ** floor(52 - log2(STEPS * BOUND * largest))
        self._weights, self._scale = np.ascontiguousarray(np.rint(weights * steps).T), 1 / (STEPS * steps)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The product of (n, inputs) numbers of `in_steps` with the transposed weights, (n, outputs) float32."""
        return (x @ self._weights * self._scale).astype(np.float32)


def in_steps(x: np.ndarray) -> np.ndarray:
    """`x` as float64 whole numbers of 1 / `STEPS`."""
    return np.rint(x.astype(np.float64) * STEPS)


def instruction_inputs(embeddings: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """What the instruction tower sees: (n, dimension + scripts) float32."""
    return np.concatenate([embeddings, script_shares(texts)], axis=1, dtype=np.float32)


def standardise(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(features − mean) / scale, clipped to ±`CLIP`."""
    return np.clip((features - mean) / scale, -CLIP, CLIP).astype(np.float32)


def gelu(x: np.ndarray) -> np.ndarray:
    """x · Φ(x) in its tanh form, the same as `torch.nn.GELU("tanh")`."""
    return 0.5 * x * (1 + np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)))


def negative_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """−‖a − b‖₂ row by row, (n,) float32: the paper's quality score of a (v_instruction, v_response) pair."""
    return -np.sqrt(np.square(np.asarray(a, np.float32) - np.asarray(b, np.float32)).sum(axis=1))


def triplet_losses(anchor: np.ndarray, positive: np.ndarray, negative: np.ndarray, epsilon: float = 0.3) -> np.ndarray:
    """max(‖v_i − v_p‖₂ − ‖v_i − v_n‖₂ + ε, 0) row by row, (n,): the paper's loss; ε = 0.3 (*paper*)."""
    return np.maximum(negative_distance(anchor, negative) - negative_distance(anchor, positive) + epsilon, 0)
