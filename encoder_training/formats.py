"""Readers of translation files: gettext .mo, Chromium .pak, Mozilla .ftl and .properties, Qt .qm, dictd, EDICT.

Every reader takes bytes or text and returns plain dictionaries or lists; nothing here touches the file system.
"""

from __future__ import annotations

import html
import re
import struct
from collections.abc import Iterator

from hf_mlalign.core.errors import DataError

MO_MAGIC = 0x950412DE
QM_MAGIC = bytes.fromhex("3cb86418caef9c95cd211cbf60a1bddd")


def read_mo(data: bytes) -> dict[str, str]:
    """Messages of a gettext catalogue, English → translation.

    The context (before `\\x04`) is dropped; of plural forms, singular maps to the first and plural to the last form.

    Raises:
        DataError: `data` is not a .mo file.
    """
    for order in "<>":
        if len(data) >= 20 and struct.unpack(order + "I", data[:4])[0] == MO_MAGIC:
            break
    else:
        raise DataError("mo: the file does not start with the gettext magic number. Pass a compiled .mo catalogue.")
    count, originals, translations = struct.unpack(order + "3I", data[8:20])
    messages: dict[str, str] = {}
    for row in range(count):
        source, target = (_mo_text(data, table + 8 * row, order) for table in (originals, translations))
        sources, targets = source.rpartition("\x04")[2].split("\0"), target.split("\0")
        for english, translation in ((sources[0], targets[0]), (sources[-1], targets[-1])):
            if english and translation:
                messages.setdefault(english, translation)
    return messages


def _mo_text(data: bytes, at: int, order: str) -> str:
    length, offset = struct.unpack(order + "2I", data[at : at + 8])
    return data[offset : offset + length].decode("utf-8", "replace")


def read_pak(data: bytes) -> dict[int, str]:
    """Strings of a Chromium locale pack (version 5), resource id → text.

    Raises:
        DataError: another version or encoding.
    """
    if len(data) < 12:
        raise DataError("pak: the file is shorter than its header. Pass a complete .pak file.")
    version, encoding, count, aliases = struct.unpack("<IIHH", data[:12])
    if version != 5 or encoding not in (1, 2):
        raise DataError(f"pak: version {version}, encoding {encoding}; only version 5 with text (1 or 2) is read.")
    codec = "utf-8" if encoding == 1 else "utf-16-le"
    table = [struct.unpack_from("<HI", data, 12 + 6 * row) for row in range(count + 1)]
    strings = {table[row][0]: data[table[row][1] : table[row + 1][1]].decode(codec, "replace") for row in range(count)}
    base = 12 + 6 * (count + 1)
    for row in range(aliases):
        resource, index = struct.unpack_from("<HH", data, base + 4 * row)
        strings[resource] = strings[table[index][0]]
    return strings


def read_ftl(text: str) -> dict[str, str]:
    """Messages and attributes of a Fluent file, `id` or `id.attribute` → one line of text."""
    messages: dict[str, list[str]] = {}
    name = key = ""
    for line in text.splitlines():
        if match := re.match(r"(-?[A-Za-z][\w-]*)\s*=\s?(.*)", line):
            name = key = match[1]
            messages[key] = [match[2]]
        elif match := re.match(r"\s+\.([A-Za-z][\w-]*)\s*=\s?(.*)", line):
            key = f"{name}.{match[1]}"
            messages[key] = [match[2]]
        elif line.startswith((" ", "\t")) and key and not re.match(r"\s*([*\[}])", line):
            messages[key].append(line.strip())
        elif line.strip():
            name = key = ""
    return {key: " ".join(part for part in parts if part).strip() for key, parts in messages.items()}


def read_properties(text: str) -> dict[str, str]:
    """Entries of a Java properties file."""
    text = re.sub(r"\\\r?\n\s*", "", text)
    pairs = (re.match(r"\s*([^#!=\s][^=:]*?)\s*[=:]\s*(.*)", line) for line in text.splitlines())
    unescape = re.compile(r"\\u([0-9a-fA-F]{4})")
    return {p[1]: unescape.sub(lambda m: chr(int(m[1], 16)), p[2]).replace("\\n", " ") for p in pairs if p}


