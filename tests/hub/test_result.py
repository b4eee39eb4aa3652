"""What every job returns: tables, the view in notebooks, and the upload."""

import json
import os
import subprocess
import sys

import pytest
from datasets import Dataset, DatasetDict

from hf_mlalign.hub.run_record import RunRecord, RunResult
from tests.generation.canned import PROMPTS
from tests.hub_server import HubServer


def run_result(folder="out", rows=3, notes=(), **results) -> RunResult:
    record = RunRecord(command="sample", parameters={}, results=results, notes=list(notes))
    return RunResult(Dataset.from_dict({"x": list(range(rows))}), folder, record)


ROWS = [{"language": "de", "n": 2, "rate": 0.5}, {"language": "sw", "n": 1, "rate": None}]


@pytest.mark.parametrize("per_language", [ROWS, {"de": {"n": 2, "rate": 0.5}, "sw": {"n": 1, "rate": None}}])
def test_figures_per_language_have_the_language_as_a_column(per_language):
    table = run_result(per_language=per_language).per_language()
    assert table.columns.tolist() == ["language", "n", "rate"]
    assert table["language"].tolist() == ["de", "sw"]
    assert table["n"].tolist() == [2, 1]
    assert table["rate"].isna().tolist() == [False, True]


def test_a_job_without_figures_per_language_has_an_empty_table():
    assert run_result().per_language().empty
    assert run_result(per_language=None).per_language().empty


def test_the_view_in_notebooks_escapes_what_it_shows():
    rows = [{"language": "<i>", "rate": 0.12345}]
    shown = run_result("<out>", notes=["<b>careful</b>"], per_language=rows)._repr_html_()
    assert "<b>sample</b>, 3 rows in <code>&lt;out&gt;</code>" in shown
    assert "<ul><li>&lt;b&gt;careful&lt;/b&gt;</li></ul>" in shown
    assert "&lt;i&gt;" in shown
    assert "0.123" in shown
    for raw in ("<out>", "<b>careful", "<i>"):
        assert raw not in shown


def test_the_view_counts_rows():
    assert ", 1 row in" in run_result(rows=1)._repr_html_()
    both = run_result()
    both.dataset = DatasetDict(train=both.dataset, test=both.dataset)
    assert ", 6 rows in" in both._repr_html_()
    both.dataset = None
    assert "<b>sample</b> in <code>" in both._repr_html_()


PUSH = """
import sys
from datasets import Dataset
from hf_mlalign.generation import sample
from tests.generation.canned import PROMPTS, CannedBackend
import hf_mlalign.generation.sampler as sampler

sampler.load_backend = lambda *args, **options: CannedBackend()
done = sample(Dataset.from_dict(PROMPTS), sys.argv[1], n=2, progress=False)
pushed = done.push_to_hub("me/answers", private=False)
print(pushed.kind, pushed.repo_type, len(pushed.verified))
"""


def test_a_result_uploads_its_folder(tmp_path):
    with HubServer("hf_" + "t" * 34) as hub:
        environment = {**os.environ, **hub.environment(True), "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run([sys.executable, "-c", PUSH, str(tmp_path / "out")], env=environment, text=True,
                              capture_output=True, timeout=240)  # fmt: skip
        assert done.stdout.split() == ["sample", "dataset", "1"], done.stderr
        assert not hub.repos["dataset", "me/answers"].private
        files = hub.files("dataset", "me/answers")
    assert set(files) == {"README.md", "run.json", "sampling.json", "data/samples.parquet"}
    assert json.loads(files["run.json"])["results"]["drawn"] == 2 * len(PROMPTS["prompt"])
