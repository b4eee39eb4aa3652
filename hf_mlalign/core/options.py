"""The options of a job: one dataclass is the only place where a name, type, default, help text and origin are written.

The Python call, the command line, `--config run.yaml`, run.json, the card and the tables of the docs are made from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import read_small

ORIGINS = ("paper", "authors' script", "ours")


def option(
    default: Any,
    help: str,
    *,
    origin: str = "ours",
    panel: str = "Options",
    choices: Sequence[str] | None = None,
    low: float | None = None,
    high: float | None = None,
    flag: str | None = None,
    shown: str | None = None,
    in_record: bool = True,
    on_command_line: bool = True,
) -> Any:
    """A field of an `Options` class.

    Args:
        default: its default value; a mutable one is copied for every instance.
        help: one short sentence for the command line and the docs.
        origin: where the default comes from: "paper", "authors' script" or "ours".
        panel: group of the option on the help page of the command ("Data", "Selection", "Model", "Output", …).
        choices: the values that are known; others are refused.
        low, high: bounds of a number, both included.
        flag: name on the command line, if it is not `--name-with-dashes`; "--yes/--no" names both of a switch,
            "--new,--old" two names of one option.
        shown: how the default is shown if its value says little, e.g. "bundled".
        in_record: whether it affects the result. If so, it is stored in run.json, and a folder never mixes two values.
        on_command_line: `False` for options that only Python can take (objects).
    """
    if origin not in ORIGINS:
        raise ValueError(f"origin: {origin!r}")
    metadata = {
        "help": help, "origin": origin, "panel": panel, "choices": choices and tuple(choices), "low": low,
        "high": high, "flag": flag, "shown": shown, "in_record": in_record, "on_command_line": on_command_line,
    }  # fmt: skip
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class Options:
    """Base of all options classes; an instance is checked when it is created.

    A job subclasses it, and may combine several groups: `class CurateOptions(SelectionOptions, SourceOptions)`.
    A subclass adds checks of its own in `check`.
    """

    job: ClassVar[str] = ""
    """Name of the command, for messages."""

    def __post_init__(self):
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            self._check_field(field, hints[field.name])
        self.check()

    def check(self) -> None:
        """Raise a `DataError` if options contradict each other."""

    def _check_field(self, field: dataclasses.Field, hint: Any) -> None:
        name, facts = field.name, field.metadata
        value = getattr(self, name)
        if value is None and allows_none(hint):
            return
        kind = plain_type(hint)
        container, inner = typing.get_origin(kind), typing.get_args(kind)
        if container is list:
            if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
                raise DataError(f"{name}: expected a list, got {value!r}.")
            value = [value] if isinstance(value, str) else list(value)  # a text is one entry
            value = [_converted(name, entry, inner[0]) for entry in value]
        elif container is dict and not isinstance(value, Mapping):
            raise DataError(f"{name}: expected names and values, got {value!r}.")
        else:
            value = _converted(name, value, kind)
        setattr(self, name, value)
        for entry in value if container is list else [value]:
            if facts.get("choices") and isinstance(entry, str) and entry not in facts["choices"]:
                known = f"{_suggest(entry, facts['choices'])}Known: {listed(facts['choices'])}."
                raise DataError(f"{name}: unknown {entry!r}. {known}")
            low, high = facts.get("low"), facts.get("high")
            if isinstance(entry, bool) or not isinstance(entry, (int, float)) or low is high is None:
                continue
            if math.isnan(entry) or (low is not None and entry < low) or (high is not None and entry > high):
                bounds = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
                raise DataError(f"{name}: {entry} is out of range. Use a number of {' and '.join(bounds)}.")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Options:
        """An instance with these values; `DataError` for an unknown name, with a suggestion."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                what = f"{cls.job}: unknown" if cls.job else "Unknown"
                raise DataError(f"{what} option {name!r}. {_suggest(str(name), known)}Known: {listed(known, 60)}.")
        return cls(**values)

    @classmethod
    def part_of(cls, options: Options) -> Options:
        """The options of this group from a larger set, e.g. those of the selector from those of `curate`."""
        return cls(**{field.name: getattr(options, field.name) for field in dataclasses.fields(cls)})

    def values(self) -> dict[str, Any]:
        """Name → value."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def parameters(self) -> dict[str, Any]:
        """Name → value of the options that affect the result, for run.json."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata.get("in_record", True)}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Name → default value."""
        return {f.name: f.default_factory() if f.default is MISSING else f.default for f in dataclasses.fields(cls)}

    @classmethod
    def origins(cls) -> dict[str, str]:
        """Name → where the default comes from."""
        return {field.name: field.metadata.get("origin", "ours") for field in dataclasses.fields(cls)}

    @classmethod
    def shown_defaults(cls) -> dict[str, str]:
        """Name → text that is shown instead of the default, e.g. "bundled" for `None`."""
        return {f.name: f.metadata["shown"] for f in dataclasses.fields(cls) if f.metadata.get("shown")}

    @classmethod
    def table(cls) -> list[dict[str, str]]:
        """One row per option, for the docs: name, flag, type, default, origin, help."""
        hints, defaults = typing.get_type_hints(cls), cls.defaults()
        return [
            {
                "name": field.name,
                "flag": flag_of(field) if field.metadata.get("on_command_line", True) else "",
                "type": type_name(hints[field.name]),
                "default": field.metadata.get("shown") or str(defaults[field.name]),
                "origin": field.metadata.get("origin", "ours"),
                "help": field.metadata.get("help", ""),
            }
            for field in dataclasses.fields(cls)
        ]

    @classmethod
    def from_yaml(cls, path: str | Path, extra: Sequence[str] = ()) -> dict[str, Any]:
        """Name → value, as read from a YAML file; `extra` names further keys that it may hold (source, output).

        Raises:
            DataError: the file cannot be read, is not a mapping, or names an unknown option.
        """
        from yaml import YAMLError

        from hf_mlalign.core.yaml_values import load_yaml

        try:
            found = load_yaml(read_small(path, "--config"))
        except (YAMLError, RecursionError) as error:
            text = " ".join(str(error).split())[:200]
            raise DataError(f"--config: {str(path)!r} is not valid YAML: {text}") from error
        except OSError as error:
            raise DataError(f"--config: cannot read {str(path)!r}: {error.strerror}.") from error
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise DataError(f"--config: {str(path)!r} holds {type(found).__name__}. Write one `name: value` per line.")
        known = [*extra, *(f.name for f in dataclasses.fields(cls) if f.metadata.get("on_command_line", True))]
        for name in found:
            if name not in known:
                raise DataError(
                    f"--config: {str(path)!r} has an unknown option {name!r}. {_suggest(str(name), known)}"
                    f"Known: {listed(known, 60)}."
                )
        return found

    def to_yaml(self, first: Mapping[str, Any] | None = None) -> str:
        """The options as YAML, one per line with its help as a comment; `first` holds keys to write before them."""
        from hf_mlalign.core.yaml_values import dump_yaml

        def line(name: str, value: Any) -> str:
            return f"{name}: {dump_yaml(str(value) if isinstance(value, Path) else value)}"

        lines = [line(name, value) for name, value in (first or {}).items()]
        lines += [
            f"{line(field.name, getattr(self, field.name))}  # {field.metadata.get('help', '')}"
            for field in dataclasses.fields(self)
            if field.metadata.get("on_command_line", True)
        ]
        return "\n".join(lines) + "\n"


