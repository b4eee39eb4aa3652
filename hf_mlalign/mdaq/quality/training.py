"""Training of the Quality Scoring Model's head with the paper's triplet loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.mdaq.quality.head import (
    FEATURES,
    HeadShape,
    QualityHead,
    instruction_inputs,
    standardise,
    surface_features,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HeadTraining:
    """Settings of `train_head`."""

    epochs: int = 3
    """Passes over the triplets (*ours*; more overfit, see docs/appendix/qsm.md)."""
    lr: float = 2e-3
    """Peak learning rate of AdamW, falling linearly to zero (*ours*)."""
    epsilon: float = 0.3
    """Margin ε of the triplet loss (*paper*)."""
    batch_size: int = 256
    """Triplets per step (*ours*)."""
    weight_decay: float = 0.01
    """Weight decay of AdamW (*ours*)."""
    dropout: float = 0.1
    """Dropout on the inputs and the hidden layer of the response tower (*ours*)."""
    even_weight: float = 3.0
    """Triplets whose two responses are about equally long weigh up to 1 + this much (*ours*; 0 = the paper)."""
    check_weight: float = 0.7
    """Weight of the checking member's squared distance, next to the quality members' mean (*ours*; 0 = the paper)."""
    hidden: int = 256
    output: int = 64
    members: int = 3
    """Quality members, see `HeadShape` (*ours*)."""
    seed: int = 0

    def paper(self) -> HeadTraining:
        """The same settings with the paper's loss alone and one member."""
        return replace(self, even_weight=0.0, check_weight=0.0, members=1)


@dataclass
class TripletInputs:
    """Inputs of the towers for n triplets: float32 arrays of n rows.

    `instruction`: (n, dimension + scripts). `positive`, `negative`, `broken`: pairs of the encoder's vectors and the
    raw surface features. `groups`: (n,) integers; rows of one group are the same sample in several languages.
    """

    instruction: np.ndarray
    positive: tuple[np.ndarray, np.ndarray]
    negative: tuple[np.ndarray, np.ndarray]
    broken: tuple[np.ndarray, np.ndarray]
    groups: np.ndarray

    @classmethod
    def build(cls, encode, instructions, positives, negatives, groups=None, seed: int = 0) -> TripletInputs:
        """Encode the texts; `encode` maps n texts to (n, dimension) unit-length float32 vectors."""
        broken = broken_responses(instructions, positives, seed)
        groups = np.arange(len(instructions)) if groups is None else np.unique(groups, return_inverse=True)[1]
        responses = [(encode(list(t)), surface_features(t)) for t in (positives, negatives, broken)]
        return cls(instruction_inputs(encode(list(instructions)), instructions), *responses, groups)

    def rows(self, index: np.ndarray) -> TripletInputs:
        """The triplets of these rows."""
        pairs = [tuple(part[index] for part in pair) for pair in (self.positive, self.negative, self.broken)]
        return TripletInputs(self.instruction[index], *pairs, self.groups[index])


def broken_responses(
    instructions: Sequence[str], positives: Sequence[str], seed: int = 0, copies: float = 1 / 8
) -> list[str]:
    """A bad response for each row (*ours*): the positive cut at 25–80 % of its length, or, for a share `copies` of the
    rows, the instruction itself."""
    generator = np.random.default_rng(seed)
    shares, copied = generator.uniform(0.25, 0.8, len(positives)), generator.random(len(positives)) < copies
    return [
        instruction if copy else positive[: max(int(len(positive) * share), 1)].rstrip() or positive[:1]
        for instruction, positive, share, copy in zip(instructions, positives, shares, copied, strict=True)
    ]


def train_head(inputs: TripletInputs, settings: HeadTraining = HeadTraining(), on_epoch=None) -> QualityHead:
    """Train a head on triplets; the encoder stays frozen.

    Each quality member minimises the mean of max(‖v_i − v_p‖₂ − ‖v_i − v_n‖₂ + ε, 0) (*paper*). With `check_weight`,
    one more member is trained with the same loss on other negatives (*ours*): other samples' positives (off topic), the
    positive in another language (if `groups` identifies it), the truncated positive, the repeated instruction. It never
    sees the raw responses. The result depends only on the seed.

    Args:
        inputs: at least one triplet.
        settings: see `HeadTraining`.
        on_epoch: called with (epoch from 1, mean loss) after each epoch of the first member.
    """
    features = np.concatenate([inputs.positive[1], inputs.negative[1]])
    mean, scale = features.mean(axis=0), features.std(axis=0) + 0.05
    checking = settings.check_weight > 0
    total = settings.members + checking
    shape = HeadShape(inputs.positive[0].shape[1], settings.hidden, settings.output, total)
    members = []
    for i in range(total):
        is_check = i == settings.members
        arrays = _train_member(inputs, shape, mean, scale, settings, i, on_epoch if i == 0 else None, is_check)
        weight = settings.check_weight if is_check else 1 / settings.members
        factor, last = np.float32(sqrt(total * weight)), ("linear", "bias", "out")  # vectors `factor` times as long
        members.append({name: a * factor if name.split(".")[1] in last else a for name, a in arrays.items()})
    arrays = {name: np.stack([member[name] for member in members]) for name in members[0]}
    return QualityHead(shape, {**arrays, "feature_mean": mean, "feature_scale": scale})


