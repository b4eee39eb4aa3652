"""What every run folder tells: its figures per language where no other section shows them."""

from __future__ import annotations

from collections.abc import Iterator

from hf_mlalign.report.registry import Block, Facts, Numbers, ReportedRun

SHOWN_ELSEWHERE = ("curate", "build-pairs", "classify", "lens", "judge")


def results_per_language(part: ReportedRun) -> Iterator[Block]:
    """Single figures and the table per language of `run.json`, for commands without sections of their own."""
    import pandas as pd

    if part.record is None or part.record.command in SHOWN_ELSEWHERE:
        return
    results = part.record.results
    facts = {k.replace("_", " "): f"{v:,}" for k, v in results.items()
             if isinstance(v, (int, float)) and not isinstance(v, bool)}  # fmt: skip
    if facts:
        yield Facts(dict(list(facts.items())[:8]))
    rows = results.get("per_language")
    if isinstance(rows, dict):
        rows = [{"language": name, **row} for name, row in rows.items() if isinstance(row, dict)]
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        yield Numbers("Results by language", "As the command recorded them in run.json.", pd.DataFrame(rows))
