"""Read a curated folder: scores of the pool, the selection, and the texts of the pool if they are found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.layouts import Layout, has_revisions, pool_revisions, readable, recognise_layout
from hf_mlalign.data.sources import load_source
from hf_mlalign.hub.run_record import describe_source
from hf_mlalign.mdaq.selector import SelectionResult
from hf_mlalign.report.registry import ReportedRun, read_parquet

if TYPE_CHECKING:
    from datasets import Dataset

SCORES = "scores.parquet"
CHECKED = 1000
"""About how many selected rows are compared with the pool (*ours*)."""


@dataclass(frozen=True)
class Texts:
    """Texts of the whole pool (`whole`) or of the selected rows only; `note` says why not of all."""

    rows: np.ndarray
    dataset: Dataset
    schema: Layout
    whole: bool
    note: str = ""

    def read(self, rows: np.ndarray) -> tuple[list[str], list[str]]:
        """Instructions and responses of some of `rows`; "" if missing."""
        places = np.searchsorted(self.rows, rows)
        instructions, responses = self.schema.read(self.dataset.select(places)[:], rows)
        return [text or "" for text in instructions], [text or "" for text in responses]


def read_selection(part: ReportedRun) -> SelectionResult:
    """The selection of a curated folder, from `scores.parquet`; DataError if that is missing or damaged."""
    table = read_parquet(part, part.folder / SCORES)
    names = {"language", "quality_score", "cluster", "selected", "selection_reason"}
    if missing := names - set(table.column_names):
        raise DataError(f"{SCORES} has no column {listed(sorted(missing))}.")
    found = part.record.results if part.record else {}
    languages = np.array(table["language"].fill_null("").to_pylist())
    budgets = {name: tuple(pair) for name, pair in (found.get("budgets") or {}).items()}
    return SelectionResult(
        str(found.get("method", "")), np.flatnonzero(table["selected"].to_numpy()),
        table["quality_score"].to_numpy().astype(np.float32), table["cluster"].to_numpy().astype(np.int64),
        np.array(table["selection_reason"].fill_null("").to_pylist()), languages,
        budgets or dict.fromkeys(sorted(set(languages.tolist()) - {""}), (0, 0)), [],
    )  # fmt: skip


def read_texts(part: ReportedRun, result: SelectionResult) -> Texts:
    """Texts of the whole pool if it is found (see `write_report`), else of the selected rows."""
    from hf_mlalign.core.errors import quiet

    with quiet():
        kept = _selected_texts(part, result)
        try:
            pool = _pool(part)
            return kept if pool is None else _pool_texts(part, pool, len(result.languages), kept)
        except DataError as error:
            note = f"The source is not the pool of this curation ({error}), so only selected rows are shown."
            return replace(kept, note=note)


def _selected_texts(part: ReportedRun, result: SelectionResult) -> Texts:
    from datasets import Dataset, concatenate_datasets
    from datasets.table import InMemoryTable

    rows, parts = [], []
    codes = result.languages[result.selected]
    for path in part.files("data/*.parquet"):
        table = read_parquet(part, path)
        at = result.selected[codes == path.stem]
        if len(at) != len(table):
            raise DataError(f"data/{path.name} has {len(table):,} rows, but {SCORES} names {len(at):,} selected ones.")
        rows.append(at)
        parts.append(Dataset(InMemoryTable(table)))
    if not parts:
        raise DataError("there are no selected rows: data/*.parquet is missing.")
    order = np.argsort(np.concatenate(rows))
    return _texts(part, concatenate_datasets(parts).select(order), np.concatenate(rows)[order], False,
                  "The pool was not found, so only selected rows are shown. Name it with --source.")  # fmt: skip


def _pool_texts(part: ReportedRun, pool: Dataset, n: int, kept: Texts) -> Texts:
    if not _mapping(part) and has_revisions(pool.column_names):
        pool = pool_revisions(pool)
    if len(pool) != n:
        raise DataError(f"it has {len(pool):,} rows, the pool had {n:,}")
    whole = _texts(part, pool, np.arange(n), True, "")
    rows = kept.rows[:: max(1, len(kept.rows) // CHECKED)]
    for row, here, there in zip(rows, kept.read(rows)[1], whole.read(rows)[1], strict=True):
        if here != there:
            raise DataError(f"its row {row} is not the one that was selected")
    return whole


def _texts(part: ReportedRun, ds: Dataset, rows: np.ndarray, whole: bool, note: str) -> Texts:
    schema = recognise_layout(ds.column_names, _mapping(part))
    return Texts(rows, readable(ds, schema), schema, whole, note)


def _mapping(part: ReportedRun) -> dict[str, str] | None:
    return (part.record.parameters.get("column_mapping") if part.record else None) or None


def _pool(part: ReportedRun) -> Any:
    """The pool that the user named, or a local file with the digest in the record; `None` if there is neither."""
    source = part.record.source if part.record else {}
    which = {"split": source.get("split"), "config_name": source.get("config")}
    if part.source is not None:
        return load_source(part.source, **which)
    name = str(source.get("name"))
    plain = Path(name).name == name and name not in ("", "..")  # a foreign record cannot name files elsewhere
    known = source.get("digest") and plain
    for folder in (part.folder.parent, part.folder.parent.parent, Path()) if known else ():
        path = folder / name
        if path.exists() and describe_source(path)["digest"] == source["digest"]:
            return load_source(path, **which)
    return None
