"""Finds, in the source, what is used of other packages beyond their documented interface."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

WATCHED = ("accelerate", "datasets", "evaluate", "huggingface_hub", "sentence_transformers", "transformers", "trl")
OF_PYTHON = ("_getframe", "_replace", "_asdict", "_fields", "_exit")


class Use(NamedTuple):
    """A name as the table must have it (its last part, or all of it), and where it is used."""

    name: str
    place: str


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith(("__", "_hf_mlalign"))


def own_attributes(trees: dict[Path, ast.Module]) -> set[str]:
    """Private names that classes of ours define or assign on `self`; not those of classes that may override."""
    own = set()
    for tree in trees.values():
        for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            own |= defined(kind)
    return own


def defined(kind: ast.ClassDef) -> set[str]:
    names = {node.name for node in kind.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    for node in ast.walk(kind):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_name(node.value, "self"):
            names.add(node.attr)
    for node in kind.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def is_name(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and is_name(node.func, "super")


def dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def private_uses(tree: ast.Module, place: str, own: set[str]) -> Iterator[Use]:
    """Private attributes of objects that are not ours, also by `getattr` and its kind, and private imports."""
    own_modules = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                   and (node.module or "").startswith("hf_mlalign") for alias in node.names}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in OF_PYTHON:
            ours = is_name(node.value, "self", "cls", *own_modules) or node.attr in own
            if is_super(node.value) or not ours:
                yield Use(node.attr, f"{place}:{node.lineno}")
        elif isinstance(node, ast.Call) and is_name(node.func, "getattr", "setattr", "hasattr", "delattr"):
            name = node.args[1] if len(node.args) > 1 else None
            if isinstance(name, ast.Constant) and is_private(str(name.value)) and name.value not in own:
                yield Use(str(name.value), f"{place}:{node.lineno}")


def deep_uses(tree: ast.Module, place: str) -> Iterator[Use]:
    """What is taken from modules within the watched packages, and private names from anywhere in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in WATCHED:
            for alias in node.names:
                if "." in node.module or is_private(alias.name) or alias.name in ("constants", "config"):
                    yield Use(f"{node.module}.{alias.name}", f"{place}:{node.lineno}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if "." in alias.name and alias.name.split(".")[0] in WATCHED:
                    yield Use(alias.name, f"{place}:{node.lineno}")
        elif isinstance(node, ast.Attribute):
            name = dotted(node) or ""
            package, _, inner = name.partition(".")
            if package in WATCHED and "." in inner and inner[0].islower() and imports(tree, package):
                yield Use(name, f"{place}:{node.lineno}")


def imports(tree: ast.Module, package: str) -> bool:
    return any(isinstance(node, ast.Import) and any((alias.asname or alias.name) == package for alias in node.names)
               for node in ast.walk(tree))  # fmt: skip


def inherited_uses(module: ModuleType, tree: ast.Module, place: str) -> Iterator[Use]:
    """Methods that override those of a watched package, and private attributes of `self` that come from there."""
    for node in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        kind = getattr(module, node.name, None)
        foreign = [base for base in getattr(kind, "__mro__", ()) if base.__module__.split(".")[0] in WATCHED]
        if not foreign:
            continue
        here = defined(node)
        for name in here:
            overrides = any(name in vars(base) for base in foreign) and callable(getattr(kind, name))
            if overrides and not name.startswith("__"):
                yield Use(name, f"{place}:{node.lineno}")
        ours = {name for base in kind.__mro__ if base not in foreign for name in vars(base)} | here
        for inner in ast.walk(node):
            read = isinstance(inner, ast.Attribute) and is_name(inner.value, "self")
            if read and is_private(inner.attr) and inner.attr not in ours:
                yield Use(inner.attr, f"{place}:{inner.lineno}")
