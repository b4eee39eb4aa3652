"""CM-Align and its relatives: from samples in many languages to preference pairs and a DPO-aligned model."""

from hf_mlalign.core.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "BuildPairsOptions": "hf_mlalign.cmalign.options",
        "CMAlignConfig": "hf_mlalign.cmalign.trainer_config",
        "CMAlignPreferenceBuilder": "hf_mlalign.cmalign.builder",
        "CMAlignTrainer": "hf_mlalign.cmalign.trainer",
        "LintOptions": "hf_mlalign.cmalign.options",
        "PairOptions": "hf_mlalign.cmalign.options",
        "PairResult": "hf_mlalign.cmalign.pairs",
        "build_pairs": "hf_mlalign.cmalign.build",
        "lint_preferences": "hf_mlalign.cmalign.lint",
    },
)
