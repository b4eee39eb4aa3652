"""The page as a whole: what is in it, what is not, and that damage stays where it is."""

import json
import re
import shutil

import numpy as np
import pytest
from datasets import Dataset

from hf_mlalign import report
from hf_mlalign.core.errors import DataError
from hf_mlalign.hub.run_record import read_record
from hf_mlalign.report import write_report
from hf_mlalign.report.registry import SECTIONS
from hf_mlalign.report.sections.curation_data import read_selection, read_texts
from tests.report.conftest import ATTACK, pool

TITLES = (
    "Pool and selection by language", "Quality score by language, before and after",
    "Clusters covered as rows are added", "All languages", "Selected and left out", "Margins by language",
    "Dropped by language and filter", "Chosen and rejected", "Curves", "Consistency of the chosen answers",
    "Last evaluation by language", "Win rate by language", "Wins and losses", "Win rate against training-set size",
)  # fmt: skip


def headings(text: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", text)


def test_everything_is_there_once_and_in_the_order_of_the_work(written):
    text = written.read_text(encoding="utf-8")
    found = headings(text)
    for title in TITLES:
        assert sum(heading.startswith(title) for heading in found) == 1, title
    assert re.findall(r'<h2 id="p\d-title">(.*?)</h2>', text) == ["curated", "pairs", "tuned", "judged", "scale"]
    assert "Not everything could be shown" not in text
    charts = text.count('<article class="Chart')
    assert len(list((written.parent / "figures").glob("*.png"))) == charts == text.count("<svg class=")
    assert text.count("role=\"img\" aria-label=") == charts


def test_it_needs_nothing_from_elsewhere(written):
    text = written.read_text(encoding="utf-8")
    names = set(re.findall(r"""(?:https?:)?//[\w.-]+\.\w+[^"'\s<)]*""", text))
    assert names <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}
    assert not re.findall(r"<(?:link|iframe|object|embed)\b(?![^>]*data:,)", text)
    assert text.count("<script") == 1
    assert "default-src 'none'" in text


def test_text_of_rows_stays_text(written):
    text = written.read_text(encoding="utf-8")
    assert ATTACK not in text
    assert "&lt;script&gt;document.title" in text
    assert re.search(r'<div class="text" lang="ar" dir="auto">', text)


def test_ids_are_unique_and_links_lead_somewhere(written):
    text = written.read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def test_header_of_a_run(written):
    text = written.read_text(encoding="utf-8")
    assert "hf-mlalign curate" in text
    assert "from pool.jsonl, seed 0" in text
    assert re.search(r"<td>n_diversity</td><td dir=\"auto\">2</td>", text)
    assert str(written.parents[1]) not in text


def test_places(project):
    shutil.rmtree(project / "curated")
    assert write_report(project) == project / "report" / "report.html"
    before = sorted(project.rglob("*"))
    assert write_report(project) == project / "report" / "report.html"
    assert sorted(project.rglob("*")) == before
    one = write_report(project / "pairs")
    assert one == project / "pairs-report" / "report.html"
    assert headings(one.read_text())[-1] == "Chosen and rejected"
    assert not (project / "pairs" / "report.html").exists()


def test_damage_is_named_and_stays_where_it_is(project):
    (project / "curated" / "scores.parquet").write_bytes(b"PAR1 no table")
    (project / "judged" / "run.json").write_text('{"command": 3')
    (project / "tuned" / "trainer_state.json").write_text("[1, 2")
    next((project / "pairs" / "data" / "train").glob("ja.parquet")).write_bytes(b"")
    text = write_report(project).read_text(encoding="utf-8")
    found = headings(text)
    for problem in ("scores.parquet cannot be read", "judged/run.json&#39; is not a run record",
                    "trainer_state.json cannot be read", "data/train/ja.parquet cannot be read"):  # fmt: skip
        assert problem in text, problem
    assert "Dropped by language and filter" in found
    assert "Win rate against training-set size" in found
    assert "Margins by language" not in found
    assert str(project) not in text
    assert text.count("<h3>") == text.count("</h3>")


def test_what_is_not_there_has_no_section(project):
    for name in ("curated", "judged", "tuned", "scale"):
        shutil.rmtree(project / name)
    found = headings(write_report(project).read_text(encoding="utf-8"))
    assert {"Margins by language", "Chosen and rejected"} < set(found)
    assert not {"Pool and selection by language", "Win rate by language", "Curves"} & set(found)


def test_a_section_of_ones_own(project):
    before = list(SECTIONS)
    (project / "scale" / "lengths.json").write_text('{"de": 3, "ja": "<b>"}')

    @report.section("Lengths", files=["lengths.json"])
    def lengths(part):
        import pandas as pd

        rows = json.loads(part.files("lengths.json")[0].read_text())
        yield report.Numbers("Lengths", "Longer is longer.", pd.DataFrame(rows.items(), columns=["language", "length"]))
        raise KeyError("after that")

    try:
        text = write_report(project / "scale").read_text(encoding="utf-8")
    finally:
        SECTIONS[:] = before
    assert headings(text)[-2:] == ["Win rate against training-set size", "Lengths"]
    assert "&lt;b&gt;" in text
    assert "“Lengths” is missing or incomplete: KeyError" in text


def test_tokens_do_not_appear(project):
    record = json.loads((project / "pairs" / "run.json").read_text())
    record["parameters"]["base"] = "hf_" + "a1B2" * 10
    (project / "pairs" / "run.json").write_text(json.dumps(record))
    assert "hf_a1B2" not in write_report(project / "pairs").read_text()


def test_odd_languages_do_not_break_the_figures(project):
    """A language that looks like mathematics, a hidden label, or a tag; each is shown as it is."""
    path = project / "pairs" / "data" / "train" / "ja.parquet"
    ds = Dataset.from_parquet(str(path))
    names = np.resize(["$x_1$", "_a", "</svg><b>", "$$"], len(ds)).tolist()
    ds.remove_columns("language").add_column("language", names).to_parquet(str(path))
    text = write_report(project / "pairs").read_text(encoding="utf-8")
    assert "Not everything" not in text
    assert "</svg><b>" not in text
    assert text.count("$x_1$") >= 2


def test_bad_arguments(project, tmp_path):
    with pytest.raises(DataError, match="no folder '.*nothing'"):
        write_report(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="hold a run.json"):
        write_report(tmp_path / "empty")
    with pytest.raises(DataError, match="output: .* holds something other"):
        write_report(project, project / "pairs")
    with pytest.raises(DataError, match="is a file"):
        write_report(project, tmp_path / "pool.jsonl")


def test_the_pool_is_found_named_or_refused(project, tmp_path):
    shutil.move(project / "curated", tmp_path / "alone")
    assert texts_of(tmp_path / "alone", None).whole
    (tmp_path / "pool.jsonl").rename(tmp_path / "elsewhere.jsonl")
    text = write_report(tmp_path / "alone").read_text()
    assert "Selected rows" in headings(text)
    assert "The pool was not found" in text
    for named in (tmp_path / "elsewhere.jsonl", pool()):
        assert texts_of(tmp_path / "alone", named).whole
    for other in (pool().select(range(100)), pool().select(range(383, -1, -1))):
        texts = texts_of(tmp_path / "alone", other)
        assert not texts.whole
        assert "The source is not the pool of this curation" in texts.note


def texts_of(folder, source):
    part = report.ReportedRun(folder, "alone", read_record(folder), source)
    return read_texts(part, read_selection(part))
