"""The metrics that ship with the package: load them by path, install them so that `evaluate` finds them by name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import write_atomic

if TYPE_CHECKING:
    from evaluate import EvaluationModule

NAMESPACE = "hf_mlalign"
LOCK_SECONDS = 60
AFTER_NS = 1_000_000


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
    """The packaged metric `name`, whatever is on the Hub, in the working directory or in the cache of `evaluate`.

    Args:
        name: e.g. "winrate" or "hf_mlalign/winrate", see `metric_names`.
        **options: of `evaluate.load`: `num_process`, `process_id`, `experiment_id`, `keep_in_memory`, …
    Raises:
        DataError: there is no such metric, or the cache of modules cannot be written or stays locked.
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
    """Put the packaged metrics where `evaluate.load("hf_mlalign/winrate")` finds them without the Hub, in any folder.

    That is the cache of modules of `evaluate` (`HF_MODULES_CACHE`), one folder for each content. A metric that is there
    already is left alone; older or downloaded ones of the same name stay, but the packaged one becomes the newest, and
    `evaluate` takes that. Safe to run in several processes at once, and again after it was killed.

    Args:
        names: metrics to install; default: all.
        namespace: what stands before the slash in the name ("hf_mlalign").
    Raises:
        DataError: an unknown metric, a namespace that cannot be one, or a cache that cannot be written or stays locked.
    """
    if not re.fullmatch(r"\w[\w.-]*", namespace):
        raise DataError(f"namespace: {namespace!r} is no name of the Hub. Use letters, digits, '-', '_' and '.'.")
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
        raise DataError(f"{error.lock_file} is locked for more than {LOCK_SECONDS} s by another process.") from error
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
    from evaluate.loading import files_to_hash
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / files_to_hash([str(script)])
    with FileLock(f"{folder}.lock", timeout=LOCK_SECONDS):  # the lock that evaluate itself takes
        for init in (folder.parent / "__init__.py", folder / "__init__.py"):
            if not init.is_file():
                init.touch()
        changed = [_put(script, target), _make_newest(target / script.name)]
    return target / script.name, any(changed)


def _put(script: Path, target: Path) -> bool:
    """Make `target` a package that holds the script; a reader sees it whole or not at all."""
    content, copy = script.read_bytes(), target / script.name
    if copy.is_file() and copy.read_bytes() == content and (target / "__init__.py").is_file():
        return False
    if target.is_dir():
        write_atomic(target / "__init__.py", "")
        write_atomic(copy, content.decode())
        return True
    with _partial(target) as partial:
        (partial / "__init__.py").touch()
        (partial / script.name).write_bytes(content)
        os.replace(partial, target)
    return True


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`; those of killed runs are removed."""
    for old in target.parent.glob(".partial-*"):
        shutil.rmtree(old, ignore_errors=True)
    partial = target.with_name(f".partial-{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make_newest(copy: Path) -> bool:
    """Of several contents under one name `evaluate` takes the one modified last: let that be `copy`."""
    others = [p.stat().st_mtime_ns for p in _copies(copy.parents[1], copy.name) if p != copy]
    if copy.stat().st_mtime_ns > max(others, default=0):
        return False
    moment = max(others) + AFTER_NS
    os.utime(copy, ns=(moment, moment))
    return True


def _copies(folder: Path, name: str) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else []
    return [path / name for path in found if len(path.name) == 64 and (path / name).is_file()]
