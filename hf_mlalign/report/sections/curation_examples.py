"""Section of a curated set: rows that were taken and rows that were left."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hf_mlalign.mdaq.selector import SelectionResult
from hf_mlalign.report.registry import Block, Example, Examples, ReportedRun, section
from hf_mlalign.report.sections.curation_data import SCORES, Texts, read_selection, read_texts
from hf_mlalign.report.tables import number

SHOWN = 2
"""Examples of each kind and language (*ours*)."""


@section("Rows taken and left", files=[SCORES])
def examples(part: ReportedRun) -> Iterator[Block]:
    """A few rows of each language: best of each reason, and what was left out."""
    result = read_selection(part)
    texts = read_texts(part, result)
    groups = {}
    for name in result.budgets:
        rows = _picked(result, name, texts)
        shown = zip(rows, *texts.read(rows), strict=True) if len(rows) else ()
        found = [_example(result, row, name, instruction, response) for row, instruction, response in shown]
        if found:
            groups[name] = found
    if groups:
        ending = ", and the lowest scores that were left out." if texts.whole else f". {texts.note}"
        caption = f"The highest scores taken for quality and for diversity in each language{ending}"
        yield Examples("Rows taken and left" if texts.whole else "Rows taken", caption, groups)


def _picked(result: SelectionResult, name: str, texts: Texts) -> np.ndarray:
    known = (result.languages == name) & ~np.isnan(result.scores)
    picked = []
    for reason in ("quality", "diversity", "") if texts.whole else ("quality", "diversity"):
        rows = np.flatnonzero(known & (result.reasons == reason))
        rows = rows[np.argsort(-result.scores[rows], kind="stable")]
        picked.append(rows[:SHOWN] if reason else rows[-SHOWN:])
    return np.concatenate(picked)


def _example(result: SelectionResult, row: int, name: str, instruction: str, response: str) -> Example:
    reason = result.reasons[row]
    label = f"selected for {reason}" if reason else "left out"
    cluster = f" · cluster {result.clusters[row]}" if result.clusters[row] >= 0 else ""
    code = "" if name == "all" else name
    texts = [("Instruction", instruction, code), ("Response", response, code)]
    return Example(f"{label} · score {number(result.scores[row])}{cluster}", "good" if reason else "bad", texts)
