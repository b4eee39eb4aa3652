"""A dataset as instruction-response pairs: experts' revisions pooled, columns recognised and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_mlalign.columns import Schema, readable, recognise
from hf_mlalign.mdaq.revisions import has_revisions, pool_revisions
from hf_mlalign.mdaq.tables import check_dataset

if TYPE_CHECKING:
    from datasets import Dataset

CHECKED_ROWS = 10_000


@dataclass(frozen=True)
class Pairs:
    """Rows with an instruction and a response each.

    Attributes:
        dataset: n rows.
        schema: which of its columns hold what.
        pooled: whether raw and revised responses were put side by side, see `hf_mlalign.mdaq.revisions`.
    """

    dataset: Dataset
    schema: Schema
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
    schema = recognise(ds.column_names, column_mapping)
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
