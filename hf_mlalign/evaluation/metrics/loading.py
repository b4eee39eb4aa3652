"""The metrics in the package: load them, install them so that `evaluate` finds them by name, publish them as Spaces."""

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
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import write_atomic
from hf_mlalign.hub.repository import upload

if TYPE_CHECKING:
    from evaluate import EvaluationModule

NAMESPACE = "hf_mlalign"
LOCK_SECONDS = 60
AFTER_NS = 1_000_000
MOST_BYTES = 2_000_000
"""Most of a script that is read from the Hub."""
REQUIREMENT = "hf-mlalign"


@dataclass(frozen=True)
class Installed:
    """A metric in the module cache of `evaluate`.

    name: what `evaluate.load` takes, e.g. "hf_mlalign/winrate".
    script: the packaged script.
    path: its copy in the cache.
    changed: whether this call wrote or moved anything.
    """

    name: str
    script: Path
    path: Path
    changed: bool


def load_metric(name: str, **options: Any) -> EvaluationModule:
    """The metric `name` of this package, never one of the same name from the Hub, the working directory or a cache.

    Args:
        name: e.g. "winrate" or "hf_mlalign/winrate", see `metric_names`.
        **options: of `evaluate.load`: `num_process`, `process_id`, `experiment_id`, `keep_in_memory`, …
    Raises:
        DataError: unknown metric, or the module cache of `evaluate` cannot be written or stays locked.
    """
    script = metric_script(name)
    import evaluate

    _install_all([script], prefix="")
    return evaluate.load(str(script.parent), **options)


def metric_names() -> list[str]:
    """Names of the packaged metrics."""
    folder = metrics_folder()
    return sorted(path.name for path in folder.iterdir() if (path / f"{path.name}.py").is_file())


def metrics_folder() -> Path:
    """Where the metrics are: inside an installed package, beside it in a checkout (or an editable install)."""
    package = Path(__file__).resolve().parents[2]
    return next((f for f in (package / "metrics", package.parent / "metrics") if f.is_dir()), package / "metrics")


def metric_script(name: str) -> Path:
    """The script of the packaged metric `name`; DataError if there is none."""
    slug = name.removeprefix("hf-mlalign/").removeprefix(f"{NAMESPACE}/")
    if slug not in metric_names():
        raise DataError(f"name: no metric {name!r} in this package. There are: {listed(metric_names())}.")
    return metrics_folder() / slug / f"{slug}.py"


def install_metrics(names: Iterable[str] | None = None, *, namespace: str = NAMESPACE) -> list[Installed]:
    """Copy the packaged metrics to where `evaluate.load("hf_mlalign/winrate")` finds them offline, from any folder.

    That is the module cache of `evaluate` (`HF_MODULES_CACHE`), which has one folder per content and loads the newest.
    A metric that is there already is left alone; older or downloaded ones of the same name stay, but the packaged one
    becomes the newest. Several processes may do it at once, and it can be repeated after a kill.

    Args:
        names: metrics to install; default: all.
        namespace: what stands before the slash in the name ("hf_mlalign").
    Raises:
        DataError: an unknown metric, a namespace that cannot be one, or a cache that cannot be written or stays locked.
    """
    if not re.fullmatch(r"\w[\w.-]*", namespace):
        raise DataError(f"namespace: {namespace!r} is not a name of the Hub. Use letters, digits, '-', '_' and '.'.")
    scripts = [metric_script(name) for name in (metric_names() if names is None else names)]
    copies = _install_all(scripts, f"{namespace}--")
    return [Installed(f"{namespace}/{s.stem}", s, path, changed) for s, (path, changed) in zip(scripts, copies)]


def _install_all(scripts: list[Path], prefix: str) -> list[tuple[Path, bool]]:
    """Each script's copy in the module cache, and whether this call wrote or moved it."""
    from evaluate.loading import init_dynamic_modules
    from filelock import Timeout

    try:
        modules = Path(init_dynamic_modules()) / "metrics"
        return [_install(script, modules / f"{prefix}{script.stem}") for script in scripts]
    except Timeout as error:
        raise DataError(f"{error.lock_file} has been locked for over {LOCK_SECONDS} s by another process.") from error
    except OSError as error:
        raise DataError(f"The module cache of evaluate cannot be written: {error}. Set HF_MODULES_CACHE.") from error


def installed_path(name: str, namespace: str = NAMESPACE) -> Path | None:
    """The copy that `evaluate` takes for `name` without the Hub, if it is the packaged one; else `None`."""
    from evaluate.loading import init_dynamic_modules

    script = metric_script(name)
    folder = Path(init_dynamic_modules()) / "metrics" / f"{namespace}--{script.stem}"
    copies = sorted(_copies(folder, script.name), key=lambda path: path.stat().st_mtime)
    newest = copies[-1] if copies else None
    return newest if newest is not None and newest.read_bytes() == script.read_bytes() else None


