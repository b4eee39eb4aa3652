"""docs/options.md holds every option of every command, as the code has it."""

import sys
from importlib import import_module

import pytest

from hf_mlalign.cli.app import app
from tests.test_docs import DOCS, text_of

sys.path.insert(0, str(DOCS))
import make_options


def test_page_is_that_of_the_code():
    assert text_of(DOCS / "options.md") == make_options.page(), "run: python docs/make_options.py"


def test_every_command_with_options_has_tables():
    with_options = {name for name, options in make_options.jobs().items() if options.defaults()}
    assert with_options == set(make_options.COMMANDS)
    registered = {command.name for command in app.registered_commands}
    assert with_options <= registered


@pytest.mark.parametrize("command", [name for name in make_options.COMMANDS if name not in ("lint", "report")])
def test_functions_named_take_these_options(command):
    room, name = make_options.COMMANDS[command][0].split(".")
    door = getattr(import_module(f"hf_mlalign.{room}"), name)
    assert door.options_class is make_options.jobs()[command]


def test_rows_by_hand():
    lines = text_of(DOCS / "options.md").splitlines()
    row = "| `--n-quality` | `n_quality` | `int` | `6000` | ours | "
    row += "Rows taken for their quality (the authors give the ratio 6:1). |"
    assert lines.count(row) == 1
    assert "| `--per-language/--no-per-language` | `per_language` | `bool` | `True` | ours " in "\n".join(lines)
    assert make_options.shown_type("str | pathlib.Path | None") == "str | Path"
