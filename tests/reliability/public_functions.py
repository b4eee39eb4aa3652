"""One entry a public function that takes data: arguments that are right, and what each of them holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_mlalign.core.validation import unit_rows

Arguments = Callable[[np.random.Generator, int], dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A public function.

    call: takes the arguments by name.
    kinds: argument → kind (see `odd_input`), for those that are put to the test.
    build: right arguments from a generator and a number of rows, at least 4.
    accepts: "argument: spoiling" that is right, or whose meaning the docstring states.
    refuses: forms of an argument ("argument: form") that may be refused with a `DataError`.
    says: argument → the words an error uses for it, where that is not its name.
    tolerance: of equal results, where the precision of the input or the order of a sum may matter.
    unnamed: arguments whose errors need not name a row.
    """

    call: Callable[..., Any]
    kinds: Mapping[str, str]
    build: Arguments
    accepts: Collection[str] = ()
    refuses: Collection[str] = ()
    says: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 0.0
    unnamed: Collection[str] = ()


ENTRIES: dict[str, Entry] = {}


def entry(name: str, call: Callable[..., Any], kinds: Mapping[str, str], build: Arguments, **options: Any) -> None:
    """Register the function whose full name, without the package's, is `name`."""
    ENTRIES[name] = Entry(call, kinds, build, **options)


class LetterEncoder:
    """Counts of the letters a to h, scaled to length 1: fast and exact."""

    dimension = 8

    def encode(self, texts):
        counts = np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], np.float32).reshape(-1, 8)
        return unit_rows(counts)


def vectors(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 5) small whole numbers, no row of zeros."""
    found = rng.integers(-4, 5, (n, 5)).astype(np.float32)
    found[:, 0] += 9
    return found


def sizes(*arguments: str) -> list[str]:
    """For `accepts`: the function takes any number of rows."""
    return [f"{argument}: {size}" for argument in arguments for size in ("empty", "too short", "too long")]
