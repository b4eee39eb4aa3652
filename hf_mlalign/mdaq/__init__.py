"""M-DaQ (arXiv 2509.15549): instruction data of high quality and diversity in any language."""

from hf_mlalign import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CurateOptions": "hf_mlalign.mdaq.options",
        "MDaQScorer": "hf_mlalign.mdaq.scorer",
        "MDaQSelector": "hf_mlalign.mdaq.selector",
        "NestedSubsets": "hf_mlalign.mdaq.scaling",
        "QualityScorer": "hf_mlalign.mdaq.quality.scorer",
        "ScaleCurve": "hf_mlalign.mdaq.scaling",
        "ScoreOptions": "hf_mlalign.mdaq.options",
        "SelectionOptions": "hf_mlalign.mdaq.options",
        "SelectionResult": "hf_mlalign.mdaq.selector",
        "ShardStore": "hf_mlalign.mdaq.shards",
        "StreamedDAS": "hf_mlalign.mdaq.selection",
        "allocate": "hf_mlalign.mdaq.options",
        "car_clusters": "hf_mlalign.mdaq.baselines",
        "curate": "hf_mlalign.mdaq.curation",
        "das_select": "hf_mlalign.mdaq.selection",
        "deita_select": "hf_mlalign.mdaq.baselines",
        "evaluate_pairs": "hf_mlalign.mdaq.quality.accuracy",
        "longest_select": "hf_mlalign.mdaq.baselines",
        "mdaq_score": "hf_mlalign.mdaq.scorer",
        "mmr_select": "hf_mlalign.mdaq.baselines",
        "nested_subsets": "hf_mlalign.mdaq.scaling",
        "quality_select": "hf_mlalign.mdaq.baselines",
        "random_select": "hf_mlalign.mdaq.baselines",
        "register_method": "hf_mlalign.mdaq.selection",
        "scale_curve": "hf_mlalign.mdaq.scaling",
        "score": "hf_mlalign.mdaq.scoring",
    },
)
