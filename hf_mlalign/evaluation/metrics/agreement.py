"""How far the answers to one prompt agree across languages, beyond what chance would give.

Answers and embeddings go through the same arithmetic. In prompt p and language l let x_pl be the mean of the samples'
vectors: one-hot vectors of final answers, or unit-length embeddings. Then x_pl·x_pm is the probability that a random
sample in l and one in m give the same answer, or their mean cosine. The observed agreement of a pair of languages is
the mean of x_pl·x_pm over the prompts p that both have, the agreement by chance is x̄_l·x̄_m, the product of their
margins, and the corrected agreement is (observed − chance) / (1 − chance). For answers that is Cohen's kappa.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_list, finite_vectors, is_missing, one_blas_thread, unit_rows
from hf_mlalign.data.languages import check_languages
from hf_mlalign.evaluation.metrics.bootstrap import check_bootstrap, percentile_interval, prompt_codes, share_interval

BLOCK = 1_000_000
UNREAD = ("exclude", "disagree")


@dataclass(frozen=True)
class Cells:
    """Mean vectors of the samples of each language and prompt.

    vectors: for each language a (P, k) array or sparse array, zero where there is nothing.
    there: (L, P) bool, whether the language has a vector for the prompt.
    """

    languages: list[str]
    vectors: list[Any]
    there: np.ndarray

    @property
    def n_prompts(self) -> int:
        return self.there.shape[1]


@dataclass(frozen=True)
class Share:
    """A share of equal answers, of how many prompts, and by how much a figure moves for each unit of it."""

    value: float
    n_prompts: float
    slope: float = 1.0


@dataclass
class Agreement:
    """Agreement of each pair of languages; row 0 is the estimate, the others bootstrap replicates.

    observed, corrected: (1 + R, pairs) float64; NaN where a pair has no common prompt or chance agreement is 1.
    n_prompts: (pairs,) prompts that both languages have.
    n_compared: prompts that two or more languages have.
    chance: (pairs,) agreement by chance in the data.
    alpha: (1 + R,) Krippendorff's alpha over all languages; NaN where it is undefined.
    alpha_share: the share of equal answers that alpha is made of; `None` for embeddings.
    """

    pairs: list[tuple[str, str]]
    observed: np.ndarray
    corrected: np.ndarray
    n_prompts: np.ndarray
    n_compared: int
    chance: np.ndarray
    alpha: np.ndarray = field(default_factory=lambda: np.full(1, np.nan))
    alpha_share: Share | None = None

    def share(self, chosen: np.ndarray, corrected: bool) -> Share | None:
        """What the mean of the chosen pairs (bool or integers) moves with; `None` for embeddings and without pairs.

        Of the pairs' numbers of prompts it takes the harmonic mean.
        """
        known = np.arange(len(self.pairs))[chosen]
        known = known[np.isfinite(self.corrected[0] if corrected else self.observed[0])[known]]
        if self.alpha_share is None or not len(known):
            return None
        slope = np.mean(1 / (1 - self.chance[known])) if corrected else 1.0
        n_prompts = len(known) / np.sum(1 / self.n_prompts[known])
        return Share(float(self.observed[0, known].mean()), float(n_prompts), float(slope))


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of whole prompts: `n_resamples` (1000, *ours*), `seed` (0), `confidence` in (0, 1) (0.95, *ours*)."""

    n_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_bootstrap(self.n_resamples, self.confidence, self.seed)

    def weights(self, n_prompts: int, width: int) -> Iterator[np.ndarray]:
        """(r, P) float64 blocks of how often each prompt is drawn; the first row of the first block is the data."""
        rng = np.random.default_rng(self.seed)
        yield np.ones((1, n_prompts))
        left, step = self.n_resamples if n_prompts > 1 else 0, max(1, BLOCK // max(n_prompts, width, 1))
        while left > 0:
            yield rng.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), min(step, left)).astype(np.float64)
            left -= step

    def interval(self, values: np.ndarray, name: str, n_prompts: int, share: Share | None = None) -> dict[str, float]:
        """Estimate and expanded percentile interval of `values`, whose first entry is the estimate.

        Where few prompts disagree, resamples hold still fewer, or none. So the interval is widened to where the limits
        of the `share` (`bootstrap.share_interval`) take the figure at the chance agreement of the data.
        """
        low, high = percentile_interval(values[1:], self.confidence, n_prompts)
        if share is not None and self.n_resamples:
            limits = np.asarray(share_interval(share.value, share.n_prompts, self.confidence))
            moved = np.clip(values[0] + share.slope * (limits - share.value), -1, 1)
            low, high = float(np.fmin(low, moved[0])), float(np.fmax(high, moved[1]))
        return {name: float(values[0]), f"{name}_ci_low": low, f"{name}_ci_high": high}


