"""One page with the pictures of a run: `write_report` makes it, `section` adds to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_mlalign.report.registry import Chart, Example, Examples, Facts, Numbers, ReportedRun, section

__all__ = ["Chart", "Example", "Examples", "Facts", "Numbers", "ReportedRun", "section", "write_report"]


def write_report(run: str | Path, output: str | Path | None = None, *, source: Any = None, seed: int = 0) -> Path:
    """Write `report.html` and its figures as PNGs (`figures/`); returns the path of the page.

    The page stands alone: no file beside it and no network is needed to read it. What is damaged or missing is named in
    the page and does not stop the rest.

    Args:
        run: a run folder (of any command or a training), or a folder with several of them, up to three levels down.
        output: folder to write; default: `report` within a folder of several runs, `<run>-report` beside a single run,
            whose own files stay as they are.
        source: the pool a curation was made from (a `Dataset`, file or folder): the map of clusters then shows all of
            it, and the examples show what was not selected. A file that still lies beside the run is found without it.
        seed: of the sample that the map shows of a large pool (0, *ours*).
    Raises:
        DataError: `run` is no folder or holds nothing to report on, or `output` holds something else.
    """
    from hf_mlalign.report.page import write_page

    return write_page(Path(run), None if output is None else Path(output), source, seed)
