"""Character folding: Greek, Cyrillic and Katakana in Latin letters, Arabic spelling variants in one form.

Names and loan words then share pieces with their English forms. Everything else is learned unchanged.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρσςτυφχψω",
        ["a", "v", "g", "d", "e", "z", "i", "th", "i", "k", "l", "m", "n", "x", "o", "p", "r", "s", "s", "t", "y",
         "f", "ch", "ps", "o"],
        strict=True,
    )
)  # fmt: skip
GREEK_ACCENTED = dict(zip("άέήίόύώϊϋΐΰ", "aeiioyoiyiy", strict=True))
GREEK_ACCENTED["ό"], GREEK_ACCENTED["ώ"] = "o", "o"
CYRILLIC = dict(
    zip(
        "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
        ["a", "b", "v", "g", "d", "e", "e", "zh", "z", "i", "y", "k", "l", "m", "n", "o", "p", "r", "s", "t", "u", "f",
         "kh", "ts", "ch", "sh", "shch", "", "y", "", "e", "yu", "ya"],
        strict=True,
    )
)  # fmt: skip
KANA_ROWS = {
    "アイウエオ": "a i u e o", "カキクケコ": "ka ki ku ke ko", "ガギグゲゴ": "ga gi gu ge go",
    "サシスセソ": "sa shi su se so", "ザジズゼゾ": "za ji zu ze zo", "タチツテト": "ta chi tsu te to",
    "ダヂヅデド": "da ji zu de do", "ナニヌネノ": "na ni nu ne no", "ハヒフヘホ": "ha hi fu he ho",
    "バビブベボ": "ba bi bu be bo", "パピプペポ": "pa pi pu pe po", "マミムメモ": "ma mi mu me mo",
    "ャュョヤユヨ": "ya yu yo ya yu yo", "ラリルレロ": "ra ri ru re ro", "ワヲンヴ": "wa o n v",
    "ァィゥェォ": "a i u e o",
}  # fmt: skip
ARABIC = {"أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ة": "ه", "ؤ": "و", "ئ": "ي", "ـ": ""}
ARABIC_MARKS = range(0x064B, 0x0653)


def folding_rules() -> dict[str, str]:
    """Character → its folded form, for lower-case text in NFKC form."""
    rules = {**GREEK, **GREEK_ACCENTED, **CYRILLIC, **ARABIC, "ッ": "", "ー": ""}
    for row, sounds in KANA_ROWS.items():
        rules.update(zip(row, sounds.split(), strict=True))
    rules.update({chr(mark): "" for mark in ARABIC_MARKS})
    return rules


@lru_cache(maxsize=1)
def charsmap() -> bytes:
    """`folding_rules` as the compiled character map that the tokenizers library applies (made by sentencepiece)."""
    import sentencepiece

    lines = [_rule(source, target) for source, target in sorted(folding_rules().items())]
    with tempfile.TemporaryDirectory() as folder:
        table, text, model = (Path(folder) / name for name in ("rules.tsv", "text.txt", "fold"))
        table.write_text("\n".join(lines) + "\n", "utf-8")
        text.write_text("\n".join(f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"), "utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(model), vocab_size=14, model_type="char", minloglevel=2,
            normalization_rule_tsv=str(table), hard_vocab_limit=False,
        )  # fmt: skip
        return _charsmap_of(model.with_suffix(".model").read_bytes())


def _rule(source: str, target: str) -> str:
    return "\t".join(" ".join(f"{ord(c):X}" for c in text) for text in (source, target))


def _charsmap_of(model: bytes) -> bytes:
    """Field 2 of field 3 (normalizer_spec.precompiled_charsmap) of a sentencepiece model file."""
    return _field(_field(model, 3), 2)


def _field(message: bytes, wanted: int) -> bytes:
    """The first length-delimited field of that number in a protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 2:
            length, at = _varint(message, at)
            if number == wanted:
                return message[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        else:
            at += {1: 8, 5: 4}[kind]
    return b""


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
