"""Every test of this folder is marked `reliability`: `make test-reliability` runs it, `make test` does not."""

import pytest

TOGETHER = ("test_distributed.py", "test_fuzz_commands.py")
"""Files whose tests share what takes long to start, and so run in one worker (`--dist loadgroup`)."""


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.reliability)
    if item.path.name in TOGETHER:
        item.add_marker(pytest.mark.xdist_group(item.path.name))
