"""The second half of the demo: preference pairs from the candidates of the pool, and DPO on a tiny model."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.core.errors import DataError, quiet
from hf_mlalign.data.languages import language_name
from hf_mlalign.models.encoder import BUNDLED

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

TEST_SIZE = 0.25
STEPS = 40
CURVE = "curve.json"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


@dataclass
class DPOOutcome:
    """Reward accuracy in [0, 1] on training and held-out prompts, before and after DPO, and the folder of the model."""

    before: dict[str, float]
    after: dict[str, float]
    folder: Path
    steps: int
    parameters: int


def pairs_from_pool(pool: Dataset, folder: Path, say: Callable[[str], None]) -> DatasetDict:
    """Build pairs from the candidates of the pool, save them, and print whether the author's grades agree."""
    from hf_mlalign.cli.tables import print_record
    from hf_mlalign.cmalign.build import build_pairs

    built = build_pairs(pool, folder, test_size=TEST_SIZE, overwrite=True)
    print_record(built.record)
    grades = {(r["prompt_id"], r["language"], r["sample"]): r["grade"] for r in pool.select_columns(
        ["prompt_id", "language", "sample", "grade"])}  # fmt: skip
    means = {}
    for side in ("chosen", "rejected"):
        means[side] = np.mean([
            grades[row["prompt_id"], row["language"], row[f"candidate_{side}"]]
            for part in built.dataset.values() for row in part
        ])  # fmt: skip
    say(f"   Mean grade by their author: chosen {means['chosen']:.2f}, rejected {means['rejected']:.2f} (of 0–3).")
    row = built.dataset["train"][0]
    say(f"   For example ({language_name(row['language'])}): {_last(row['prompt'])}")
    say(f"      chosen   {_last(row['chosen'])}\n      rejected {_last(row['rejected'])}")
    return built.dataset


def _last(messages: list[dict], limit: int = 90) -> str:
    text = " ".join(messages[-1]["content"].split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tiny_causal_lm(texts: Iterable[str], seed: int = 0):
    """A two-layer Llama with random weights, and its tokenizer: the bundled one, cut to the pieces that occur in
    `texts` (which does not change how these are split), with a chat template. It has never seen text: it shows that
    the steps work, not what DPO can achieve."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _cut_tokenizer(texts)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config), tokenizer


def _cut_tokenizer(texts: Iterable[str]):
    from tokenizers import Tokenizer, decoders
    from transformers import PreTrainedTokenizerFast

    path = BUNDLED / "encoder" / "tokenizer.json"
    used = {i for encoding in Tokenizer.from_file(str(path)).encode_batch(list(texts)) for i in encoding.ids}
    used |= set(Tokenizer.from_file(str(path)).encode("user:assistant:system:").ids)
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    unknown = content["model"]["unk_id"]
    kept = sorted(used | {0, unknown})
    content["model"] |= {"vocab": [vocabulary[i] for i in kept], "unk_id": kept.index(unknown)}
    pieces = Tokenizer.from_str(json.dumps(content))
    pieces.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", unk_token="<unk>",
        eos_token="</s>", bos_token="<s>",
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def check_dpo_folder(folder: Path) -> None:
    """DataError if `folder` holds anything but an earlier run of `tune`, which the next run replaces."""
    if folder.exists() and any(folder.iterdir()) and not (folder / CURVE).is_file():
        raise DataError(f"output: {str(folder)!r} holds something other than a demo. Name another folder.")


def tune(pairs: DatasetDict, folder: Path, steps: int = STEPS, seed: int = 0) -> DPOOutcome:
    """Train the tiny model with DPO for a few steps; save it to `folder` with its curve (`curve.json`)."""
    from transformers.trainer_callback import PrinterCallback

    from hf_mlalign.cmalign.trainer import CMAlignTrainer
    from hf_mlalign.cmalign.trainer_config import CMAlignConfig

    check_dpo_folder(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / CURVE).write_text("[]", encoding="utf-8")
    with quiet():
        columns = ("prompt", "chosen", "rejected", "reference_prompt", "reference")
        texts = [turn["content"] for part in pairs.values() for column in columns for turns in part[column]
                 for turn in turns or ()]  # fmt: skip
        model, tokenizer = tiny_causal_lm(texts, seed)
        reference = copy.deepcopy(model)
        model.save_pretrained(folder / "untuned")
        tokenizer.save_pretrained(folder / "untuned")
        config = CMAlignConfig(
            output_dir=str(folder / "tuned"), max_steps=steps, per_device_train_batch_size=8,
            per_device_eval_batch_size=16, learning_rate=5e-3, lr_scheduler_type="cosine", bf16=False, use_cpu=True,
            gradient_checkpointing=False, max_length=128, logging_steps=5, report_to=[], save_strategy="no", seed=seed,
            disable_tqdm=True, consistency_weight=0.1, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0],
        )  # fmt: skip
        train = pairs["train"].shuffle(seed=seed)
        splits = {"train": train.select(range(min(48, len(train)))), "test": pairs["test"]}
        trainer = CMAlignTrainer(model, reference, config, train_dataset=train, eval_dataset=splits,
                                 processing_class=tokenizer)  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        before = _accuracies(trainer)
        trainer.train()
        after = _accuracies(trainer)
        trainer.save_model()
        (folder / CURVE).write_text(json.dumps(trainer.state.log_history, indent=1), encoding="utf-8")
    return DPOOutcome(before, after, folder, steps, model.num_parameters())


def _accuracies(trainer) -> dict[str, float]:
    return {name: trainer.evaluate(part)["eval_rewards/accuracies"] for name, part in trainer.eval_dataset.items()}
