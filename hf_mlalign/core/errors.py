"""Errors that users can act on, text that is safe to print, and a context that silences libraries."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
NAME_CHARS = 300


class DataError(ValueError):
    """Input that cannot be used. The message names the column or argument, the first bad row and the remedy."""


def listed(names, limit: int = 20) -> str:
    """`names` as one readable, length-limited list for an error message."""
    names = [text if len(text) <= NAME_CHARS else f"{text[:NAME_CHARS]}…" for text in map(str, names)]
    more = f", … ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "none"


def counted(n: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def printable(text: str) -> str:
    """`text` with control characters, direction overrides and lone surrogates written as escapes such as \\x1b; line
    breaks and tabs stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@contextmanager
def quiet() -> Iterator[None]:
    """A context without progress bars, warnings and logs of libraries; `HF_MLALIGN_VERBOSE` (--verbose) keeps them."""
    if os.environ.get("HF_MLALIGN_VERBOSE"):
        yield
        return
    import datasets
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    datasets_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if datasets_bars:
            datasets.enable_progress_bars()
