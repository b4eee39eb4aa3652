"""Where languages lie in the layers of a model, as arrays, tables and files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.spontaneous.lens.result import load_arrays, save_arrays

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("distance", "distance_in_spreads", "to_english", "from_english", "to_english_centred",
            "from_english_centred")  # fmt: skip
"""Numbers by layer and language; see `hf_mlalign.spontaneous.lens.geometry.geometry`."""


@dataclass(frozen=True)
class Geometry:
    """Projections and distances by layer. Layer 0 is the embedding output, layer l the output of block l.

    Attributes:
        points: (layers, n, k) float32 coordinates of the rows.
        explained: (layers, k) share of the variance of all rows along each axis, in [0, 1].
        axes: (layers, k, width) orthonormal.
        centres: (layers, width) the origin of the coordinates.
        distance: (layers, names) of the mean from the English mean.
        distance_in_spreads: (layers, names) the same in units of the spread within the two languages.
        between_share: (layers,) share of all variance that lies between the means of the languages, in [0, 1].
        to_english, from_english: (layers, names) retrieval top-1, in [0, 1]; NaN without parallel ids.
        to_english_centred, from_english_centred: the same after the mean of each language is taken away.
        pairs: (names,) how many texts of the language have the id of an English one; 0 without ids.
        names: languages, English first.
        languages: (n,) languages of the rows.
        english: the language compared with. Its own distance is 0, its retrieval finds the very same text.
    """

    points: np.ndarray
    explained: np.ndarray
    axes: np.ndarray
    centres: np.ndarray
    distance: np.ndarray
    distance_in_spreads: np.ndarray
    between_share: np.ndarray
    to_english: np.ndarray
    from_english: np.ndarray
    to_english_centred: np.ndarray
    from_english_centred: np.ndarray
    pairs: np.ndarray
    names: tuple[str, ...]
    languages: tuple[str, ...]
    english: str = "en"

    @property
    def n_layers(self) -> int:
        """Embedding output and blocks."""
        return len(self.points)

    def per_language(self) -> pd.DataFrame:
        """One row a language and layer: language, layer, n, pairs, and the `MEASURES`."""
        import pandas as pd

        layers = self.n_layers
        counts = [self.languages.count(name) for name in self.names]
        return pd.DataFrame(
            {
                "language": np.repeat(np.array(self.names, dtype=object), layers),
                "layer": np.tile(np.arange(layers), len(self.names)),
                "n": np.repeat(counts, layers),
                "pairs": np.repeat(self.pairs, layers),
                **{name: getattr(self, name).T.ravel() for name in MEASURES},
            }
        )

    def to_pandas(self) -> pd.DataFrame:
        """One row a text and layer: row, language, layer, pc1, pc2, …"""
        import pandas as pd

        layers, n, k = self.points.shape
        return pd.DataFrame(
            {
                "row": np.tile(np.arange(n), layers),
                "language": np.tile(np.array(self.languages, dtype=object), layers),
                "layer": np.repeat(np.arange(layers), n),
                **{f"pc{j + 1}": self.points[:, :, j].ravel() for j in range(k)},
            }
        )

    def save(self, path: str | Path) -> Path:
        """Write everything to one `.npz` file, without pickles."""
        return save_arrays(path, {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> Geometry:
        """Read what `save` wrote; DataError if it is something else."""
        return cls(**load_arrays(path, [field.name for field in fields(cls)]))
