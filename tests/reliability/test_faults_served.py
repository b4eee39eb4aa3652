"""sample, judge and push: killed, interrupted, on full and read-only disks, two at once; then run again."""

import pytest

from tests.reliability.fault_checks import check, tried_on


@pytest.mark.parametrize("name", ["sample", "judge", "push"])
def test_nothing_is_lost_and_nothing_is_asked_or_sent_twice(name, tmp_path):
    check(tried_on(name, tmp_path), name)
