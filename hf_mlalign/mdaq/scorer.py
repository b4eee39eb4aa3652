"""Quality scores as a `datasets` map transform: `ds.map(mdaq_score)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hf_mlalign._version import __version__
from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import has_text
from hf_mlalign.data.layouts import Layout, recognise_layout
from hf_mlalign.models.encoder import EmbeddingCache, load_encoder

SCORE_COLUMN = "quality_score"
EMBEDDING_COLUMN = "embedding"


class MDaQScorer:
    """Adds `quality_score` (float32) to rows: −‖v_instruction − v_response‖₂ of the Quality Scoring Model (M-DaQ §QSM).

    Use it as `ds.map(scorer)`, or better `ds.map(scorer, batched=True)`, on `Dataset`, `DatasetDict` and
    `IterableDataset`, with any `num_proc`. Its pickled state is the model's name and content hash and the options, so
    a second run finds the datasets cache, in a new process too. Within a map call no text is encoded twice (in one
    process, as long as its vector is cached, see `memory_bytes`).

    A row whose instruction or response is missing, empty or blank gets a null score. (Unbatched `map` cannot infer the
    type of a column whose first 1,000 scores are null: pass `features=scorer.features(ds.features)` then.)

    Args:
        model: `None` for the bundled Quality Scoring Model, a name or folder for `QualityScorer.load`, or a
            `QualityScorer` (or an object with its methods).
        column_mapping: see `hf_mlalign.data.layouts.recognise_layout`.
        embeddings: also add `embedding`, the instruction's vector (float32, (d,)), which clustering needs; zeros for a
            row without instruction.
        encoder: encoder of the embeddings; default: the scorer's own, which then reads each text only once.
        memory_bytes: size of each process's cache of vectors (256 MiB, *ours*).
    Raises:
        DataError: no instruction/response columns, or a value that is not text (column and row are named).
    """

    def __init__(
        self,
        model: Any = None,
        column_mapping: Mapping[str, str] | None = None,
        *,
        embeddings: bool = False,
        encoder: Any = None,
        memory_bytes: int = 256 * 2**20,
    ):
        self.model, self.embeddings, self.memory_bytes = model, embeddings, memory_bytes
        self.encoder = load_encoder(encoder) if encoder is not None else None
        self.column_mapping = dict(column_mapping) if column_mapping else None
        self._scorer: Any = None
        self._memories: dict[str, EmbeddingCache] = {}

    def __getstate__(self) -> dict:
        state = {**self.__dict__, "_scorer": None, "_memories": {}, "_version": __version__}
        return {**state, "_content": self.scorer.content_hash}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update({k: v for k, v in state.items() if k not in ("_version", "_content")})

    @property
    def scorer(self):
        """The `QualityScorer`, loaded on first use."""
        if self._scorer is None:
            from hf_mlalign.mdaq.quality.scorer import QualityScorer

            by_name = self.model is None or isinstance(self.model, (str, Path))
            self._scorer = QualityScorer.load(self.model) if by_name else self.model
        return self._scorer

    def __call__(self, examples: Mapping[str, Any], indices: Sequence[int] | int | None = None) -> dict[str, Any]:
        """New columns for one row or for a batch of rows (with `with_indices=True`, errors name the dataset's rows)."""
        schema = recognise_layout(examples.keys(), self.column_mapping)
        if _is_batch(examples, schema):
            instructions, responses = schema.read(examples, indices)
            return self._columns(instructions, responses)
        instruction, response = schema.read_row(examples, indices)
        columns = self._columns([instruction], [response])
        return {k: v[0] for k, v in columns.items()}

    def forget(self) -> None:
        """Empty the cache of vectors."""
        self._memories.clear()

    def features(self, features):
        """The dataset's features and those of the new columns, for `map(…, features=…)`."""
        from datasets import Features, List, Value

        new = {SCORE_COLUMN: Value("float32")}
        if self.embeddings:
            new[EMBEDDING_COLUMN] = List(Value("float32"), length=self.embedding_dimension)
        return Features({**features, **new})

    def _columns(self, instructions: list[str | None], responses: list[str | None]) -> dict[str, Any]:
        usable = np.array([has_text(a) for a in instructions], dtype=bool)
        scorable = usable & np.array([has_text(b) for b in responses], dtype=bool)
        scores = np.full(len(scorable), np.nan, dtype=np.float32)
        if scorable.any():
            anchors = self._vectors("instructions", instructions, scorable)
            answers = self._vectors("responses", responses, scorable)
            scores[scorable] = self.scorer.score_embedded(anchors, answers)
        columns: dict[str, Any] = {SCORE_COLUMN: NullableFloats.from_array(scores)}
        if self.embeddings:
            vectors = columns[EMBEDDING_COLUMN] = np.zeros((len(usable), self.embedding_dimension), dtype=np.float32)
            if usable.any() and self.encoder is not None:
                vectors[usable] = self._vectors("embeddings", instructions, usable)
            elif usable.any():
                vectors[usable] = self.scorer.embeddings_of(self._vectors("instructions", instructions, usable))
        return columns

    @property
    def embedding_dimension(self) -> int:
        """Length of the vectors in `embedding`."""
        return self.scorer.embedding_dimension if self.encoder is None else self.encoder.dimension

    def _vectors(self, side: str, texts: list[str | None], rows: np.ndarray) -> np.ndarray:
        return self._memory(side)([texts[i] for i in np.flatnonzero(rows)])

    def _memory(self, side: str) -> EmbeddingCache:
        """Remembered vectors: "texts" of the scorer's encoder, the two sides made from them, "embeddings"."""
        if side not in self._memories:
            encode = {
                "texts": lambda texts: self.scorer.encoder.encode(texts),
                "instructions": lambda texts: self.scorer.encode_instructions(texts, self._memory("texts")(texts)),
                "responses": lambda texts: self.scorer.encode_responses(texts, self._memory("texts")(texts)),
                "embeddings": lambda texts: self.encoder.encode(texts),
            }[side]
            self._memories[side] = EmbeddingCache(encode, self.memory_bytes // 3)
        return self._memories[side]


class NullableFloats(list):
    """A list of float32 or None that stays float32 in Arrow, even if every entry is None."""

    @classmethod
    def from_array(cls, values: np.ndarray) -> NullableFloats:
        """The float32 numbers of `values`, None for NaN."""
        return cls(None if np.isnan(value) else value for value in values)

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return pa.array(list(self), type=type or pa.float32())


def _is_batch(examples: Mapping[str, Any], schema: Layout) -> bool:
    values = [examples[column] for column in schema.text_columns]
    if any(v is None or isinstance(v, str) for v in values):
        return False
    if all(isinstance(v, (list, tuple, np.ndarray)) for v in values):
        empty_conversation = any(not len(v) for v in values) and any(
            value is None or isinstance(value, (str, int, float)) for value in dict(examples).values()
        )
        return not empty_conversation and not any(len(v) and isinstance(v[0], Mapping) for v in values)
    kinds = ", ".join(f"{c}: {type(v).__name__}" for c, v in zip(schema.text_columns, values, strict=True))
    raise DataError(f"Expected texts or lists of texts in {kinds}. Convert the columns to strings.")


mdaq_score = MDaQScorer()
"""The bundled Quality Scoring Model as a ready transform: `ds.map(mdaq_score)`."""
