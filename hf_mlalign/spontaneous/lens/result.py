"""What the logit lens saw and where languages lie, as arrays, tables and files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from hf_mlalign.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("distance", "distance_in_spreads", "to_english", "from_english", "to_english_centred",
            "from_english_centred")  # fmt: skip
"""Numbers by layer and language; see `hf_mlalign.spontaneous.lens.distances.geometry`."""


class Saved:
    """A dataclass of arrays and texts that can be written to one file."""

    def save(self, path: str | Path) -> Path:
        """Write everything to one `.npz` file, without pickles; it is never seen half written."""
        path = Path(path)
        if path.suffix != ".npz":
            raise DataError(f"path: {str(path)!r} does not end in .npz.")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.stem}.partial.npz")
        np.savez_compressed(partial, **{field.name: np.asarray(getattr(self, field.name)) for field in fields(self)})
        partial.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; DataError if it is something else."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {field.name: stored[field.name] for field in fields(cls)}
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"path: cannot read {str(path)!r}: {error}") from error
        texts = {name for name, value in arrays.items() if value.dtype.kind == "U" and value.ndim == 1}
        return cls(**{name: tuple(value.tolist()) if name in texts else value if value.ndim else value.item()
                      for name, value in arrays.items()})  # fmt: skip


@dataclass(frozen=True)
class LensResult(Saved):
    """Probabilities of answers by layer. Layer 0 is the embedding output, layer l the output of block l.

    Attributes:
        probabilities: (n, layers, names) float32 in [0, 1]; NaN where a prompt has no answer in a language.
        entropy: (n, layers) float32, of the next-token distribution, in nats.
        top_tokens: (n, layers) str, the likeliest next token as text.
        overlap: (n, names) bool, the answer shares tokens with the English one: the first one, or with "word" all.
        names: languages of the answers, English first.
        languages: (n,) languages of the prompts.
        english: the language compared with.
        span: "first" or "word".
    """

    probabilities: np.ndarray
    entropy: np.ndarray
    top_tokens: np.ndarray
    overlap: np.ndarray
    names: tuple[str, ...]
    languages: tuple[str, ...]
    english: str = "en"
    span: str = "first"

    @property
    def n_layers(self) -> int:
        """Embedding output and blocks."""
        return self.probabilities.shape[1]

    @property
    def in_own_language(self) -> np.ndarray:
        """(n, layers) probability of the answer in the language of the prompt."""
        return self.probabilities[np.arange(len(self.languages)), :, self._own()]

    @property
    def in_english(self) -> np.ndarray:
        """(n, layers) probability of the English answer; NaN where there is none."""
        if self.english not in self.names:
            return np.full(self.probabilities.shape[:2], np.nan, dtype=np.float32)
        return self.probabilities[:, :, self.names.index(self.english)]

    @property
    def shares_token(self) -> np.ndarray:
        """(n,) bool: own-language and English answer share tokens (see `overlap`); both probabilities count them."""
        return self.overlap[np.arange(len(self.languages)), self._own()]

    @property
    def notes(self) -> list[str]:
        """One line for each language in which answers share tokens with the English ones."""
        notes = []
        for name in dict.fromkeys(self.languages):
            rows = np.array([code == name for code in self.languages])
            shared = np.flatnonzero(rows & self.shares_token)
            if len(shared):
                notes.append(f"{name}: in {len(shared)} of {rows.sum()} prompts (first: row {shared[0]}) the answer "
                             "shares tokens with the English one; both probabilities count them")  # fmt: skip
        return notes

    def per_language(self, without_overlap: bool = False) -> pd.DataFrame:
        """Means over the prompts, one row per prompt language and layer: language, layer, n, n_overlap, own, english,
        entropy. `without_overlap` leaves out prompts whose answer shares tokens with the English one."""
        import pandas as pd

        frame = self.to_pandas()
        counts = frame[frame["layer"] == 0].groupby("language")["overlap"].sum()
        if without_overlap:
            frame = frame[~frame["overlap"]]
        grouped = frame.groupby(["language", "layer"], sort=False)
        table = grouped.agg(n=("row", "size"), own=("own", "mean"), english=("english", "mean"),
                            entropy=("entropy", "mean")).reset_index()  # fmt: skip
        table.insert(3, "n_overlap", table["language"].map(counts).astype("int64"))
        order = sorted(table["language"].unique(), key=lambda code: (code != self.english, code))
        rank = pd.Categorical(table["language"], order, ordered=True)
        return table.iloc[np.lexsort((table["layer"], rank.codes))].reset_index(drop=True)

    def to_pandas(self) -> pd.DataFrame:
        """One row per prompt and layer: row, language, layer, own, english, entropy, top_token, overlap."""
        import pandas as pd

        n, layers = self.probabilities.shape[:2]
        return pd.DataFrame(
            {
                "row": np.repeat(np.arange(n), layers),
                "language": np.repeat(np.array(self.languages, dtype=object), layers),
                "layer": np.tile(np.arange(layers), n),
                "own": self.in_own_language.ravel(),
                "english": self.in_english.ravel(),
                "entropy": self.entropy.ravel(),
                "top_token": self.top_tokens.ravel().astype(object),
                "overlap": np.repeat(self.shares_token, layers),
            }
        )

    def _own(self) -> list[int]:
        return [self.names.index(code) for code in self.languages]


@dataclass(frozen=True)
class Geometry(Saved):
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
        """One row per language and layer: language, layer, n, pairs, and the `MEASURES`."""
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
        """One row per text and layer: row, language, layer, pc1, pc2, …"""
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
