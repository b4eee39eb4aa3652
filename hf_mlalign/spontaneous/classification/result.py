"""A finished classification run: rows, settings, figures, a folder on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import write_atomic
from hf_mlalign.core.jsonl import RecordLog, read_log, to_line
from hf_mlalign.data.languages import check_languages
from hf_mlalign.hub.run_record import Run, read_record
from hf_mlalign.spontaneous.classification.rows import entries
from hf_mlalign.spontaneous.classification.stats import accuracy_table

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

COMMAND, ROWS, TABLE = "classify", "rows.jsonl", "table.csv"


@dataclass
class ClassificationResult:
    """Predictions of one model on one task.

    Attributes:
        rows: a `Dataset`, one row per question and language: id, language, label, prediction (English label texts),
            correct, label_logprobs (the labels' log-probabilities, in the order of the English labels), scores (what
            was compared: normalised and calibrated where asked for), shots (examples in the prompt).
        settings: everything the scores depend on.
        seen: languages trained on.
        baseline: an earlier run to compare with.
        notes: what the reader of the figures should know.
    """

    rows: Dataset
    settings: dict[str, Any]
    seen: tuple[str, ...] = ()
    baseline: ClassificationResult | None = None
    notes: list[str] = field(default_factory=list)
    _table: tuple[list, pd.DataFrame] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def classes(self) -> list[str]:
        """English label texts."""
        return self.settings["task"]["labels"]["en"]

    def per_language(self, confidence: float = 0.95) -> pd.DataFrame:
        """Accuracies, intervals, gains and consistency, one row per language and macro mean (column "language"); see
        `accuracy_table`."""
        before = self.baseline.rows if self.baseline else None
        made_of = [self.rows, before, tuple(self.seen), confidence]
        if self._table is None or any(a is not b and a != b for a, b in zip(self._table[0], made_of)):
            paired = None if before is None else before.to_pandas()
            table = accuracy_table(self.rows.to_pandas(), paired, self.seen, confidence)
            self._table = made_of, table.reset_index()
        return self._table[1].copy()

    def compare(
        self, baseline: ClassificationResult | str | Path, seen: str | Iterable[str] | None = None
    ) -> ClassificationResult:
        """This run compared with an earlier one: the same rows and settings, with gains in `per_language`.

        Raises:
            DataError: the baseline scored another task, or no row of this run.
        """
        before = baseline if isinstance(baseline, ClassificationResult) else ClassificationResult.load(baseline)
        mine, other = self.settings, before.settings
        check_baseline(before, mine, zip(self.rows["id"], self.rows["language"]))
        notes = list(self.notes)
        changed = [k for k in mine if k != "model" and mine[k] != other.get(k)]
        if changed:
            notes.append(f"the baseline was scored with other settings ({listed(changed)}): the gain is not the "
                         "model's alone")  # fmt: skip
        kept = self.seen if seen is None else tuple(check_languages(entries(seen), "seen"))
        result = ClassificationResult(self.rows, self.settings, kept, before, notes)
        paired = int(result.per_language()["n_paired"].iloc[-1])
        if paired < len(self.rows):
            notes.append(f"{len(self.rows) - paired:,} of {len(self.rows):,} rows are not in the baseline and do not "
                         "count for the gain")  # fmt: skip
        return result

    def save(self, folder: str | Path) -> Path:
        """Write the run to an empty or new folder; `load` reads it.

        Raises:
            DataError: the folder holds something else.
        """
        store = RowStore(folder, self.settings)
        with store.open():
            store.add([row for row in self.rows.to_list() if (row["id"], row["language"]) not in store.done])
            store.finish(self)
        return store.run.folder

    @classmethod
    def load(cls, folder: str | Path) -> ClassificationResult:
        """Read a saved run, also one that was stopped before its end (a note then says so).

        Raises:
            DataError: there is no run.
        """
        record = read_record(folder)
        if record is None or record.command != COMMAND:
            raise DataError(f"run: {str(folder)!r} holds no classification run. Name a folder that `hf-mlalign "
                            "classify` or evaluate_classification wrote.")  # fmt: skip
        rows, _ = read_log(Path(folder) / ROWS, "run")
        if not rows:
            raise DataError(f"run: {str(folder)!r} holds no scored rows yet. Run the same command again to finish it.")
        notes, n = list(record.notes), record.parameters["n_rows"]
        if len(rows) < n:
            notes.append(f"stopped after {len(rows):,} of {n:,} rows")
        return cls(rows_to_dataset(rows), record.parameters, tuple(record.results.get("seen", ())), None, notes)


def check_baseline(
    baseline: ClassificationResult, settings: Mapping[str, Any], keys: Iterable[tuple[str, str]]
) -> None:
    """DataError if a run with `settings` and rows `keys` (id and language) cannot be compared with the baseline."""
    task, other = settings["task"], baseline.settings["task"]
    if task["name"] != other["name"] or task["labels"]["en"] != other["labels"]["en"]:
        raise DataError(f"baseline: it is a run of task {other['name']!r}, this one of {task['name']!r}. Compare runs "
                        "of one task.")  # fmt: skip
    if set(keys).isdisjoint(zip(baseline.rows["id"], baseline.rows["language"])):
        raise DataError("baseline: it has no row (id and language) in common with this run. Score the same questions.")


def rows_to_dataset(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """Rows of a run as a Dataset with fixed column types."""
    from datasets import Dataset, Features, List, Value

    text, numbers = Value("string"), List(Value("float64"))
    features = Features(id=text, language=text, label=text, prediction=text, correct=Value("bool"),
                        label_logprobs=numbers, scores=numbers, shots=Value("int32"))  # fmt: skip
    return Dataset.from_list([dict(row) for row in rows], features=features)


class RowStore:
    """The scored rows of a run, in memory and, with a folder, on disk: written as soon as they are there.

    `rows.jsonl` (a `RecordLog`) holds the rows, `run.json` the record of the run.

    Args:
        folder: of the run; `None` keeps rows in memory only.
        settings: what must be equal for a run to be continued.
        overwrite: start over where the folder holds another run of this command.
    Raises:
        DataError: the folder is a file, holds something else or other settings, or is in use.
    """

    def __init__(self, folder: str | Path | None, settings: Mapping[str, Any], overwrite: bool = False):
        self.run = None if folder is None else Run(folder, COMMAND, settings, overwrite=overwrite)
        self.log = RecordLog(self.run and self.run.folder / ROWS, sync=True, role="run")
        self.done: dict[tuple[str, str], dict[str, Any]] = {}
        self._overwrite = overwrite

    @contextmanager
    def open(self) -> Iterator[RowStore]:
        """Read the rows that are there (`done`), and keep the file open for `add`."""
        with nullcontext() if self.run is None else self.run.open(), self.log.open(fresh=self._overwrite) as rows:
            self.done = {(row["id"], row["language"]): row for row in rows}
            yield self

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows, and write them through to the disk."""
        self.done |= {(row["id"], row["language"]): dict(row) for row in rows}
        self.log.append(rows)

    def finish(self, result: ClassificationResult) -> None:
        """Write the rows in the result's order, the table, and the record with its notes."""
        if self.run is not None:
            write_atomic(self.run.folder / ROWS, "".join(map(to_line, result.rows.to_list())))
            table = result.per_language()
            table.to_csv(self.run.folder / TABLE, index=False)
            by_language = table.set_index("language").to_dict("index")
            self.run.finish({"per_language": by_language, "seen": list(result.seen)}, result.notes)
