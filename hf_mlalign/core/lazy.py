"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: `__name__` of the package.
        names: public name → module that defines it; a module of the same name as one of its names is refused, since
            it would hide the name once imported.
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
