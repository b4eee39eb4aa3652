"""Checked arrays: values worked out by hand, huge and tiny numbers, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_codes, as_list, as_numbers, as_texts, finite_vectors, is_missing, unit_rows


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e18, 1e30])
def test_unit_rows_of_any_size(scale):
    rows = np.array([[3, 4], [0, 0], [0, -5]], np.float32) * np.float32(scale)
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-6)
    assert unit_rows(rows).dtype == np.float32


def test_unit_rows_of_small_integers_do_not_wrap():
    np.testing.assert_allclose(unit_rows(np.array([[120, 0], [90, 120]], np.int8)), [[1, 0], [0.6, 0.8]])


def test_numbers_from_every_container():
    for values in ([1, None, 0.5], (1, float("nan"), 0.5), pd.Series([1, None, 0.5], index=[2, 1, 0]),
                   np.array([1, None, 0.5], object), pd.array([1, pd.NA, 0.5])):  # fmt: skip
        np.testing.assert_array_equal(as_numbers(values, "x"), [1, np.nan, 0.5])
    np.testing.assert_array_equal(as_numbers([True, False], "x"), [1, 0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "2"], "x, row 0: '1' is not a number"),
        ([1, 10**400], "x, row 1"),
        ([1, [2]], r"x, row 1: \[2\] is not a number"),
        (np.array(["2020-01-01"], "M8[D]"), "x, row 0"),
        (np.ones((2, 2)), "x has shape"),
        ("12", "x: '12' is not a list"),
        (7, "x: 7 is not a list"),
        ({1: 2}, "is not a list"),
        (np.float64(1), "is not a list"),
    ],
)
def test_numbers_refused(values, message):
    with pytest.raises(DataError, match=message):
        as_numbers(values, "x")


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([0, 0.5], "c, row 1: 0.5"),
        ([0, "a"], "c, row 1: 'a'"),
        ([0, -1], "c has the value -1"),
        ([0, 3], "c, row 1: 3; the largest allowed is 2"),
        ([0, 2**64], "c, row 1"),
        ([0], "c has shape"),
    ],
)
def test_codes_refused(codes, message):
    with pytest.raises(DataError, match=message):
        as_codes(codes, 2, "c", below=3)


def test_vectors_too_large_for_float32_are_refused():
    with pytest.raises(DataError, match="v, row 1: holds NaN or infinity"):
        finite_vectors([[1.0], [1e300]], "v")
    with pytest.raises(DataError, match="v: rows of unequal length"):
        finite_vectors([[1.0], [1.0, 2.0]], "v")


def test_lists_and_texts():
    assert as_list(iter("ab"), "x", 2) == ["a", "b"]
    with pytest.raises(DataError, match="x has more than 2 entries for 2 rows"):
        as_list((i for i in range(10**9)), "x", 2)
    assert as_texts(["a", None, float("nan"), pd.NA], "x", missing=True) == ["a", None, None, None]
    with pytest.raises(DataError, match="x, row 1: NoneType instead of a text"):
        as_texts(["a", None], "x")
    assert [is_missing(v) for v in (None, float("nan"), pd.NA, pd.NaT, "", 0, [], np.zeros(2))] == [True] * 4 + [
        False
    ] * 4
