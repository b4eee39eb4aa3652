"""A `GeneratorBasedBuilder` for rows that are at hand: what `datasets` loading scripts were, used directly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets


class RowBuilder(datasets.GeneratorBasedBuilder):
    """Writes rows to the cache of `datasets`, checked against typed features; the same rows again are a cache hit.

    Args:
        rows: the rows of one configuration.
        features: their columns and types.
        split: what the only split is called.
        **options: of `datasets.GeneratorBasedBuilder`; `hash` must tell other rows and other code apart, or the cache
            gives the old rows.
    """

    VERSION = datasets.Version("1.0.0")

    def __init__(self, rows: Sequence[Mapping[str, Any]], features: datasets.Features, split: str, **options: Any):
        self.rows, self.row_features, self.row_split = rows, features, split
        super().__init__(**options)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=self.row_features)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=self.row_split)]

    def _generate_examples(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        yield from enumerate(self.rows)

    def build(self) -> datasets.Dataset:
        """The rows as a dataset, from the cache where they are there already."""
        self.download_and_prepare()
        return self.as_dataset(split=self.row_split)
