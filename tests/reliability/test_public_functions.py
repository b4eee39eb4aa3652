"""Every public function that takes data: equal results for the same values in any container, and a `DataError` that
names the argument (and the row) for values that cannot be used."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from datasets import disable_progress_bars
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from tests.reliability.odd_input import BAD, FORMS, copied, same
from tests.reliability.public_functions import ENTRIES, Entry

for module in ("evaluation_functions", "ground_functions", "method_functions", "text_functions"):
    import_module(f"tests.reliability.{module}")
disable_progress_bars()
SETTINGS = settings(max_examples=2, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck))  # fmt: skip
SEEDS = {"seed": st.integers(0, 2**32 - 1), "n": st.integers(4, 12)}
LONGEST_MESSAGE = 700


def build(entry: Entry, seed: int, n: int) -> dict:
    return entry.build(np.random.default_rng(seed), n)


@pytest.mark.parametrize("name", ENTRIES)
def test_same_values_in_any_container(name):
    """Lists, tuples, strided, reversed, read-only, Fortran-order and big-endian arrays, other dtypes, pandas, Arrow."""
    entry = ENTRIES[name]

    @SETTINGS
    @given(**SEEDS)
    def check(seed, n):
        plain = entry.call(**build(entry, seed, n))
        assert same(entry.call(**build(entry, seed, n)), plain), "two equal calls differ"
        for argument, kind in entry.kinds.items():
            for form, change in FORMS[kind].items():
                given_ = build(entry, seed, n)
                if form == "DataFrame" and np.ndim(given_[argument]) != 2:
                    continue
                given_[argument] = change(given_[argument])
                before = copied(given_[argument])
                try:
                    found = entry.call(**given_)
                except DataError:
                    assert f"{argument}: {form}" in entry.refuses, f"{argument} as {form} is refused"
                    continue
                assert same(found, plain, entry.tolerance), f"{argument} as {form}: another result"
                assert same(copied(given_[argument]), before), f"{argument} as {form} was changed"

    check()


@pytest.mark.parametrize("name", ENTRIES)
def test_unusable_values(name):
    """Each way to spoil each argument, at a row drawn by chance, ends in a `DataError` or in what the docs say."""
    entry = ENTRIES[name]

    @SETTINGS
    @given(**SEEDS, share=st.floats(0, 1, exclude_max=True))
    def check(seed, n, share):
        for argument, kind in entry.kinds.items():
            for label, bad in BAD[kind].items():
                given_ = build(entry, seed, n)
                value = given_[argument]
                row = int(share * len(value)) if hasattr(value, "__len__") else 0
                given_[argument] = bad.spoil(value, row)
                try:
                    found = entry.call(**given_)
                except DataError as error:
                    told(entry, argument, label, bad.named and row, bad.named, str(error))
                    continue
                assert f"{argument}: {label}" in entry.accepts, f"{argument} with {label} gave {str(found)[:200]}"

    check()


def told(entry: Entry, argument: str, label: str, row: int, named: bool, message: str) -> None:
    assert entry.says.get(argument, argument) in message, f"{argument} with {label}: {message}"
    assert len(message) <= LONGEST_MESSAGE, f"{argument} with {label}: {len(message)} characters"
    if named and argument not in entry.unnamed:
        assert f"row {row}" in message, f"{argument} with {label} in row {row}: {message}"
