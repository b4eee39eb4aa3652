"""DPO, with or without the consistency term, on pairs from `CMAlignPreferenceBuilder`: a complete training script.

    accelerate launch --config_file $(python -m hf_mlalign.launch.configs multi_gpu) --num_processes 4 \\
        -m hf_mlalign.launch.dpo --world_size 4 --dataset pairs/ --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct \\
        --output_dir tuned --loss_type sigmoid sft --loss_weights 1.0 1.0 --consistency_weight 0.1 \\
        --learning_rate 1e-6 --lr_scheduler_type cosine --num_train_epochs 1 --max_length 3072 \\
        --per_device_train_batch_size 4 --gradient_accumulation_steps 4 \\
        --eval_prompts 0.02 --eval_strategy steps --eval_steps 100

LoRA: --use_peft --lora_r 16. Settings from a YAML file: --config settings.yaml. Resume: --resume_from_checkpoint auto.
Upload: --push_to_hub --hub_model_id user/name. All options: --help. They are those of TRL's `ModelConfig`, of
`CMAlignConfig` (TRL's `DPOConfig` with `consistency_weight`, `consistency_layer` and `weight_by_margin`), and of
`DPOScriptArguments` here.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.errors import DataError, listed

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import ModelConfig

    from hf_mlalign.cmalign.trainer import CMAlignTrainer
    from hf_mlalign.cmalign.trainer_config import CMAlignConfig


@dataclass
class DPOScriptArguments:
    """What to train on and what to evaluate on.

    Args:
        dataset: preference pairs: a file, a folder or a Hub dataset, see `hf_mlalign.sources.load_source`.
        dataset_config: its configuration.
        dataset_train_split: its split to train on.
        dataset_test_split: its split to evaluate on.
        eval_prompts: without a test split, the share of prompts (in all their languages) that is held out for
            evaluation (0: none, *ours*).
        eval_per_language: evaluate every language by itself (*ours*).
        languages: train on these languages only.
        world_size: how many processes must be running; the script stops if there are others (a launcher may start one
            process where several were asked for, and say nothing).
    """

    dataset: str | None = field(default=None, metadata={"help": "File, folder or Hub dataset with preference pairs."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    dataset_test_split: str | None = field(default=None, metadata={"help": "Split to evaluate on."})
    eval_prompts: float = field(default=0.0, metadata={"help": "Share of prompts held out, without a test split."})
    eval_per_language: bool = field(default=True, metadata={"help": "Evaluate every language by itself."})
    languages: list[str] | None = field(default=None, metadata={"help": "Train on these languages only."})
    world_size: int | None = field(default=None, metadata={"help": "Stop unless so many processes are running."})

    def __post_init__(self):
        if not 0 <= self.eval_prompts < 1:
            raise DataError(f"eval_prompts: {self.eval_prompts} is no share in [0, 1).")
        if self.eval_prompts and self.dataset_test_split:
            raise DataError("eval_prompts and dataset_test_split: give one of them.")


def parse(arguments: Sequence[str] | None = None) -> tuple[DPOScriptArguments, CMAlignConfig, ModelConfig]:
    """Script, training and model settings from the command line and the YAML file of --config."""
    from trl import ModelConfig, TrlParser

    from hf_mlalign.cmalign.trainer_config import CMAlignConfig

    parser = TrlParser((DPOScriptArguments, CMAlignConfig, ModelConfig), prog="python -m hf_mlalign.launch.dpo")
    return parser.parse_args_and_config(arguments, fail_with_unknown_args=True)


def train(script: DPOScriptArguments, training: CMAlignConfig, model: ModelConfig) -> CMAlignTrainer:
    """Train, evaluate, save, and push where asked for; returns the trainer.

    Raises:
        DataError: another number of processes than asked for, no dataset or model, evaluation without data, a tokenizer
            without a chat template for conversational pairs, or a dataset that cannot be trained on.
    """
    check_world_size(script.world_size, training.world_size)
    train_set, eval_set = load_data(script, training.seed)
    if training.eval_strategy != "no" and eval_set is None:
        raise DataError("eval_strategy: there is nothing to evaluate on. Give --dataset_test_split or --eval_prompts.")
    trainer = build_trainer(training, model, train_set, eval_set)
    checkpoint = find_checkpoint(training.resume_from_checkpoint, training.output_dir)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    if eval_set is not None:
        trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_model(training.output_dir)
    trainer.save_state()
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=hub_name(script.dataset))
    trainer.accelerator.print(f"Saved to {training.output_dir}.")
    finish(trainer)
    return trainer


def finish(trainer: CMAlignTrainer) -> None:
    """Leave the process group together, the distributed wrapper of the model taken apart first.

    A wrapper that outlives its process group can hang in its destructor.
    """
    trainer.accelerator.wait_for_everyone()
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()
    gc.collect()
    if hasattr(trainer, "end"):
        trainer.end()


def hub_name(dataset: str) -> str | None:
    """The name of a Hub dataset for the model card; `None` for a local path or pattern."""
    return None if Path(dataset).exists() or any(ch in dataset for ch in "*?[") else dataset


def check_world_size(wanted: int | None, running: int) -> None:
    """DataError if other than `wanted` processes are running."""
    if wanted is not None and wanted != running:
        raise DataError(
            f"world_size: {wanted} processes were asked for, {running} are running. Launch with accelerate's "
            "--num_processes and a config of hf_mlalign.launch.configs (MULTI_CPU starts a single process)."
        )


def load_data(script: DPOScriptArguments, seed: int) -> tuple[Dataset, Dataset | dict[str, Dataset] | None]:
    """Training and evaluation sets; the latter by language unless switched off."""
    from hf_mlalign.sources import load_source

    if not script.dataset:
        raise DataError("dataset: name a file, a folder or a Hub dataset with preference pairs.")
    ds = load_source(script.dataset, script.dataset_train_split, script.dataset_config)
    held_out = None
    if script.dataset_test_split:
        held_out = load_source(script.dataset, script.dataset_test_split, script.dataset_config)
    elif script.eval_prompts:
        ds, held_out = hold_out_prompts(ds, script.eval_prompts, seed)
    if script.languages:
        ds = only_languages(ds, script.languages)
        held_out = None if held_out is None else only_languages(held_out, script.languages)
    if held_out is not None and script.eval_per_language and "language" in held_out.column_names:
        held_out = by_language(held_out)
    return ds, held_out


def hold_out_prompts(ds: Dataset, share: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """(rest, held out): about `share` of the prompts, at least one, each with all its languages and pairs.

    A prompt is known by `prompt_id`, without this column by its text.
    """
    column = "prompt_id" if "prompt_id" in ds.column_names else "prompt"
    if column not in ds.column_names:
        raise DataError(f"eval_prompts: no column prompt_id or prompt among {listed(ds.column_names)}.")
    keys = [json.dumps(value, ensure_ascii=False, sort_keys=True) for value in ds[column]]
    distinct = sorted(set(keys))
    if len(distinct) < 2:
        raise DataError("eval_prompts: a single prompt cannot be split. Switch the evaluation off.")
    count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
    chosen = {distinct[i] for i in np.random.default_rng(seed).permutation(len(distinct))[:count]}
    held = np.array([key in chosen for key in keys])
    return ds.select(np.flatnonzero(~held)), ds.select(np.flatnonzero(held))


def by_language(ds: Dataset) -> dict[str, Dataset]:
    """The rows of each language, languages sorted."""
    languages = _languages(ds)
    return {name: ds.select(np.flatnonzero(languages == name)) for name in sorted(set(languages))}


def _languages(ds: Dataset) -> np.ndarray:
    languages = np.array(ds["language"], dtype=object)
    if len(missing := np.flatnonzero(languages == None)):  # noqa: E711  (elementwise)
        raise DataError(f"Column 'language', row {missing[0]}: missing. Fill it in or drop such rows.")
    return languages


def only_languages(ds: Dataset, wanted: Sequence[str]) -> Dataset:
    """The rows in these languages (ISO 639-1 codes or English names); DataError if one has none."""
    from hf_mlalign.languages import check_languages

    if "language" not in ds.column_names:
        raise DataError(f"languages: no column language among {listed(ds.column_names)}.")
    codes = check_languages(wanted)
    languages = _languages(ds)
    if absent := [code for code in codes if code not in set(languages)]:
        raise DataError(f"languages: no pairs in {listed(absent)}. There are: {listed(sorted(set(languages)))}.")
    return ds.select(np.flatnonzero(np.isin(languages, codes)))


def build_trainer(training: CMAlignConfig, model: ModelConfig, train_set: Dataset, eval_set: Any) -> CMAlignTrainer:
    """The trainer on a model by name, its tokenizer checked against the data."""
    from transformers import AutoTokenizer
    from trl import get_peft_config, get_quantization_config

    from hf_mlalign.cmalign.trainer import CMAlignTrainer

    if not model.model_name_or_path:
        raise DataError("model_name_or_path: name the model to train.")
    name, trusted = model.model_name_or_path, {"trust_remote_code": training.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=model.model_revision, **trusted)
    except (OSError, ValueError) as error:
        raise DataError(f"model_name_or_path: cannot load {name!r}: {' '.join(str(error).split())[:300]}") from error
    if not tokenizer.chat_template and not isinstance(next(iter(train_set), {}).get("chosen", ""), str):
        raise DataError(
            f"model_name_or_path: the tokenizer of {name!r} has no chat template for conversational pairs. "
            'Set one, or build the pairs with output_format="standard".'
        )
    training.model_init_kwargs = {
        "revision": model.model_revision, "attn_implementation": model.attn_implementation, "dtype": model.dtype,
        **(training.model_init_kwargs or {}),
    }  # fmt: skip
    return CMAlignTrainer(
        name, args=training, train_dataset=train_set, eval_dataset=eval_set, processing_class=tokenizer,
        quantization_config=get_quantization_config(model), peft_config=get_peft_config(model),
    )  # fmt: skip


def find_checkpoint(wanted: str | None, output_dir: str) -> str | None:
    """The checkpoint to go on from: a folder as given; for "auto" or "true" the last one of `output_dir`, if any."""
    from transformers.trainer_utils import get_last_checkpoint

    if not wanted or wanted.lower() == "false":
        return None
    if wanted.lower() in ("auto", "true"):
        return get_last_checkpoint(output_dir) if Path(output_dir).is_dir() else None
    if not Path(wanted).is_dir():
        raise DataError(
            f"resume_from_checkpoint: no folder {wanted!r}. Use auto for the last one of the output folder."
        )
    return wanted


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and train; returns the exit code, 2 for input that cannot be used."""
    try:
        train(*parse(arguments))
    except DataError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
