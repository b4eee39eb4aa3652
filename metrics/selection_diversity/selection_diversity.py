"""Selection diversity: how diverse is a set of texts, in itself and against the pool it was selected from?"""

import datasets
import evaluate

from hf_mlalign.evaluation.metrics.diversity import selection_diversity
from hf_mlalign.evaluation.metrics.optional_columns import OptionalColumns

_DESCRIPTION = """
How diverse a selection of texts is: Vendi score, distance to the nearest neighbour, near duplicates and, given the pool
the selection was made from, the share of its clusters covered and random selections of equal size to compare with.
"""

_KWARGS_DESCRIPTION = """
Args:
    data (list of str): the selected texts, e.g. instructions.
    languages (list of str, optional): language of each text (ISO codes or English names).
    pool (list of str): texts of the pool the selection was made from, the selected ones included.
    pool_languages (list of str): their languages; needed if `languages` are given.
    model (str): sentence encoder; default: the one bundled with hf_mlalign.
    n_clusters (int): clusters of each language's pool (default: the root of half its rows).
    n_random (int): random selections to compare with (default: 10 for up to 10,000 texts, else 0).
    seed (int): of the clustering and the random selections (default: 0).
Returns:
    n, n_empty: texts, and those without a token, which are left out of all other figures.
    vendi_score: effective number of different texts, from 1 to n (and to the dimension of the embeddings).
    nearest_neighbour_distance: mean of 1 - cosine to the nearest other text, in [0, 2].
    near_duplicates: share of texts closer than 0.1 to another, in [0, 1].
    n_pool, clusters_covered, n_clusters, cluster_coverage: with a pool; the last is a share in [0, 1].
    n_random, vendi_score_random, vendi_score_random_sd, ...: mean and standard deviation of vendi_score,
        nearest_neighbour_distance and cluster_coverage over random selections of equal size.
    per_language: the same figures for each language.
Examples:
    >>> import hf_mlalign
    >>> diversity = hf_mlalign.load_metric("selection_diversity")
    >>> texts = ["How do I bake bread?", "How do I bake bread?", "Name three rivers in Africa."]
    >>> results = diversity.compute(data=texts, languages=["en", "en", "en"])
    >>> 1.8 < results["vendi_score"] <= 3
    True
    >>> round(results["near_duplicates"], 3)
    0.667
    >>> results = diversity.compute(data=texts[1:], pool=texts, n_clusters=2, n_random=0)
    >>> results["clusters_covered"], results["n_clusters"]
    (2, 2)
"""

_CITATION = """
@article{friedman2023vendi,
    title={The Vendi Score: A Diversity Evaluation Metric for Machine Learning},
    author={Friedman, Dan and Dieng, Adji Bousso},
    journal={Transactions on Machine Learning Research},
    year={2023},
    url={https://arxiv.org/abs/2210.02410}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class SelectionDiversity(OptionalColumns, evaluate.Measurement):
    """An `evaluate` module over `hf_mlalign.evaluation.metrics.diversity.selection_diversity`."""

    OPTIONAL = {"languages": ""}  # noqa: RUF012

    def _info(self):
        return evaluate.MeasurementInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({name: datasets.Value("string") for name in ("data", "languages")}),
            reference_urls=["https://arxiv.org/abs/2210.02410"],
        )

    def _compute(self, data, languages, **options):
        return selection_diversity(data, languages=languages if any(languages) else None, **options)
