"""The options of `report`."""

from __future__ import annotations

from dataclasses import dataclass

from hf_mlalign.core.options import Options, option


@dataclass(kw_only=True)
class ReportOptions(Options):
    """What a report page shows beside the run itself."""

    job = "report"

    source: str | None = option(
        None, "The pool a curation was made from, if it is not found beside the run.", panel="Data"
    )
    seed: int = option(0, "Seed of the sample on the map of a large pool.", panel="Run", low=0)
