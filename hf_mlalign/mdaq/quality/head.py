"""The head of the Quality Scoring Model: two small towers over a frozen encoder, run with numpy (safe in forks)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import floor, log2, sqrt

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.mdaq.quality.features import FEATURES, SCRIPTS, script_shares, surface_features

CLIP = 4.0
"""Standardised surface features are clipped to ±`CLIP` (*ours*), so that odd texts cannot dominate a vector."""

STEPS, BOUND = 2.0**20, 16.0
"""Inputs of a product, within ±`BOUND`, are rounded to multiples of 1 / `STEPS` (*ours*); see `ExactWeights`."""


@dataclass(frozen=True)
class HeadShape:
    """Sizes of a head. Numbers are *ours*, chosen on a development split (docs/qsm.md)."""

    dimension: int
    """Length of the encoder's vectors."""
    hidden: int = 256
    """Units of the hidden layer of each tower."""
    output: int = 64
    """Length of the vectors of one member."""
    members: int = 4
    """Independently initialised heads whose vectors are put side by side."""

    @property
    def instruction_inputs(self) -> int:
        return self.dimension + len(SCRIPTS)

    @property
    def response_inputs(self) -> int:
        return self.dimension + len(FEATURES)

    @classmethod
    def from_dict(cls, values: Mapping) -> HeadShape:
        return cls(**{f.name: int(values[f.name]) for f in fields(cls)})

    def to_dict(self) -> dict:
        return asdict(self)


def arrays_expected(shape: HeadShape) -> dict[str, tuple[int, ...]]:
    """Name → shape of every array of a head."""
    m, h, o = shape.members, shape.hidden, shape.output
    expected: dict[str, tuple[int, ...]] = {"feature_mean": (len(FEATURES),), "feature_scale": (len(FEATURES),)}
    for tower, width in (("instruction", shape.instruction_inputs), ("response", shape.response_inputs)):
        expected |= {f"{tower}.linear": (m, o, width), f"{tower}.bias": (m, o)}
        expected |= {f"{tower}.hidden": (m, h, width), f"{tower}.hidden_bias": (m, h), f"{tower}.out": (m, o, h)}
    return expected


class QualityHead:
    """v_instruction from the instruction alone and v_response from the response alone.

    Each tower is `linear(x) + out(gelu(hidden(x)))`. For an instruction, x is its unit-length encoder vector and the
    shares of the scripts of its letters; for a response, its unit-length encoder vector and its standardised surface
    features. The members' vectors stand side by side, divided by √members.

    Args:
        shape: sizes.
        arrays: name → float array, see `arrays_expected`.
    Raises:
        DataError: an array is missing or has another shape.
    """

    def __init__(self, shape: HeadShape, arrays: Mapping[str, np.ndarray]):
        for name, size in arrays_expected(shape).items():
            found = arrays[name].shape if name in arrays else None
            if found != size:
                raise DataError(
                    f"quality head: array {name!r} has shape {found}, expected {size}. The weights belong to another "
                    "version or encoder: train again with python -m hf_mlalign.launch.train_qsm."
                )
        self.shape = shape
        self.arrays = {name: np.ascontiguousarray(arrays[name], np.float32) for name in arrays_expected(shape)}
        self._weights = {
            name: [ExactWeights(weights) for weights in array] for name, array in self.arrays.items() if array.ndim == 3
        }

    @property
    def width(self) -> int:
        """Length of v_instruction and v_response."""
        return self.shape.members * self.shape.output

    def instruction_vectors(self, embeddings: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """v_instruction, (n, width) float32, from the encoder's (n, dimension) unit-length vectors and the texts."""
        return self._tower("instruction", instruction_inputs(embeddings, texts))

    def response_vectors(self, embeddings: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """v_response, (n, width) float32, from the encoder's (n, dimension) unit-length vectors and the texts."""
        features = standardise(surface_features(texts), self.arrays["feature_mean"], self.arrays["feature_scale"])
        return self._tower("response", np.concatenate([embeddings, features], axis=1))

    def _tower(self, tower: str, x: np.ndarray) -> np.ndarray:
        linear, hidden, out = (self._weights[f"{tower}.{part}"] for part in ("linear", "hidden", "out"))
        bias, hidden_bias = (self.arrays[f"{tower}.{part}"] for part in ("bias", "hidden_bias"))
        x = in_steps(x)
        vectors = [
            linear[i](x) + bias[i] + out[i](in_steps(gelu(hidden[i](x) + hidden_bias[i])))
            for i in range(self.shape.members)
        ]
        return (np.concatenate(vectors, axis=1) / np.float32(sqrt(self.shape.members))).astype(np.float32)


class ExactWeights:
    """A weight matrix whose products do not depend, to the last bit, on the other rows of a batch or on threads.

    Libraries add the terms of a product in an order that depends on the number of rows and on a row's place, and each
    order rounds differently. Here inputs and weights are rounded first, to so few bits that float64 holds every partial
    sum exactly: any order gives the same. Exact for inputs within ±`BOUND`; beyond that, right to 1e-15.

    Args:
        weights: (outputs, inputs).
    """

    def __init__(self, weights: np.ndarray):
        weights = weights.astype(np.float64)
        largest = float(np.abs(weights).sum(axis=1).max(initial=0.0)) or 1.0
        steps = 2.0 ** floor(52 - log2(STEPS * BOUND * largest))
        self._weights, self._scale = np.ascontiguousarray(np.rint(weights * steps).T), 1 / (STEPS * steps)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The product of (n, inputs) numbers of `in_steps` with the transposed weights, (n, outputs) float32."""
        return (x @ self._weights * self._scale).astype(np.float32)


def in_steps(x: np.ndarray) -> np.ndarray:
    """`x` as float64 whole numbers of 1 / `STEPS`."""
    return np.rint(x.astype(np.float64) * STEPS)


def instruction_inputs(embeddings: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """What the instruction tower sees: (n, dimension + scripts) float32."""
    return np.concatenate([embeddings, script_shares(texts)], axis=1, dtype=np.float32)


def standardise(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(features − mean) / scale, clipped to ±`CLIP`."""
    return np.clip((features - mean) / scale, -CLIP, CLIP).astype(np.float32)


def gelu(x: np.ndarray) -> np.ndarray:
    """x · Φ(x) in its tanh form, the same as `torch.nn.GELU("tanh")`."""
    return 0.5 * x * (1 + np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)))


def negative_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """−‖a − b‖₂ row by row, (n,) float32: the paper's quality score of a (v_instruction, v_response) pair."""
    return -np.sqrt(np.square(np.asarray(a, np.float32) - np.asarray(b, np.float32)).sum(axis=1))


def triplet_losses(anchor: np.ndarray, positive: np.ndarray, negative: np.ndarray, epsilon: float = 0.3) -> np.ndarray:
    """max(‖v_i − v_p‖₂ − ‖v_i − v_n‖₂ + ε, 0) row by row, (n,): the paper's loss; ε = 0.3 (*paper*)."""
    return np.maximum(negative_distance(anchor, negative) - negative_distance(anchor, positive) + epsilon, 0)
