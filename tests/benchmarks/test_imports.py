"""The tests do not run the benchmarks, but what these import must be there and take the arguments that they give."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_names_exist_and_take_the_arguments_given(path):
    tree, names = ast.parse(path.read_text(encoding="utf-8")), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("hf_mlalign", "benchmarks", "tests"):
            module = import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    import_module(f"{node.module}.{alias.name}")
                names[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and callable(names.get(node.func.id)):
            signature = inspect.signature(names[node.func.id])
            given = [None for argument in node.args if not isinstance(argument, ast.Starred)]
            try:
                signature.bind_partial(*given, **{each.arg: None for each in node.keywords if each.arg})
            except TypeError as error:
                pytest.fail(f"{path.name}:{node.lineno}: {node.func.id}: {error}")
