"""The options of `report`."""

from __future__ import annotations

from dataclasses import dataclass

from hf_mlalign.core.options import Options, option


@dataclass(kw_only=True)
class ReportOptions(Options):
    """What a report shows in addition to the run itself."""

    job = "report"

    source: str | None = option(
        None, "The pool that a set was curated from, if it is not next to the run folder.", panel="Data"
    )
    seed: int = option(0, "Seed of the sample that the map shows of a large pool.", panel="Run", low=0)
