"""Public functions that take one text, one value or a whole table."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from datasets import Dataset

from hf_mlalign.cmalign.trainer_config import check_preferences
from hf_mlalign.data import columns, languages
from hf_mlalign.evaluation.annotation import items
from hf_mlalign.evaluation.annotation.agreement import reader_agreement
from hf_mlalign.evaluation.judges.run import join_responses
from hf_mlalign.launch.rows import to_training_rows
from hf_mlalign.mdaq import scaling
from hf_mlalign.spontaneous.classification import tasks
from hf_mlalign.spontaneous.questions import reading as questions_reading
from tests.reliability.public_functions import entry, vectors

LANGUAGES = ("de", "en", "sw")
NAMES = [f"code: {what}" for what in ("unknown", "a number", "a list", "an object")]


def as_array(values: Any) -> Any:
    return values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)


def one_chunk(values: Any) -> Any:
    values = as_array(values)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


entry("data.normalise", languages.normalise, {"code": "name"}, lambda rng, n: {"code": "pt-BR"}, accepts=NAMES)
entry("data.known_code", languages.known_code, {"code": "name"}, lambda rng, n: {"code": "pt-BR", "where": "code"})
entry(
    "data.matrix",
    lambda values: columns.matrix(pa.array([row.tolist() for row in values], pa.list_(pa.float32())), "values"),
    {},
    lambda rng, n: {"values": vectors(rng, n)},
)


def dataset_of(n: int) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt_id": [f"p{i // 3}" for i in range(n)],
            "language": [LANGUAGES[i % 3] for i in range(n)],
            "prompt": [f"Which letter, {i // 3}?" for i in range(n)],
            "candidate": [f"It is {'abc'[i % 3]}." for i in range(n)],
            "baseline": [f"Perhaps {i}." for i in range(n)],
        }
    )


def preference_pairs(n: int) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt": [f"Hi {i}?" for i in range(n)],
            "chosen": [f"yes {i}" for i in range(n)],
            "rejected": ["no"] * n,
            "language": [LANGUAGES[i % 3] for i in range(n)],
        }
    )


def classified(n: int) -> Dataset:
    return Dataset.from_dict(
        {
            "id": [str(i // 3) for i in range(n)],
            "language": [LANGUAGES[i % 3] for i in range(n)],
            "text": [f"I am glad {i}" for i in range(n)],
            "label": [i // 3 % 2 for i in range(n)],
        }
    )


def found_questions(ds: Any) -> Any:
    found = questions_reading.find_columns(ds)
    return questions_reading.read_questions(ds, found, (None, None))


DATASETS = {
    "evaluation.read_items": (lambda ds: items.read_items(ds), dataset_of),
    "cmalign.check_preferences": (
        lambda ds: check_preferences(ds, "train"),
        preference_pairs,
    ),
    "launch.to_training_rows": (
        lambda ds: to_training_rows(ds),
        lambda n: preference_pairs(n).rename_column("chosen", "completion").remove_columns("rejected"),
    ),
    "evaluation.join_responses": (
        lambda ds: join_responses(ds, ds),
        lambda n: dataset_of(n).rename_column("candidate", "response").remove_columns("baseline"),
    ),
    "mdaq.nested_subsets": (
        lambda ds: scaling.nested_subsets(ds, sizes=(7,), methods=("quality",)).counts(),
        lambda n: Dataset.from_dict(
            {
                "instruction": [f"Say {i}" for i in range(4 * n)],
                "output": ["abcdefgh"[i % 8 :] for i in range(4 * n)],
                "language": ["de"] * 4 * n,
                "quality_score": [-float(i) for i in range(4 * n)],
                "embedding": [[1.0, float(i)] for i in range(4 * n)],
            }
        ),
    ),
}
ACCEPTS = {"cmalign.check_preferences": ["ds: streaming"]}  # as TRL takes it
for name, (call, make) in DATASETS.items():
    entry(
        name,
        call,
        {"ds": "dataset"},
        lambda rng, n, make=make: {"ds": make(n)},
        says={"ds": ""},
        accepts=ACCEPTS.get(name, ()),
    )


def human_agreement(n_resamples: int, confidence: float, seed: int) -> Any:
    import pandas as pd

    rows = pd.DataFrame(
        [
            {
                "item": f"i{i // 2}",
                "prompt_id": f"p{i // 2}",
                "annotator": f"a{i % 2}",
                "language": "de",
                "preference_score": i % 3 / 2,
                **{f"{s}_{m}": 1.0 + i % 5 for s in ("candidate", "baseline") for m in ("quality", "culture")},
            }
            for i in range(12)
        ]
    )
    return reader_agreement(rows, n_resamples=n_resamples, confidence=confidence, seed=seed)


entry(
    "evaluation.reader_agreement",
    human_agreement,
    {"n_resamples": "whole", "confidence": "share", "seed": "whole"},
    lambda rng, n: {"n_resamples": 5, "confidence": 0.9, "seed": 0},
)
entry(
    "spontaneous.load_task",
    lambda task: tasks.load_task(task).describe(),
    {"task": "name"},
    lambda rng, n: {"task": tasks.task_names()[0]},
)
