"""Columns to arrays and back."""

import numpy as np
import pytest
from datasets import Array2D, Dataset, DatasetDict, Features, IterableDataset, List, Value

from hf_mlalign.errors import DataError
from hf_mlalign.mdaq.tables import add_columns, check_dataset, matrix, numbers


def test_matrix_from_every_list_type():
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    for feature in (
        List(Value("float32")),
        List(Value("float32"), length=3),
        List(Value("float64")),
        List(Value("float16")),
    ):
        ds = Dataset.from_dict({"e": rows.tolist()}, features=Features({"e": feature}))
        np.testing.assert_array_equal(matrix(ds, "e"), rows)
        np.testing.assert_array_equal(matrix(ds.select([2, 0]), "e"), rows[[2, 0]])
        np.testing.assert_array_equal(matrix(ds.select(range(1, 3)), "e"), rows[1:3])
        assert matrix(ds, "e").dtype == np.float32


def test_matrix_errors_name_the_row():
    with pytest.raises(DataError, match="'e', row 2: a vector of length 2"):
        matrix(Dataset.from_dict({"e": [[1.0, 2.0], [3.0, 4.0], [5.0]]}), "e")
    with pytest.raises(DataError, match="'e', row 1"):
        matrix(Dataset.from_dict({"e": [[1.0, 2.0], None]}), "e")
    with pytest.raises(DataError, match="holds string, not lists"):
        matrix(Dataset.from_dict({"e": ["x"]}), "e")
    with pytest.raises(DataError):
        matrix(Dataset.from_dict({"e": [[[1.0]]]}, features=Features({"e": Array2D((1, 1), "float32")})), "e")


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
