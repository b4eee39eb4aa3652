"""Rewards: how good is each sample? The protocol, CM-Align's own rewards and the cheap baselines.

A reward is anything callable that takes `Samples` and returns (n,) numbers, higher is better, NaN for a sample it
cannot judge. It may have a method `rank_references(samples, rows) -> (ranks, consistency)`, two (k,) arrays for the k
English samples `rows`: the top-ranked one of each prompt becomes the reference (default: the most central one). With
`needs_reference = False`, prompts without English samples are kept as well, and without `rank_references` no reference
is chosen.
`uses_answers = True` lets the builder drop pairs that give the same final answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hf_mlalign.cmalign.consistency import agreement, cross_consistency, self_consistency
from hf_mlalign.cmalign.samples import Samples
from hf_mlalign.core.errors import DataError, listed


@runtime_checkable
class Reward(Protocol):
    """A function or object that scores samples."""

    def __call__(self, samples: Samples) -> np.ndarray: ...


_HERE, _MODELS = "hf_mlalign.cmalign.rewards", "hf_mlalign.cmalign.model_rewards"
REWARDS: dict[str, str | Callable] = {
    "auto": f"{_HERE}:AutoReward",
    "embedding": f"{_HERE}:EmbeddingReward",
    "answer": f"{_HERE}:AnswerReward",
    "vote": f"{_HERE}:VoteReward",
    "translation": f"{_MODELS}:TranslationReward",
    "implicit": f"{_MODELS}:ImplicitReward",
    "hidden_state": f"{_MODELS}:HiddenStateReward",
    "first_english": f"{_HERE}:FirstEnglishReward",
    "length": f"{_HERE}:LengthReward",
    "random": f"{_HERE}:RandomReward",
}
"""Name → "module:class", or what was registered."""


def register_reward(name: str) -> Callable[[Callable], Callable]:
    """Add a reward under `name`: a class (called with the builder's `reward_options`) or a plain function. ::

        @register_reward("brevity")
        def brevity(samples):
            return -samples.lengths

    A function that takes more than one argument is called with `reward_options` as keywords.
    """

    def add(reward: Callable) -> Callable:
        REWARDS[name] = reward
        return reward

    return add


def load_reward(reward: str | Reward | Callable, **options: Any) -> Reward:
    """The reward called `reward`, made with `options`; an object that can be called is returned as it is.

    Raises:
        DataError: unknown name, options the reward does not take, or an object that cannot be called.
    """
    if isinstance(reward, str):
        if reward not in REWARDS:
            raise DataError(f"reward: unknown {reward!r}. Known: {listed(REWARDS)}; or pass your own function.")
        found = REWARDS[reward]
        if isinstance(found, str):
            module, _, name = found.partition(":")
            found = getattr(import_module(module), name)
        try:
            return found(**options) if isinstance(found, type) else _Function(found, options, reward)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            raise DataError(f"reward {reward!r} does not take these options: {error}") from error
    if isinstance(reward, type) or not callable(reward):
        raise DataError(f"reward: {reward!r} cannot be called with samples. Pass a name, a function or an instance.")
    if options:
        raise DataError(
            f"reward_options ({listed(options)}): only a reward given by name takes options. Set them on the object."
        )
    return reward


class _Function:
    """A plain function with options as a reward; TypeError for options that the function does not take."""

    def __init__(self, function: Callable, options: dict[str, Any], name: str):
        inspect.signature(function).bind(None, **options)
        self.function, self.options, self.name = function, options, name
        self.needs_reference = getattr(function, "needs_reference", True)
        self.uses_answers = getattr(function, "uses_answers", False)
        if hasattr(function, "rank_references"):
            self.rank_references = function.rank_references

    def __call__(self, samples: Samples) -> np.ndarray:
        return self.function(samples, **self.options)


def score_samples(reward: Reward, samples: Samples) -> np.ndarray:
    """(n,) float64 scores of `reward`; NaN and infinite ones become NaN, which the builder counts as not scored.

    Raises:
        DataError: the reward returned another shape or something that is not numbers.
    """
    name = name_of(reward)
    scores = np.asarray(reward(samples))
    if scores.shape != (len(samples),):
        raise DataError(
            f"reward {name}: returned shape {scores.shape} for {len(samples):,} samples. Return a 1-D array with one "
            "number per sample, in the order of samples.texts."
        )
    if scores.dtype.kind not in "fiub":
        raise DataError(f"reward {name}: returned {scores.dtype}, not numbers. Return floats, NaN where unknown.")
    scores = scores.astype(np.float64)
    return np.where(np.isfinite(scores), scores, np.nan)


def name_of(reward: Any) -> str:
    """The name of a reward for messages and records."""
    return getattr(reward, "name", None) or getattr(reward, "__name__", type(reward).__name__)


def central_references(samples: Samples, rows: np.ndarray, centre: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Rank English samples by their mean cosine to their siblings (CM-Align, step 1); a lone sample ranks 0."""
    table, place = samples.vector_table
    place = rows if place is None else place[rows]
    means = samples.english_mean(rows) if centre else None
    consistency = self_consistency(table, samples.prompt[rows], means, place)
    return np.nan_to_num(consistency, nan=0.0), consistency


class EmbeddingReward:
    """Cosine of each sample's vector with the vector of the English reference (CM-Align, *paper*).

    Args:
        centre: subtract each language's mean vector first (*ours*), which removes what a vector says about its
            language rather than its content.
    """

    name, needs_reference = "embedding", True

    def __init__(self, centre: bool = True):
        self.centre = centre

    def rank_references(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return central_references(samples, rows, self.centre)

    def __call__(self, samples: Samples) -> np.ndarray:
        table, rows = samples.vector_table
        means = samples.language_means() if self.centre else None
        references = np.full((samples.n_prompts, table.shape[1]), np.nan, np.float32)
        has = np.flatnonzero(samples.reference >= 0)
        references[has] = samples.vectors_of(samples.reference[has])
        if means is not None:
            references[has] -= means[samples.english]
        return cross_consistency(table, references, samples.prompt, rows=rows, languages=samples.language, means=means)


class AnswerReward:
    """Agreement of final answers: ½·[same answer as the reference] + ½·(share of English samples with this answer).

    The reference is the most central English sample among those with the most frequent answer. Samples without an
    answer get 0; prompts of which fewer than half of the English samples have an answer get NaN. The second half
    (*ours*) puts a wrong answer that some English samples gave above one that none gave. Range [0, 1].

    Args:
        centre: see `EmbeddingReward`, for the choice of the reference among samples of one answer.
    """

    name, needs_reference, uses_answers = "answer", True, True

    def __init__(self, centre: bool = True):
        self.centre = centre

    def rank_references(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ranks, consistency = central_references(samples, rows, self.centre)
        share = _english_share(samples)[rows]
        return np.nan_to_num(share) * 4 + ranks, np.where(np.isnan(share), consistency, share)

    def __call__(self, samples: Samples) -> np.ndarray:
        share = _english_share(samples)
        reference = samples.reference_rows
        same = (samples.answers == samples.answers[reference]) & (samples.answers >= 0) & (reference >= 0)
        known = (reference >= 0) & (samples.answers[reference] >= 0) & ~np.isnan(share)
        return np.where(known, 0.5 * same + 0.5 * share, np.nan)


class AutoReward(AnswerReward):
    """`answer`, ties broken by the answer's share in the sample's own language, then by the cosine of `embedding`;
    `embedding` alone where the English samples have no answers (*ours*).

    Where there are answers, score = (answer + 0.1·own share + w·(1 + cosine)/2) / (1.1 + w), with w = 0.04 / number of
    English samples: neither tie-breaker outweighs one vote of the term before it as long as the numbers of samples are
    alike. Range [0, 1]; elsewhere (1 + cosine)/2.
    """

    name = "auto"

    def __call__(self, samples: Samples) -> np.ndarray:
        answer = super().__call__(samples)
        own = np.nan_to_num(agreement(samples.answers, samples.group, samples.usable))
        closeness = (1 + EmbeddingReward(self.centre)(samples).astype(np.float64)) / 2
        english = np.bincount(samples.prompt[samples.is_english], minlength=samples.n_prompts)[samples.prompt]
        weight = 0.04 / np.maximum(english, 1)
        return np.where(np.isnan(answer), closeness, (answer + 0.1 * own + weight * closeness) / (1.1 + weight))


def _english_share(samples: Samples) -> np.ndarray:
    """(n,) share of the prompt's English samples with the sample's answer; NaN where fewer than half have an answer."""
    share = agreement(samples.answers, samples.prompt, samples.is_english & samples.usable)
    return np.where(samples.answered[samples.prompt], share, np.nan)


class VoteReward:
    """CALM: share of all languages' samples of the prompt that give this answer; NaN where no sample has one."""

    name, needs_reference, uses_answers = "vote", False, True

    def rank_references(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = self(samples)[rows]
        return np.nan_to_num(share), share

    def __call__(self, samples: Samples) -> np.ndarray:
        return agreement(samples.answers, samples.prompt, samples.usable)


class FirstEnglishReward(EmbeddingReward):
    """`embedding` with the first English sample as reference instead of a chosen one (a control)."""

    name = "first_english"

    def rank_references(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return -samples.sample[rows].astype(np.float64), np.full(len(rows), np.nan)


class LengthReward:
    """Characters of the response (a control: the longer the better)."""

    name, needs_reference = "length", False

    def rank_references(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return samples.lengths[rows].astype(np.float64), np.full(len(rows), np.nan)

    def __call__(self, samples: Samples) -> np.ndarray:
        return samples.lengths


class RandomReward:
    """Uniform random numbers in [0, 1) from `seed` (a control); references are random, too.

    A sample's number depends on the seed, its prompt id, language and number, not on the other samples.
    """

    name, needs_reference = "random", False

    def __init__(self, seed: int = 0):
        self.seed = seed

    def rank_references(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return samples.uniform(self.seed, 1)[rows], np.full(len(rows), np.nan)

    def __call__(self, samples: Samples) -> np.ndarray:
        return samples.uniform(self.seed, 0)
