"""Vectors of responses: the whole text and, where it marks a final answer, the answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.core.block_cache import cached_blocks
from hf_mlalign.core.validation import unit_rows
from hf_mlalign.data.answers.extract import answer_spans

if TYPE_CHECKING:
    from hf_mlalign.models.encoder import Encoder


MAX_SPAN = 200
"""Characters of a marked answer that are encoded (*ours*)."""
KEPT_TEXTS = 512
"""Texts whose vectors are kept at a time, where they are kept (*ours*)."""


def encode_responses(
    encoder: Encoder, texts: Sequence[str], spans: bool = True, folder: Path | None = None
) -> np.ndarray:
    """(n, d) unit vectors of n texts; with spans (n, 2d): [vector of the text, vector of its marked answer] / √2.

    A text without a marked answer ("Answer: …" at the start of a line, in any of the languages) repeats its own vector,
    so that its cosines are those of the whole texts. Nothing is appended when no text marks an answer.

    With a folder, the vectors are kept there as they come, and a second call takes up where a killed one stopped; only
    for encoders that can tell their content (`content_hash`).
    """
    whole = unit_rows(_encoded(encoder, list(texts), folder))
    marked = answer_spans(texts) if spans else [""]
    rows = np.flatnonzero([bool(span) for span in marked])
    if not len(rows):
        return whole
    known: dict[str, int] = {}
    place = [known.setdefault(marked[row][:MAX_SPAN], len(known)) for row in rows]
    answers = whole.copy()
    answers[rows] = unit_rows(_encoded(encoder, list(known), folder))[place]
    return np.concatenate([whole, answers], axis=1) / np.float32(np.sqrt(2))


def _encoded(encoder: Encoder, texts: list[str], folder: Path | None) -> np.ndarray:
    content = getattr(encoder, "content_hash", None)
    if folder is None or content is None:
        return np.asarray(encoder.encode(texts), np.float32)
    blocks = [slice(start, start + KEPT_TEXTS) for start in range(0, len(texts), KEPT_TEXTS)]
    out = np.empty((len(texts), encoder.dimension), np.float32)
    return cached_blocks(blocks, lambda block: encoder.encode(texts[block]), out, folder, ("vectors", content, texts))
