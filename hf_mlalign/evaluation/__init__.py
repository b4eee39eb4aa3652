"""Win rates and metrics in many languages, judges, and people as judges."""

from hf_mlalign import lazy_names

_NAMES = {
    "AnnotateOptions": "hf_mlalign.evaluation.options",
    "HumanJudge": "hf_mlalign.evaluation.annotation.human",
    "JudgeOptions": "hf_mlalign.evaluation.options",
    "Judgements": "hf_mlalign.evaluation.judges.base",
    "JudgementStore": "hf_mlalign.evaluation.annotation.store",
    "LanguageJudge": "hf_mlalign.evaluation.judges.rules",
    "LengthJudge": "hf_mlalign.evaluation.judges.rules",
    "LLMJudge": "hf_mlalign.evaluation.judges.llm",
    "RewardModelJudge": "hf_mlalign.evaluation.judges.reward_model",
    "ScoreJudge": "hf_mlalign.evaluation.judges.rules",
    "SimilarityJudge": "hf_mlalign.evaluation.judges.rules",
    "Study": "hf_mlalign.evaluation.annotation.study",
    "Verdict": "hf_mlalign.evaluation.annotation.study",
    "annotate": "hf_mlalign.evaluation.annotation.run",
    "check_judge": "hf_mlalign.evaluation.judges.self_test",
    "crosslingual_consistency": "hf_mlalign.evaluation.metrics.consistency",
    "install_metrics": "hf_mlalign.evaluation.metrics.loading",
    "judge": "hf_mlalign.evaluation.judges.run",
    "judge_dataset": "hf_mlalign.evaluation.judges.run",
    "load_judge": "hf_mlalign.evaluation.judges.base",
    "load_metric": "hf_mlalign.evaluation.metrics.loading",
    "read_items": "hf_mlalign.evaluation.annotation.items",
    "register_judge": "hf_mlalign.evaluation.judges.base",
    "run_judge": "hf_mlalign.evaluation.judges.base",
    "selection_diversity": "hf_mlalign.evaluation.metrics.diversity",
    "winrate": "hf_mlalign.evaluation.metrics.winrate",
    "winrate_columns": "hf_mlalign.evaluation.judges.run",
    "winrate_leaderboard": "hf_mlalign.evaluation.metrics.leaderboard",
}
__getattr__, __dir__, __all__ = lazy_names(__name__, _NAMES)
