"""Metrics, judges and human judgement."""

from hf_mlalign.core.lazy import lazy_names

_JUDGES, _METRICS = "hf_mlalign.evaluation.judges", "hf_mlalign.evaluation.metrics"
__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "AnnotateOptions": "hf_mlalign.evaluation.options",
        "HumanJudge": "hf_mlalign.evaluation.annotation.human",
        "JudgeOptions": "hf_mlalign.evaluation.options",
        "LLMJudge": f"{_JUDGES}.llm",
        "LanguageJudge": f"{_JUDGES}.rules",
        "LengthJudge": f"{_JUDGES}.rules",
        "RewardModelJudge": f"{_JUDGES}.reward_model",
        "ScoreJudge": f"{_JUDGES}.rules",
        "SimilarityJudge": f"{_JUDGES}.rules",
        "annotate": "hf_mlalign.evaluation.annotation.run",
        "check_judge": f"{_JUDGES}.self_test",
        "crosslingual_consistency": f"{_METRICS}.consistency",
        "judge": f"{_JUDGES}.run",
        "judge_dataset": f"{_JUDGES}.run",
        "load_judge": f"{_JUDGES}.base",
        "load_metric": f"{_METRICS}.loading",
        "register_judge": f"{_JUDGES}.base",
        "run_judge": f"{_JUDGES}.base",
        "selection_diversity": f"{_METRICS}.diversity",
        "winrate_columns": f"{_JUDGES}.run",
        "winrate_leaderboard": f"{_METRICS}.leaderboard",
    },
)
"""`winrate` is not among them: it is the name of its module, `hf_mlalign.evaluation.metrics.winrate.winrate`."""
