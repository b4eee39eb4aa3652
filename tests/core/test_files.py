"""Blocks of numbers that are kept as they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mlalign.core.files import cached_blocks

BLOCKS = [np.array([5, 0]), slice(1, 4), np.array([4])]


class Computing:
    """Row i is (i, 10·i); stops before the block with this number."""

    def __init__(self, stop: int | None = None):
        self.stop, self.seen = stop, 0

    def __call__(self, block):
        if self.seen == self.stop:
            raise KeyboardInterrupt
        self.seen += 1
        rows = np.arange(6)[block]
        return np.stack([rows, 10 * rows], axis=1)


def filled(compute, folder=None, key=("k",), dtype=np.float32):
    return cached_blocks(BLOCKS, compute, np.full((6, 2), -1, dtype), folder, key)


WANTED = np.stack([np.arange(6), 10 * np.arange(6)], axis=1)


def test_without_a_folder_and_with_one(tmp_path):
    np.testing.assert_array_equal(filled(Computing()), WANTED)
    for blocks in (3, 0):
        compute = Computing()
        np.testing.assert_array_equal(filled(compute, tmp_path / "work"), WANTED)
        assert compute.seen == blocks


def test_goes_on_where_it_stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        filled(Computing(stop=2), tmp_path)
    compute = Computing()
    np.testing.assert_array_equal(filled(compute, tmp_path), WANTED)
    assert compute.seen == 1


def test_other_keys_types_and_shapes_are_not_mixed(tmp_path):
    filled(Computing(), tmp_path)
    for options in ({"key": ("other",)}, {"dtype": np.float64}):
        compute = Computing()
        filled(compute, tmp_path, **options)
        assert compute.seen == 3


@given(cut=st.integers(0, 60), flip=st.none() | st.integers(0, 59))
def test_what_a_power_failure_leaves_is_computed_again(cut, flip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    filled(Computing(), folder)
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    assert len(data) == 60  # three checks and six rows of 8 bytes
    if flip is not None:
        data[flip] ^= 0xFF
    path.write_bytes(data[:cut])
    np.testing.assert_array_equal(filled(Computing(), folder), WANTED)
    assert len(path.read_bytes()) == 60


def test_a_full_disk_leaves_whole_blocks(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            filled(Computing(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == 20
    compute = Computing()
    np.testing.assert_array_equal(filled(compute, tmp_path), WANTED)
    assert compute.seen == 2
