"""Make commands from options classes: parameters, `--config`, `--print-config`, help pages and output."""

from __future__ import annotations

import dataclasses
import inspect
import os
import typing
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand
from typer.models import ArgumentInfo

from hf_mlalign.core.errors import DataError, printable
from hf_mlalign.core.options import Options, flag_of, plain_type

HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
NAME_WIDTH = 38
"""Widest column of option names on a help page; a longer name gets a line of its own."""
APP = typer.Typer(
    name="hf-mlalign", help="Multilingual alignment for the Hugging Face stack.", no_args_is_help=True,
    pretty_exceptions_enable=False, context_settings=HELP_FLAGS, rich_markup_mode="rich",
)  # fmt: skip
"""The command `hf-mlalign`; the other modules of this room add their commands to it."""
LAST = ("Output", "Run")
"""Groups at the end of a help page."""
Source = Annotated[str, typer.Argument(help="A local file or folder, or a Hub dataset (user/name).")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", rich_help_panel="Output")]
_quiet = False


def is_quiet() -> bool:
    """Whether --quiet was given."""
    return _quiet


def say(text: str) -> None:
    """Print a line, as `printable`, unless --quiet was given."""
    if not _quiet:
        typer.echo(printable(text))


def column_pairs(text: str | None, flag: str = "--column-mapping") -> dict[str, str] | None:
    """`a=b,c=d` as a mapping; `DataError` for another form."""
    if not text:
        return None
    parts = [part.split("=") for part in text.split(",")]
    if any(len(part) != 2 or not all(part) for part in parts):
        raise DataError(f"{flag}: {text!r} is not of the form column=role,column=role.")
    return {column.strip(): role.strip() for column, role in parts}


def split_codes(text: str | None) -> list[str] | None:
    """`de,ja` as a list."""
    return [part.strip() for part in text.split(",")] if text else None


class HelpCommand(TyperCommand):
    """A command whose help page never cuts the name of an option: two columns, names and meanings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from rich.console import Console
        from rich.padding import Padding
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        console = Console(markup=False, highlight=False, emoji=False)
        console.print(Padding(Text(" ".join(self.get_usage(ctx).split()), style="bold"), (1, 1)))
        if self.help:
            console.print(Padding(Text(inspect.cleandoc(self.help)), (0, 1, 1, 1)))
        panels: dict[str, list[Any]] = {}
        for parameter in self.get_params(ctx):
            if not getattr(parameter, "hidden", False):
                first = "Arguments" if isinstance(parameter, TyperArgument) else "Run"
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or first, []).append(parameter)
        for name in sorted(panels, key=lambda name: LAST.index(name) if name in LAST else -(name == "Arguments") - 1):
            table = Table.grid(padding=(0, 2, 0, 0), expand=True)
            rows = [_help_row(parameter, ctx) for parameter in panels[name]]
            table.add_column(no_wrap=True, style="cyan", width=min(max(len(n) for n, _ in rows), NAME_WIDTH))
            table.add_column(overflow="fold", ratio=1)
            for names, text in rows:
                table.add_row(names.replace("/", "\n/", 1) if len(names) > NAME_WIDTH else names, text)
            console.print(Panel(table, title=name, title_align="left", border_style="dim"))
        if self.epilog:
            console.print(Padding(Text(self.epilog), (0, 1, 1, 1)))


def _help_row(parameter: Any, ctx: Any) -> tuple[str, str]:
    """The names of a parameter, and its help with the default."""
    text = parameter.help or ""
    if isinstance(parameter, TyperArgument):
        return parameter.name.upper(), text
    names, default = ", ".join(sorted(parameter.opts, key=len)), parameter.get_default(ctx)
    for other in parameter.secondary_opts:
        if default or not other.startswith("--no-"):
            names += f"/{other}"
    if isinstance(default, bool):
        default = (parameter.opts if default else parameter.secondary_opts or [""])[0] if "/" in names else ""
    default = default.value if isinstance(default, StrEnum) else default
    hidden = default is None or str(default) in ("", "()") or "default" in text
    return names, text if hidden else f"{text} [default: {default}]"


def command(
    name: str, options: type[Options], *, panel: str, examples: Sequence[str] = (), app: typer.Typer | None = None
) -> Callable[[Callable], Callable]:
    """Register a function as a command that takes the options of a class.

    The function's own parameters (the arguments, and `output`) are declared as in Typer; one with the name of an option
    replaces it. Its parameter `options` gets a checked instance. Every command also takes `--config run.yaml` (the
    command line wins), `--print-config`, `--quiet` and `--verbose`.

    Args:
        name: of the command.
        options: class of its options.
        panel: group on the help page of `hf-mlalign`.
        examples: lines shown at the end of the help page.
        app: where to register it (default: the `hf-mlalign` command).
    """

    def decorate(function: Callable) -> Callable:
        own = {n: p for n, p in inspect.signature(function, eval_str=True).parameters.items() if n != "options"}
        hints = typing.get_type_hints(options)
        fields = [field for field in dataclasses.fields(options)
                  if field.metadata.get("on_command_line", True) and field.name not in own]  # fmt: skip

        def run(ctx: typer.Context, **given: Any) -> None:
            chosen = {n: v for n, v in given.items() if ctx.get_parameter_source(n).name != "DEFAULT"}
            global _quiet
            _quiet = given["quiet"]
            if _quiet:
                os.environ["TQDM_DISABLE"] = os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
            if given["verbose"]:
                os.environ["HF_MLALIGN_VERBOSE"] = "1"
            in_file = options.from_yaml(chosen["config"], [*own]) if "config" in chosen else {}
            values = {**in_file, **{n: v for n, v in chosen.items() if n in own or n in hints}}
            arguments = {n: values.pop(n, p.default) for n, p in own.items()}
            values |= {n: v for n, v in arguments.items() if n in hints}
            if absent := [n for n, p in own.items() if arguments[n] is inspect.Parameter.empty]:
                raise DataError(f"{absent[0].upper()}: missing. Give it on the command line or in the --config file.")
            for n in own:
                if plain_type(own[n].annotation.__origin__) is Path and isinstance(arguments[n], str):
                    arguments[n] = Path(arguments[n])
            flags = {f.name: flag_of(f).split("/")[0].split(",")[0] for f in dataclasses.fields(options)}
            try:
                made = options.of({n: _read(v, hints[n], flags[n]) for n, v in values.items()})
                if given["print_config"]:
                    first = {n: str(v) if isinstance(v, Path) else v for n, v in arguments.items()}
                    typer.echo(made.to_yaml(first), nl=False)
                    return
                function(**arguments, options=made)
            except DataError as error:
                name, colon, rest = str(error).partition(":")  # of the option in Python, at the front of a message
                raise DataError(f"{flags[name]}:{rest}" if colon and name in flags else str(error)) from error

        parameters = [_argument(p) for p in own.values()]
        parameters += [_option(field, hints[field.name]) for field in fields]
        parameters += _common()
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        run.__signature__ = inspect.Signature([context, *parameters])
        run.__annotations__ = {p.name: p.annotation for p in [context, *parameters]}
        run.__doc__, run.__name__ = function.__doc__, function.__name__
        epilog = "\n".join(["Example:" if len(examples) == 1 else "Examples:", *(f"  {line}" for line in examples)])
        facts = {"epilog": epilog if examples else None, "rich_help_panel": panel, "context_settings": HELP_FLAGS}
        (app or APP).command(name, cls=HelpCommand, **facts)(run)
        return function

    return decorate


def _argument(parameter: inspect.Parameter) -> inspect.Parameter:
    """One of the command's own parameters; a required one may also come from the file of `--config`."""
    kind, *facts = typing.get_args(parameter.annotation)
    default = None if parameter.default is inspect.Parameter.empty else parameter.default
    for fact in facts:
        if isinstance(fact, ArgumentInfo) and fact.metavar is None:
            fact.metavar = parameter.name.upper()
    return parameter.replace(
        kind=inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[(kind | None, *facts)]
    )


def _option(field: dataclasses.Field, hint: Any) -> inspect.Parameter:
    facts, kind = field.metadata, plain_type(hint)
    default = field.default_factory() if field.default is dataclasses.MISSING else field.default
    given: dict[str, Any] = {"help": facts.get("help"), "rich_help_panel": facts.get("panel")}
    if facts.get("choices") and (default is None or isinstance(default, str)):
        known = StrEnum(field.name, {choice.upper().replace("-", "_"): choice for choice in facts["choices"]})
        annotation = known
        default = None if default is None else known(default)
    elif kind in (bool, int, float, Path):
        annotation = kind
        if kind in (int, float):
            given |= {"min": facts.get("low"), "max": facts.get("high")}
    else:
        annotation = str
        default = default if isinstance(default, str) else None
    names = facts["flag"].split(",") if facts.get("flag") else []
    choices = facts.get("choices") or ()
    if not all(choice in given["help"] for choice in choices):
        given["help"] += f" One of {', '.join(choices)}."
    if facts.get("shown"):
        given["help"] += f" [default: {facts['shown']}]"
    annotation = annotation | None if default is None else annotation
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default,
        annotation=Annotated[annotation, typer.Option(*names, **given)],
    )  # fmt: skip


def _common() -> list[inspect.Parameter]:
    def one(name: str, default: Any, kind: Any, *names: str, help: str) -> inspect.Parameter:
        note = typer.Option(*names, help=help, rich_help_panel="Run")
        keyword = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(name, keyword, default=default, annotation=Annotated[kind, note])

    return [
        one("config", None, Path | None, "--config", help="YAML file with options; the command line wins."),
        one("print_config", False, bool, "--print-config", help="Write the YAML of what would run, and stop."),
        one("quiet", False, bool, "--quiet", "-q", help="Print errors only."),
        one("verbose", False, bool, "--verbose", "-v", help="Also print what libraries have to say."),
    ]


def _read(value: Any, hint: Any, flag: str) -> Any:
    """Convert a value of the command line or a YAML file: `de,ja` to a list, `a=b` to a mapping."""
    if isinstance(value, StrEnum):
        return value.value
    kind = plain_type(hint)
    kinds = {typing.get_origin(one) or one for one in (typing.get_args(hint) if kind is Any else [kind])}
    if isinstance(value, str) and list in kinds and (str not in kinds or "," in value):
        return split_codes(value)
    return column_pairs(value, flag) if isinstance(value, str) and kinds == {dict} else value