def answer_agreement(
    answers: Sequence[Any],
    languages: Sequence[str],
    prompt_ids: Sequence[Any],
    *,
    unread: str = "exclude",
    bootstrap: Bootstrap = Bootstrap(),
) -> Agreement:
    """Agreement of final answers: share of equal answers and Cohen's kappa of each pair, Krippendorff's alpha of all.

    Cohen's kappa takes chance from each language's own answers, so that a model which prefers "A" in one language gains
    nothing by it. Krippendorff's nominal alpha (languages as coders, prompts as units) covers all languages at once,
    bears prompts that some languages lack, and corrects for few prompts. It always leaves unread answers out. With
    several samples a prompt and language, both compare samples of different languages only.

    Args:
        answers: n final answers, compared as texts, so that 0 is "0"; `None`, NaN or "" where none could be read.
        languages: n languages.
        prompt_ids: n identifiers, equal for one prompt in all languages.
        unread: "exclude" (*ours*) leaves unread answers out; "disagree" counts them as agreeing with nothing.
        bootstrap: of prompts.
    Raises:
        DataError: lengths differ, a language is unknown, or `unread` is, or a prompt id is missing (row named).
    """
    from scipy import sparse

    from hf_mlalign.data.answers.extract import answer_codes

    if not isinstance(unread, str) or unread not in UNREAD:
        raise DataError(f"unread: {unread!r} is none of {', '.join(UNREAD)}.")
    answers = answer_texts(answers)
    names, cell, n_prompts = _grid(languages, prompt_ids, answers, "answers")
    codes = answer_codes(answers)
    read, size = codes >= 0, len(names) * n_prompts
    width = int(codes.max(initial=-1)) + 1
    counts = sparse.coo_array((np.ones(read.sum()), (cell[read], codes[read])), (size, max(width, 1))).tocsr()
    n_read, n_all = np.bincount(cell[read], minlength=size), np.bincount(cell, minlength=size)
    shares = _divide(counts, n_read)
    compared = shares if unread == "exclude" else _divide(counts, n_all)
    there = (n_read if unread == "exclude" else n_all) > 0
    found = _agreement(_cells(names, compared, there, n_prompts), bootstrap)
    found.alpha, found.alpha_share = _alpha(_cells(names, shares, n_read > 0, n_prompts), bootstrap)
    return found


def answer_texts(answers: Sequence[Any]) -> list[str | None]:
    """Answers as texts; `None` for `None`, NaN and ""."""
    texts = as_list(answers, "answers")
    return [(a or None) if isinstance(a, str) else None if is_missing(a) else str(a) for a in texts]


def embedding_agreement(
    embeddings: Any,
    languages: Sequence[str],
    prompt_ids: Sequence[Any],
    *,
    bootstrap: Bootstrap = Bootstrap(),
) -> Agreement:
    """Agreement of embeddings: mean cosine of each pair of languages, and the same corrected for chance.

    The chance is the cosine of answers to unrelated prompts, which is far above 0 for most encoders. `alpha` is NaN.

    Args:
        embeddings: (n, d) numbers; scaled to unit length here. Rows of zeros have no direction and are left out.
        languages, prompt_ids, bootstrap: as for `answer_agreement`.
    Raises:
        DataError: other shapes, NaN or infinity, or a missing prompt id (first row named).
    """
    vectors = finite_vectors(embeddings)
    names, cell, n_prompts = _grid(languages, prompt_ids, vectors, "embeddings")
    sums = np.zeros((len(names) * n_prompts, vectors.shape[1]), np.float32)
    kept = vectors.any(1)
    np.add.at(sums, cell[kept], unit_rows(vectors[kept]))
    n = np.bincount(cell[kept], minlength=len(sums))
    sums /= np.maximum(n, 1)[:, None]
    return _agreement(_cells(names, sums, n > 0, n_prompts), bootstrap)


