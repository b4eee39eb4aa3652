"""Uploads that cannot be made say why."""

import os
import subprocess
import sys

import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.hub.repository import upload


def test_a_bad_name_is_an_error_one_can_act_on(tmp_path):
    with pytest.raises(DataError, match="push_to_hub: 'not a name!' was not uploaded"):
        upload(tmp_path, "not a name!", "dataset")


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_hub_out_of_reach_is_an_error_one_can_act_on(tmp_path, offline):
    """Offline mode, and a closed port of this machine."""
    code = f"""
from hf_mlalign.core.errors import DataError
from hf_mlalign.hub.repository import upload
try:
    upload({str(tmp_path)!r}, "user/name", "dataset", token="hf_secret")
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
