"""Version of this package and of those its results depend on."""

__version__ = "0.1.0"


TESTED = {
    "accelerate": ("1.15.0", "1.15.0"),
    "datasets": ("5.1.0", "5.2.0"),
    "evaluate": ("0.4.6", "0.4.6"),
    "huggingface_hub": ("2.0.0", "2.4.0"),
    "sentence_transformers": ("6.2.0", "6.2.0"),
    "transformers": ("5.18.0", "5.23.0"),
    "trl": ("1.16.0", "1.16.0"),
}
"""Lowest and newest version the test suite passes with (constraints-lowest.txt and constraints.txt)."""


def installed_version(package: str) -> str:
    """Version of an installed package; "not installed" where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
