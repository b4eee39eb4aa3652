"""What this package touches of other packages beyond their documented interface, and whether it is still there.

Private methods that are overridden, attributes without promise, modules that only the source names. Each may change in
any release: `changed` then says which part, in which version, what builds on it and what to do.
"""

from __future__ import annotations

from tests.compat.part import Part
from tests.compat.parts_table import PARTS


def changed(package: str | None = None, where: str | None = None, parts: tuple[Part, ...] = PARTS) -> list[str]:
    """One message for each part that is not as expected; the packages in question are imported.

    Args:
        package: only its parts, e.g. "trl".
        where: only what this module of ours uses, e.g. "cmalign.trainer".
        parts: the table.
    """
    asked = [part for part in parts if package in (None, part.package) and where in (None, part.where)]
    return [part.message(found) for part in asked if (found := part.found())]
