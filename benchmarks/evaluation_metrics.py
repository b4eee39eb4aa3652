"""Claims of docs/metrics.md: 95 % intervals of the agreement across languages hold the truth also where it is high, and
the time the metrics take for sizes of practice.

    python benchmarks/evaluation_metrics.py

- coverage: share of simulated studies whose 95 % interval holds the true agreement, kappa and alpha; beside it the
  plain bootstrap percentiles. Two languages, four answers equally frequent, the second language gives the first one's
  answer with a given probability; and three languages with preferences of their own, at a kappa near 0.35.
- agreement: 18 languages × 2,000 prompts × 1,000 resamples of final answers, beside scikit-learn's `cohen_kappa_score`
  of the same 153 pairs, once, without intervals.
- diversity: Vendi score and exact nearest neighbours of 30,000 × 256 embeddings, beside the matrix product of all
  cosines that the neighbours need.
"""

import argparse
import itertools
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common import LANGUAGES, interleaved, made_up_vectors

from hf_mlalign.evaluation.metrics.bootstrap import percentile_interval
from hf_mlalign.evaluation.metrics.consistency import Bootstrap, answer_agreement, crosslingual_consistency

FIGURES = ("agreement", "kappa", "alpha")


def alike(share: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """(2, n) answers, equal with probability `share`, each of four answers equally frequent."""
    first = rng.integers(0, 4, n)
    return np.stack([first, np.where(rng.random(n) < share, first, (first + rng.integers(1, 4, n)) % 4)])


def with_preferences(_, n: int, rng: np.random.Generator) -> np.ndarray:
    """(3, n) answers: of a common truth in 60 %, else drawn from each language's own preferences."""
    truth = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    shares = ([0.7, 0.1, 0.1, 0.1], [0.25] * 4, [0.1, 0.2, 0.3, 0.4])
    return np.stack([np.where(rng.random(n) < 0.6, truth, rng.choice(4, n, p=share)) for share in shares])


def columns(answers: np.ndarray) -> tuple[list[str], list[str], list[int]]:
    """Answers, languages and prompt ids of (L, n) answers, one per row."""
    n = answers.shape[1]
    codes = [code for code in LANGUAGES[: len(answers)] for _ in range(n)]
    return list(map(str, answers.ravel().tolist())), codes, [*range(n)] * len(answers)


def coverage(make, share: float | None, n: int, truth: dict[str, float], studies: int, resamples: int) -> np.ndarray:
    """(2, 3): of our intervals and of the plain percentiles, for agreement, kappa and alpha."""
    hits = np.zeros((2, 3))
    for seed in range(studies):
        answers, codes, ids = columns(make(share, n, np.random.default_rng([seed, n])))
        found = crosslingual_consistency(None, codes, ids, answers=answers, n_resamples=resamples, seed=seed)
        plain = answer_agreement(answers, codes, ids, bootstrap=Bootstrap(resamples, seed=seed))
        drawn = (plain.observed[1:].mean(1), plain.corrected[1:].mean(1), plain.alpha[1:])
        limits = [(found[f"{name}_ci_low"], found[f"{name}_ci_high"]) for name in FIGURES]
        plain_limits = [percentile_interval(values, 0.95, n) for values in drawn]
        for way, of in enumerate((limits, plain_limits)):
            hits[way] += [low <= truth[name] <= high for name, (low, high) in zip(FIGURES, of)]
    return hits / studies


def print_coverage(studies: int, resamples: int) -> None:
    print(f"coverage of 95 % intervals, {studies} studies, {resamples} resamples: ours (plain percentiles)")
    answers, codes, ids = columns(with_preferences(None, 200_000, np.random.default_rng(0)))
    whole = crosslingual_consistency(None, codes, ids, answers=answers, n_resamples=0)
    cases = [(with_preferences, None, 100, {name: whole[name] for name in FIGURES})]
    for share, n in ((0.87, 30), (0.9, 30), (0.95, 30), (0.98, 30), (0.95, 100), (0.98, 100), (0.99, 100)):
        kappa = 1 - (1 - share) / 0.75
        cases.append((alike, share, n, {"agreement": share, "kappa": kappa, "alpha": kappa}))
    for make, share, n, truth in cases:
        ours, plain = coverage(make, share, n, truth, studies, resamples)
        cells = "  ".join(f"{name} {a:.1%} ({b:.1%})" for name, a, b in zip(FIGURES, ours, plain))
        print(f"  {len(make(share, 1, np.random.default_rng(0)))} languages, {n} prompts, true agreement "
              f"{truth['agreement']:.3f}: {cells}", flush=True)  # fmt: skip


def print_agreement(repeats: int) -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 2000)
    answers = np.stack([np.where(rng.random(2000) < 0.6, truth, rng.integers(0, 4, 2000)) for _ in LANGUAGES])
    texts, codes, ids = columns(answers)
    pairs = list(itertools.combinations(range(len(LANGUAGES)), 2))
    seconds = interleaved({
        "ours": lambda: crosslingual_consistency(None, codes, ids, answers=texts),
        "sklearn": lambda: [cohen_kappa_score(answers[i], answers[j]) for i, j in pairs],
    }, repeats)  # fmt: skip
    print(f"18 languages × 2,000 prompts: {seconds['ours']:.2f} s with 1,000 resamples; scikit-learn, 153 kappas once: "
          f"{seconds['sklearn']:.2f} s, so 1,001 times {1001 * seconds['sklearn']:.0f} s "
          f"({1001 * seconds['sklearn'] / seconds['ours']:.0f} times ours)")  # fmt: skip


def print_diversity(n: int, repeats: int) -> None:
    from hf_mlalign.core.validation import one_blas_thread
    from hf_mlalign.evaluation.metrics.diversity import nearest_neighbour_distances, vendi_score

    vectors = made_up_vectors(n)

    def product() -> None:
        with one_blas_thread():
            for start in range(0, n, 2048):
                vectors[start : start + 2048] @ vectors.T

    seconds = interleaved({
        "vendi": lambda: vendi_score(vectors),
        "neighbours": lambda: nearest_neighbour_distances(vectors),
        "product": product,
    }, repeats)  # fmt: skip
    vendi, neighbours, alone = seconds["vendi"], seconds["neighbours"], seconds["product"]
    print(f"{n:,} × 256: Vendi score {vendi:.2f} s; nearest neighbours {neighbours:.1f} s, the product alone "
          f"{alone:.1f} s ({neighbours / alone:.2f} times)")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print_agreement(options.repeats)
    print_diversity(options.rows, options.repeats)
    print_coverage(options.studies, options.resamples)
