"""Columns to arrays and back."""

import numpy as np
import pyarrow as pa
import pytest
from datasets import Array2D, Dataset, Features, List, Value, concatenate_datasets

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.arrow import add_columns, chunked_column, codes_of, matrix, numbers


def test_matrix_from_every_list_type():
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    for feature in (
        List(Value("float32")),
        List(Value("float32"), length=3),
        List(Value("float64")),
        List(Value("float16")),
    ):
        ds = Dataset.from_dict({"e": rows.tolist()}, features=Features({"e": feature}))
        np.testing.assert_array_equal(matrix(chunked_column(ds, "e"), "e"), rows)
        np.testing.assert_array_equal(matrix(chunked_column(ds.select([2, 0]), "e"), "e"), rows[[2, 0]])
        np.testing.assert_array_equal(matrix(chunked_column(ds.select(range(1, 3)), "e"), "e"), rows[1:3])
        assert matrix(chunked_column(ds, "e"), "e").dtype == np.float32


def test_matrix_errors_name_the_row():
    with pytest.raises(DataError, match="'e', row 2: a vector of length 2"):
        matrix(chunked_column(Dataset.from_dict({"e": [[1.0, 2.0], [3.0, 4.0], [5.0]]}), "e"), "e")
    with pytest.raises(DataError, match="'e', row 1"):
        matrix(chunked_column(Dataset.from_dict({"e": [[1.0, 2.0], None]}), "e"), "e")
    with pytest.raises(DataError, match="holds string, not lists"):
        matrix(chunked_column(Dataset.from_dict({"e": ["x"]}), "e"), "e")
    nested = Dataset.from_dict({"e": [[[1.0]]]}, features=Features({"e": Array2D((1, 1), "float32")}))
    with pytest.raises(DataError):
        matrix(chunked_column(nested, "e"), "e")


def test_matrix_over_chunks_counts_rows_through():
    """A dataset joined from parts has a chunk for each; rows are counted over all of them."""
    feature = Features({"e": List(Value("float32"))})
    parts = [Dataset.from_dict({"e": rows}, features=feature) for rows in ([[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]])]
    np.testing.assert_array_equal(
        matrix(chunked_column(concatenate_datasets(parts), "e"), "e"), [[1, 2], [3, 4], [5, 6]]
    )
    parts.append(Dataset.from_dict({"e": [[7.0, None]]}, features=feature))
    with pytest.raises(DataError, match="'e', row 3: a number is missing"):
        matrix(chunked_column(concatenate_datasets(parts), "e"), "e")


def test_codes_of_odd_dictionaries():
    """Equal, unused and null entries of a dictionary do not show."""
    entries = pa.array(["nobody", "b", "a", "b", None])
    numbers, distinct = codes_of(pa.DictionaryArray.from_arrays(pa.array([3, 2, 1]), entries), "c")
    assert (numbers.tolist(), distinct.to_pylist()) == ([0, 1, 0], ["b", "a"])
    with pytest.raises(DataError, match="Column 'c', row 1: missing"):
        codes_of(pa.DictionaryArray.from_arrays(pa.array([1, 4]), entries), "c")


def test_matrix_of_texts_is_refused():
    with pytest.raises(DataError, match="'e', row 0: lists of string"):
        matrix(pa.array([["1.5"], ["2"]]), "e")


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
