"""setup.cfg, constraints.txt (newest) and constraints-lowest.txt say the same."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hf_mlalign._version import TESTED

REPO = Path(__file__).resolve().parents[2]
IN_LOWEST = ("app", "ray", "train", "test")
"""Extras that the environment of lowest versions has; docs and lint run in the newest only."""


def pins(name: str) -> dict[str, Version]:
    lines = (REPO / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def requirements(extras: tuple[str, ...] | None = None) -> list[Requirement]:
    """Those of the package and of `extras` (default: all), without references from one extra to another."""
    parser = configparser.ConfigParser()
    parser.read(REPO / "setup.cfg", encoding="utf-8")
    groups = parser["options.extras_require"]
    texts = [parser["options"]["install_requires"], *(groups[name] for name in extras or groups)]
    found = [Requirement(line) for text in texts for line in text.split("\n") if line.strip()]
    return [requirement for requirement in found if requirement.name != "hf-mlalign"]


def lowest(requirement: Requirement) -> Version:
    (bound,) = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
    return bound


LOWEST, NEWEST = pins("constraints-lowest.txt"), pins("constraints.txt")


@pytest.mark.parametrize("requirement", requirements(IN_LOWEST), ids=lambda requirement: requirement.name)
def test_the_lowest_that_is_admitted_is_the_lowest_that_is_tested(requirement):
    """A bound below it promises what nobody has tried: `make constraints-lowest`, then `make test-lowest`."""
    assert LOWEST[canonicalize_name(requirement.name)] == lowest(requirement)


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_the_newest_is_admitted(requirement):
    newest = NEWEST[canonicalize_name(requirement.name)]
    assert newest in requirement.specifier
    assert newest >= lowest(requirement)


def test_no_version_is_higher_in_the_lowest_than_in_the_newest():
    higher = {name for name in LOWEST.keys() & NEWEST.keys() if LOWEST[name] > NEWEST[name]}
    assert higher == set()


@pytest.mark.parametrize("package", TESTED)
def test_messages_name_the_tested_versions(package):
    low, high = map(Version, TESTED[package])
    name = canonicalize_name(package)
    assert (low, high) == (LOWEST[name], NEWEST[name])


def test_ci_runs_both_environments_and_the_faults():
    run, make = (REPO / ".ci" / "run").read_text(), (REPO / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", make, re.MULTILINE))
    assert {"test", "test-reliability", "test-lowest"} <= targets
    assert "for part in test test-reliability test-lowest" in run


def test_markers_of_the_reliability_folder():
    """Whatever lies there is left out of `make test`, marked or not."""
    assert "item.add_marker(pytest.mark.reliability)" in (REPO / "tests" / "reliability" / "conftest.py").read_text()
    assert "-m 'not reliability'" in (REPO / "pyproject.toml").read_text()


def test_the_page_names_the_versions():
    text = (REPO / "docs" / "compatibility.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w-]+) \| (\d[\d.]*) \| (\d[\d.]*) \|", text, re.MULTILINE)
    assert {canonicalize_name(package) for package in TESTED} <= {canonicalize_name(name) for name, _, _ in rows}
    for name, low, high in rows:
        package = canonicalize_name(name)
        assert (Version(low), Version(high)) == (LOWEST[package], NEWEST[package]), name
