"""The tiny multilingual causal LM of the small-scale experiment: tokenizer, pretraining that continues after a kill,
perplexity against a unigram model of each language."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from spontaneous_small_data import Corpus, Stream, fold

from hf_mlalign.core.files import write_atomic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Size:
    """The model and its pretraining."""

    vocabulary: int = 16_000
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 704
    block: int = 256
    batch: int = 12
    steps: int = 1100
    warmup: int = 60
    decay: int = 300
    learning_rate: float = 4e-3
    matrix_learning_rate: float = 0.02
    seed: int = 0


def train_tokenizer(corpus: Corpus, vocabulary: int, seed: int = 0, chars: int = 6_000_000) -> PreTrainedTokenizerFast:
    """BPE over words, digits, punctuation and line ends, on a sample drawn like the pretraining stream.

    A text's tokens do not depend on what precedes it after a space, a line end or a punctuation mark, so prompts that
    end in one end on a token boundary.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\n"), "isolated"), pre_tokenizers.Metaspace(prepend_scheme="never"),
        pre_tokenizers.Punctuation("isolated"), pre_tokenizers.Digits(individual_digits=True),
    ])  # fmt: skip
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<pad>", "<unk>", "<s>", "</s>"], limit_alphabet=4500,
        max_token_length=16, show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(_sample(corpus, chars, seed), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        model_max_length=1024, padding_side="right",
    )  # fmt: skip


def _sample(corpus: Corpus, chars: int, seed: int) -> Iterable[str]:
    stream = Stream(corpus, seed)
    while chars > 0:
        _, text = stream.draw()
        chars -= len(text)
        yield text


def build_model(tokenizer: PreTrainedTokenizerFast, size: Size):
    """A Llama with tied embeddings and random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(size.seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=size.hidden, intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.heads,
        max_position_embeddings=1024, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    ))  # fmt: skip


def blocks(corpus: Corpus, tokenizer, size: Size) -> tuple[np.ndarray, dict[str, dict[str, int]]]:
    """(steps × batch, block) int32 token ids, documents one after another with `<s>` before each; and per language the
    tokens and documents drawn and its different documents."""
    wanted = size.steps * size.batch * size.block
    stream, parts, total, drawn = Stream(corpus, size.seed), [], 0, {}
    while total < wanted:
        documents = [stream.draw() for _ in range(2000)]
        encoded = tokenizer.backend_tokenizer.encode_batch_fast(
            [text for _, text in documents], add_special_tokens=False
        )
        for (language, text), encoding in zip(documents, encoded, strict=True):
            ids = np.array([tokenizer.bos_token_id, *encoding.ids], dtype=np.int32)
            entry = drawn.setdefault(language, {"tokens": 0, "documents": 0, "texts": set()})
            entry["tokens"] += len(ids)
            entry["documents"] += 1
            entry["texts"].add(hash(text))
            parts.append(ids)
            total += len(ids)
    counts = {k: {**v, "texts": len(v["texts"])} for k, v in sorted(drawn.items())}
    return np.concatenate(parts)[:wanted].reshape(-1, size.block), counts


def pretrain(corpus: Corpus, folder: Path, size: Size, say=print):
    """The trained model and its tokenizer, from `folder` if they are there. A killed run continues from its last
    hundredth step; the result is the same up to the order of floating-point sums.

    Matrices of the layers are trained by Muon, embeddings and norms by AdamW, in bfloat16 autocast.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = folder / "pretrained"
    if (done / "pretraining.json").is_file():
        return AutoModelForCausalLM.from_pretrained(done), AutoTokenizer.from_pretrained(done)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tokenizer").is_dir():
        train_tokenizer(corpus, size.vocabulary, size.seed).save_pretrained(folder / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    data, counts = blocks(corpus, tokenizer, size)
    model = build_model(tokenizer, size)
    seconds = _train(model, data, folder / "checkpoint.pt", size, say)
    model.save_pretrained(done)
    tokenizer.save_pretrained(done)
    facts = {"size": asdict(size), "parameters": model.num_parameters(), "tokens": int(data.size), "drawn": counts,
             "seconds": round(seconds), "threads": torch.get_num_threads()}  # fmt: skip
    write_atomic(done / "pretraining.json", json.dumps(facts, indent=1))
    return model, tokenizer


def _optimizers(model, size: Size) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(matrices, lr=size.matrix_learning_rate, weight_decay=0.05),
        torch.optim.AdamW(others, lr=size.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _scale(step: int, size: Size) -> float:
    """Linear warm-up, a plateau, and over the last `decay` steps a straight line to nothing. The plateau does not
    depend on the number of steps, so a run may be lengthened or cut short before its decay begins."""
    return min((step + 1) / size.warmup, (size.steps - step) / size.decay, 1.0)


def _train(model, data: np.ndarray, checkpoint: Path, size: Size, say) -> float:
    optimizers = _optimizers(model, size)
    rates = [size.matrix_learning_rate, size.learning_rate]
    start, spent = 0, 0.0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start, spent = state["step"], state["seconds"]
    model.train()
    began, losses = time.perf_counter() - spent, []
    for step in range(start, size.steps):
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * _scale(step, size)
        rows = torch.from_numpy(data[step * size.batch : (step + 1) * size.batch].astype(np.int64))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=rows, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if (step + 1) % 20 == 0:
            seconds = time.perf_counter() - began
            say(f"step {step + 1}/{size.steps} loss {np.mean(losses[-20:]):.3f} {seconds:.0f} s", flush=True)
        if (step + 1) % 100 == 0:
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step + 1,
                     "seconds": time.perf_counter() - began}  # fmt: skip
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    return time.perf_counter() - began


@torch.inference_mode()
def nats_per_token(model, tokenizer, texts: list[str], batch: int = 32) -> tuple[float, list[list[int]]]:
    """Mean negative log-likelihood of every token of `texts` after `<s>`, and their ids."""
    ids = [tokenizer(fold(text)).input_ids[:512] for text in texts]
    total, count = 0.0, 0
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for begin in range(0, len(order), batch):
        rows = [torch.tensor(ids[i]) for i in order[begin : begin + batch]]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
        logits = model(input_ids=padded.clamp(min=0), attention_mask=(padded >= 0).long()).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), padded[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
        total += loss.item()
        count += int((padded[:, 1:] >= 0).sum())
    return total / count, [row[1:] for row in ids]


def unigram_nats(train: Iterable[list[int]], test: Iterable[list[int]], vocabulary: int) -> float:
    """Mean negative log-likelihood of `test` under token frequencies of `train`, one added to every count.

    >>> round(unigram_nats([[0, 0, 1]], [[0], [1]], 2), 4)  # (3/5, 2/5)
    0.7136
    """
    counts = Counter(token for row in train for token in row)
    total = sum(counts.values()) + vocabulary
    tokens = [token for row in test for token in row]
    return -sum(math.log((counts[token] + 1) / total) for token in tokens) / len(tokens)
