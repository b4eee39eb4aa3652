"""Which columns of sampled answers are read, and how samples are numbered."""

import numpy as np
import pytest
from datasets import Dataset

from hf_mlalign.cmalign.samples import read_samples, sample_roles
from hf_mlalign.core.errors import DataError

NEEDED = ["prompt_id", "language", "prompt"]
ROWS = {"id": [7, 7, 7], "lang": ["en", "de", "de"], "question": ["x", "y", "y"], "output": ["a", "b", "c"]}


def test_codes_of_languages_come_before_their_names():
    ds = Dataset.from_dict({**ROWS, "language": ["English", "Central Kanuri", "Central Kanuri"],
                            "language_code": ["en", "kr", "kr"]}).remove_columns("lang")  # fmt: skip
    assert sample_roles(ds.column_names)["language"] == "language_code"
    assert read_samples(ds).languages == ["en", "kr"]


@pytest.mark.parametrize(
    ("columns", "mapping", "expected"),
    [
        ([*NEEDED, "output"], None, {"response": "output"}),
        ([*NEEDED, "samples"], None, {"responses": "samples"}),
        ([*NEEDED, "answer"], None, {"response": "answer"}),
        ([*NEEDED, "answer", "samples"], None, {"responses": "samples"}),
        ([*NEEDED, "response", "samples"], {"samples": "responses"}, {"responses": "samples"}),
        ([*NEEDED, "response", "samples"], {"response": "response"}, {"response": "response"}),
    ],
)
def test_responses_are_one_per_row_or_lists(columns, mapping, expected):
    found = sample_roles(columns, mapping)
    assert found == {"id": "prompt_id", "language": "language", "prompt": "prompt", **expected}


@pytest.mark.parametrize(
    ("columns", "mapping", "message"),
    [
        ([*NEEDED, "response", "samples"], None, r"Both 'response' .* and 'samples' .* --column-mapping"),
        (NEEDED, None, r"No column for response \(or responses\)"),
        (["language", "prompt", "response"], None, "No column for id. Columns found: language, prompt, response"),
        ([*NEEDED, "response"], {"response": "gold"}, "unknown roles: gold"),
    ],
)
def test_columns_that_are_missing_or_doubtful(columns, mapping, message):
    with pytest.raises(DataError, match=message):
        sample_roles(columns, mapping)


def test_numbers_of_samples():
    ds = Dataset.from_dict({**ROWS, "sample": [5, 9, 2]})
    samples = read_samples(ds)
    assert (samples.languages, samples.sample.tolist()) == (["en", "de"], [5, 2, 9])
    assert samples.texts == ["a", "c", "b"]
    same = Dataset.from_dict({**ROWS, "sample": [0, 1, 1]})
    with pytest.raises(DataError, match=r"'sample', row 2: sample 1 of prompt 7 in 'de' was there before \(1 such"):
        read_samples(same)
    shared = read_samples(same.add_column("model", ["m", "m", "n"]))  # two models may use the same numbers
    assert shared.sample.tolist() == [0, 0, 1]
    with pytest.raises(DataError, match=r"'sample', row 2: sample 1 of prompt 7"):
        read_samples(same.add_column("model", ["m", "m", "m"]))


def test_two_lists_of_a_prompt_and_language():
    ds = Dataset.from_dict(
        {**{name: ROWS[name] for name in ("id", "lang", "question")}, "samples": [["a"], ["b"], ["c"]]}
    )
    with pytest.raises(DataError, match=r"'samples', row 2: responses of prompt 7 in 'de' were there before \(1 such"):
        read_samples(ds)
    samples = read_samples(ds.add_column("model", ["m", "m", "n"]))
    assert samples.texts == ["a", "b", "c"]
    assert np.array_equal(samples.sizes, [1, 2])
