"""docs/paper-index.md: every function named exists, and every default in it is the one in the code."""

import ast
import importlib
import inspect
import re

import pytest

from tests.test_docs import DOCS

PAGE = (DOCS / "paper-index.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
NAME = re.compile(r"([\w.]+)(\[(\".*?\")\]|\((\".*?\")\))?")
ORIGINS = {"paper", "script", "document", "library", "ours", ""}
MAIN_PAPERS = ("2509.15549", "2509.08541", "2405.13816")


def rows() -> list[tuple[str, ...]]:
    """The cells of every line of the tables: subject, function, defaults, origin, difference."""
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in ROW.findall(PAGE)]


ROWS = [cells for cells in rows() if cells[1].startswith("`")]


def resolve(text: str):
    """The object behind `module.name`, `module.NAME["key"]` or `module.function("name")`."""
    path, _, key, argument = NAME.fullmatch(text.strip("`")).groups()
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(f"hf_mlalign.{module}"), name)
    if key:
        return found[ast.literal_eval(key)]
    return found(ast.literal_eval(argument)) if argument else found


def default(found, name: str):
    """The default of a parameter; of a mapping or an object, its entry or attribute of that name."""
    if isinstance(found, dict):
        return found[name]
    if not callable(found):
        return getattr(found, name)
    parameter = inspect.signature(found).parameters[name]
    assert parameter.default is not parameter.empty, f"{name} has no default"
    return parameter.default


def stated(cell: str) -> dict[str, object]:
    return {name: ast.literal_eval(value) for name, value in re.findall(r"`(\w+)=([^`]+)`", cell)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1].strip("`"))
def test_functions_exist_and_defaults_are_those_of_the_code(row):
    _, function, defaults, origin, _ = row
    found = resolve(function)
    assert found is not None
    assert origin in ORIGINS
    values = stated(defaults)
    assert len(values) == defaults.count("=")
    assert bool(values) or "LANGUAGES" in function or not origin
    for name, value in values.items():
        there = default(found, name)
        assert there == value, name
        assert type(there) is type(value) or isinstance(there, (int, float)), name


def test_the_table_is_whole():
    assert len(ROWS) > 45
    for paper in MAIN_PAPERS:
        assert f"https://arxiv.org/abs/{paper}" in PAGE
    for name in ("MAPO", "ICR", "LaCoMSA", "CALM", "CaR", "Deita", "MMR", "AlpacaEval LC", "Vendi"):
        assert re.search(rf"\| {name}\b", PAGE), name
    assert all(len(row) == 5 for row in ROWS)


def test_a_wrong_default_is_noticed():
    function = resolve("`mdaq.das_select`")
    assert default(function, "n_quality") == 6000 != stated("`n_quality=6001`")["n_quality"]
    assert default(resolve('`launch.recipes.RECIPES["mdaq"]`'), "num_train_epochs") == 3
    with pytest.raises(AttributeError):
        resolve("`mdaq.no_such_function`")


def test_every_default_of_the_main_functions_is_accounted_for():
    """What a reader could set in the three builders is in the table, but for input, output and hardware."""
    from hf_mlalign import CMAlignPreferenceBuilder, MDaQSelector

    elsewhere = {"model", "encoder", "column_mapping", "languages", "seed", "num_proc", "batch_size", "budgets",
                 "reward_options", "test_size", "output_format", "answer_kind"}  # fmt: skip
    for found in (MDaQSelector, CMAlignPreferenceBuilder):
        named = {name for row in ROWS if row[1].endswith(f".{found.__name__}`") for name in stated(row[2])}
        options = {n for n, p in inspect.signature(found).parameters.items() if p.default is not p.empty}
        assert options - elsewhere == named
