"""What the tests can reach: which functions of the package a test names, or which are called by what a test names."""

import ast
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def modules() -> dict[str, ast.Module]:
    """Every module of the package, its metrics included, by its full name."""
    found = {}
    for path in sorted([*(REPO / "hf_mlalign").rglob("*.py"), *(REPO / "metrics").rglob("*.py")]):
        name = ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def test_modules() -> dict[str, ast.Module]:
    """Every module of the tests by its path from the repository."""
    paths = sorted((REPO / "tests").rglob("*.py"))
    return {path.relative_to(REPO).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def names(node: ast.AST) -> set[str]:
    """All identifiers in a piece of code; also the words of short strings, which may name a function to load."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            found.add(inner.id)
        elif isinstance(inner, ast.Attribute):
            found.add(inner.attr)
        elif isinstance(inner, ast.ImportFrom):
            found |= {alias.name for alias in inner.names}
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str) and inner.value.isidentifier():
            found.add(inner.value)
    return found


def definitions(tree: ast.AST) -> Iterator[Definition]:
    """Functions, classes and methods."""
    return (node for node in ast.walk(tree) if isinstance(node, Definition))


def runs_with(node: Definition) -> set[str]:
    """Identifiers of the code that runs where `node` is used: a function's, or a class's without its methods."""
    if not isinstance(node, ast.ClassDef):
        return names(node)
    inner = [each for each in node.body if not isinstance(each, Definition) or each.name.startswith("__")]
    return set().union(*map(names, inner), *map(names, node.bases), *map(names, node.decorator_list))


def at_import(tree: ast.Module) -> set[str]:
    """Identifiers of the code that runs when a module is imported, such as what registers its functions."""
    done = [node for node in tree.body if not isinstance(node, (Definition, ast.Import, ast.ImportFrom))]
    registered = {node.name for node in tree.body if isinstance(node, Definition) and node.decorator_list}
    return set().union(*map(names, done)) | registered


def reached(package: dict[str, ast.Module], tests: dict[str, ast.Module]) -> set[str]:
    """Identifiers that the tests use, and, from there, all that the code behind them uses.

    It knows names, not types: two functions of one name count as one. What it does not find, no test can reach.
    """
    used = [(node.name, runs_with(node)) for tree in package.values() for node in definitions(tree)]
    found = set().union(*map(names, tests.values()), *map(at_import, package.values()))
    while True:
        more = set().union(*(inner for name, inner in used if name in found)) - found
        if not more:
            return found
        found |= more


def public_functions(package: dict[str, ast.Module]) -> dict[str, Definition]:
    """Full name without the package's → function or class at the top of a module, unless its name has an underscore."""
    return {
        f"{module}.{node.name}".removeprefix("hf_mlalign."): node
        for module, tree in package.items()
        for node in tree.body
        if isinstance(node, Definition) and not node.name.startswith("_")
    }
