"""`MDaQSelector`: score, cluster and select the rows of a `datasets.Dataset`, language by language."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign._version import __version__
from hf_mlalign.core.errors import DataError, counted, listed
from hf_mlalign.core.options import takes
from hf_mlalign.core.validation import as_list
from hf_mlalign.data.columns import (
    LANGUAGE_COLUMNS,
    add_columns,
    check_dataset,
    chunked_column,
    clean_clusters,
    language_codes,
    matrix,
    named_column,
    numbers,
)
from hf_mlalign.data.languages import check_languages
from hf_mlalign.data.layouts import Layout, readable, recognise_layout
from hf_mlalign.mdaq.baselines import as_scores
from hf_mlalign.mdaq.options import SelectionOptions, allocate
from hf_mlalign.mdaq.scorer import EMBEDDING_COLUMN, SCORE_COLUMN, MDaQScorer, NullableFloats
from hf_mlalign.mdaq.selection import METHODS, Pool, select
from hf_mlalign.models.clustering import cluster_groups, group_rows
from hf_mlalign.models.kmeans import Matrix, rounded

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

CLUSTER_COLUMN = "cluster"
IDENTIFIED = "identified_language"
"""Column of identified languages; `UNKNOWN` there means that the language is unclear."""
UNKNOWN = "und"
LENGTH_ROWS = 65_536
VECTOR_BYTES = 16
"""Bytes a number of a vector while a method compares vectors: float32 in order, of unit length, and as given."""


class MDaQSelector:
    """Diversity-Aware Selection (M-DaQ §DAS) and its baselines on a dataset.

    Takes, for each language, the `n_quality` rows with the best `quality_score`, and then, in order of score, the best
    row of each uncovered cluster, until `n_diversity` more are taken. Scores, embeddings and clusters are computed
    unless the dataset has the columns `quality_score`, `embedding`, `cluster`.

    Args:
        model, encoder: Quality Scoring Model, and encoder for the clusters, see `MDaQScorer`.
        column_mapping: see `hf_mlalign.data.layouts.recognise_layout`; may also map the language column.
        num_proc, batch_size: passed to `Dataset.map` if scores or embeddings must be computed.
        **method_options: passed to the method, e.g. `threshold=0.9` for "deita", `trade_off=0.5` for "mmr".
        options: of `SelectionOptions`, by name; `n_quality` and `n_diversity` also by position. `method` may be one of
            your own (`hf_mlalign.mdaq.selection.register_method`). Rows in languages other than `languages` are never
            selected; the notes count them.
    Raises:
        DataError: an unknown option, or a value out of range.

    After `fit`, `result_` holds a `SelectionResult`, `select(ds)` returns the selected rows in their order in `ds`, and
    `ds.map(selector, with_indices=True)` marks every row.
    """

    @takes(SelectionOptions, positional=2)
    def __init__(
        self,
        *,
        options: SelectionOptions,
        model: Any = None,
        encoder: Any = None,
        column_mapping: Mapping[str, str] | None = None,
        num_proc: int | None = None,
        batch_size: int = 4096,
        **method_options: Any,
    ):
        own = dict(inspect.signature(METHODS[options.method].run).parameters)
        own.pop("pool", None)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
            SelectionOptions.of({name: value for name, value in method_options.items() if name not in own})
        vars(self).update(options.values())
        self.model, self.encoder = model, encoder
        self.column_mapping = dict(column_mapping) if column_mapping else None
        self.languages = check_languages(self.languages, "languages") if self.languages else None
        self.num_proc, self.batch_size, self.method_options = num_proc, batch_size, method_options
        self.result_: SelectionResult | None = None
        self._fitted_on: str | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_version": __version__}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update({k: v for k, v in state.items() if k != "_version"})

    def fit(self, ds: Dataset) -> MDaQSelector:
        """Score, cluster and select; the result is in `result_`.

        Raises:
            DataError: `ds` is not one non-empty `Dataset`, has no usable text columns or an unknown language (row
                named), or the budgets do not fit.
        """
        arrays = self.prepare(ds)
        self.result_ = self.select_from(**arrays)
        self._fitted_on = ds._fingerprint
        return self

    def prepare(self, ds: Dataset) -> dict[str, np.ndarray | None]:
        """Everything that selection needs, as keyword arguments of `select_from`; the costly part of `fit`."""
        check_dataset(ds)
        languages = self.read_languages(ds)
        scoring = self.needs_scoring(ds)
        schema = None
        if scoring or "lengths" in METHODS[self.method].needs:
            schema = recognise_layout(ds.column_names, self.column_mapping)
        scored = ds
        if scoring:
            scorer = MDaQScorer(self.model, schema.mapping, embeddings=True, encoder=self.encoder)
            texts = readable(ds.select_columns(list(schema.text_columns)), schema)
            scored = texts.map(
                scorer, batched=True, batch_size=self.batch_size, with_indices=True, num_proc=self.num_proc,
                features=scorer.features(texts.features), desc="Scoring",
            )  # fmt: skip
            kept = [c for c in (SCORE_COLUMN, EMBEDDING_COLUMN, CLUSTER_COLUMN) if c in ds.column_names]
            scored = add_columns(scored, {c: chunked_column(ds, c) for c in kept})
        has = scored.column_names
        vectors = chunked_column(scored, EMBEDDING_COLUMN) if EMBEDDING_COLUMN in has else None
        return {
            "scores": numbers(scored, SCORE_COLUMN).astype(np.float32),
            "languages": languages,
            "embeddings": None if vectors is None else matrix(vectors, EMBEDDING_COLUMN),
            "clusters": numbers(scored, CLUSTER_COLUMN) if CLUSTER_COLUMN in has else None,
            "lengths": self.read_lengths(ds, schema),
        }

    def select(self, ds: Dataset) -> Dataset:
        """The selected rows of `ds`, in the order of `ds`, with `quality_score`, `cluster` and `selection_reason`.

        Calls `fit` first if necessary. A fitted selector accepts only the dataset it was fitted on.
        """
        if self.result_ is None:
            self.fit(ds)
        result = self._result_for(len(ds))
        if self._fitted_on not in (None, ds._fingerprint):
            raise DataError(
                "This selector was fitted on another dataset (or on its rows in another order). Fit a new one, or pass "
                "the dataset it was fitted on."
            )
        chosen = result.selected
        marks = {SCORE_COLUMN: result.scores, CLUSTER_COLUMN: result.clusters, "selection_reason": result.reasons}
        return add_columns(ds.select(chosen), {name: values[chosen] for name, values in marks.items()})

    def __call__(self, examples: Mapping[str, Any], indices: Sequence[int] | int) -> dict[str, Any]:
        """`quality_score`, `cluster`, `selected` and `selection_reason` of rows, for `map(…, with_indices=True)`."""
        if self.result_ is None:
            raise DataError("This selector is not fitted. Call selector.fit(ds) before ds.map(selector, …).")
        result = self.result_
        rows = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        if len(rows) and rows.max() >= len(result.scores):
            self._result_for(int(rows.max()) + 1)
        reasons = result.reasons[rows].tolist()
        columns: dict[str, Any] = {
            SCORE_COLUMN: NullableFloats.from_array(result.scores[rows]),
            CLUSTER_COLUMN: result.clusters[rows],
            "selected": [reason != "" for reason in reasons],
            "selection_reason": reasons,
        }
        return {k: v[0] for k, v in columns.items()} if np.ndim(indices) == 0 else columns

    def select_from(
        self,
        scores: np.ndarray,
        languages: np.ndarray,
        embeddings: Matrix | None = None,
        clusters: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
    ) -> SelectionResult:
        """Select from arrays of n rows: the last step of `fit`.

        Args:
            scores: (n,) float32, NaN if a row cannot be scored.
            languages: (n,) texts; unwanted rows have the language "".
            embeddings: (n, d) numbers, as an array or as a `mdaq.shards.DiskMatrix`, which is read in blocks. They are
                rounded to float16 (*ours*), so both give the same result.
            clusters: (n,) integers that replace clustering.
            lengths: (n,) integers, for the method "longest".
        Raises:
            DataError: budgets that do not fit, or vectors with NaN, infinity or numbers beyond float16.
        """
        scores = as_scores(scores)
        if not isinstance(languages, np.ndarray):
            languages = np.asarray(as_list(languages, "languages"), dtype=object)
        for name, values in (("languages", languages), ("embeddings", embeddings), ("clusters", clusters),
                             ("lengths", lengths)):  # fmt: skip
            if values is not None and len(values) != len(scores):
                raise DataError(f"{name} has {len(values)} entries for {len(scores)} scores. Give one per row.")
        groups = group_rows(languages, languages != "")
        counts = {name: int(np.count_nonzero(~np.isnan(scores[rows]))) for name, rows in groups.items()}
        shares, notes = allocate(counts, self.n_quality, self.n_diversity, self.budgets)
        result = SelectionResult(
            method=self.method, selected=np.empty(0, dtype=np.int64), scores=scores,
            clusters=np.full(len(scores), -1, dtype=np.int32), reasons=np.full(len(scores), "", dtype="<U9"),
            languages=languages, budgets=dict(shares), notes=list(notes),
        )  # fmt: skip
        dropped = len(scores) - sum(map(len, groups.values()))
        if dropped:
            result.notes.append(f"left out {counted(dropped, 'row')} in other or unknown languages")
        absent = sorted(set(self.languages or ()) - set(groups))
        if absent:
            result.notes.append(f"no rows in {listed(absent)}")
        vectors = None if embeddings is None else rounded(embeddings)
        if vectors is not None and len(vectors) != len(scores):
            raise DataError(f"embeddings has {len(vectors)} rows for {len(scores)} scores; pass one per score")
        self._assign_clusters(result, groups, vectors, clusters)
        for name, (n_quality, n_diversity) in shares.items():
            self._select_group(result, name, groups[name], n_quality, n_diversity, vectors, clusters, lengths)
        result.selected = np.flatnonzero(result.reasons != "")
        return result

    def _assign_clusters(self, result: SelectionResult, groups: Mapping[str, np.ndarray], vectors, clusters) -> None:
        """Fill `result.clusters`: the given ones, or k-means over the rows of each language that have a score."""
        if clusters is not None:
            result.clusters[:] = clean_clusters(clusters, result.scores)
            return
        scorable = {name: rows[~np.isnan(result.scores[rows])] for name, rows in groups.items()}
        scorable = {name: rows for name, rows in scorable.items() if len(rows)}
        if vectors is None or not scorable:
            return
        outcome = cluster_groups(
            vectors, scorable, self.n_clusters, seed=self.seed, max_points_per_centroid=self.max_points_per_centroid,
            n_quality={name: budget[0] for name, budget in result.budgets.items()},
            n_diversity={name: budget[1] for name, budget in result.budgets.items()},
        )  # fmt: skip
        result.clusters = outcome.labels
        result.notes.extend(outcome.notes)

    def _select_group(self, result, name, rows, n_quality, n_diversity, vectors, clusters, lengths) -> None:
        scorable = rows[~np.isnan(result.scores[rows])]
        own_clusters = clusters is None and "clusters" not in METHODS[self.method].needs  # CaR makes its own
        clustered = (result.clusters[scorable] >= 0).all() and not own_clusters
        pool = Pool(
            scores=result.scores[scorable],
            clusters=result.clusters[scorable] if clustered else None,
            embeddings=vectors[scorable].astype(np.float32) if vectors is not None and self.reads_vectors else None,
            lengths=None if lengths is None else lengths[scorable],
        )
        options = {**self.method_options, **({"fill": True} if self.fill else {})}
        if self.method == "car" and own_clusters and self.n_clusters:
            options.setdefault("n_clusters", self.n_clusters)
        chosen = select(self.method, pool, n_quality, n_diversity, seed=self.seed, **options)
        result.reasons[scorable[chosen.indices]] = chosen.reasons
        result.notes.extend(f"{name}: {note}" for note in chosen.notes)
        if len(rows) > len(scorable):
            result.notes.append(f"{name}: left out {counted(len(rows) - len(scorable), 'row')} without a score")

    @property
    def reads_vectors(self) -> bool:
        """Whether the method itself compares vectors; it then holds those of one language as float32."""
        return "embeddings" in METHODS[self.method].needs or self.method == "car"

    def check_memory(self, languages: np.ndarray, dimension: int, available: int | None) -> None:
        """Raise a `DataError` if the vectors that the method holds at a time will not fit into `available` bytes."""
        if not self.reads_vectors or available is None:
            return
        sizes = {name: len(rows) for name, rows in group_rows(languages, languages != "").items()}
        largest = max(sizes, key=sizes.__getitem__, default=ALL)
        needed = sizes.get(largest, 0) * dimension * VECTOR_BYTES
        if needed > available:
            raise DataError(
                f"method {self.method!r} holds the vectors of one language at a time in memory: {largest} with "
                f"{sizes[largest]:,} rows needs about {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are "
                "free. Use method 'das', which needs none, or fewer rows."
            )

    def read_languages(self, ds: Dataset) -> np.ndarray:
        """ISO 639-1 code of each row; "all" if the pool is not split, "" for a row that `languages` leaves out.

        Raises:
            DataError: no language column although `languages` is given, or an unknown language.
        """
        mapped = [c for c, role in (self.column_mapping or {}).items() if role == "language"][:1]
        column = next((c for c in (*mapped, *LANGUAGE_COLUMNS, IDENTIFIED) if c in ds.column_names), None)
        if not self.per_language and (self.languages or isinstance(self.budgets, Mapping)):
            raise DataError("languages and budgets by language do not go with --no-per-language (per_language=False).")
        if column is None or not self.per_language:
            if self.languages or isinstance(self.budgets, Mapping):
                raise DataError(
                    f"languages: there is no language column among {listed(ds.column_names)}. Name one with "
                    "--column-mapping COLUMN=language (column_mapping)."
                )
            return np.full(len(ds), ALL)
        unknown = UNKNOWN if column == IDENTIFIED else None
        rows, names = language_codes(named_column(ds, column), column, unknown)
        kept = [code if not self.languages or code in self.languages else "" for code in names]
        return np.asarray(kept)[rows]

    def needs_scoring(self, ds: Dataset) -> bool:
        """Whether scores, or the vectors or clusters that the method needs, must be computed."""
        has, needs = set(ds.column_names), METHODS[self.method].needs
        vectors = EMBEDDING_COLUMN in has or ("embeddings" not in needs and CLUSTER_COLUMN in has)
        return SCORE_COLUMN not in has or not vectors

    def read_lengths(self, ds: Dataset, schema: Layout | None) -> np.ndarray | None:
        """Response lengths in characters, (n,) int64, if the method needs them."""
        if schema is None or "lengths" not in METHODS[self.method].needs:
            return None
        texts, lengths = ds.select_columns(list(schema.text_columns)), np.empty(len(ds), dtype=np.int64)
        for begin in range(0, len(ds), LENGTH_ROWS):
            rows = range(begin, min(begin + LENGTH_ROWS, len(ds)))
            _, responses = schema.read(texts[rows.start : rows.stop], rows)
            lengths[rows.start : rows.stop] = [len(r or "") for r in responses]
        return lengths

    def _result_for(self, n: int) -> SelectionResult:
        if n != len(self.result_.scores):
            raise DataError(
                f"This selector was fitted on {counted(len(self.result_.scores), 'row')}, but the dataset has {n:,}. "
                "Fit a new one, or pass the dataset it was fitted on."
            )
        return self.result_

ALL = "all"
"""Name of the one group where the pool is not split by language."""


@dataclass
class SelectionResult:
    """What was selected from a pool of n rows, and why.

    Attributes:
        selected: row numbers of the k selected rows, ascending, int64.
        rejected: row numbers of the n − k others, ascending, int64.
        scores: (n,) float32, NaN if the row could not be scored.
        clusters: (n,) int32, −1 if the row was not clustered; ids are unique over languages.
        reasons: (n,) "quality", "diversity" or "" (not selected).
        languages: (n,) ISO 639-1 codes, or "all".
        notes: everything that differs from the request (budgets not filled, rows without a score, …).
    """

    method: str
    selected: np.ndarray
    scores: np.ndarray
    clusters: np.ndarray
    reasons: np.ndarray
    languages: np.ndarray
    budgets: dict[str, tuple[int, int]]
    notes: list[str] = field(default_factory=list)

    @property
    def rejected(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.scores)), self.selected)

    def per_language(self) -> pd.DataFrame:
        """One row per language and, of several, a last row "all".

        Columns: pool, unscored, selected (by_quality, by_diversity), mean score of the pool and of the selection,
        clusters of the pool and how many of them the selection covers.
        """
        rows = [self._summary(name, self.languages == name) for name in self.budgets]
        if len(rows) != 1:
            rows.append(self._summary(ALL, self.languages != ""))
        import pandas as pd

        return pd.DataFrame(rows)

    def _summary(self, name: str, rows: np.ndarray) -> dict[str, Any]:
        chosen = rows & (self.reasons != "")
        known = self.clusters[rows & (self.clusters >= 0)]
        return {
            "language": name,
            "pool": int(rows.sum()),
            "unscored": int(np.isnan(self.scores[rows]).sum()),
            "selected": int(chosen.sum()),
            "by_quality": int((self.reasons[chosen] == "quality").sum()),
            "by_diversity": int((self.reasons[chosen] == "diversity").sum()),
            "quality_before": _mean(self.scores[rows]),
            "quality_after": _mean(self.scores[chosen]),
            "clusters": len(np.unique(known)),
            "clusters_covered": len(np.unique(self.clusters[chosen & (self.clusters >= 0)])),
        }


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")
