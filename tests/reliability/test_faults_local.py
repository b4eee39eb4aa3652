"""score, curate and build-pairs: killed, interrupted, on full and read-only disks, two at once; then run again."""

import pytest

from tests.reliability.fault_checks import check, tried_on


@pytest.mark.parametrize("name", ["score", "curate", "build-pairs"])
def test_nothing_is_lost(name, tmp_path):
    check(tried_on(name, tmp_path), name)
