"""The options of selection, `curate` and `score`: names, types, defaults, help texts, and where defaults come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.options import Options, PublishOptions, SourceOptions, UploadOptions, option

SHARD_ROWS = 20_000
"""Rows per shard (*ours*: about a second of work with the bundled model)."""


@dataclass(kw_only=True)
class SelectionOptions(Options):
    """How rows are selected; the options of `MDaQSelector`."""

    n_quality: int = option(
        6000, "Rows taken for their quality (paper: 6000).", origin="paper", panel="Selection", low=0
    )
    n_diversity: int = option(
        1000, "Rows taken for their diversity (paper: 1000).", origin="paper", panel="Selection", low=0
    )
    budgets: str | dict[str, Any] | None = option(
        None,
        "What the two numbers count: rows of each language, a total shared equally, or a total shared in proportion to "
        "the rows per language. In Python also a mapping from language to rows.",
        panel="Selection", choices=("each", "total", "proportional"), shown="each",
    )  # fmt: skip
    per_language: bool = option(True, "Select within each language.", panel="Selection")
    method: str = option(
        "das", "Selection method: das, random, longest, quality, car, deita or mmr.", origin="paper", panel="Selection"
    )
    n_clusters: int | None = option(
        None, "Clusters per language.", panel="Selection", low=1, shown="by the size of the pool"
    )
    max_points_per_centroid: int = option(
        64, "Rows per cluster that k-means is trained on, where a language has more.", panel="Selection", low=1
    )
    fill: bool = option(False, "Top up by quality where clusters run out.", origin="paper", panel="Selection")
    seed: int = option(0, "Seed of clustering and of random selection.", panel="Selection", low=0)
    languages: list[str] | None = option(None, "Keep only these languages, e.g. de,ja,sw.", panel="Data")

    def check(self) -> None:
        from hf_mlalign.mdaq.selection import METHODS

        if self.budgets == "each":
            self.budgets = None
        if self.method not in METHODS:
            raise DataError(f"method: unknown {self.method!r}. Known: {listed(METHODS)}.")


@dataclass(kw_only=True)
class CurateOptions(PublishOptions, SelectionOptions, SourceOptions):
    """The options of `curate`."""

    job = "curate"

    model: Any = option(None, "Encoder for the clusters.", panel="Model", shown="bundled")
    scorer: Any = option(None, "Quality Scoring Model.", panel="Model", shown="bundled")
    engine: str = option(
        "local", "Score in this process or on Ray; the result is the same.", panel="Run", choices=("local", "ray"),
        in_record=False,
    )  # fmt: skip
    address: str | None = option(
        None, "Ray cluster, or auto.", panel="Run", in_record=False, shown="one for this run alone"
    )
    shard_rows: int = option(
        SHARD_ROWS, "Rows scored at a time, the most that a kill can lose.", panel="Run", low=1, in_record=False
    )
    overwrite: bool = option(
        False, "Start again where the folder holds a curation.", panel="Output", in_record=False
    )

    def check(self) -> None:
        super().check()
        if self.engine == "local" and self.address is not None:
            raise DataError("address is that of a Ray cluster: use it with --engine ray (engine='ray').")


@dataclass(kw_only=True)
class ScoreOptions(UploadOptions, SourceOptions):
    """The options of `score`."""

    job = "score"

    model: Any = option(None, "Quality Scoring Model.", panel="Model", flag="--model,--scorer", shown="bundled")
    encoder: Any = option(None, "Encoder of the embeddings.", panel="Model", shown="the model's")
    embeddings: bool = option(True, "Also write the instructions' vectors, for curate.", panel="Output")
    shard_rows: int = option(SHARD_ROWS, "Rows per file, the most that a kill can lose.", panel="Output", low=1)
    batch_size: int | None = option(None, "Texts per batch.", panel="Run", low=1, shown="the encoder's own")
    overwrite: bool = option(False, "Score again where the folder holds scores.", panel="Output", in_record=False)
    world_size: int | None = option(
        None, "Stop unless this many processes are running.", panel="Run", low=1, in_record=False
    )

    def check(self) -> None:
        if self.encoder is not None and not self.embeddings:
            raise DataError("encoder: it makes the embeddings, which are switched off. Leave one of the two out.")
