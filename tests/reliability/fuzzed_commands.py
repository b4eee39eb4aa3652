"""Each command that reads data, with a small table that it accepts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

LANGUAGES = ("en", "de", "sw")
ASKED = {"en": "How many are", "de": "Wie viele sind", "sw": "Ngapi ni"}


def _rows(columns: Callable[[int, str], dict]) -> pa.Table:
    return pa.Table.from_pylist([columns(i, code) for i in range(4) for code in LANGUAGES])


INSTRUCTIONS = _rows(lambda i, code: {
    "prompt": f"{ASKED[code]} {i} + {i}? {'x' * i}", "response": f"{code}: {2 * i} because of {i}", "language": code,
})  # fmt: skip
PROMPTS = _rows(lambda i, code: {"prompt_id": f"p{i}", "language": code, "prompt": f"{ASKED[code]} {i} + {i}?"})
SAMPLES = pa.Table.from_pylist([
    {"prompt_id": f"p{i}", "language": code, "prompt": f"{ASKED[code]} {i} + {i}?",
     "response": f"{ASKED[code]} {i} {'word ' * (sample + i)} answer {sample}"}
    for i in range(4) for code in LANGUAGES for sample in range(3)
])  # fmt: skip
PAIRS = _rows(lambda i, code: {
    "prompt_id": f"p{i}", "language": code, "prompt": ASKED[code], "chosen": f"{code} good {i}", "rejected": f"bad {i}",
})  # fmt: skip
ANSWERS = _rows(lambda i, code: {
    "prompt_id": f"p{i}", "language": code, "prompt": ASKED[code], "candidate": f"{code} good {i}",
    "baseline": f"bad {i}",
})  # fmt: skip
QUESTIONS = pa.table({"id": list(map(str, range(4))), **{c: [f"{ASKED[c]} {i}?" for i in range(4)] for c in LANGUAGES}})
LABELLED = _rows(lambda i, code: {
    "id": i, "language": code, "input": f"{code} {('good', 'bad')[i % 2]} thing {i}",
    "answer": {"en": ("positive", "negative"), "de": ("positiv", "negativ"), "sw": ("chanya", "hasi")}[code][i % 2],
})  # fmt: skip
PARALLEL = _rows(lambda i, code: {"id": i, "language": code, "prompt": f"{ASKED[code]} {i}:", "answer": f"{code}{i}"})

TABLES = {
    "curate": INSTRUCTIONS, "score": INSTRUCTIONS, "sample": PROMPTS, "build-pairs": SAMPLES, "lint": PAIRS,
    "judge": ANSWERS, "annotate": ANSWERS, "questions": QUESTIONS, "classify": LABELLED, "lens": PARALLEL,
}  # fmt: skip
COMMANDS = tuple(TABLES)


def arguments(command: str, source: object, output: object, model: object) -> list[object]:
    """The command line that reads `source` and writes `output`, small enough to end in a second."""
    return {
        "curate": ["curate", source, "-o", output, "--n-quality", 4, "--n-diversity", 1],
        "score": ["score", source, "-o", output],
        "sample": ["sample", source, "-o", output, "--model", model, "--n", 1, "--max-tokens", 2],
        "build-pairs": ["build-pairs", source, "-o", output],
        "lint": ["lint", source],
        "judge": ["judge", source, "-o", output],
        "annotate": ["annotate", source, "-o", output],
        "annotate-export": ["annotate-export", source, "-o", output],
        "questions": ["questions", source, "-o", output],
        "classify": ["classify", source, "-o", output, "--model", model, "--task", "emotion", "--n-shots", 0],
        "lens": ["lens", model, "--data", source, "-o", output],
        "report": ["report", source, "-o", output],
        "push": ["push", source, "me/set"],
    }[command]  # fmt: skip


def tiny_model(folder: Path) -> Path:
    """A causal LM of random weights."""
    from tests.tiny_models import saved, tiny_llama

    return Path(saved(tiny_llama(context=2048), folder / "model"))
