"""From a source to a running page, and back."""

import threading

import pytest
from datasets import Dataset

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.annotation.items import read_items
from hf_mlalign.evaluation.annotation.run import annotate, choose_items
from tests.evaluation.annotation.human_studies import judge_all, open_study

PAIRS = {"language": ["de", "sw"] * 3, "question": list("abcdef"), "tuned": list("ghijkl"), "raw": list("mnopqr")}
MAPPING = {"tuned": "candidate", "raw": "baseline"}


def test_choose():
    items = read_items(Dataset.from_dict(PAIRS), MAPPING)
    assert [item.candidate for item in choose_items(items, ["Swahili"], 2)] == ["h", "j"]
    assert [item.candidate for item in choose_items(items, None, 1)] == ["g", "h"]


def test_a_page_that_is_stopped(tmp_path):
    Dataset.from_dict(PAIRS).to_parquet(tmp_path / "pairs.parquet")
    lines, stop = [], threading.Event()
    stop.set()

    def run(**options):
        return annotate(tmp_path / "pairs.parquet", tmp_path / "out", column_mapping=MAPPING, on_step=lines.append,
                        stop=stop, **options)  # fmt: skip

    done = run(languages=["sw"], limit=2)
    assert lines[0] == f"2 items (sw 2); 0 judgements so far in {tmp_path / 'out'}."
    assert lines[1].startswith("Judge at http://127.0.0.1:")
    assert (done.dataset, done.folder, done.result) == (None, tmp_path / "out", [])
    assert done.record.source["name"] == "pairs.parquet"
    assert done.record.parameters["languages"] == ["sw"]
    items = choose_items(read_items(Dataset.from_dict(PAIRS), MAPPING), ["sw"], 2)
    with open_study(tmp_path / "same", items) as study:
        judge_all(study, "Ana", languages=["sw"])
    (tmp_path / "out" / "judgements.jsonl").write_bytes((tmp_path / "same" / "judgements.jsonl").read_bytes())
    assert [judgement.annotator for judgement in run(languages=["sw"], limit=2).result] == ["Ana", "Ana"]
    with pytest.raises(DataError, match="judgements of another study"):
        run()
