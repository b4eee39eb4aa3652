"""hf_mlalign: multilingual alignment for the Hugging Face stack. Importing it loads no deep-learning library.

Every public name of a room (`hf_mlalign.mdaq`, `.cmalign`, `.spontaneous`, `.evaluation`, `.generation`, `.data`,
`.models`, `.hub`, `.report`) can also be imported from here; it is loaded when it is first used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from hf_mlalign._version import __version__  # noqa: F401

ROOMS = ("data", "models", "hub", "generation", "mdaq", "cmalign", "spontaneous", "evaluation", "report")


def lazy_names(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: `__name__` of the package.
        names: public name → module that defines it. A name that is also a module of the package is refused, because
            the module would hide it.
    """
    for name in names:
        if names[name] == f"{package}.{name}":
            raise ImportError(f"{package}: {name!r} is a module and a public name")

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(names[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(names), sorted(names)


@cache
def _names() -> dict[str, str]:
    """Public name → room."""
    return {"DataError": "core.errors"} | {
        name: room for room in ROOMS for name in import_module(f"hf_mlalign.{room}").__all__
    }


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name.startswith("_") or name not in _names():
        raise AttributeError(f"module 'hf_mlalign' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"hf_mlalign.{_names()[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(["__version__", *_names()])