def read_qm(data: bytes) -> dict[str, str]:
    """Messages of a compiled Qt catalogue, English → translation; empty if the sources were stripped.

    Raises:
        DataError: `data` is not a .qm file.
    """
    if not data.startswith(QM_MAGIC):
        raise DataError("qm: the file does not start with the Qt magic number. Pass a compiled .qm catalogue.")
    messages: dict[str, str] = {}
    at = len(QM_MAGIC)
    while at + 5 <= len(data):
        tag, length = struct.unpack_from(">BI", data, at)
        if tag == 0x69:
            messages.update(_qm_messages(data[at + 5 : at + 5 + length]))
        at += 5 + length
    return messages


def _qm_messages(block: bytes) -> Iterator[tuple[str, str]]:
    at, source, target = 0, "", ""
    while at < len(block):
        tag = block[at]
        at += 1
        if tag == 1:
            if source and target:
                yield source, target
            source = target = ""
            continue
        if tag == 5:
            at += 4
            continue
        (length,) = struct.unpack_from(">I", block, at)
        at += 4
        length = 0 if length == 0xFFFFFFFF else length
        value = block[at : at + length]
        at += length
        if tag == 3 and not target:
            target = value.decode("utf-16-be", "replace")
        elif tag in (2, 6):
            source = value.decode("utf-16-be" if tag == 2 else "utf-8", "replace")


def read_dictd(text: str) -> Iterator[tuple[str, str]]:
    """(headword, translation) pairs of a FreeDict file in dictd form; headwords are the lines with /pronunciation/."""
    head = ""
    for line in text.splitlines():
        if match := re.match(r"(\S[^/]*?)\s*(/[^/]+/|<[\w., ]+>)", line):
            head = re.sub(r"\[[^\]]*\]|\([^)]*\)", "", match[1]).strip()
            continue
        if not head or line.lstrip().startswith(('"', "Note", "see:", "Synonym", "(")):
            continue
        line = re.sub(r"<[^>]*>|\([^)]*\)|\[[^\]]*\]|\{[^}]*\}|\b(\d+|[IVX]+)\.", " ", line).replace("~", " ")
        for part in re.split(r"[,;،]", line):
            part = part.strip(" .\t")
            if part and len(part) < 60:
                yield head, part


def read_edict(text: str) -> Iterator[tuple[str, str]]:
    """(Japanese word, English gloss) pairs of EDICT; entries marked common `(P)` only."""
    for line in text.splitlines():
        match = re.match(r"(\S+?)(?:;\S*)?(?: \[[^\]]*\])? /(.+)/$", line)
        if not match or "(P)" not in match[2]:
            continue
        word = re.sub(r"\(.*?\)", "", match[1])
        for gloss in match[2].split("/")[:3]:
            gloss = re.sub(r"\([^)]*\)|\{[^}]*\}", "", gloss).strip()
            if gloss and not gloss.startswith("EntL"):
                yield word, gloss


BLOCK = re.compile(
    r"<(p|title|para|desc|h[1-6]|dt|dd|li|td|th|term|simpara|programlisting)\b([^>]*)>(.*?)</\1\s*>", re.S | re.I
)


def read_blocks(markup: str) -> list[tuple[str, str]]:
    """(`id` attribute or "", text) of each innermost block element of HTML, DocBook or Mallard, in document order."""
    markup = re.sub(r"<!--.*?-->|<(script|style|pre|code)\b.*?</\1\s*>", " ", markup, flags=re.S | re.I)
    blocks = []
    for match in BLOCK.finditer(markup):
        identifier = re.search(r'\bid="([^"]+)"', match[2])
        blocks.append((identifier[1] if identifier else "", strip_markup(match[3])))
    return blocks


def strip_markup(text: str) -> str:
    """Text without tags, entities resolved, white space collapsed."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
