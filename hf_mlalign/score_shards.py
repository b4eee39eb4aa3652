"""One shard of scored pairs: the rows of the source with their new columns, and the file they go to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_mlalign.display import quiet
from hf_mlalign.errors import DataError
from hf_mlalign.files import published
from hf_mlalign.half import as_half
from hf_mlalign.mdaq.opening import Pairs
from hf_mlalign.mdaq.transforms import EMBEDDING_COLUMN, SCORE_COLUMN, MDaQScorer
from hf_mlalign.runs import model_name

if TYPE_CHECKING:
    from datasets import Features

BATCH_ROWS = 4096
"""Rows whose texts are held as Python strings at a time (*ours*)."""


class Scorers:
    """The models of a run, and the columns they give a shard.

    Every shard begins with nothing remembered, so that no bit of it depends on what was scored before. Arguments: see
    `hf_mlalign.score.score`.

    Args:
        device: of the models that are given by name.
    Raises:
        DataError: an encoder without embeddings, or a model that is damaged.
    """

    def __init__(self, model: Any, encoder: Any, embeddings: bool, batch_size: int | None, device: str | None):
        from hf_mlalign.encoders import load_encoder
        from hf_mlalign.mdaq.quality import QualityScorer

        if encoder is not None and not embeddings:
            raise DataError("encoder: it makes the embeddings, which are switched off. Leave one of the two out.")
        options = {"device": device, "batch_size": batch_size}
        self.shown = {"model": model, "encoder": encoder}
        self.embeddings = embeddings
        self.model = QualityScorer.load(model, **options) if model is None or isinstance(model, (str, Path)) else model
        self.encoder = encoder if encoder is None else load_encoder(encoder, **options)

    def described(self) -> dict[str, Any]:
        """Names and content hashes of the models."""
        hashes = {"model_hash": self.model, "encoder_hash": self.encoder}
        shown = {name: model_name(value) for name, value in self.shown.items()}
        return shown | {name: getattr(value, "content_hash", None) for name, value in hashes.items()}

    def score(self, pairs: Pairs, rows: range, done: Callable[[int], Any]) -> tuple[pa.Table, Features]:
        """The rows of a shard with all columns of the source and the new ones, and the features of all.

        Args:
            done: called with the number of rows scored since the last call.
        Raises:
            DataError: a value is not text, or a number of a vector does not fit float16 (the row is named).
        """
        scorer = MDaQScorer(self.model, pairs.schema.mapping, embeddings=self.embeddings, encoder=self.encoder)
        texts = pairs.dataset.select_columns(list(pairs.schema.text_columns))
        found: dict[str, list[pa.Array]] = {}
        for begin in range(rows.start, rows.stop, BATCH_ROWS):
            part = range(begin, min(begin + BATCH_ROWS, rows.stop))
            for name, values in scorer(texts[part.start : part.stop], part).items():
                found.setdefault(name, []).append(_as_arrow(name, values, part))
            done(len(part))
        scorer.forget()
        table = pairs.dataset.with_format("arrow")[rows.start : rows.stop]
        table = table.drop_columns([name for name in found if name in table.column_names])
        for name, arrays in found.items():
            table = table.append_column(name, pa.chunked_array(arrays))
        return table, _features(pairs.dataset.features, table)


def _as_arrow(name: str, values: Any, rows: range) -> pa.Array:
    if name == SCORE_COLUMN:
        return pa.array(values, pa.float32())
    half = as_half(values)
    if len(bad := np.flatnonzero(~np.isfinite(half).all(axis=1))):
        raise DataError(f"embedding, row {rows.start + bad[0]}: a number does not fit float16. Use another encoder.")
    return pa.FixedSizeListArray.from_arrays(pa.array(half.reshape(-1)), half.shape[1])


def _features(old: Features, table: pa.Table) -> Features:
    from datasets import Features, List, Value

    new = {SCORE_COLUMN: Value("float32")}
    if pa.types.is_fixed_size_list(table.schema.types[-1]) and table.column_names[-1] == EMBEDDING_COLUMN:
        new[EMBEDDING_COLUMN] = List(Value("float16"), length=table.schema.types[-1].list_size)
    return Features({name: new.get(name) or old[name] for name in table.column_names})


def write_shard(path: Path, table: pa.Table, features: Features) -> None:
    """Write a shard as Parquet; a reader sees all of it or nothing, and the same rows give the same bytes."""
    from datasets import Dataset

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shard = Dataset(table.cast(features.arrow_schema), fingerprint=path.name)
    with published(partial, path), quiet():
        shard.to_parquet(str(partial))


def is_whole(path: Path, rows: range) -> bool:
    """Whether the file of these rows is there and can be read."""
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows == len(rows)
    except (OSError, pa.ArrowInvalid):
        return False