def _grid(languages: Sequence[str], prompt_ids: Sequence[Any], of: Sequence, name: str) -> tuple[list, np.ndarray, int]:
    """Sorted languages, the cell (language · P + prompt) of each row, and the number P of prompts."""
    codes = check_languages(languages)
    prompt = prompt_codes(prompt_ids)
    for argument, values in (("prompt_ids", prompt), (name, of)):
        if len(values) != len(codes):
            raise DataError(f"{argument} has {len(values)} entries, languages {len(codes)}. Give one per row.")
    names = sorted(set(codes))
    if len(names) < 2:
        raise DataError(f"languages: {', '.join(names) or 'nothing'} given; agreement needs at least two languages.")
    number = {name: i for i, name in enumerate(names)}
    n_prompts = int(prompt.max()) + 1
    return names, np.fromiter((number[c] for c in codes), np.int64, len(codes)) * n_prompts + prompt, n_prompts


def _divide(counts: Any, by: np.ndarray) -> Any:
    from scipy import sparse

    return (sparse.diags_array(1 / np.maximum(by, 1)) @ counts).tocsr()


def _cells(names: list[str], vectors: Any, there: np.ndarray, n_prompts: int) -> Cells:
    parts = [vectors[i * n_prompts : (i + 1) * n_prompts] for i in range(len(names))]
    return Cells(names, parts, there.reshape(len(names), n_prompts))


def _agreement(cells: Cells, bootstrap: Bootstrap) -> Agreement:
    index = list(combinations(range(len(cells.languages)), 2))
    both = [cells.there[i] & cells.there[j] for i, j in index]
    dots = [np.where(b, _row_dots(cells.vectors[i], cells.vectors[j]), 0) for b, (i, j) in zip(both, index)]
    observed, corrected, chances = [], [], []
    with one_blas_thread(), np.errstate(invalid="ignore", divide="ignore"):
        for weights in bootstrap.weights(cells.n_prompts, cells.vectors[0].shape[1]):
            margins = _Margins(cells, weights)
            total = weights @ np.stack(both, 1)
            seen = (weights @ np.stack(dots, 1)) / np.where(total > 0, total, np.nan)
            chance = np.stack([margins.product(i, j, b) for b, (i, j) in zip(both, index)], 1) / total**2
            observed.append(seen)
            chances.append(chance[:1])
            corrected.append((seen - chance) / np.where(1 - chance > 1e-9, 1 - chance, np.nan))
    pairs = [(cells.languages[i], cells.languages[j]) for i, j in index]
    return Agreement(pairs, np.concatenate(observed), np.concatenate(corrected), np.stack(both).sum(1),
                     int((cells.there.sum(0) > 1).sum()), chances[0][0])  # fmt: skip


class _Margins:
    """Weighted sums of each language's vectors over the prompts that a pair has; kept where a pair has them all."""

    def __init__(self, cells: Cells, weights: np.ndarray):
        self.cells, self.weights = cells, weights
        self.kept: dict[int, np.ndarray] = {}

    def product(self, i: int, j: int, both: np.ndarray) -> np.ndarray:
        return np.einsum("rk,rk->r", self._sum(i, both), self._sum(j, both), dtype=np.float64)

    def _sum(self, language: int, both: np.ndarray) -> np.ndarray:
        vectors = self.cells.vectors[language]
        if not (both == self.cells.there[language]).all():
            return (self.weights * both).astype(vectors.dtype) @ vectors
        if language not in self.kept:
            self.kept[language] = self.weights.astype(vectors.dtype) @ vectors
        return self.kept[language]


def _row_dots(x: Any, y: Any) -> np.ndarray:
    if isinstance(x, np.ndarray):
        return np.einsum("pk,pk->p", x, y, dtype=np.float64)
    return np.asarray(x.multiply(y).sum(1), np.float64).ravel()


def _alpha(cells: Cells, bootstrap: Bootstrap) -> tuple[np.ndarray, Share]:
    """(1 + R,) Krippendorff's nominal alpha over cells, and its share; prompts with one language do not count."""
    coders = cells.there.sum(0)
    used = coders > 1
    together = sum(cells.vectors[1:], start=cells.vectors[0])
    within = sum(_row_dots(x, x) for x in cells.vectors)
    equal = np.where(used, (_row_dots(together, together) - within) / np.maximum(coders - 1, 1), 0)
    values, slopes = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for weights in bootstrap.weights(cells.n_prompts, together.shape[1]):
            n = (weights * used) @ coders
            margins = (weights * used) @ together
            by_chance = (n**2 - (margins**2).sum(1)) / (n * (n - 1))
            by_chance = np.where(by_chance > 1e-9, by_chance, np.nan)
            values.append(1 - (1 - weights @ equal / n) / by_chance)
            slopes.append(1 / by_chance[:1])
        share = float(equal.sum() / coders[used].sum())
    return np.concatenate(values), Share(share, int(used.sum()), float(slopes[0][0]))
