"""Metrics, judges and human judgement."""

from importlib import import_module

_LAZY = {
    "crosslingual_consistency": "hf_mlalign.evaluation.metrics.consistency",
    "load_metric": "hf_mlalign.evaluation.metrics.loading",
    "selection_diversity": "hf_mlalign.evaluation.metrics.diversity",
    "winrate_leaderboard": "hf_mlalign.evaluation.metrics.leaderboard",
}
"""`winrate` is not among them: it is the name of its module, `hf_mlalign.evaluation.metrics.winrate.winrate`."""

__all__ = list(_LAZY)


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'hf_mlalign.evaluation' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
