"""What the consistency term costs: a step of a 1.2 B model with DPOTrainer and with CMAlignTrainer, λ = 0 and 0.1.

    python benchmarks/gpu_dpo_1b.py                 # one GPU; model built from a config, random weights
    python benchmarks/gpu_dpo_1b.py --size tiny     # a smoke test on a CPU

The three sides run one after the other, `--rounds` times in turn, each on the same pairs from the same weights.
Reported: median seconds per step, pairs per second, peak GPU memory. Only the smoke test has been run, not on a GPU.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time

import numpy as np
import torch
from common import report
from datasets import Dataset, disable_progress_bars
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import DPOConfig, DPOTrainer

from hf_mlalign.cmalign.trainer import CMAlignTrainer
from hf_mlalign.cmalign.trainer_config import CMAlignConfig

SIZES = {
    "1b": {"vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8},
    "tiny": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2},
}  # fmt: skip
TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"


class StepTimes(TrainerCallback):
    """Seconds of every optimiser step, the device's work included."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_step_begin(self, *_, **__):
        self._start = _now()

    def on_step_end(self, *_, **__):
        self.seconds.append(_now() - self._start)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {t: i for i, t in enumerate(("<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = TEMPLATE
    return fast


def build_pairs(n: int, tokens: int, seed: int = 0) -> Dataset:
    """n pairs whose answers and references have about `tokens` bytes, prompts an eighth of that."""
    rng = np.random.default_rng(seed)

    def text(length: int) -> str:
        return "".join(map(chr, rng.integers(97, 123, length)))

    def turn(role: str, length: int) -> list[dict[str, str]]:
        return [{"role": role, "content": text(length)}]

    rows = [
        {
            "prompt": turn("user", tokens // 8),
            "chosen": turn("assistant", tokens),
            "rejected": turn("assistant", tokens),
            "reference_prompt": turn("user", tokens // 8),
            "reference": turn("assistant", tokens),
            "language": ("de", "ja")[i % 2],
            "margin": 0.5,
        }
        for i in range(n)
    ]
    return Dataset.from_list(rows)


def run_side(name: str, model: LlamaForCausalLM, pairs: Dataset, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step after two warm-up steps, and peak memory in GiB."""
    gpu = torch.cuda.is_available()
    shared = {
        "max_steps": options.steps + 2, "per_device_train_batch_size": options.batch, "max_length": 2 * options.tokens,
        "bf16": gpu, "use_cpu": not gpu, "report_to": "none", "save_strategy": "no", "logging_strategy": "no",
        "disable_tqdm": True, "gradient_checkpointing": options.checkpointing,
    }  # fmt: skip
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        if name == "DPOTrainer":
            kind, config = DPOTrainer, DPOConfig(folder, **shared)
        else:
            kind, config = CMAlignTrainer, CMAlignConfig(folder, consistency_weight=float(name.split("=")[1]), **shared)
        policy, reference = copy.deepcopy(model), copy.deepcopy(model)
        if gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        kind(
            model=policy, ref_model=reference, args=config, train_dataset=pairs, processing_class=build_tokenizer(),
            callbacks=[times],
        ).train()  # fmt: skip
    peak = torch.cuda.max_memory_allocated() / 2**30 if gpu else float("nan")
    return {"seconds": statistics.median(times.seconds[2:]), "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="1b")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpointing", action="store_true")
    options = parser.parse_args()
    disable_progress_bars()
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES[options.size], max_position_embeddings=8192, pad_token_id=0,
                                         bos_token_id=1, eos_token_id=2, tie_word_embeddings=True))  # fmt: skip
    pairs = build_pairs(options.batch * (options.steps + 2), options.tokens)
    sides = ("DPOTrainer", "CMAlign λ=0", "CMAlign λ=0.1")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name in sides:
            found[name].append(run_side(name, model, pairs, options))
    base = statistics.median(run["seconds"] for run in found["DPOTrainer"])
    for name, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        report("dpo_step", side=name, parameters=model.num_parameters(), batch=options.batch, tokens=options.tokens,
               device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
               seconds=round(seconds, 4), pairs_per_second=round(options.batch / seconds, 2),
               ratio=round(seconds / base, 3), peak_gib=round(max(run["peak"] for run in runs), 2))  # fmt: skip


if __name__ == "__main__":
    main()
