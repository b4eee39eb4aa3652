"""Small sample tables whose pairs can be worked out by hand."""

import numpy as np
import pytest
from datasets import Dataset

VECTORS = {
    "good": [1.0, 0.0, 0.0],
    "fair": [0.8, 0.6, 0.0],
    "bad": [0.0, 1.0, 0.0],
    "worse": [-1.0, 0.0, 0.0],
}


def table(rows, **columns):
    """Dataset of (prompt_id, language, response) rows; the prompt is "<id> in <language>"."""
    data = {
        "prompt_id": [r[0] for r in rows],
        "language": [r[1] for r in rows],
        "prompt": [f"{r[0]} in {r[1]}" for r in rows],
        "response": [r[2] for r in rows],
    }
    return Dataset.from_dict({**data, **columns})


def vectors_of(rows):
    """(n, 3) vectors by the first word of each response."""
    return np.array([VECTORS.get((r[2] or "").split(" ")[0], [0.0, 0.0, 1.0]) for r in rows], np.float32)


@pytest.fixture
def rows():
    """One prompt complete in en and de, one without English, one with a single German sample."""
    return [
        ("p1", "en", "good one"),
        ("p1", "en", "fair two"),
        ("p1", "en", "bad three"),
        ("p1", "de", "worse vier"),
        ("p1", "de", "good fünf"),
        ("p1", "de", "fair sechs"),
        ("p2", "de", "good sieben"),
        ("p2", "de", "bad acht"),
        ("p3", "en", "good nine"),
        ("p3", "en", "good ten"),
        ("p3", "de", "good elf"),
    ]