def _train_member(inputs, shape, mean, scale, settings, member, on_epoch, checking) -> dict[str, np.ndarray]:
    import torch

    generator = np.random.default_rng([settings.seed, member])
    loss_of = _check_loss if checking else _pair_loss

    def inputs_of(pair: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([pair[0], standardise(pair[1], mean, scale)], axis=1))

    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(int(generator.integers(2**31)))
        towers = _Towers(shape, settings.dropout)
        optimizer = torch.optim.AdamW(towers.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        n, size = len(inputs.groups), min(settings.batch_size, len(inputs.groups))
        steps = max(n // size, 1)
        for epoch in range(settings.epochs):
            order, total = _order(inputs.groups, generator), 0.0
            for step in range(steps):
                done = (epoch * steps + step) / (settings.epochs * steps)
                optimizer.param_groups[0]["lr"] = settings.lr * (1 - done)
                batch = inputs.rows(order[step * size : (step + 1) * size])
                loss = loss_of(towers, batch, inputs_of, settings)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach())
            if on_epoch:
                on_epoch(epoch + 1, total / steps)
    return towers.arrays()


@contextmanager
def _one_thread():
    """One torch thread: faster for such small matrices, and the same result on any machine's number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _order(groups: np.ndarray, generator: np.random.Generator, together: int = 4) -> np.ndarray:
    """A random order of the rows in which up to `together` rows of one group are adjacent."""
    shuffled = generator.permutation(len(groups))
    by_group = shuffled[np.argsort(groups[shuffled], kind="stable")]
    starts = np.flatnonzero(np.diff(groups[by_group], prepend=-1))
    place = np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))
    pieces = np.cumsum(place % together == 0) - 1
    ranks = generator.permutation(pieces[-1] + 1)
    return by_group[np.argsort(ranks[pieces], kind="stable")]


def _pair_loss(towers, batch: TripletInputs, inputs_of, settings: HeadTraining) -> torch.Tensor:
    """The paper's loss on (instruction, revised, raw), weighted by `even_weight`."""
    import torch

    anchor = towers.instruction(torch.from_numpy(batch.instruction))
    near = _distance(anchor, towers.response(inputs_of(batch.positive)))
    far = _distance(anchor, towers.response(inputs_of(batch.negative)))
    weights = torch.from_numpy(_even_weights(batch, settings.even_weight))
    return (weights * torch.relu(near - far + settings.epsilon)).mean()


def _check_loss(towers, batch: TripletInputs, inputs_of, settings: HeadTraining) -> torch.Tensor:
    """The same loss with broken responses and the other rows' positives as negatives: rows of other groups and of the
    same group (other languages) count as two means."""
    import torch

    anchor = towers.instruction(torch.from_numpy(batch.instruction))
    positive = towers.response(inputs_of(batch.positive))
    near, far = _distance(anchor, positive), _distance(anchor, towers.response(inputs_of(batch.broken)))
    loss = torch.relu(near - far + settings.epsilon).mean()
    squares = (anchor**2).sum(1)[:, None] + (positive**2).sum(1)[None] - 2 * anchor @ positive.T
    losses = torch.relu(near[:, None] - squares.clamp_min(1e-6).sqrt() + settings.epsilon)
    same = torch.from_numpy(batch.groups[:, None] == batch.groups[None])
    other_language = same & ~torch.eye(len(same), dtype=torch.bool)
    means = [(losses * mask).sum() / mask.sum() for mask in (~same, other_language) if mask.any()]
    return loss + (sum(means) if means else losses.sum() * 0)


def _even_weights(batch: TripletInputs, extra: float) -> np.ndarray:
    """1 + extra · exp(−(ln(length ratio) / 0.15)²) of each triplet, divided by the batch's mean; (n,) float32."""
    lengths = [np.expm1(pair[1][:, FEATURES.index("log_characters")]) for pair in (batch.positive, batch.negative)]
    weights = 1 + extra * np.exp(-np.square(np.log(np.maximum(lengths[0], 1) / np.maximum(lengths[1], 1)) / 0.15))
    return (weights / weights.mean()).astype(np.float32)


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return ((a - b) ** 2).sum(-1).add(1e-9).sqrt()


def _Towers(shape: HeadShape, dropout: float):
    """A torch module with the two towers of one member; both start from the same random projection of the encoder."""
    import torch
    from torch import nn

    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.mlp = nn.ModuleDict(), nn.ModuleDict()
            widths = {"instruction": shape.instruction_inputs, "response": shape.response_inputs}
            projection = nn.init.orthogonal_(torch.empty(shape.output, shape.dimension))
            for tower, width in widths.items():
                drop = dropout if tower == "response" else 0.0
                self.linear[tower] = nn.Linear(width, shape.output)
                hidden, out = nn.Linear(width, shape.hidden), nn.Linear(shape.hidden, shape.output, bias=False)
                self.mlp[tower] = nn.Sequential(nn.Dropout(drop), hidden, nn.GELU("tanh"), nn.Dropout(drop), out)
                with torch.no_grad():
                    out.weight.mul_(0.3)
                    self.linear[tower].weight.mul_(0.3)
                    self.linear[tower].bias.zero_()
                    self.linear[tower].weight[:, : shape.dimension] += projection

        def instruction(self, x):
            return self.linear["instruction"](x) + self.mlp["instruction"](x)

        def response(self, x):
            return self.linear["response"](x) + self.mlp["response"](x)

        def arrays(self) -> dict[str, np.ndarray]:
            arrays = {}
            for tower in ("instruction", "response"):
                linear, (_, hidden, _, _, out) = self.linear[tower], self.mlp[tower]
                parts = {
                    "linear": linear.weight, "bias": linear.bias, "hidden": hidden.weight,
                    "hidden_bias": hidden.bias, "out": out.weight,
                }  # fmt: skip
                arrays |= {f"{tower}.{part}": value.detach().numpy().copy() for part, value in parts.items()}
            return arrays

    return Towers()
