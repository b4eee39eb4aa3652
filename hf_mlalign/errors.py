"""Errors a user can act on."""


class DataError(ValueError):
    """Input that cannot be used; the message names the column or argument, the first bad row and the remedy."""


def listed(names, limit: int = 20) -> str:
    """`names` as one readable, length-limited list for an error message."""
    names = [str(name) for name in names]
    more = f", … ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "none"
