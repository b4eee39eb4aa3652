"""How near `score` comes to the card's limit with an encoder of XLM-R-large's size (560 M weights, random).

    python benchmarks/gpu_score_xlmr_large.py           # one GPU
    python benchmarks/gpu_score_xlmr_large.py --tiny    # a smoke test on a CPU

For float32 and bfloat16, and for batches that double until the memory is full (64 to 4,096 texts): tokens and texts per
second of the bare forward pass (token ids on the device, nothing else), and of `SentenceEncoder.encode`, which `score`
calls: tokenizing, sorting, padding and copying included. Both sides run `--rounds` times in turn on the same texts; the
ratio is what is lost to everything but the model. Beside it, the arithmetic of the weights (2 · weights outside the
embeddings · tokens) as TFLOP/s, to be held against the card's data sheet. Only the smoke test has been run, not on a
GPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import made_up_texts, report
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from hf_mlalign.models.encoder import BUNDLED, SentenceEncoder

LARGE = {"vocab_size": 250_002, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
         "intermediate_size": 4096}  # fmt: skip
TINY = {"vocab_size": 250_002, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64}  # fmt: skip
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build_encoder(folder: Path, size: dict[str, int], dtype: torch.dtype, seed: int = 0) -> str:
    """A sentence-transformers folder: XLM-R of this size with random weights, mean pooling, the bundled tokenizer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    torch.manual_seed(seed)
    config = XLMRobertaConfig(**size, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
                              eos_token_id=2)  # fmt: skip
    XLMRobertaModel(config).to(dtype).save_pretrained(folder / "base")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(BUNDLED / "encoder" / "tokenizer.json"),
                                        pad_token="<pad>", model_max_length=512)  # fmt: skip
    tokenizer.save_pretrained(folder / "base")
    transformer = Transformer(str(folder / "base"), model_kwargs={"dtype": dtype}, max_seq_length=512)
    pooling = Pooling(transformer.get_embedding_dimension())
    SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save(str(folder / "encoder"))
    return str(folder / "encoder")


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def bare_seconds(encoder: SentenceEncoder, tokens: np.ndarray, batch: int, device: str) -> float:
    """Seconds of the forward passes of all texts, token ids on the device before the clock starts."""
    model = encoder.model[0].auto_model
    parts = [torch.as_tensor(tokens[i : i + batch], device=device) for i in range(0, len(tokens), batch)]
    start = _now(device)
    with torch.inference_mode():
        for ids in parts:
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return _now(device) - start


def package_seconds(encoder: SentenceEncoder, texts: list[str], device: str) -> float:
    """Seconds of `encode`, the vectors back in memory."""
    start = _now(device)
    encoder.encode(texts)
    return _now(device) - start


def measure(encoder: SentenceEncoder, texts: list[str], batch: int, options: argparse.Namespace, device: str) -> dict:
    """Median seconds of both sides, tokens, and peak memory in GiB; raises torch's out-of-memory error."""
    encoder.batch_size = batch
    counts = [len(ids) for ids in encoder.model.tokenizer(texts, truncation=True, max_length=512)["input_ids"]]
    length = round(statistics.mean(counts))
    ids = np.random.default_rng(0).integers(5, options.size["vocab_size"], (len(texts), length))
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds: dict[str, list[float]] = {"bare": [], "package": []}
    bare_seconds(encoder, ids[:batch], batch, device)
    package_seconds(encoder, texts[:batch], device)
    for _ in range(options.rounds):
        seconds["bare"].append(bare_seconds(encoder, ids, batch, device))
        seconds["package"].append(package_seconds(encoder, texts, device))
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    found = {name: statistics.median(values) for name, values in seconds.items()}
    return {**found, "bare_tokens": ids.size, "package_tokens": sum(counts), "length": length, "peak": peak}


def run(name: str, options: argparse.Namespace, device: str) -> None:
    """All batch sizes of one number format, a line each."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = SentenceEncoder(build_encoder(Path(folder), options.size, DTYPES[name]), device=device)
        model = encoder.model[0].auto_model
        if model.dtype != DTYPES[name]:
            raise SystemExit(f"the encoder was loaded as {model.dtype}, not {name}")
        embeddings = sum(p.numel() for p in model.embeddings.parameters())
        weights = sum(p.numel() for p in model.parameters())
        texts = made_up_texts(options.texts, options.words)
        batch = options.first_batch
        while batch <= min(options.last_batch, options.texts):
            try:
                found = measure(encoder, texts, batch, options, device)
            except torch.cuda.OutOfMemoryError:
                report("score_xlmr_large", dtype=name, batch=batch, out_of_memory=True)
                return
            speeds = {side: found[f"{side}_tokens"] / found[side] for side in ("bare", "package")}
            report("score_xlmr_large", dtype=name, weights=weights, batch=batch, tokens_a_text=found["length"],
                   device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
                   bare_tokens_per_second=round(speeds["bare"]),
                   package_tokens_per_second=round(speeds["package"]),
                   package_texts_per_second=round(len(texts) / found["package"], 1),
                   ratio=round(speeds["package"] / speeds["bare"], 3),
                   bare_tflops=round(2 * (weights - embeddings) * speeds["bare"] / 1e12, 4),
                   peak_gib=found["peak"] and round(found["peak"], 2))  # fmt: skip
            batch *= 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a smoke test")
    parser.add_argument("--texts", type=int, default=8192)
    parser.add_argument("--words", type=int, default=96, help="pieces a text")
    parser.add_argument("--first-batch", type=int, default=64)
    parser.add_argument("--last-batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.tiny:
        options.texts, options.words, options.first_batch, options.last_batch, options.rounds = 32, 12, 8, 16, 1
    options.size = TINY if options.tiny else LARGE
    for name in DTYPES:
        run(name, options, "cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
