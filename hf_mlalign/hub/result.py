"""What every job returns: the rows, the folder they are in, the record of the run, and the job's own result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.hub.run_record import RunRecord, language_rows

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, DatasetDict

    from hf_mlalign.hub.publish import Pushed


@dataclass
class RunResult:
    """The outcome of a job.

    Attributes:
        dataset: the rows that were written, as `load_dataset(folder)` opens them; `None` for a job that writes none.
        folder: where everything is.
        record: what run.json holds: parameters, versions, seconds, figures (`record.results`) and notes.
        result: the job's own object, e.g. a `SelectionResult`; `None` where a finished folder was read back.
        fresh: `False` where the folder held this result already and nothing was done.
    """

    dataset: Dataset | DatasetDict | None
    folder: Path
    record: RunRecord
    result: Any = None
    fresh: bool = True

    def push_to_hub(self, repo_id: str, **options: Any) -> Pushed:
        """Upload the folder as a repository; `options` are those of `hf_mlalign.push`.

        Raises:
            DataError: the upload was refused or failed.
        """
        from hf_mlalign.hub.publish import push

        return push(self.folder, repo_id, **options)

    def per_language(self) -> pd.DataFrame:
        """The figures with one row per language; the language is a column. Empty where the job has none."""
        import pandas as pd

        return pd.DataFrame(language_rows(self.record))

    def _repr_html_(self) -> str:
        """For notebooks: what was done, the table of languages, the notes."""
        from html import escape

        parts = self.dataset.values() if isinstance(self.dataset, dict) else [self.dataset]
        rows = sum(len(part) for part in parts if part is not None)
        head = f"<b>{escape(self.record.command)}</b>" + (f", {rows:,} row{'s' * (rows != 1)}" if rows else "")
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.record.notes)
        table = self.per_language()
        shown = "" if table.empty else table.to_html(index=False, float_format="{:.3f}".format, na_rep="–")
        return (
            f"<div>{head} in <code>{escape(str(self.folder))}</code>{shown}"
            f"{f'<ul>{notes}</ul>' if notes else ''}</div>"
        )
