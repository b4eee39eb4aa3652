"""The table of private parts: complete, true of what is installed, and quick to tell what has changed."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hf_mlalign._version import TESTED
from hf_mlalign.cli.app import app
from hf_mlalign.core.errors import DataError
from tests.compat import uses
from tests.compat.part import Part
from tests.compat.parts import changed
from tests.compat.parts_table import PARTS

REPO = Path(__file__).resolve().parents[2]
FILES = [path for folder in ("hf_mlalign", "metrics", "dataset_scripts") for path in (REPO / folder).rglob("*.py")]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(FILES)}


def place(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPO).with_suffix("").parts).removeprefix("dataset_scripts.")


def has_classes(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.ClassDef) for node in tree.body)


def in_table(name: str) -> bool:
    if "." in name:  # a module that is imported whole may be named by what is taken from it
        return any(part.name == name or part.name.startswith(f"{name}.") for part in PARTS)
    return any(part.name.rpartition(".")[2] == name or name in part.mentions for part in PARTS)


def missing(found) -> list[str]:
    return [f"{use.place}: {use.name}" for use in found if not in_table(use.name)]


def test_private_attributes_of_others_are_all_in_the_table():
    own = uses.own_attributes(TREES) - {"_fingerprint", "_feature_names", "_indices"}
    found = [use for path, tree in TREES.items() for use in uses.private_uses(tree, place(path), own)]
    assert {"_fingerprint", "_indices", "_compute_loss", "_hf_hook"} <= {use.name for use in found}
    assert missing(found) == []


def test_what_is_taken_from_inner_modules_is_all_in_the_table():
    found = [use for path, tree in TREES.items() for use in uses.deep_uses(tree, place(path))]
    assert {"trl.data_utils._tokenize", "evaluate.loading.files_to_hash"} <= {use.name for use in found}
    assert missing(found) == []


def test_overridden_methods_are_all_in_the_table():
    found = []
    for path, tree in TREES.items():
        if place(path).startswith(("hf_mlalign/", "dataset_scripts/shared/")) and has_classes(tree):
            module = importlib.import_module(module_name(path))
            found += uses.inherited_uses(module, tree, place(path))
    assert {"_compute_loss", "torch_call", "_split_generators", "_tokenizer", "_metrics"} <= {use.name for use in found}
    assert missing(found) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("ds._info", "_info"),
        ("x = trainer.model._no_such_thing()", "_no_such_thing"),
        ("getattr(config, '_secret', None)", "_secret"),
        ("class A:\n    def f(self):\n        return super()._hidden()", "_hidden"),
    ],
)
def test_the_search_finds_private_attributes(source, name):
    assert [use.name for use in uses.private_uses(ast.parse(source), "here", {"_mine"})] == [name]


@pytest.mark.parametrize("source", ["self._mine", "other._mine", "point._replace(x=1)", "x.__class__", "cls._kept"])
def test_the_search_leaves_our_own_alone(source):
    assert list(uses.private_uses(ast.parse(source), "here", {"_mine"})) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from trl.models.utils import unwrap", "trl.models.utils.unwrap"),
        ("from datasets import _private", "datasets._private"),
        ("import transformers.modeling_utils", "transformers.modeling_utils"),
        ("import datasets\ndatasets.arrow_dataset.Dataset", "datasets.arrow_dataset.Dataset"),
    ],
)
def test_the_search_finds_inner_modules(source, name):
    assert [use.name for use in uses.deep_uses(ast.parse(source), "here")] == [name]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_module_that_is_named_uses_the_part(part):
    """Or relies on the code that `mentions` describes, which it does not call itself."""
    folder = REPO if part.where.startswith(("metrics.", "dataset_scripts.")) else REPO / "hf_mlalign"
    text = (folder / f"{part.where.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert part.name.rpartition(".")[2] in text or part.mentions


def test_everything_is_as_expected_in_the_installed_versions():
    assert changed() == []


def test_every_watched_package_has_parts_and_tested_versions():
    assert {part.package for part in PARTS} == set(TESTED) == set(uses.WATCHED)
    assert len({part.name for part in PARTS}) == len(PARTS)


# What changed is told


def only(messages: list[str]) -> str:
    (message,) = messages
    return message


def test_a_removed_method(monkeypatch):
    from trl import DPOTrainer

    monkeypatch.delattr(DPOTrainer, "_compute_loss")
    message = only(changed("trl"))
    expected = "trl.DPOTrainer._compute_loss(model, inputs, return_outputs) was expected, found nothing of this name."
    assert re.match(r"trl \d[\w.]*: ", message)
    assert f" {expected} hf_mlalign.cmalign.trainer builds on it (" in message
    assert 'pip install "trl' in message
    assert TESTED["trl"][1] in message
    assert "hf-mlalign env" in message
    assert "\n" not in message


def test_a_renamed_parameter_of_an_overridden_method(monkeypatch):
    from trl import DPOTrainer

    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", lambda self, model, batch: None)
    assert "compute_ref_log_probs(model, inputs) was expected, found (model, batch)." in only(changed("trl"))


def test_one_more_required_argument(monkeypatch):
    import trl.data_utils

    monkeypatch.setattr(trl.data_utils, "common_prefix_length", lambda ids, other_ids, start: 0)
    assert "common_prefix_length(ids, other_ids) was expected, found (ids, other_ids, start)." in only(changed("trl"))
    monkeypatch.setattr(trl.data_utils, "common_prefix_length", lambda ids, other_ids, start=0: 0)
    assert changed("trl") == []


def test_a_keyword_that_is_gone(monkeypatch):
    import huggingface_hub.utils

    monkeypatch.setattr(huggingface_hub.utils, "filter_repo_objects", lambda items, allow_patterns=None: items)
    assert "found (items, allow_patterns)." in only(changed("huggingface_hub"))


def test_code_that_does_something_else(monkeypatch):
    from trl import DPOTrainer

    def other(self, model, inputs, return_outputs):
        return model(**inputs).completion_mask

    monkeypatch.setattr(DPOTrainer, "_compute_loss", other)
    assert "found code without log_probs, ref_chosen_logps, ref_rejected_logps, logsigmoid." in only(changed("trl"))


def test_a_local_name_of_evaluate(monkeypatch):
    from evaluate.module import CombinedEvaluations

    def add(self, prediction=None, reference=None, **kwargs):
        row = {name: kwargs[name] for name in self.evaluation_modules[0]._feature_names()}
        self.evaluation_modules[0].add(**row)

    monkeypatch.setattr(CombinedEvaluations, "add", add)
    message = only(changed("evaluate"))
    assert message.startswith("evaluate 0.")
    assert "CombinedEvaluations.add was expected, found code without batch." in message


def test_an_attribute_that_no_method_sets_any_more(monkeypatch):
    import datasets

    class Dataset:
        def __init__(self, arrow_table, info=None, fingerprint=None):
            self.fingerprint = fingerprint
            self._indices = None

    monkeypatch.setattr(datasets, "Dataset", Dataset)
    assert "datasets.Dataset._fingerprint was expected, found nothing of this name." in only(changed("datasets"))


def test_a_module_that_is_gone(monkeypatch):
    import sys

    import sentence_transformers.sentence_transformer

    monkeypatch.delattr(sentence_transformers.sentence_transformer, "losses")
    monkeypatch.setitem(sys.modules, "sentence_transformers.sentence_transformer.losses", None)
    messages = changed("sentence_transformers")
    assert len(messages) == 2
    assert all(message.startswith("sentence-transformers 6") for message in messages)
    assert 'pip install "sentence-transformers==' in messages[0]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_each_part_would_be_missed(part, monkeypatch):
    """With another last name nothing is found: no entry holds whatever is installed."""
    gone = Part(f"{part.name}_gone", part.where, part.why, part.arguments, part.overridden, part.mentions)
    assert gone.found() == "nothing of this name"
    assert gone.name in gone.message("nothing")


# Where it is told


def test_the_guard_of_the_trainer_and_the_table_agree():
    from hf_mlalign.cmalign.trainer import OVERRIDDEN

    table = {part.name.rpartition(".")[2]: part.arguments for part in PARTS
             if part.overridden and part.name.startswith("trl.DPOTrainer.")}  # fmt: skip
    assert {name: ", ".join(parameters[1:]) for name, parameters in OVERRIDDEN.items()} == table


def test_parts_of_other_modules_do_not_stop_the_trainer(monkeypatch):
    import huggingface_hub.utils

    monkeypatch.setattr(huggingface_hub.utils, "filter_repo_objects", lambda items: items)
    assert changed(where="cmalign.trainer") == []
    assert "filter_repo_objects" in only(changed(where="hub.repository"))


def test_the_guard_stands_before_the_imports(monkeypatch):
    """Where TRL moved what the trainer imports, the message names the version, not only the missing name."""
    import trl.trainer.utils

    monkeypatch.delitem(sys.modules, "hf_mlalign.cmalign.trainer", raising=False)
    monkeypatch.delattr(trl.trainer.utils, "global_then_local_main_first")
    with pytest.raises(DataError, match=r'global_then_local_main_first.*pip install "trl=='):
        importlib.import_module("hf_mlalign.cmalign.trainer")


def test_env_prints_versions():
    done = CliRunner().invoke(app, ["env"])
    assert done.exit_code == 0, done.output
    for package in (*TESTED, "torch", "pyarrow", "Python"):
        assert package in done.stdout
    assert str(Path.home()) not in done.stdout


def test_env_loads_none_of_the_packages():
    code = """
import sys
from hf_mlalign.cli.app import main
try:
    main()
except SystemExit:
    pass
heavy = ("torch", "transformers", "trl", "datasets", "pandas")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, "env"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
