"""Cross-lingual consistency: do answers to one prompt agree across languages?"""

import datasets
import evaluate

from hf_mlalign.evaluation.metrics.consistency import crosslingual_consistency
from hf_mlalign.evaluation.metrics.optional_columns import OptionalColumns

_DESCRIPTION = """
Whether a model says the same in every language: agreement of final answers (Cohen's kappa for each pair of languages,
Krippendorff's alpha over all) and of embeddings, both corrected for chance, with intervals clustered by prompt.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of str): responses. May be left out if `answers` are given. A missing one (None or blank) has
        no readable answer and no part in the similarities.
    languages (list of str): language of each response (ISO codes or English names).
    prompt_ids (list): identifiers, equal for one prompt in all languages. Several responses to a prompt in a language
        are averaged.
    answers (list of str or numbers, optional): final answers, compared as texts; "" or None where there is
        none. Default: read from the responses.
    prompts (list of str, optional): the questions; where they list options, only those are read as answers.
    answer_kind (str): "auto" (default), "choice" or "number": how answers are read.
    unread (str): "exclude" (default) leaves unread answers out, "disagree" counts them as agreeing with nothing.
    embeddings (bool): whether to compare embeddings, too (default: True).
    model (str): sentence encoder; default: the one bundled with hf_mlalign.
    pivot (str): the language the others are compared with (default: "en").
    n_resamples (int): bootstrap resamples of prompts (default: 1000; 0 leaves the intervals out).
    confidence (float): of the intervals (default: 0.95).
    seed (int): of the bootstrap (default: 0).
Returns:
    alpha: Krippendorff's nominal alpha of the answers over all languages, at most 1.
    agreement, kappa: share of equal answers in [0, 1] and Cohen's kappa in [-1, 1], means over pairs of languages.
    similarity, similarity_corrected: mean cosine in [-1, 1] and the same corrected for chance, at most 1.
    agreement_with_pivot, kappa_with_pivot, similarity_with_pivot, similarity_corrected_with_pivot: the same over the
        pairs with the pivot. Each of these figures has a ..._ci_low and a ..._ci_high.
    n_responses, n_missing (blank ones), n_read, n_prompts, n_languages, pivot: what was compared.
    per_language, per_pair: the same figures for each language against the pivot and for each pair ("de-en").
Examples:
    >>> import hf_mlalign
    >>> consistency = hf_mlalign.load_metric("crosslingual_consistency")
    >>> results = consistency.compute(
    ...     predictions=["Answer: A", "Antwort: A", "Answer: B", "Antwort: B", "Answer: C", "Antwort: A"],
    ...     languages=["en", "de", "en", "de", "en", "de"],
    ...     prompt_ids=[1, 1, 2, 2, 3, 3],
    ... )
    >>> round(results["agreement"], 3), round(results["kappa"], 3)
    (0.667, 0.5)
    >>> results["per_language"]["de"]["n_read"]
    3
"""

_CITATION = """
@article{cohen1960coefficient,
    title={A Coefficient of Agreement for Nominal Scales},
    author={Cohen, Jacob},
    journal={Educational and Psychological Measurement},
    volume={20},
    number={1},
    pages={37--46},
    year={1960}
}
@book{krippendorff2004content,
    title={Content Analysis: An Introduction to Its Methodology},
    author={Krippendorff, Klaus},
    publisher={Sage},
    year={2004}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class CrosslingualConsistency(OptionalColumns, evaluate.Metric):
    """An `evaluate` module over `hf_mlalign.evaluation.metrics.consistency.crosslingual_consistency`."""

    OPTIONAL = {"predictions": "", "answers": "", "prompts": ""}  # noqa: RUF012
    IDS = ("prompt_ids", "answers")

    def _info(self):
        names = ("predictions", "languages", "prompt_ids", "answers", "prompts")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({name: datasets.Value("string") for name in names}),
            reference_urls=["https://arxiv.org/abs/2509.08541"],
        )

    def _compute(self, predictions, languages, prompt_ids, answers, prompts, **options):
        return crosslingual_consistency(
            predictions if any(predictions) else None,
            languages,
            prompt_ids,
            answers=answers if any(answers) else None,
            prompts=prompts if any(prompts) else None,
            **options,
        )
