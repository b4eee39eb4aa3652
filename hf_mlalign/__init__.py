"""hf_mlalign: multilingual alignment for the Hugging Face stack. Importing it loads no deep-learning library."""

from importlib import import_module

from hf_mlalign._version import __version__

_LAZY = {
    "CMAlignConfig": "hf_mlalign.cmalign.trainer_config",
    "CMAlignPreferenceBuilder": "hf_mlalign.cmalign.builder",
    "CMAlignTrainer": "hf_mlalign.cmalign.trainer",
    "MDaQScorer": "hf_mlalign.mdaq.scorer",
    "MDaQSelector": "hf_mlalign.mdaq.selector",
    "QualityScorer": "hf_mlalign.mdaq.quality.scorer",
    "ResponseSampler": "hf_mlalign.generation.sampler",
    "das_select": "hf_mlalign.mdaq.selection",
    "lint_preferences": "hf_mlalign.cmalign.lint",
    "load_encoder": "hf_mlalign.models.encoder",
    "load_metric": "hf_mlalign.evaluation.metrics.loading",
    "mdaq_score": "hf_mlalign.mdaq.scorer",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'hf_mlalign' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
