"""Every test of this folder is marked `reliability`: `make test-reliability` runs it, `make test` does not."""

import pytest


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.reliability)
