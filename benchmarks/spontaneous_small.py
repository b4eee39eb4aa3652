"""Spontaneous multilingual alignment at small scale: a tiny multilingual LM made from scratch, taught three tasks in
English, tuned by LoRA on question translation from two languages; measured in 20 languages before and after.

    python benchmarks/spontaneous_small.py DATA_FOLDER --folder small [--docs docs] [--smoke]

Every stage is kept in --folder and is not repeated: a killed run continues where it stopped. With --seeds 1 it took
75 minutes on two cores that other work shared. --smoke runs all of it in some minutes with a model that has learned
next to nothing.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from spontaneous_small_data import read_corpus, translation_questions
from spontaneous_small_measure import LIMITS, Measures, measure, perplexities
from spontaneous_small_model import Size, blocks, pretrain
from spontaneous_small_report import write_report
from spontaneous_small_tasks import english_rows, tune_on_english

from hf_mlalign.core.files import write_atomic

if TYPE_CHECKING:
    from datasets import Dataset

SEEN = ("es", "sw")
VARIANTS = ("translation", "shuffled", "copy")
"""Training rows: the questions and their translations; each question with another one's translation; the English
questions copied. The same number of rows, steps and settings: what the first moves and the others do not is due to
translation."""
QUESTIONS = 1000
SMOKE = Size(vocabulary=4000, hidden=64, layers=2, heads=2, feed_forward=128, batch=4, steps=30, warmup=5,
             decay=10)  # fmt: skip
LORA = ("--lora_r", "16", "--lora_alpha", "32", "--learning_rate", "2e-3", "--num_train_epochs", "1",
        "--per_device_train_batch_size", "16", "--gradient_accumulation_steps", "1", "--max_length", "320")  # fmt: skip
"""What differs from the authors' settings, the default of `hf_mlalign.launch.sft`. Their learning rate is 5e-5, for
models a thousand times as large and ten times the steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the multilingual Parquet files")
    parser.add_argument("--folder", type=Path, required=True, help="where the stages are kept")
    parser.add_argument("--docs", type=Path, help="the docs folder: update tables and pictures of the page")
    parser.add_argument("--seeds", type=int, default=3, help="of the LoRA runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="the whole of it with next to no training")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    limits = dict.fromkeys(LIMITS, 4) if args.smoke else LIMITS
    base, tokenizer = base_model(args.data, args.folder, SMOKE if args.smoke else Size(), args.smoke)
    before = measure(base, tokenizer, args.data, args.folder / "before", limits)
    after: dict[str, list[Measures]] = {variant: [] for variant in VARIANTS}
    for seed in range(args.seeds):
        for variant in VARIANTS:
            adapter = train_adapter(args.data, args.folder, variant, seed, 32 if args.smoke else QUESTIONS)
            folder = args.folder / f"after-{variant}-{seed}"
            tuned = with_adapter(args.folder / "base", adapter)
            after[variant].append(measure(tuned, tokenizer, args.data, folder, limits, before.geometry))
            write_report(args.folder, before, after, SEEN, args.docs)


def base_model(data: Path, folder: Path, size: Size, smoke: bool = False):
    """The model that question translation starts from, and its tokenizer: pretrained, then tuned on English tasks."""
    corpus = read_corpus(data)
    model, tokenizer = pretrain(corpus, folder, size)
    rows = english_rows(data, size.seed)[: 64 if smoke else None]
    text, _ = blocks(corpus, tokenizer, replace(size, steps=len(rows) // 32 + 1, batch=1, seed=size.seed + 1))
    perplexities(model, tokenizer, data, corpus.texts, folder / "perplexities.json")
    return tune_on_english(model, tokenizer, folder / "base", rows, text, seed=size.seed).eval(), tokenizer


def train_adapter(data: Path, folder: Path, variant: str, seed: int, questions: int) -> Path:
    """LoRA on rows of one variant by `hf_mlalign.launch.sft`; the adapter's folder."""
    from hf_mlalign.launch import sft

    adapter = folder / f"adapter-{variant}-{seed}"
    if (adapter / "finished.json").is_file():
        return adapter
    rows = training_rows(data, variant, seed, questions)
    source = folder / f"rows-{variant}-{seed}.parquet"
    rows.to_parquet(source)
    code = sft.main([
        "--dataset", str(source), "--model_name_or_path", str(folder / "base"), "--output_dir", str(adapter), *LORA,
        "--seed", str(seed), "--use_cpu", "true", "--bf16", "true", "--gradient_checkpointing", "false",
        "--report_to", "none", "--save_strategy", "no", "--logging_steps", "20",
    ])  # fmt: skip
    assert not code, f"sft ended with {code}"
    write_atomic(adapter / "finished.json", json.dumps({"rows": len(rows)}))
    return adapter


def training_rows(data: Path, variant: str, seed: int, questions: int) -> Dataset:
    """Question-translation rows of `questions` questions per language, or a control made from the same rows."""
    from datasets import Dataset

    from hf_mlalign.spontaneous.questions.builder import QuestionTranslationBuilder

    table = Dataset.from_pandas(translation_questions(data, SEEN), preserve_index=False)
    rows = QuestionTranslationBuilder(languages=SEEN, n_per_language=questions, seed=seed).build(table)
    if variant == "shuffled":
        return shifted(rows)
    return rows.map(_copy) if variant == "copy" else rows


def shifted(rows: Dataset) -> Dataset:
    """Each prompt with the completion of the next row, the last with the first one's.

    >>> from datasets import Dataset
    >>> shifted(Dataset.from_dict({"prompt": ["a", "b"], "completion": ["A", "B"]}))["completion"][:]
    ['B', 'A']
    """
    texts = rows["completion"][:]
    return rows.remove_columns("completion").add_column("completion", [*texts[1:], texts[0]])


def _copy(row: dict) -> dict:
    return {"prompt": f"{row['completion']}\nTranslate the input from English to English:\n", "language": "en"}


def with_adapter(base: Path, adapter: Path):
    """The base model with the adapter merged."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload().eval()


if __name__ == "__main__":
    main()
