"""Errors a user can act on, and text of others that a terminal shows as text."""

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
NAME_CHARS = 300


class DataError(ValueError):
    """Input that cannot be used; the message names the column or argument, the first bad row and the remedy."""


def listed(names, limit: int = 20) -> str:
    """`names` as one readable, length-limited list for an error message."""
    names = [text if len(text) <= NAME_CHARS else f"{text[:NAME_CHARS]}…" for text in map(str, names)]
    more = f", … ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "none"


def printable(text: str) -> str:
    """`text` with what a terminal would obey (escape sequences, overrides of the direction) or cannot show written as
    escapes such as \\x1b; line breaks and tabs stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
