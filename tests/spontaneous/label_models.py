"""Models and tables of which the label scores are known or easily computed."""

from __future__ import annotations

from itertools import pairwise

from datasets import Dataset

BASE = {
    "vocab_size": 262, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 4096, "initializer_range": 0.2, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def mistral(window: int = 16):
    """A Mistral whose every layer sees the last `window` tokens."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(sliding_window=window, head_dim=16, **BASE)).eval()


def gemma2(window: int = 16):
    """A Gemma 2 with layers of both kinds."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(sliding_window=window, head_dim=16, **BASE)).eval()


def bloom():
    """A model with ALiBi, which takes no 4-D mask."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    return BloomForCausalLM(BloomConfig(vocab_size=262, hidden_size=32, n_layer=2, n_head=2)).eval()


def gpt_neo(window: int = 16):
    """A GPT-Neo whose second layer sees the last `window` tokens as they are stored, whatever their positions."""
    import torch
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    torch.manual_seed(0)
    config = GPTNeoConfig(vocab_size=262, hidden_size=32, num_layers=2, num_heads=2, window_size=window,
                          attention_types=[[["global", "local"], 1]], max_position_embeddings=4096,
                          initializer_range=0.2, bos_token_id=1, eos_token_id=2)  # fmt: skip
    return GPTNeoForCausalLM(config).eval()


def prefers(text: str, tokenizer, context: int = 4096):
    """A GPT-2 without attention or feed-forward part that goes from each byte of `"text"` to the next by choice."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=262, n_embd=264, n_layer=1, n_head=2, n_positions=context, tie_word_embeddings=False)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_(1.0 if "ln" in name and name.endswith("weight") else 0.0)
        model.transformer.wte.weight[:262, :262] = torch.eye(262)
        ids = tokenizer(f'"{text}"', add_special_tokens=False)["input_ids"]
        for a, b in pairwise(ids):
            model.lm_head.weight[b, a] = 2.0
    return model


def plain_scores(model, tokenizer, prompt: str, labels, end: str) -> list[float]:
    """Log-probability of each label and its end after the prompt, by a full forward pass each; bytes as tokens."""
    import torch

    found = []
    context = tokenizer(prompt)["input_ids"]
    for label in labels:
        tail = tokenizer(label + end, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([context + tail])).logits[0].float()
        steps = torch.log_softmax(logits, -1)[len(context) - 1 : -1]
        found.append(float(steps.gather(1, torch.tensor(tail)[:, None]).double().sum()))
    return found


def reviews(n: int = 12, languages=("en", "de")) -> Dataset:
    """n made-up reviews a language, positive and negative by turns; labels in the row's language."""
    labels = {"en": ("positive", "negative"), "de": ("positiv", "negativ"), "sw": ("chanya", "hasi")}
    rows = [
        {"id": i, "language": code, "input": f"{code} {('good', 'bad')[i % 2]} thing number {i} {'x' * (i % 5)}",
         "answer": labels[code][i % 2]}
        for code in languages for i in range(n)
    ]  # fmt: skip
    return Dataset.from_list(rows)
