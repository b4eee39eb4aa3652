"""Version of this package and of those its results depend on."""

__version__ = "0.1.0"

PACKAGES = ("datasets", "faiss-cpu", "numpy", "peft", "sentence-transformers", "torch", "transformers", "trl")


def versions() -> dict[str, str]:
    """Name → version of hf_mlalign and of the installed packages its results depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"hf_mlalign": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
