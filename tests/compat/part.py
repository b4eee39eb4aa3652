"""A part of another package: what is expected of it, and what is there."""

from __future__ import annotations

import dis
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from hf_mlalign._version import TESTED, installed_version

ABSENT = "nothing of this name"


@dataclass(frozen=True)
class Part:
    """Something of another package that may change without notice.

    name: dotted, from the package on; the last part may be an attribute that a method sets.
    where: module of ours that uses it, without `hf_mlalign.`.
    why: what we rely on.
    arguments: how we call it, as in "ids, padding_value=", or, of an overridden method, the names of its parameters.
    overridden: whether a class of ours overrides it.
    mentions: names and texts that its code must hold.
    """

    name: str
    where: str
    why: str
    arguments: str | None = None
    overridden: bool = False
    mentions: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The package it belongs to, as it is imported."""
        return self.name.split(".", 1)[0]

    def expected(self) -> str:
        """The part as we rely on it, e.g. "trl.data_utils.common_prefix_length(ids, other_ids)"."""
        called = "" if self.arguments is None else f"({self.arguments})"
        return f"{self.name}{called}"

    def found(self) -> str | None:
        """What is there instead; `None` if all is as expected."""
        try:
            value = _resolve(self.name)
        except (ImportError, AttributeError):
            return ABSENT
        if self.arguments is not None and (other := _other_arguments(value, self)):
            return other
        if absent := [name for name in self.mentions if name not in _names(value)]:
            return f"code without {', '.join(absent)}"
        return None

    def message(self, found: str) -> str:
        """One line: version, part, what was found, what it is for, and the remedy."""
        low, high = TESTED[self.package]
        tested = f"=={high}" if low == high else f">={low},<={high}"
        distribution = self.package.replace("_", "-") if self.package == "sentence_transformers" else self.package
        return (
            f"{distribution} {installed_version(self.package)}: {self.expected()} was expected, found {found}. "
            f"hf_mlalign.{self.where} builds on it ({self.why}). Install a version it was tested with, "
            f'pip install "{distribution}{tested}", or report this with the output of `hf-mlalign env`.'
        )


def _resolve(name: str) -> Any:
    """The object of a dotted name; the `CodeType` of the method that sets it where it is an attribute of instances."""
    words = name.split(".")
    value: Any = importlib.import_module(words[0])
    for i, word in enumerate(words[1:], 1):
        if not hasattr(value, word) and inspect.ismodule(value):
            importlib.import_module(".".join(words[: i + 1]))
        value = _setter(value, word) if inspect.isclass(value) and not hasattr(value, word) else getattr(value, word)
    return value


def _setter(kind: type, attribute: str) -> CodeType:
    """Code of the method that assigns `self.<attribute>`; AttributeError if none does."""
    for owner in kind.__mro__:
        for function in vars(owner).values():
            code = inspect.unwrap(function).__code__ if inspect.isfunction(function) else None
            if code is not None and attribute in code.co_names and attribute in _assigned(code):
                return code
    raise AttributeError(attribute)


def _assigned(code: CodeType) -> set[str]:
    return {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}


def _other_arguments(value: Any, part: Part) -> str | None:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return f"{type(value).__name__}, which cannot be called"
    parameters = list(signature.parameters.values())
    if not inspect.isclass(value) and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    shown = f"({', '.join(_shown(parameter) for parameter in parameters)})"
    wanted = [word.strip() for word in part.arguments.split(",")] if part.arguments else []
    if part.overridden:
        return None if [_shown(parameter) for parameter in parameters] == wanted else shown
    keywords = {word[:-1]: None for word in wanted if word.endswith("=")}
    try:
        signature.replace(parameters=parameters).bind(*[None] * (len(wanted) - len(keywords)), **keywords)
    except TypeError:
        return shown
    return None


def _shown(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return f"{stars.get(parameter.kind, '')}{parameter.name}"


def _names(value: Any) -> set[str]:
    """All names and texts in a function's code, and in the functions within."""
    code = value if isinstance(value, CodeType) else getattr(_unwrapped(value), "__code__", None)
    if code is None:
        return set()
    found = {*code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars}
    for constant in code.co_consts:
        found |= _names(constant) if isinstance(constant, CodeType) else set(_texts(constant))
    return found


def _texts(constant: Any) -> Iterator[str]:
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, (tuple, frozenset)):
        for each in constant:
            yield from _texts(each)


def _unwrapped(value: Any) -> Callable:
    return inspect.unwrap(value.fget if isinstance(value, property) else value)
