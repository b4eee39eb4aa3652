"""Every metric: its docstring example runs, its card is whole and true, its Space has an app that answers."""

import doctest
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml

import hf_mlalign
from hf_mlalign.evaluation.metrics.loading import metric_names, metric_script, metrics_folder

REPO = Path(__file__).resolve().parents[2]
NAMES = metric_names()
TABLE_ROW = re.compile(r"^\| (`[^|]+`) \|", re.MULTILINE)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Arrow files of this test's computations away from the user's cache."""
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)


def test_all_folders_are_metrics():
    assert metrics_folder() == REPO / "metrics"
    assert sorted(p.name for p in (REPO / "metrics").iterdir() if p.is_dir() and p.name != "__pycache__") == NAMES
    assert {"crosslingual_consistency", "selection_diversity"} <= set(NAMES)


def load_file(path: Path):
    spec = importlib.util.spec_from_file_location(f"metric_under_test_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = load_file(metric_script(name))
    found = doctest.DocTestParser().get_doctest(module._KWARGS_DESCRIPTION, {}, name, name, 0)
    assert found.examples, "no example in _KWARGS_DESCRIPTION"
    failures, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(found)
    assert (failures, tried) == (0, len(found.examples))


@pytest.mark.parametrize("name", NAMES)
def test_module(name):
    metric = hf_mlalign.load_metric(name)
    assert metric.name == name
    for text in (metric.description, metric.citation, metric.inputs_description):
        assert len(text.strip()) > 100
    for column in metric.features:
        assert f"{column} (" in metric.inputs_description, f"the docstring does not explain {column}"
    assert metric.inputs_description in metric.compute.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_card(name):
    text = (metrics_folder() / name / "README.md").read_text(encoding="utf-8")
    _, block, body = text.split("---\n", 2)
    card = yaml.safe_load(block)
    assert {"title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "app_file", "pinned", "tags",
            "description"} <= set(card)  # fmt: skip
    assert card["sdk"] == "gradio"
    assert int(card["sdk_version"].split(".")[0]) == 6
    assert (metrics_folder() / name / card["app_file"]).is_file()
    metric = hf_mlalign.load_metric(name)
    assert {"evaluate", metric.module_type} <= set(card["tags"])
    documented = " ".join(TABLE_ROW.findall(body))
    for column in metric.features:
        assert f"`{column}`" in documented, f"the card's table lacks {column}"
    for heading in ("Limit", "Citation"):
        assert re.search(rf"^#+ .*{heading}", body, re.MULTILINE), f"no heading {heading}"


@pytest.mark.parametrize("name", NAMES)
def test_card_example_runs_and_its_table_names_what_is_returned(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body = (metrics_folder() / name / "README.md").read_text(encoding="utf-8")
    space: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", body, re.MULTILINE | re.DOTALL):
        exec(compile(block, name, "exec"), space)
    outcomes = [v for k, v in space.items() if isinstance(v, dict) and not k.startswith("__")]
    assert outcomes, "the card's example keeps no results"
    documented = " ".join(TABLE_ROW.findall(body))
    endings = re.findall(r"`…(\w+)`", documented)
    for key in outcomes[-1]:
        whole = f"`{key}`" in documented
        assert whole or any(key.endswith(ending) for ending in endings), f"the card's table lacks {key}"


@pytest.mark.parametrize("name", NAMES)
def test_space(name, tmp_path, monkeypatch):
    """The app builds, and its function answers its own example with JSON."""
    gradio = pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    assert re.search("^hf-mlalign", (metrics_folder() / name / "requirements.txt").read_text(), re.MULTILINE)
    app = load_file(metrics_folder() / name / "app.py")
    assert isinstance(app.demo, gradio.Blocks)
    if isinstance(app.demo, gradio.Interface):
        answered = app.demo.fn(*example(app.demo))
        assert json.dumps(answered, default=str)


def example(interface) -> list:
    """The starting values of the inputs, as the function gets them."""
    values = [(block, block.value) for block in interface.input_components]
    return [b.preprocess(b.data_model(**v) if isinstance(v, dict) and b.data_model else v) for b, v in values]


@pytest.mark.parametrize("name", NAMES)
def test_bad_columns_are_refused(name):
    metric = hf_mlalign.load_metric(name)
    with pytest.raises(ValueError):
        metric.add_batch(no_such_column=[1])


def test_nothing_here_is_imported_by_name():
    """The scripts run from evaluate's cache, so they must not import each other."""
    for path in metrics_folder().rglob("*.py"):
        assert "from metrics" not in path.read_text(encoding="utf-8"), path
    assert not any(m == "metrics" or m.startswith("metrics.") for m in sys.modules)
    assert os.access(metrics_folder(), os.R_OK)
