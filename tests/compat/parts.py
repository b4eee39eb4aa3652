"""What this package touches of other packages beyond their documented interface, and whether it is still there.

Private methods that are overridden, attributes without promise, modules that only the source names. Each may change in
any release: then `changed` tells which, in which version, what builds on it and what to do, instead of an error from
deep within or a training that leaves a term of its loss out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hf_mlalign._version import TESTED, installed_version
from hf_mlalign.core.errors import DataError
from tests.compat.part import Part
from tests.compat.parts_table import PARTS

__all__ = [
    "PARTS", "TESTED", "ChangedPartsError", "Part", "changed", "explained", "installed_version", "require", "suspects",
    "unexpected",
]  # fmt: skip


class ChangedPartsError(DataError, ImportError):
    """A package is installed in a version in which parts that this one builds on are gone or different."""


def changed(package: str | None = None, where: str | None = None) -> list[str]:
    """One message for each part that is not as expected; the packages in question are imported.

    Args:
        package: only its parts, e.g. "trl".
        where: only what this module of ours uses, e.g. "cmalign.trainer".
    """
    asked = [part for part in PARTS if package in (None, part.package) and where in (None, part.where)]
    return [part.message(found) for part in asked if (found := part.found())]


def require(package: str | None = None, where: str | None = None) -> None:
    """Raise a `ChangedPartsError` if `changed` finds anything; looks at signatures and code objects only."""
    if messages := changed(package, where):
        raise ChangedPartsError("\n".join(messages))


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Imports of private parts belong in here: where one fails because a part changed, the error says so."""
    try:
        yield
    except (ImportError, AttributeError) as error:
        messages = changed(where=where)
        if not messages or isinstance(error, ChangedPartsError):
            raise
        raise ChangedPartsError("\n".join(messages)) from error


def suspects(error: BaseException) -> list[str]:
    """`changed`, for an error that changed parts would cause, of the packages that are loaded; else nothing."""
    if isinstance(error, ChangedPartsError) or not isinstance(error, (ImportError, AttributeError, TypeError)):
        return []
    return [message for package in TESTED if package in sys.modules for message in changed(package)]


def unexpected(name: str, found: str) -> ChangedPartsError:
    """The error for a part of the table that is there but does something else."""
    return ChangedPartsError(next(part for part in PARTS if part.name == name).message(found))
