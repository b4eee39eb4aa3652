"""Supervised fine-tuning: question translation with LoRA on q and v (default), or a curated set, full or LoRA. ::

    hf-mlalign questions parallel.parquet --languages de,zh --test-size 0.02 --output questions
    accelerate launch --config_file $(python -m hf_mlalign.launch.configs multi_gpu) --num_processes 4 \\
        -m hf_mlalign.launch.sft --world_size 4 --dataset questions --dataset_test_split test \\
        --model_name_or_path mistralai/Mistral-7B-v0.1 --output_dir tuned \\
        --eval_strategy steps --eval_steps 100 --merge

M-DaQ: --recipe mdaq --dataset curated (all weights; with LoRA: --use_peft). TRL's own defaults: --recipe none. Flags
and settings in the YAML file of --config override the recipe. Packing: --packing. Resume: --resume_from_checkpoint
auto. Upload of the adapter: --push_to_hub --hub_model_id user/name. All options: --help. They come from TRL's
`ModelConfig` and `SFTConfig`, and from `SFTScriptArguments` here. Without a GPU add --use_cpu --bf16 False.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.processes import check_world_size
from hf_mlalign.launch.common import (
    DataArguments,
    argument,
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
from hf_mlalign.launch.lora import lora_config, merge_adapter
from hf_mlalign.launch.packing import check_packing
from hf_mlalign.launch.recipes import QUESTION_TRANSLATION, accumulation, given_options, recipe_defaults
from hf_mlalign.launch.rows import to_training_rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl import ModelConfig, SFTConfig, SFTTrainer


@dataclass
class SFTScriptArguments(DataArguments):
    """Data for training and evaluation, its form, and what happens to the adapter."""

    recipe: str = argument(QUESTION_TRANSLATION, "Settings of a paper: question_translation, mdaq or none.")
    column_mapping: list[str] | None = argument(
        None, "Your columns and their roles, e.g. question=instruction answer=response."
    )
    row_format: str = argument(
        "auto", "conversational (messages), standard (texts), or auto: messages if there is a chat template."
    )
    total_batch_size: int | None = argument(
        None, "Rows per update over all processes; sets gradient_accumulation_steps."
    )
    merge: bool = argument(False, "After training, also save adapter and model as one model.")
    merged_dir: str | None = argument(None, 'Folder of the merged model (default: the output folder plus "-merged").')


def parse_sft(arguments: Sequence[str] | None = None) -> tuple[SFTScriptArguments, SFTConfig, ModelConfig]:
    """Script, training and model settings: the recipe, overridden by the YAML file of --config and by the flags."""
    from trl import ModelConfig, SFTConfig, TrlParser

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    recipe, given = given_options(arguments)
    parser = TrlParser((SFTScriptArguments, SFTConfig, ModelConfig), prog="python -m hf_mlalign.launch.sft")
    parser.set_defaults_with_config(**recipe_defaults(recipe, given))
    script, training, model = parse_options(parser, arguments)
    if script.total_batch_size is not None:
        if "gradient_accumulation_steps" in given:
            raise DataError("total_batch_size and gradient_accumulation_steps: give only one of them.")
        training.gradient_accumulation_steps = accumulation(
            script.total_batch_size, training.per_device_train_batch_size, training.world_size
        )
    if script.merge and not model.use_peft:
        raise DataError("merge: there is no adapter to merge in full training. Leave it out, or add --use_peft.")
    return script, training, model


def train_sft(script: SFTScriptArguments, training: SFTConfig, model: ModelConfig) -> SFTTrainer:
    """Train, evaluate, save, and merge and push if requested; returns the trainer.

    Raises:
        DataError: another number of processes than requested, no dataset or model, evaluation without data, a dataset
            that cannot be trained on, a model whose query and value projections are not known, or packing in a model
            that does not separate packed examples.
    """
    check_world_size(script.world_size, training.world_size)
    tokenizer = load_tokenizer(training, model)
    train_set, eval_set = load_rows(script, training.seed, bool(tokenizer.chat_template or training.chat_template_path))
    check_evaluation(training, eval_set)
    checkpoint = checkpoint_of(training)
    adapter, note = lora_config(model, script.recipe == QUESTION_TRANSLATION, training.trust_remote_code)
    trainer = build_sft_trainer(training, model, train_set, eval_set, tokenizer, adapter)
    if note:
        trainer.accelerator.print(note)
    described = describe_training(trainer, script, train_set)
    if described["cut"] or described["dropped"]:
        trainer.accelerator.print(
            f"max_length: of {described['rows']:,} rows, {described['cut']:,} fill all {training.max_length} tokens "
            f"and most of these were cut; {described['dropped']:,} were dropped, as their prompts alone are that long."
        )
    with recorded(trainer, "sft", script, model, described):
        train_and_save(trainer, training, script.dataset, eval_set is not None, checkpoint)
    if script.merge and trainer.accelerator.is_main_process:
        merged = script.merged_dir or f"{Path(training.output_dir)}-merged"
        options = {"dtype": model.dtype or "float32", "trust_remote_code": training.trust_remote_code}
        merge_adapter(training.output_dir, merged, **options)
        trainer.accelerator.print(f"Merged model in {merged}.")
    finish(trainer)
    return trainer


def load_rows(
    script: SFTScriptArguments, seed: int, has_template: bool
) -> tuple[Dataset, Dataset | dict[str, Dataset] | None]:
    """Training and evaluation sets as prompt/completion rows; the latter per language unless switched off."""
    pairs = [pair.partition("=") for pair in script.column_mapping or []]
    if bad := ["".join(pair) for pair in pairs if not all(pair)]:
        raise DataError(f"column_mapping: {bad[0]!r} is not of the form column=role.")
    mapping = {column: role for column, _, role in pairs}
    return load_data(
        script, seed, "training rows", lambda ds: to_training_rows(ds, mapping, script.row_format, has_template)
    )


def build_sft_trainer(
    training: SFTConfig,
    model: ModelConfig,
    train_set: Dataset,
    eval_set: Any,
    tokenizer: PreTrainedTokenizerBase,
    adapter: Any,
) -> SFTTrainer:
    """The trainer for a named model; packing is first tried on the model.

    Raises:
        DataError: no row is left after truncation, or packing that mixes examples.
    """
    from trl import SFTTrainer, get_quantization_config

    training.model_init_kwargs = model_options(training, model)
    trainer = SFTTrainer(
        model.model_name_or_path, args=training, train_dataset=train_set, eval_dataset=eval_set,
        processing_class=tokenizer, quantization_config=get_quantization_config(model), peft_config=adapter,
    )  # fmt: skip
    if not len(trainer.train_dataset):
        raise DataError(
            f"max_length: every prompt has {training.max_length} tokens or more, so no row is left. Raise --max_length."
        )
    whole = trainer.accelerator.is_main_process and not trainer.is_deepspeed_enabled
    if (training.packing or training.padding_free) and whole:
        check_packing(trainer.model, training.packing, training.packing_strategy)
    return trainer


def describe_training(trainer: SFTTrainer, script: SFTScriptArguments, train_set: Dataset) -> dict[str, Any]:
    """Description for the record: recipe, rows per language, rows cut and dropped for their length, sequences (several
    rows each if packed), tokens, tokens in the loss, trained parameters."""
    import pyarrow.compute as pc

    prepared = trainer.train_dataset
    packed = "seq_lengths" in prepared.column_names
    lengths = list(chain.from_iterable(prepared["seq_lengths"])) if packed else list(map(len, prepared["input_ids"]))
    data, args = trainer.train_dataset.data, trainer.args
    labels = [chunk.flatten() for chunk in data.column("labels").chunks]
    languages = train_set["language"][:] if "language" in train_set.column_names else []
    sizes = [(p.numel(), p.requires_grad) for p in trainer.model.parameters()]
    targets = [sorted(c.target_modules or []) for c in getattr(trainer.model, "peft_config", {}).values()]
    return {
        "recipe": script.recipe, "rows": len(train_set), "sequences": len(trainer.train_dataset),
        "rows_by_language": {code: languages.count(code) for code in sorted(set(languages))},
        "cut": sum(n == trainer.args.max_length for n in lengths), "dropped": len(train_set) - len(lengths),
        "tokens": sum(map(len, labels)), "tokens_in_loss": sum(pc.sum(pc.not_equal(x, -100)).as_py() for x in labels),
        "rows_per_update": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "parameters": sum(n for n, _ in sizes), "trained_parameters": sum(n for n, grad in sizes if grad),
        "lora_target_modules": targets[0] if targets else None,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and train; returns the exit code, 2 for input that cannot be used."""
    return run_script(train_sft, parse_sft, arguments)


if __name__ == "__main__":
    sys.exit(main())
