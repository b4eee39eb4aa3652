"""The house in order: rooms by layer, imports downwards only, no circles, and public names one can guess."""

import ast
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "hf_mlalign"
LAYERS = (
    ("core",),
    ("data",),
    ("hub", "models"),
    ("generation",),
    ("mdaq", "cmalign", "spontaneous", "evaluation"),
    ("launch", "report"),
    ("cli",),
)
"""From the ground up: a module imports from lower layers and from its own room, never from a room beside it."""
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
ROOMS = tuple(LAYER)
ROOT = {"__init__": 0, "_version": -1, "__main__": 7, "distributed": 7}
"""Modules at the root: `_version` is below all rooms, `__init__` knows them only by name."""
OPEN = ("mdaq", "cmalign", "spontaneous", "evaluation", "data", "generation", "hub", "models", "report")
"""Rooms that users import from."""


@cache
def imports() -> dict[str, set[str]]:
    """Module → the modules of the package it imports, at its top or in a function."""
    paths = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}
    names = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    found: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            wanted = []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}:{node.lineno}: write the import in full"
                wanted = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            found[name] |= {each for each in wanted if each in names} - {name, "hf_mlalign"}
    return found


def layer(name: str) -> int:
    room = [*name.split("."), "__init__"][1]
    return LAYER[room] if room in LAYER else ROOT[room]


def test_rooms_and_modules_at_the_root():
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert folders == set(ROOMS)
    assert modules == set(ROOT)
    assert len(folders) <= 12
    assert len(modules) <= 5


def test_imports_lead_downwards():
    """To a lower layer or within the room; siblings never import each other."""
    wrong = [(name, other) for name, others in imports().items() for other in others
             if name.split(".")[1:2] != other.split(".")[1:2] and layer(other) >= layer(name)]  # fmt: skip
    assert wrong == []


def test_no_circles():
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circular import: {' → '.join((*trail, name))}"
        if name not in done:
            for other in imports()[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in imports():
        visit(name, ())


@pytest.mark.parametrize("room", ["", *OPEN])
def test_dir_lists_exactly_the_public_names(room):
    module = import_module(f"hf_mlalign.{room}".rstrip("."))
    names = [name for name in dir(module) if name != "__version__"]
    assert names
    assert [name for name in names if name.startswith("_")] == []
    assert sorted(module.__all__) == sorted(dir(module))
    for name in names:
        value = getattr(module, name)
        assert getattr(value, "__name__", name) == name, f"{name} has another name where it is defined"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("room", ["", *OPEN])
def test_no_name_is_a_module_and_a_public_name(room):
    """Once imported, the module would hide the function: `from hf_mlalign import curate; curate(…)` would fail."""
    module = import_module(f"hf_mlalign.{room}".rstrip("."))
    folder = PACKAGE / room if room else PACKAGE
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/*.py")}
    assert modules & set(module.__all__) == set()


def test_the_root_has_the_names_of_all_rooms():
    import hf_mlalign

    rooms = {room: dir(import_module(f"hf_mlalign.{room}")) for room in OPEN}
    names = [name for each in rooms.values() for name in each]
    assert [name for name in set(names) if names.count(name) > 1] == []
    assert set(dir(hf_mlalign)) == {"__version__", "DataError", *names}
    for room, each in rooms.items():
        for name in each:
            assert getattr(hf_mlalign, name) is getattr(import_module(f"hf_mlalign.{room}"), name)


@pytest.mark.parametrize("room", ["", *OPEN])
def test_importing_a_room_loads_no_heavy_library(room):
    heavy = ("torch", "transformers", "sentence_transformers", "datasets", "faiss", "pandas", "trl", "numpy", "pyarrow")
    code = f"import sys, hf_mlalign{f'.{room}' if room else ''}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_in_the_package_imports_what_is_outside_of_the_wheel():
    outside = {"encoder_training", "dataset_scripts", "shared", "tests", "benchmarks"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} & outside == set(), path