_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}


def _converted(name: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`: numbers of numpy as Python's, whole numbers as floats, texts as paths; DataError otherwise."""
    if kind is bool and type(value).__name__ in ("bool", "bool_"):  # numpy's have the same name
        return bool(value)
    if kind is float and isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind in (bool, int, float) or (kind is str and not isinstance(value, str)):
        raise DataError(f"{name}: expected {_KINDS[kind]}, got {value!r}.")
    return value


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f"Did you mean {close[0]!r}? " if close else ""


def allows_none(hint: Any) -> bool:
    """Whether a type may be `None`."""
    return hint is Any or type(None) in typing.get_args(hint)


def plain_type(hint: Any) -> Any:
    """The type without `| None`; `Any` where several are left."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return plain_type(kinds[0]) if len(kinds) == 1 else Any
    return hint


def type_name(hint: Any) -> str:
    """How the docs name a type, e.g. "int" or "str | None"."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def flag_of(field: dataclasses.Field) -> str:
    """The option's name on the command line."""
    return field.metadata.get("flag") or f"--{field.name.replace('_', '-')}"


def takes(options: type[Options], positional: int = 0) -> Callable:
    """Give a function the options of a class as keyword arguments.

    The function has a parameter `options`; callers write `f(source, n_quality=5)` or `f(source, options=made_before)`.
    The signature and the docstring of the result show every option. A parameter of the function with the name of an
    option replaces it, so that Python can pass an object where the command line passes its name. Keywords that are not
    options go to the function's `**more` if it has it, and are refused otherwise.

    positional: how many options, from the first, may also be given by position.
    """

    def decorate(function: Callable) -> Callable:
        own = inspect.signature(function)
        names = [field.name for field in dataclasses.fields(options)]
        rest = [p for p in own.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]

        @functools.wraps(function)
        def call(*arguments: Any, **given: Any) -> Any:
            if positional:
                arguments, more = arguments[: len(first)], arguments[len(first) :]
                if len(more) > positional or {*names[: len(more)]} & {*given}:
                    raise TypeError(f"{function.__qualname__}: only {listed(names[:positional])} go without a name")
                given |= dict(zip(names, more, strict=False))
            made = given.pop("options", None)
            wanted = [name for name in given if name not in own.parameters and (name in names or not rest)]
            values = {name: given.pop(name) for name in wanted}
            if made is not None and values:
                raise DataError(f"options: give an options object or single options, not both ({listed(values)}).")
            return function(*arguments, **given, options=made or options.of(values))

        defaults, hints = options.defaults(), typing.get_type_hints(options)
        keyword = inspect.Parameter.KEYWORD_ONLY
        extra = [
            inspect.Parameter(name, keyword if place >= positional else inspect.Parameter.POSITIONAL_OR_KEYWORD,
                              default=defaults[name], annotation=hints[name])
            for place, name in enumerate(names) if name not in own.parameters
        ]  # fmt: skip
        kept = [p for name, p in own.parameters.items() if name != "options" and p not in rest]
        first = [p for p in kept if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        last = [p for p in kept if p.kind is inspect.Parameter.KEYWORD_ONLY]
        call.__signature__ = own.replace(parameters=[*first, *extra, *last, *rest])
        call.options_class = options
        shown = "    {name}: {help} Default: {default} ({origin})."
        lines = [shown.format(**row) for row in options.table()]
        call.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Options:", *lines, ""])
        return call

    return decorate


@dataclass(kw_only=True)
class SourceOptions(Options):
    """Which part of a source is read, and what its columns are called."""

    split: str | None = option(None, "Split of the source, e.g. train.", panel="Data", in_record=False)
    config_name: str | None = option(None, "Configuration of the source.", panel="Data", in_record=False)
    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. question=instruction,answer=response.", panel="Data"
    )


@dataclass(kw_only=True)
class VisibilityOptions(Options):
    """Who sees a repository."""

    private: bool = option(
        True, "Who can see a new repository: only its owner, or everybody.", panel="Output",
        flag="--private/--public", in_record=False,
    )  # fmt: skip


@dataclass(kw_only=True)
class PushOptions(VisibilityOptions):
    """How a finished folder is uploaded."""

    job = "push"

    verify: bool = option(
        True, "Load the data back from the Hub and compare content hashes.", panel="Run", in_record=False
    )
    collection: str | None = option(
        None, "Title of a collection that lists the repository; made if there is none.", panel="Output",
        in_record=False,
    )  # fmt: skip
    license: str | None = option(
        None, "License for the card, by the Hub's name, e.g. cc-by-4.0.", panel="Output", in_record=False,
        shown="as the card says",
    )  # fmt: skip


@dataclass(kw_only=True)
class UploadOptions(VisibilityOptions):
    """Where a job uploads the folder that it wrote."""

    push_to_hub: str | None = option(
        None, "Upload the result to this dataset repository (user/name).", panel="Output", in_record=False
    )


@dataclass(kw_only=True)
class TrackerOptions(Options):
    """Which experiment trackers get a job's figures."""

    report_to: list[str] | None = option(
        None, "Trackers that get the figures per language: trackio, tensorboard, …, or all.", panel="Output",
        in_record=False,
    )  # fmt: skip


@dataclass(kw_only=True)
class PublishOptions(UploadOptions, TrackerOptions):
    """Upload and trackers together."""
