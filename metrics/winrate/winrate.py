"""Win rate: how often is a model preferred to a baseline, in every language, and how sure is that?"""

import datasets
import evaluate
import numpy as np

from hf_mlalign.evaluation.metrics.optional_columns import OptionalColumns
from hf_mlalign.evaluation.metrics.winrate import winrate

_DESCRIPTION = """
How often a candidate is preferred to a baseline: rate with an interval (bootstrap over prompts), per language with
Holm-corrected tests against 50 %, averaged over both orders of presentation, and at equal length (as AlpacaEval).
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of float): preference for the candidate in [0, 1]: 1 a win, 0.5 a tie, 0 a loss, NaN not judged.
    languages (list of str, optional): language of each comparison (ISO codes or English names).
    prompt_ids (list, optional): equal for the comparisons of one prompt, in whatever language; without them, all
        comparisons count as independent.
    swapped_predictions (list of float, optional): preference for the candidate, too, in the other order of answers.
    candidate_lengths (list of float, optional): length of the candidate's answer in characters or tokens.
    baseline_lengths (list of float, optional): length of the baseline's answer.
    n_resamples (int): of the bootstrap (default: 1000; 0 leaves the intervals out).
    confidence (float): of the intervals (default: 0.95).
    seed (int): of all that is random (default: 0).
Returns:
    win_rate, standard_error, ci_low, ci_high: in per cent.
    p_value: of the hypothesis that candidate and baseline are interchangeable.
    n, n_prompts, n_wins, n_ties, n_losses, n_draws, n_unjudged: counts; n is of what was judged, n_draws is n_ties.
    discrete_win_rate: wins and half of the ties, in per cent.
    macro_win_rate, macro_ci_low, macro_ci_high: mean of the languages' rates, in per cent.
    per_language: for each language the above, adjusted_p_value (Holm), differs_from_50, length_controlled_win_rate.
    n_both_orders, position_consistency: comparisons judged in both orders, and the share with the same verdict.
    swap_averaged_win_rate, _standard_error, _ci_low, _ci_high: of the mean of both orders, in per cent.
    length_controlled_win_rate, length_controlled_standard_error: in per cent.
Examples:
    >>> import hf_mlalign
    >>> winrate = hf_mlalign.load_metric("winrate")
    >>> results = winrate.compute(predictions=[1.0, 1.0, 0.5, 0.0, None])
    >>> results["win_rate"], results["n"], results["n_unjudged"]
    (62.5, 4, 1)
    >>> results = winrate.compute(
    ...     predictions=[1, 1, 0.5, 0] * 50,
    ...     languages=["de", "sw"] * 100,
    ...     prompt_ids=[i // 2 for i in range(200)],
    ...     swapped_predictions=[1, 0, 0.5, 0] * 50,
    ... )
    >>> results["per_language"]["de"]["win_rate"], results["per_language"]["de"]["differs_from_50"]
    (75.0, True)
    >>> results["per_language"]["sw"]["win_rate"], results["per_language"]["sw"]["differs_from_50"]
    (50.0, False)
    >>> results["position_consistency"], results["swap_averaged_win_rate"]
    (75.0, 50.0)
"""

_CITATION = """
@article{dubois2024length,
    title={Length-Controlled AlpacaEval: A Simple Way to Debias Automatic Evaluators},
    author={Dubois, Yann and Galambosi, Bal{\\'a}zs and Liang, Percy and Hashimoto, Tatsunori B.},
    journal={arXiv preprint arXiv:2404.04475},
    year={2024},
    url={https://arxiv.org/abs/2404.04475}
}
"""

_OPTIONAL_NUMBERS = ("swapped_predictions", "candidate_lengths", "baseline_lengths")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Winrate(OptionalColumns, evaluate.Metric):
    """An `evaluate` module over `hf_mlalign.evaluation.metrics.winrate.winrate`."""

    OPTIONAL = {**dict.fromkeys(_OPTIONAL_NUMBERS, float("nan")), "languages": "", "prompt_ids": ""}  # noqa: RUF012

    def _info(self):
        columns = {name: datasets.Value("float64") for name in ("predictions", *_OPTIONAL_NUMBERS)}
        texts = {name: datasets.Value("string") for name in ("languages", "prompt_ids")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({**columns, **texts}),
            reference_urls=["https://arxiv.org/abs/2404.04475", "https://github.com/tatsu-lab/alpaca_eval"],
        )

    def _compute(self, predictions, languages, prompt_ids, **columns):
        given = {name: columns.pop(name) for name in _OPTIONAL_NUMBERS}
        given = {name: values for name, values in given.items() if not np.isnan(values).all()}
        if any(languages):
            given["languages"] = languages
        if any(prompt_ids):
            given["prompt_ids"] = [text or None for text in prompt_ids]
        return winrate(predictions, **given, **columns)
