"""What `hf_mlalign.mdaq` and `hf_mlalign.distributed` offer."""

import importlib
import inspect

import pytest


@pytest.mark.parametrize("name", ["hf_mlalign.mdaq", "hf_mlalign.distributed"])
def test_every_name_is_there_and_nothing_else_is_listed(name):
    package = importlib.import_module(name)
    assert dir(package) == sorted(package.__all__)
    found = {public: getattr(package, public) for public in package.__all__}
    assert not [public for public, value in found.items() if inspect.ismodule(value)]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018
