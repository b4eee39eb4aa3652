"""Every public function stands in the register of property tests, or there is a stated reason why not."""

import inspect
import re
from dataclasses import is_dataclass
from importlib import import_module

import pytest

from tests.conftest import REPO
from tests.reliability.elsewhere import ELSEWHERE

REGISTER = ("evaluation_functions", "ground_functions", "method_functions", "text_functions")


def public_functions() -> dict[str, object]:
    """Full name without the package's → function or class, of all modules that docs/api names."""
    pages = sorted((REPO / "docs" / "api").glob("*.md"))
    modules = [name for page in pages for name in re.findall(r"automodule:: (\S+)", page.read_text(encoding="utf-8"))]
    return {
        f"{module.removeprefix('hf_mlalign.')}.{name}": value
        for module in modules
        for name, value in vars(import_module(module)).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module
    }


def holds_values(value: object) -> bool:
    """Whether it is a record, a protocol or an error, which do nothing with data."""
    record = inspect.isclass(value) and issubclass(value, (tuple, list, Exception))
    return record or is_dataclass(value) or getattr(value, "_is_protocol", False)


def reason(name: str) -> str | None:
    module = name.rpartition(".")[0]
    keys = (name, module, f"{module.split('.')[0]}.*")
    return next((key for key in keys if key in ELSEWHERE), None)


def test_every_public_function_is_put_to_the_test():
    for module in REGISTER:
        import_module(f"tests.reliability.{module}")
    from tests.reliability.public_functions import ENTRIES

    public = public_functions()
    names = {name.split(" (")[0] for name in ENTRIES}
    methods = {name for name in names if name not in public}
    tested = names | {name.rpartition(".")[0] for name in methods}
    assert not {name for name in methods if name.rpartition(".")[0] not in public}, "an entry for no public function"
    lacking = [name for name, value in public.items()
               if name not in tested and not holds_values(value) and reason(name) is None]  # fmt: skip
    assert not lacking, (
        f"{lacking}: neither an entry in tests/reliability nor a reason in tests/reliability/elsewhere.py"
    )


@pytest.mark.parametrize("name", ELSEWHERE)
def test_reasons_name_tests_that_exist(name):
    why, tests = ELSEWHERE[name]
    assert why
    assert tests
    assert [path for path in tests if not (REPO / path).is_file()] == []
