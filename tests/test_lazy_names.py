"""Public names that are imported when they are first used."""

import sys

import pytest

from hf_mlalign import lazy_names


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `teapot` with the names `pour` (of its module `spout`) and `LID`."""
    folder = tmp_path / "teapot"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from hf_mlalign import lazy_names\n"
        "__getattr__, __dir__, __all__ = lazy_names(__name__, {'pour': 'teapot.spout', 'LID': 'teapot.top'})\n"
    )
    (folder / "spout.py").write_text("def pour(): return 'tea'\n")
    (folder / "top.py").write_text("LID = 'lid'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "teapot"
    for name in [name for name in sys.modules if name.split(".")[0] == "teapot"]:
        del sys.modules[name]


def test_names_are_imported_when_they_are_used(package):
    import teapot

    assert dir(teapot) == teapot.__all__ == ["LID", "pour"]
    assert not {"teapot.spout", "teapot.top"} & set(sys.modules)
    assert teapot.pour() == "tea"
    assert "teapot.spout" in sys.modules
    assert "teapot.top" not in sys.modules
    assert vars(teapot)["pour"] is teapot.pour  # looked up once
    from teapot import LID

    assert LID == "lid"
    names: dict = {}
    exec("from teapot import *", names)
    assert {"LID", "pour"} <= set(names)


def test_a_name_that_is_not_there(package):
    import teapot

    with pytest.raises(AttributeError, match="^module 'teapot' has no attribute 'cup'$"):
        _ = teapot.cup
    with pytest.raises(ImportError):
        from teapot import cup  # noqa: F401


def test_a_module_may_not_hide_a_name():
    with pytest.raises(ImportError, match="teapot: 'pour' is a module and a public name"):
        lazy_names("teapot", {"pour": "teapot.pour"})