def _install(script: Path, folder: Path) -> tuple[Path, bool]:
    """The copy of one script, made the newest of its name; and whether anything was written or moved."""
    from evaluate.loading import files_to_hash
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / files_to_hash([str(script)])
    copy = target / script.name
    with FileLock(f"{folder}.lock", timeout=LOCK_SECONDS):  # the lock that evaluate itself takes
        for init in (folder.parent / "__init__.py", folder / "__init__.py"):
            if not init.is_file():
                init.touch()
        changed = _write_package(script.read_bytes(), target, script.name)
        newest = max((p.stat().st_mtime_ns for p in _copies(folder, copy.name) if p != copy), default=0)
        if copy.stat().st_mtime_ns <= newest:
            os.utime(copy, ns=(newest + AFTER_NS, newest + AFTER_NS))
            changed = True
    return copy, changed


def _write_package(content: bytes, target: Path, name: str) -> bool:
    """Make `target` a package that holds the script; a reader sees all of it or nothing. False if it was there."""
    copy = target / name
    if copy.is_file() and copy.read_bytes() == content and (target / "__init__.py").is_file():
        return False
    if target.is_dir():
        write_atomic(target / "__init__.py", "")
        write_atomic(copy, content.decode())
        return True
    for old in target.parent.glob(".partial-*"):  # of killed runs
        shutil.rmtree(old, ignore_errors=True)
    partial = target.with_name(f".partial-{os.getpid()}")
    partial.mkdir()
    try:
        (partial / "__init__.py").touch()
        (partial / name).write_bytes(content)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _copies(folder: Path, name: str) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else []
    return [path / name for path in found if len(path.name) == 64 and (path / name).is_file()]


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
        timeout: seconds for all names together (5, *ours*); what has not been answered by then is "unknown".
    """
    import evaluate
    import requests
    from huggingface_hub import constants

    if evaluate.config.HF_EVALUATE_OFFLINE:
        offline = Space("unknown", "HF_EVALUATE_OFFLINE is set, so evaluate will not ask either")
        return dict.fromkeys(scripts, offline)
    if constants.HF_HUB_OFFLINE:
        return dict.fromkeys(scripts, Space("unknown", "HF_HUB_OFFLINE is set, which evaluate ignores; set "
                                            "HF_EVALUATE_OFFLINE=1 to keep it off the Hub"))  # fmt: skip
    found: dict[str, Space] = {}

    def ask(name: str, script: Path) -> None:
        try:
            found[name] = _ask_hub(name, script, timeout)
        except (requests.RequestException, OSError) as error:
            found[name] = Space("unknown", f"the Hub cannot be reached ({type(error).__name__})")

    threads = [threading.Thread(target=ask, args=each, daemon=True) for each in scripts.items()]
    end = time.monotonic() + timeout
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = Space("unknown", f"no whole answer within {timeout:g} s")
    return {name: found.get(name, late) for name in scripts}


def _ask_hub(name: str, script: Path, timeout: float) -> Space:
    import requests
    from evaluate import SCRIPTS_VERSION
    from evaluate.utils.file_utils import get_authentication_headers_for_url, hf_hub_url

    first = os.getenv("HF_SCRIPTS_VERSION", SCRIPTS_VERSION)
    first = f"v{first}" if re.match(r"\d*\.\d*\.\d*", first) else first
    for revision in dict.fromkeys([first, "main"]):  # those that evaluate.load tries, in its order
        url = hf_hub_url(path=name, name=script.name, revision=revision)
        headers = get_authentication_headers_for_url(url)
        with requests.get(url, headers=headers, timeout=timeout, stream=True) as answer:
            if answer.status_code == 404:
                continue
            if answer.status_code in (401, 403):
                return Space("absent", f"no Space that you may read (HTTP {answer.status_code})")
            if answer.status_code != 200:
                return Space("unknown", f"the Hub answered HTTP {answer.status_code}")
            content = bytearray()
            for chunk in answer.iter_content(2**16):
                content += chunk
                if len(content) > MOST_BYTES:
                    break
        if content == script.read_bytes():
            return Space("same", f"revision {revision} holds the packaged script")
        return Space("other", f"revision {revision} holds another script")
    return Space("absent", "no such Space")


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
            needed = folder / "requirements.txt"
            text = re.sub(r"(?m)^hf-mlalign.*$", lambda _: requirement, needed.read_text(encoding="utf-8"))
            needed.write_text(text, encoding="utf-8")
            repo_id = f"{namespace}/{script.stem}"
            addresses.append(upload(folder, repo_id, "space", private=private, token=token, space_sdk="gradio"))
    return addresses
