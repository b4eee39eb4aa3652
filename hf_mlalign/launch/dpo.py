"""DPO, with or without the consistency term, on pairs from `CMAlignPreferenceBuilder`: a complete training script. ::

    accelerate launch --config_file $(python -m hf_mlalign.launch.configs multi_gpu) --num_processes 4 \\
        -m hf_mlalign.launch.dpo --world_size 4 --dataset pairs/ --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct \\
        --output_dir tuned --loss_type sigmoid sft --loss_weights 1.0 1.0 --consistency_weight 0.1 \\
        --learning_rate 1e-6 --lr_scheduler_type cosine --num_train_epochs 1 --max_length 3072 \\
        --per_device_train_batch_size 4 --gradient_accumulation_steps 4 \\
        --eval_prompts 0.02 --eval_strategy steps --eval_steps 100

LoRA: --use_peft --lora_r 16. Settings from a YAML file: --config settings.yaml. Resume: --resume_from_checkpoint auto.
Upload: --push_to_hub --hub_model_id user/name. All options: --help. They come from TRL's `ModelConfig`, from
`CMAlignConfig` (TRL's `DPOConfig` with `consistency_weight`, `consistency_layer` and `weight_by_margin`), and from
`DPOScriptArguments` here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.processes import check_world_size
from hf_mlalign.launch.common import (
    DataArguments,
    check_evaluation,
    checkpoint_of,
    finish,
    load_data,
    load_tokenizer,
    model_options,
    parse_options,
    recorded,
    run_script,
    train_and_save,
)
from hf_mlalign.launch.lora import lora_config

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import ModelConfig

    from hf_mlalign.cmalign.trainer import CMAlignTrainer
    from hf_mlalign.cmalign.trainer_config import CMAlignConfig


@dataclass
class DPOScriptArguments(DataArguments):
    """Preference pairs for training and evaluation."""


def parse_dpo(arguments: Sequence[str] | None = None) -> tuple[DPOScriptArguments, CMAlignConfig, ModelConfig]:
    """Script, training and model settings from the command line and the YAML file of --config."""
    from trl import ModelConfig, TrlParser

    from hf_mlalign.cmalign.trainer_config import CMAlignConfig

    parser = TrlParser((DPOScriptArguments, CMAlignConfig, ModelConfig), prog="python -m hf_mlalign.launch.dpo")
    return parse_options(parser, arguments)


def train_dpo(script: DPOScriptArguments, training: CMAlignConfig, model: ModelConfig) -> CMAlignTrainer:
    """Train, evaluate, save, and push if requested; returns the trainer.

    Raises:
        DataError: another number of processes than requested, no dataset or model, evaluation without data, a tokenizer
            without a chat template for conversational pairs, or a dataset that cannot be trained on.
    """
    check_world_size(script.world_size, training.world_size)
    train_set, eval_set = load_data(script, training.seed)
    check_evaluation(training, eval_set)
    checkpoint = checkpoint_of(training)
    trainer = build_dpo_trainer(training, model, train_set, eval_set)
    with recorded(trainer, "dpo", script, model, {"rows": len(train_set)}):
        train_and_save(trainer, training, script.dataset, eval_set is not None, checkpoint)
    finish(trainer)
    return trainer


def build_dpo_trainer(training: CMAlignConfig, model: ModelConfig, train_set: Dataset, eval_set: Any) -> CMAlignTrainer:
    """The trainer for a named model, after checking its tokenizer against the data."""
    from trl import get_quantization_config

    from hf_mlalign.cmalign.trainer import CMAlignTrainer

    tokenizer = load_tokenizer(training, model)
    name = model.model_name_or_path
    if not tokenizer.chat_template and not isinstance(next(iter(train_set), {}).get("chosen", ""), str):
        raise DataError(
            f"model_name_or_path: the tokenizer of {name!r} has no chat template for conversational pairs. "
            "Set one, or build the pairs with hf-mlalign build-pairs --output-format standard."
        )
    adapter, _ = lora_config(model, False, training.trust_remote_code)
    training.model_init_kwargs = model_options(training, model)
    return CMAlignTrainer(
        name, args=training, train_dataset=train_set, eval_dataset=eval_set, processing_class=tokenizer,
        quantization_config=get_quantization_config(model), peft_config=adapter,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and train; returns the exit code, 2 for input that cannot be used."""
    return run_script(train_dpo, parse_dpo, arguments)


if __name__ == "__main__":
    sys.exit(main())
