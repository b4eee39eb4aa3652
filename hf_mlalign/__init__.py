"""hf_mlalign: multilingual alignment for the Hugging Face stack. Importing it loads no deep-learning library.

Every public name of a room (`hf_mlalign.mdaq`, `.cmalign`, `.spontaneous`, `.evaluation`, `.generation`, `.data`,
`.models`, `.hub`, `.report`) can also be imported from here; it is loaded when it is first used.
"""

from functools import cache
from importlib import import_module

from hf_mlalign._version import __version__  # noqa: F401

ROOMS = ("data", "models", "hub", "generation", "mdaq", "cmalign", "spontaneous", "evaluation", "report")


@cache
def _names() -> dict[str, str]:
    """Public name → room."""
    return {"DataError": "core.errors"} | {
        name: room for room in ROOMS for name in getattr(import_module(f"hf_mlalign.{room}"), "__all__", ())
    }


def __getattr__(name: str):
    if name == "__all__":
        return __dir__()
    if name.startswith("_") or name not in _names():
        raise AttributeError(f"module 'hf_mlalign' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"hf_mlalign.{_names()[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(["__version__", *_names()])
