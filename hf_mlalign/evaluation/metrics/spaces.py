"""Metrics as Spaces of the Hub: publish them, and see whether a Space of the same name holds other code."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hf_mlalign.evaluation.metrics.loading import metric_names, metric_script
from hf_mlalign.hub.repository import upload

MOST_BYTES = 2_000_000
REQUIREMENT = "hf-mlalign"


@dataclass(frozen=True)
class Space:
    """What the Hub answers for a metric's name.

    Attributes:
        state: "same": a Space with the packaged script; "other": with another one; "absent": `evaluate` gets none, so
            the installed module runs; "unknown": it could not be checked.
        reason: in words.
    """

    state: str
    reason: str


def check_spaces(scripts: Mapping[str, Path], timeout: float = 5.0) -> dict[str, Space]:
    """Ask the Hub, as `evaluate.load` would, which script it has under each name.

    Args:
        scripts: name ("hf_mlalign/winrate") → packaged script.
        timeout: seconds after which what has not been answered is "unknown", for all names together (5, *ours*).
    """
    blocked = _blocked()
    if blocked:
        return {name: Space("unknown", blocked) for name in scripts}
    found: dict[str, Space] = {}
    threads = [
        threading.Thread(target=_check, args=(name, script, timeout, found), daemon=True)
        for name, script in scripts.items()
    ]
    end = time.monotonic() + timeout
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = Space("unknown", f"no whole answer within {timeout:g} s")
    return {name: found.get(name, late) for name in scripts}


def _blocked() -> str:
    import evaluate
    from huggingface_hub import constants

    if evaluate.config.HF_EVALUATE_OFFLINE:
        return "HF_EVALUATE_OFFLINE is set, so evaluate will not ask either"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, which evaluate ignores; set HF_EVALUATE_OFFLINE=1 to keep it off the Hub"
    return ""


def _check(name: str, script: Path, timeout: float, found: dict[str, Space]) -> None:
    import requests

    try:
        found[name] = _ask(name, script, timeout)
    except (requests.RequestException, OSError) as error:
        found[name] = Space("unknown", f"the Hub cannot be reached ({type(error).__name__})")


def _ask(name: str, script: Path, timeout: float) -> Space:
    import requests
    from evaluate.utils.file_utils import get_authentication_headers_for_url, hf_hub_url

    for revision in _revisions():
        url = hf_hub_url(path=name, name=script.name, revision=revision)
        headers = get_authentication_headers_for_url(url)
        with requests.get(url, headers=headers, timeout=timeout, stream=True) as answer:
            if answer.status_code == 404:
                continue
            if answer.status_code in (401, 403):
                return Space("absent", f"no Space that you may read (HTTP {answer.status_code})")
            if answer.status_code != 200:
                return Space("unknown", f"the Hub answered HTTP {answer.status_code}")
            content = _start(answer.iter_content(2**16), MOST_BYTES + 1)
        if content == script.read_bytes():
            return Space("same", f"revision {revision} holds the packaged script")
        return Space("other", f"revision {revision} holds another script")
    return Space("absent", "no such Space")


def _start(chunks: Iterable[bytes], most: int) -> bytes:
    """The chunks joined, as far as they are needed for `most` bytes."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) >= most:
            break
    return bytes(content[:most])


def _revisions() -> list[str]:
    """The revisions that `evaluate.load` tries, in its order."""
    from evaluate import SCRIPTS_VERSION

    first = os.getenv("HF_SCRIPTS_VERSION", SCRIPTS_VERSION)
    first = f"v{first}" if re.match(r"\d*\.\d*\.\d*", first) else first
    return list(dict.fromkeys([first, "main"]))


def push_metrics(
    namespace: str,
    names: Iterable[str] | None = None,
    *,
    private: bool = True,
    token: str | None = None,
    requirement: str = REQUIREMENT,
) -> list[str]:
    """Publish metrics as Gradio Spaces, so that `evaluate.load(f"{namespace}/winrate")` works wherever hf_mlalign is.

    Args:
        namespace: a user or an organisation of the Hub.
        names: metrics to publish; default: all.
        private: of new Spaces (`True`, *ours*: code that runs on other people's machines is published on purpose).
        token: Hub token; default: the saved one.
        requirement: the line of requirements.txt that installs this package, e.g. "hf-mlalign @ git+https://…".
    Returns:
        The Spaces' addresses.
    Raises:
        DataError: an unknown metric, or the Hub refuses or cannot be reached.
    """
    scripts = [metric_script(name) for name in (metric_names() if names is None else names)]
    addresses = []
    with tempfile.TemporaryDirectory() as work:
        for script in scripts:
            folder = Path(work) / script.stem
            shutil.copytree(script.parent, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            _require(folder / "requirements.txt", requirement)
            repo_id = f"{namespace}/{script.stem}"
            addresses.append(upload(folder, repo_id, "space", private=private, token=token, space_sdk="gradio"))
    return addresses


def _require(path: Path, requirement: str) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?m)^hf-mlalign.*$", lambda _: requirement, text), encoding="utf-8")
