"""Quality scores and vectors on Ray Data: `map_batches` over actors that each hold the model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.ray import cores, gpus, import_ray
from hf_mlalign.data.layouts import recognise_layout
from hf_mlalign.data.ray_tables import ROW, column_names, vectors_column, with_columns
from hf_mlalign.mdaq.scorer import EMBEDDING_COLUMN, SCORE_COLUMN, MDaQScorer
from hf_mlalign.mdaq.shards import score_batch

if TYPE_CHECKING:
    from ray.data import Dataset

DTYPES = ("float16", "float32")


def score(
    ds: Dataset,
    scorer: MDaQScorer | None = None,
    *,
    column_mapping: Mapping[str, str] | None = None,
    concurrency: int | tuple[int, int] | None = None,
    batch_size: int = 4096,
    num_cpus: float = 0.0,
    num_gpus: float | None = None,
    embedding_dtype: str = "float16",
) -> Dataset:
    """`ds` with `quality_score` (float32, null if a row cannot be scored) and `embedding` (fixed-size list).

    The numbers are those of `ds.map(MDaQScorer(embeddings=True))`, in the order of `ds`. Nothing runs before the
    result is used. If an actor dies with its process or node, it is started again and repeats its batch.

    Args:
        ds: rows with instructions and responses.
        scorer: default: `MDaQScorer(column_mapping=column_mapping, embeddings=True)`.
        column_mapping: see `hf_mlalign.data.layouts.recognise_layout`; not together with `scorer`.
        concurrency: number of actors, or (least, most); default: one per GPU, or one per core without GPUs (*ours*).
        batch_size: rows per batch (4,096, *ours*).
        num_cpus: cores that each actor reserves. 0 (*ours*) leaves them to the tasks that read the data: with 1, as
            many actors as cores would wait forever for a reader that finds no core.
        num_gpus: GPUs that each actor reserves; default: 1 if the cluster has any.
        embedding_dtype: "float16" (*ours*: what selection sees) or "float32".
    Raises:
        DataError: Ray is missing, bad arguments, or no instruction/response columns. A value that is not text is
            reported only when the result is used.
    """
    import_ray()
    if scorer is not None and column_mapping is not None:
        raise DataError("column_mapping belongs to the scorer: give it to MDaQScorer, or leave out scorer.")
    if embedding_dtype not in DTYPES:
        raise DataError(f"embedding_dtype is {embedding_dtype!r}; use {' or '.join(DTYPES)}.")
    if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise DataError(f"batch_size is {batch_size!r}; give a whole number of at least 1.")
    from ray.data import ActorPoolStrategy

    scorer = copy.copy(scorer or MDaQScorer(column_mapping=column_mapping))
    scorer.column_mapping, scorer.embeddings = recognise_layout(column_names(ds), scorer.column_mapping).mapping, True
    num_gpus = (1 if gpus() else 0) if num_gpus is None else num_gpus
    size = concurrency or (max(1, int(gpus() / num_gpus)) if num_gpus else cores())
    least, most = (size, size) if isinstance(size, int) else size
    ds.context.execution_options.preserve_order = True
    return ds.map_batches(
        Scoring,
        fn_constructor_kwargs={"scorer": scorer, "dtype": embedding_dtype},
        batch_size=int(batch_size), batch_format="pyarrow", num_cpus=num_cpus, num_gpus=num_gpus or None,
        compute=ActorPoolStrategy(min_size=least, max_size=most),
    )  # fmt: skip


class Scoring:
    """The callable of an actor of `score`."""

    def __init__(self, scorer: MDaQScorer, dtype: str):
        self.scorer, self.dtype = scorer, np.dtype(dtype)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = table.column(ROW).to_pylist() if ROW in table.column_names else None
        texts = {name: table.column(name).to_pylist() for name in self.scorer.column_mapping}
        scores, vectors = score_batch(self.scorer, texts, rows)
        with np.errstate(over="ignore"):
            vectors = vectors.astype(self.dtype, copy=False)
        columns = {SCORE_COLUMN: pa.array(scores, from_pandas=True), EMBEDDING_COLUMN: vectors_column(vectors)}
        return with_columns(table, columns)
