"""Claim: intervals of 1,000,000 comparisons in 18 languages from 1,000 bootstrap resamples at least 50 times faster
than `scipy.stats.bootstrap` and than a plain loop, with intervals of the same width and in bounded memory.

    python benchmarks/evaluation_winrate.py

Three workloads: "shared": each of 55,556 prompts in all languages, verdicts win, tie or loss, resampled by prompt;
"separate": a million independent verdicts; "graded": a million independent preferences anywhere in [0, 1]. Wanted are
the percentile intervals of the overall rate, the macro average and each language's rate. Each side runs in its own
process on the same values and gets what it needs ready-made (scipy a matrix of prompts by languages, or one array a
language).

- ours: `winrate(...)`, all of it: reading and checking the columns, counts, p-values, 1,000 resamples; median of 5.
- scipy: `bootstrap(method="percentile", vectorized=True, batch=20)`; shared: one call with all languages as paired
  samples and all 20 figures as the statistic; otherwise one call a language, one for the overall and one for the macro
  rate.
- loop: one numpy resample after the other over rows in any order, as ours takes them: draw prompts (or rows), weight
  each row by how often it was drawn, and add up by language with `np.bincount`.

The peers run `--peer-resamples` resamples; their seconds are scaled to 1,000 (the time of both is proportional to the
number of resamples). Interval widths are compared with all 1,000 on a tenth of the rows.
"""

import argparse
import resource
import statistics
import time

import numpy as np
from common import LANGUAGES, in_child, report

SHARED, SEPARATE, GRADED = "shared", "separate", "graded"
CODES = np.arange(len(LANGUAGES))


def rows_of(workload: str, n_prompts: int) -> np.ndarray:
    """(n_prompts, 18) preferences; a prompt makes its languages alike in the shared workload."""
    rng = np.random.default_rng(0)
    shape = (n_prompts, len(LANGUAGES))
    lift = np.linspace(-0.3, 0.5, len(LANGUAGES))
    if workload == GRADED:
        return 1 / (1 + np.exp(-(rng.normal(size=shape) * 2 + lift)))
    effect = rng.normal(size=(n_prompts, 1)) if workload == SHARED else 0
    return np.digitize(rng.normal(size=shape) + effect + lift, [-0.1, 0.1]) / 2


def base_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ours(workload: str, n_prompts: int, resamples: int) -> dict:
    from hf_mlalign.evaluation.metrics.winrate import winrate

    winrate([1.0, 0.0, 1.0], languages=["de", "fr", "fr"], n_resamples=10)
    values = rows_of(workload, n_prompts)
    predictions, languages = values.ravel(), list(LANGUAGES) * n_prompts
    prompt_ids = np.repeat(np.arange(n_prompts), len(LANGUAGES)) if workload == SHARED else None
    base, seconds = base_memory(), []
    for _ in range(5):
        start = time.perf_counter()
        result = winrate(predictions, languages=languages, prompt_ids=prompt_ids, n_resamples=resamples)
        seconds.append(time.perf_counter() - start)
    limits = [(result["ci_low"], result["ci_high"]), (result["macro_ci_low"], result["macro_ci_high"])]
    limits += [(result["per_language"][name]["ci_low"], result["per_language"][name]["ci_high"]) for name in LANGUAGES]
    widths = [(high - low) / 100 for low, high in limits]
    return {"seconds": statistics.median(seconds), "widths": widths, "base": base}


def scipy_side(workload: str, n_prompts: int, resamples: int) -> dict:
    from scipy.stats import bootstrap

    def all_rates(*samples, axis=-1):
        means = np.stack([sample.mean(axis=axis) for sample in samples])
        return np.concatenate([means.mean(0)[None], means.mean(0)[None], means])

    def macro(*samples, axis=-1):
        return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)

    samples = tuple(np.ascontiguousarray(rows_of(workload, n_prompts).T))
    options = {"n_resamples": resamples, "method": "percentile", "vectorized": True, "random_state": 0}
    base, start = base_memory(), time.perf_counter()
    if workload == SHARED:
        found = bootstrap(samples, all_rates, paired=True, batch=20, **options).confidence_interval
        widths = found.high - found.low
    else:
        calls = [((np.concatenate(samples),), np.mean), (samples, macro), *(((sample,), np.mean) for sample in samples)]
        found = [bootstrap(data, statistic, batch=20, **options).confidence_interval for data, statistic in calls]
        widths = [interval.high - interval.low for interval in found]
    return {"seconds": time.perf_counter() - start, "widths": [float(w) for w in widths], "base": base}


def loop(workload: str, n_prompts: int, resamples: int) -> dict:
    values, rng = rows_of(workload, n_prompts), np.random.default_rng(0)
    flat, codes = values.ravel(), np.tile(CODES, n_prompts)
    clusters = np.repeat(np.arange(n_prompts), len(CODES)) if workload == SHARED else np.arange(len(flat))
    n_clusters = int(clusters[-1]) + 1
    base, start, figures = base_memory(), time.perf_counter(), []
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, n_clusters, size=n_clusters), minlength=n_clusters)[clusters]
        sums, sizes = np.bincount(codes, weights=times * flat), np.bincount(codes, weights=times)
        figures.append([sums.sum() / sizes.sum(), (sums / sizes).mean(), *(sums / sizes)])
    low, high = np.quantile(figures, [0.025, 0.975], axis=0)
    return {"seconds": time.perf_counter() - start, "widths": [float(w) for w in high - low], "base": base}


def compare(workload: str, n_prompts: int, peer_resamples: int, repeats: int) -> None:
    seconds: dict[str, list[float]] = {"ours": [], "scipy": [], "loop": []}
    memory = {}
    for _ in range(repeats):
        for name, side in (("ours", ours), ("scipy", scipy_side), ("loop", loop)):
            resamples = 1000 if name == "ours" else peer_resamples
            run = in_child(side, workload, n_prompts, resamples)
            seconds[name].append(run["seconds"] * 1000 / resamples)
            memory[name] = round((run["peak"] - run["base"]) / 2**20)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    tenth = {name: np.array(in_child(side, workload, n_prompts // 10, 1000)["widths"])
             for name, side in (("ours", ours), ("scipy", scipy_side), ("loop", loop))}  # fmt: skip
    report(f"win rate intervals, {workload}", comparisons=n_prompts * len(LANGUAGES), resamples=1000,
           peer_resamples=peer_resamples, **{f"seconds_{name}": round(s, 2) for name, s in middle.items()},
           times_faster_than_scipy=round(middle["scipy"] / middle["ours"], 1),
           times_faster_than_loop=round(middle["loop"] / middle["ours"], 1), extra_memory_mib=memory,
           width_over_scipy=round(float(np.mean(tenth["ours"] / tenth["scipy"])), 3),
           width_over_loop=round(float(np.mean(tenth["ours"] / tenth["loop"])), 3))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=55_556, help="times 18 languages")
    parser.add_argument("--peer-resamples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workloads", nargs="+", default=[SHARED, SEPARATE, GRADED])
    options = parser.parse_args()
    for workload in options.workloads:
        compare(workload, options.prompts, options.peer_resamples, options.repeats)


if __name__ == "__main__":
    main()
