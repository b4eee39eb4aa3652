"""Columns to arrays and back."""

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, IterableDataset, Value

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.arrow import add_columns, numbers
from hf_mlalign.data.roles import check_dataset


def test_numbers():
    ds = Dataset.from_dict(
        {"s": [1.5, None, 2.0], "c": [1, 2, 3], "t": ["x", "y", "z"], "h": [1, None, 2], "n": [None] * 3}
    )
    np.testing.assert_array_equal(numbers(ds, "s"), [1.5, np.nan, 2.0])
    np.testing.assert_array_equal(numbers(ds.select([2, 1]), "c"), [3, 2])
    assert np.isnan(numbers(ds, "n")).all()
    with pytest.raises(DataError, match="'t' holds string, not numbers"):
        numbers(ds, "t")
    with pytest.raises(DataError, match="'h', row 1: missing"):
        numbers(ds, "h")


def test_add_columns_replaces_and_turns_nan_into_null():
    ds = Dataset.from_dict({"a": [1, 2], "s": [0.0, 0.0]})
    out = add_columns(ds, {"s": np.array([np.nan, 1.0], np.float32), "b": ["x", "y"]})
    assert out[:] == {"a": [1, 2], "s": [None, 1.0], "b": ["x", "y"]}
    assert out.features["s"] == Value("float32")


def test_only_one_filled_dataset_will_do():
    ds = Dataset.from_dict({"a": [1]})
    check_dataset(ds)
    for bad, message in [
        (DatasetDict({"train": ds, "test": ds}), r"DatasetDict with train, test. Choose one, e.g. ds\['train'\]"),
        (ds.to_iterable_dataset(), "needs a map-style Dataset"),
        (IterableDataset.from_generator(lambda: iter(())), "map-style"),
        ([1], "got list"),
        (ds.select([]), "dataset is empty"),
    ]:
        with pytest.raises(DataError, match=message):
            check_dataset(bad)
