"""What the builder must show on real samples; the gold answers only measure."""

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder
from hf_mlalign.data.answers.extract import extract_answers
from hf_mlalign.models.encoder import BUNDLED

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not (BUNDLED / "encoder").is_dir(), reason="needs the bundled encoder"),
]
EVERY = {"require_language": False, "drop_same_answer": False, "max_length_ratio": None}


@pytest.fixture(scope="module")
def xcsqa(shared_data):
    rows = pd.read_parquet(shared_data / "xcsqa_samples.parquet").explode("samples", ignore_index=True)
    prompts = (rows.instruction + "\n" + rows.input).tolist()
    ds = Dataset.from_dict({"prompt_id": rows.id.tolist(), "language": rows.language.tolist(), "prompt": prompts,
                            "response": rows.samples.tolist()})  # fmt: skip
    answers = extract_answers(rows.samples.tolist(), rows.language.tolist(), prompts)
    return ds, np.array([a == g for a, g in zip(answers, rows.gold, strict=True)])


def accuracy(builder, ds, right):
    """Share of right references, and right chosen minus right rejected ones averaged over the languages."""
    builder.build(ds)
    result = builder.result_
    samples = result.samples
    right = right if samples.order is None else right[samples.order]
    codes = samples.language[result.chosen]
    gaps = [
        right[result.chosen[codes == c]].mean() - right[result.rejected[codes == c]].mean() for c in np.unique(codes)
    ]
    return right[samples.reference].mean(), np.mean(gaps)


def test_auto_prefers_right_answers(xcsqa):
    reference, margin = accuracy(CMAlignPreferenceBuilder("auto"), *xcsqa)
    assert reference >= 0.735
    assert margin >= 0.45
    _, margin = accuracy(CMAlignPreferenceBuilder("auto", **EVERY), *xcsqa)
    assert margin >= 0.34


def test_embedding_alone_beats_the_controls(xcsqa):
    _, margin = accuracy(CMAlignPreferenceBuilder("embedding", **EVERY), *xcsqa)
    assert margin >= 0.2
    _, random = accuracy(CMAlignPreferenceBuilder("random", **EVERY), *xcsqa)
    assert abs(random) < 0.03
