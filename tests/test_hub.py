"""Cards and uploads."""

import os
import subprocess
import sys

import pytest

from hf_mlalign.cards import markdown_table
from hf_mlalign.errors import DataError
from hf_mlalign.hub import push_folder


def test_table_by_hand():
    rows = [{"a": "x|y", "b": 0.12345, "c": 1234}]
    assert (
        markdown_table(rows, {"a": "A", "b": "B", "c": "C"})
        == "| A | B | C |\n|---|---|---|\n| x\\|y | 0.123 | 1,234 |"
    )


def test_a_bad_name_is_an_error_one_can_act_on(tmp_path):
    with pytest.raises(DataError, match="push_to_hub: 'not a name!' was not uploaded"):
        push_folder(tmp_path, "not a name!")


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_hub_out_of_reach_is_an_error_one_can_act_on(tmp_path, offline):
    """Offline mode, and a closed port of this machine."""
    code = f"""
from hf_mlalign.errors import DataError
from hf_mlalign.hub import push_folder
try:
    push_folder({str(tmp_path)!r}, "user/name", token="hf_secret")
except DataError as error:
    print(error)
"""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": offline,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_ETAG_TIMEOUT": "2",
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert "push_to_hub: 'user/name' was not uploaded" in done.stdout, done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
