"""A dataset as instruction-response pairs: experts' revisions pooled, columns recognised and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_mlalign.data.layouts import Layout, readable, recognise_layout
from hf_mlalign.data.roles import check_dataset

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from hf_mlalign.mdaq.selector import SelectionResult


CHECKED_ROWS = 10_000


@dataclass(frozen=True)
class Pairs:
    """Rows with an instruction and a response each.

    Attributes:
        dataset: n rows.
        schema: which of its columns hold what.
        pooled: whether raw and revised responses were put side by side, see `hf_mlalign.mdaq.pairs`.
    """

    dataset: Dataset
    schema: Layout
    pooled: bool


def open_pairs(ds: Dataset, column_mapping: Mapping[str, str] | None = None) -> Pairs:
    """Recognise the columns of `ds`; raw and revised responses are pooled unless there is a mapping.

    Raises:
        DataError: no `Dataset`, no rows, no known layout, or a column that holds no text.
    """
    check_dataset(ds)
    pooled = column_mapping is None and has_revisions(ds.column_names)
    if pooled:
        ds = pool_revisions(ds)
    schema = recognise_layout(ds.column_names, column_mapping)
    return Pairs(readable(ds, schema), schema, pooled)


def check_texts(pairs: Pairs) -> None:
    """Read every row whose texts stand in lists of messages; the type of a plain text column says enough.

    Raises:
        DataError: a value is not text (column and first such row are named).
    """
    from datasets import Value

    columns = list(pairs.schema.text_columns)
    if all(isinstance(pairs.dataset.features[column], Value) for column in columns):
        return
    texts = pairs.dataset.select_columns(columns)
    for begin in range(0, len(texts), CHECKED_ROWS):
        end = min(begin + CHECKED_ROWS, len(texts))
        pairs.schema.read(texts[begin:end], range(begin, end))


COLUMNS = ("raw_instruction", "raw_response", "revised_response")
KIND = "revision"


def has_revisions(columns: Iterable[str]) -> bool:
    """Whether a dataset holds raw and revised responses in columns of their own."""
    return set(COLUMNS) <= set(columns)


def pool_revisions(ds: Dataset) -> Dataset:
    """Two rows for each sample: the raw instruction (and `raw_input`) with the raw and with the revised response.

    A revision that changed nothing gives no second row. Columns: instruction, input, response, `revision` ("raw" or
    "revised"), and those of `ds` that are neither raw nor revised texts (id, language, …).
    """
    from datasets import concatenate_datasets

    dropped = [c for c in ds.column_names if c.startswith(("raw_", "revised_"))]
    names = {"raw_instruction": "instruction", **({"raw_input": "input"} if "raw_input" in dropped else {})}
    parts = []
    for kind in ("raw", "revised"):
        part = ds if kind == "raw" else ds.filter(_changed, input_columns=list(COLUMNS[1:]), desc="Pooling revisions")
        part = part.rename_columns({**names, f"{kind}_response": "response"})
        part = part.remove_columns([c for c in dropped if c in part.column_names])
        parts.append(part.add_column(KIND, [kind] * len(part)))
    return concatenate_datasets(parts)


def _changed(raw: str | None, revised: str | None) -> bool:
    return raw != revised


def revised_share(pool: Dataset, result: SelectionResult) -> pd.DataFrame:
    """Per language and for "all": share of revised responses, in [0, 1], in the pool and among the selected."""
    import pandas as pd

    frame = pd.DataFrame({"language": result.languages, "revised": [kind == "revised" for kind in pool[KIND]],
                          "selected": result.reasons != ""})  # fmt: skip
    frame = frame[frame["language"] != ""]
    both = pd.concat([frame, frame.assign(language="all")])
    pooled = both.groupby("language")["revised"].mean()
    chosen = both[both["selected"]].groupby("language")["revised"].mean()
    return pd.DataFrame({"pool": pooled, "selected": chosen}).reset_index()
