"""Vectors of responses: the whole text and, where it marks a final answer, the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.answers.extract import answer_spans
from hf_mlalign.arrays import unit_rows

if TYPE_CHECKING:
    from hf_mlalign.encoders import Encoder


MAX_SPAN = 200
"""Characters of a marked answer that are encoded (*ours*)."""


def encode_responses(encoder: Encoder, texts: Sequence[str], spans: bool = True) -> np.ndarray:
    """(n, d) unit vectors of n texts; with spans (n, 2d): [vector of the text, vector of its marked answer] / √2.

    A text without a marked answer ("Answer: …" at the start of a line, in any of the languages) repeats its own vector,
    so that its cosines are those of the whole texts. Nothing is appended when no text marks an answer.
    """
    whole = unit_rows(np.asarray(encoder.encode(list(texts)), np.float32))
    marked = answer_spans(texts) if spans else [""]
    rows = np.flatnonzero([bool(span) for span in marked])
    if not len(rows):
        return whole
    known: dict[str, int] = {}
    place = [known.setdefault(marked[row][:MAX_SPAN], len(known)) for row in rows]
    answers = whole.copy()
    answers[rows] = unit_rows(np.asarray(encoder.encode(list(known)), np.float32))[place]
    return np.concatenate([whole, answers], axis=1) / np.float32(np.sqrt(2))
