"""CM-Align and its relatives: from samples in many languages to preference pairs and a DPO-aligned model."""

from hf_mlalign import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "AnswerReward": "hf_mlalign.cmalign.rewards",
        "AutoReward": "hf_mlalign.cmalign.rewards",
        "BuildPairsOptions": "hf_mlalign.cmalign.options",
        "CMAlignConfig": "hf_mlalign.cmalign.trainer_config",
        "CMAlignPreferenceBuilder": "hf_mlalign.cmalign.builder",
        "CMAlignTrainer": "hf_mlalign.cmalign.trainer",
        "DataCollatorForCMAlign": "hf_mlalign.cmalign.trainer",
        "EmbeddingReward": "hf_mlalign.cmalign.rewards",
        "Finding": "hf_mlalign.cmalign.lint",
        "Findings": "hf_mlalign.cmalign.lint",
        "FirstEnglishReward": "hf_mlalign.cmalign.rewards",
        "HiddenStateReward": "hf_mlalign.cmalign.model_rewards",
        "ImplicitReward": "hf_mlalign.cmalign.model_rewards",
        "LengthReward": "hf_mlalign.cmalign.rewards",
        "LintOptions": "hf_mlalign.cmalign.options",
        "PairOptions": "hf_mlalign.cmalign.options",
        "PairResult": "hf_mlalign.cmalign.pairs",
        "RandomReward": "hf_mlalign.cmalign.rewards",
        "Reward": "hf_mlalign.cmalign.rewards",
        "Samples": "hf_mlalign.cmalign.samples",
        "TranslationReward": "hf_mlalign.cmalign.model_rewards",
        "VoteReward": "hf_mlalign.cmalign.rewards",
        "build_pairs": "hf_mlalign.cmalign.build",
        "lint_preferences": "hf_mlalign.cmalign.lint",
        "load_reward": "hf_mlalign.cmalign.rewards",
        "read_samples": "hf_mlalign.cmalign.samples",
        "register_policy": "hf_mlalign.cmalign.pairs",
        "register_reward": "hf_mlalign.cmalign.rewards",
    },
)
