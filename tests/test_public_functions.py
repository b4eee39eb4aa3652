"""Every public function is tested somewhere: found by walking package and tests, without a table kept by hand."""

import ast
import inspect
from importlib import import_module

import pytest

from tests import reachable

PACKAGE = reachable.modules()
TESTS = {place: tree for place, tree in reachable.test_modules().items() if place != "tests/test_public_functions.py"}
REGISTER = ("evaluation_functions", "ground_functions", "method_functions", "text_functions")
API = ("", ".mdaq", ".cmalign", ".spontaneous", ".evaluation", ".data", ".generation", ".report")


def test_every_public_function_is_reached_by_a_test():
    found = reachable.reached(PACKAGE, TESTS)
    lacking = [name for name in reachable.public_functions(PACKAGE) if name.rpartition(".")[2] not in found]
    assert lacking == []


@pytest.mark.parametrize("room", API)
def test_every_function_of_the_public_interface_is_named_in_a_test(room):
    """What users import is tested as such, not only through something else."""
    module = import_module(f"hf_mlalign{room}")
    named = set().union(*map(reachable.names, TESTS.values()))
    public = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    lacking = [name for name, value in public.items()
               if name not in named and inspect.isfunction(value)]  # fmt: skip
    assert lacking == []


def test_every_room_has_tests_of_its_own():
    rooms = {module.split(".")[1] for module in PACKAGE if module.startswith("hf_mlalign.") and module.count(".") > 1}
    folders = {place.split("/")[1] for place in TESTS if place.count("/") > 1}
    assert rooms - folders == set()


def test_property_tests_are_of_public_functions():
    """An entry is called after the room and the function or class, and where there are several after its variant."""
    for module in REGISTER:
        import_module(f"tests.reliability.{module}")
    from tests.reliability.public_functions import ENTRIES

    public = {(name.split(".")[0], name.rpartition(".")[2]) for name in reachable.public_functions(PACKAGE)}
    assert [name for name in ENTRIES if tuple(name.split(" (")[0].split(".")[:2]) not in public] == []


def test_a_function_without_a_test_is_found():
    source = "def used(): return helper()\ndef helper(): return inner.deep()\ndef alone(): return lonely()\n"
    source += "def lonely(): pass\nclass Box:\n    def __init__(self): opened()\n    def close(self): closed()\n"
    source += "def opened(): pass\ndef closed(): pass\n@register\ndef plugin(): pass\nTABLE = {'a': chosen}\n"
    source += "def chosen(): pass\n"
    package, tests = {"hf_mlalign.m": ast.parse(source)}, {"t": ast.parse("from m import used, Box\nused()\nBox()")}
    found = reachable.reached(package, tests)
    lacking = [name for name in reachable.public_functions(package) if name.rpartition(".")[2] not in found]
    assert lacking == ["m.alone", "m.lonely", "m.closed"]
