"""Extending in under fifteen lines; the tests named on the pages of faults exist; every command has a how-to."""

import ast
import re

from tests.test_docs import BLOCK, DOCS, REPO, text_of

EXTENSIONS = ("A reward", "A selection method", "A judge", "A task", "A section of the report", "A metric")


def test_every_extension_takes_less_than_fifteen_lines():
    sections = dict(part.split("\n", 1) for part in text_of(DOCS / "extending.md").split("\n## ")[1:])
    for name in EXTENSIONS:
        blocks = BLOCK.findall(sections[name])
        assert blocks, name
        assert all(len(block.splitlines()) < 15 for block in blocks), name


def test_tests_named_on_the_pages_of_faults_exist():
    pages = text_of(DOCS / "reliability.md") + text_of(DOCS / "appendix" / "tried-faults.md")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", pages)
    assert len(named) > 40
    for path, name in named:
        tree = ast.parse(text_of(REPO / path))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"


def test_every_command_has_a_how_to():
    from hf_mlalign.cli.app import app

    names = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    shown = text_of(DOCS / "how-to.md")
    assert {name for name in names if f"hf-mlalign {name}" not in shown} <= {"demo"}


def test_the_tutorial_knows_four_languages_and_every_step():
    page = text_of(DOCS / "tutorial.md")
    assert len(re.search(r"LANGUAGES = \[(.*?)\]", page)[1].split(",")) == 4
    titles = re.findall(r"^## (\d+)\. ", page, re.MULTILINE)
    assert titles == [str(n) for n in range(1, 11)]
