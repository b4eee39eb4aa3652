"""The command `report`."""

import json

import pytest
from typer.testing import CliRunner

from hf_mlalign.cli.app import app
from hf_mlalign.core.errors import DataError


def run(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_report_says_where_it_is(tmp_path):
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "curve.json").write_text(json.dumps([{"loss": 1.0, "step": 1}, {"loss": 0.5, "step": 2}]))
    done = run(tmp_path / "tuned", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "out" / "report.html") in done.output.replace("\n", "")
    assert (tmp_path / "out" / "report.html").is_file()
    assert [path.name for path in (tmp_path / "out" / "figures").iterdir()] == ["tuned-1-curves.png"]


def test_nothing_to_report_on(tmp_path):
    done = run(tmp_path)
    assert isinstance(done.exception, DataError)
    assert "hold a run.json" in str(done.exception)
    with pytest.raises(DataError, match="no folder"):
        raise run(tmp_path / "nothing").exception
