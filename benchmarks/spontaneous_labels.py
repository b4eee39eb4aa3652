"""Label scoring for 600 six-shot SNLI rows against one forward pass per label (batched, and one row at a time), the
authors' single pass per row for first tokens only, and a bare forward pass over as many tokens as are distinct.

    OMP_NUM_THREADS=2 python benchmarks/spontaneous_labels.py [--data FOLDER] [--rows 600] [--peer-rows 48]

The model has about 100 million weights, random, from a config. Real rows are read if the folder has them; otherwise
they are made up. The others run on the first `--peer-rows` rows; their seconds are scaled to all rows.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from common import interleaved, made_up_texts, report
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from hf_mlalign.cli.demo.tiny_dpo import tiny_causal_lm
from hf_mlalign.spontaneous.classification.few_shot import draw_shots
from hf_mlalign.spontaneous.classification.label_scoring import LabelScorer
from hf_mlalign.spontaneous.classification.label_tokens import tokenise
from hf_mlalign.spontaneous.classification.rows import read_questions
from hf_mlalign.spontaneous.classification.tasks import load_task

BATCH = 8
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the Parquet files")
    parser.add_argument("--language", default="de")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--peer-rows", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a machine with other work, one thread")
    parser.add_argument("--batch-tokens", type=int, default=512)
    args = parser.parse_args()
    rows = load(args.data / "snli_20_languages.parquet", args.language, args.rows)
    task = load_task("snli").describe()
    words = [label for labels in task["labels"].values() for label in labels]
    texts = [*rows["premise"], *rows["hypothesis"], *task["template"].values(), *words]
    _, tokenizer = tiny_causal_lm(texts)  # the bundled pieces that occur; the tiny model is not used
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=768, intermediate_size=2048, num_hidden_layers=14,
                         num_attention_heads=12, max_position_embeddings=4096, tie_word_embeddings=True)  # fmt: skip
    model = LlamaForCausalLM(config).eval()

    start = time.perf_counter()
    items = prompts(rows, tokenizer, args.language)
    tokenising = time.perf_counter() - start
    scorer = LabelScorer(model, args.batch_tokens, "trie")
    list(scorer.score(items[:BATCH]))  # first calls allocate
    scorer.tokens_read = 0
    found = {i: scores for pack, values in scorer.score(items) for i, scores in zip(pack, values)}
    read = scorer.tokens_read
    few = items[: args.peer_rows]
    scale = len(items) / len(few)
    plain = LabelScorer(model, method="full")
    reference = [values[0] for _, values in plain.score(few)]
    gap = max(abs(found[i] - scores).max() for i, scores in enumerate(reference))
    sides = {
        "ours": lambda: list(scorer.score(items)),
        "bare": lambda: bare_forward(model, read, args.batch_tokens),
        "one pass per label, batched": lambda: batched(model, few),
        "one row at a time, one pass per label": lambda: list(plain.score(few)),
        "one row at a time, one pass, first tokens (authors)": lambda: authors(model, few),
    }
    ours, bare, *others = interleaved(sides, args.repeats, CLOCKS[args.clock]).values()
    peers = {name: s * scale for name, s in zip(list(sides)[2:], others)}
    report(
        "spontaneous_labels", rows=len(items), weights=model.num_parameters(), threads=torch.get_num_threads(),
        clock=args.clock,
        prompt_tokens=sum(len(item.context) for item in items), tokens_read=read,
        seconds=round(ours, 2), tokenising_seconds=round(tokenising, 2),
        peer_seconds={name: round(s, 1) for name, s in peers.items()},
        times_faster={name: round(s / ours, 1) for name, s in peers.items()},
        tokens_per_second=round(read / ours), bare_tokens_per_second=round(read / bare),
        share_of_bare=round(bare / ours, 2), largest_difference=float(f"{gap:.2g}"), peer_rows=len(few),
    )  # fmt: skip


def load(path: Path, language: str, n: int) -> Dataset:
    """SNLI rows of a language and `n` ids, or made-up texts of about their length."""
    if path.is_file():
        return Dataset.from_parquet(str(path)).filter(lambda row: row["language"] in (language, "en") and row["id"] < n)
    texts = made_up_texts(2 * n, words=7)
    rows = [
        {"id": i, "language": code, "premise": texts[i - i % 3], "hypothesis": texts[n + i],
         "answer": load_task("snli").classes[i % 3]}
        for code in {language, "en"} for i in range(n)
    ]  # fmt: skip
    return Dataset.from_list(rows)


def prompts(ds: Dataset, tokenizer, language: str) -> list:
    """Six-shot prompts with their labels, as tokens; the examples' questions are left out."""
    task = load_task("snli")
    questions = read_questions(ds, task, [language])
    shots = draw_shots(questions, [language], task.shots, len(task.classes))
    labels, (_, end) = task.label_texts(language), task.parts(language)
    solved = [(questions.texts[row], labels[questions.classes[row]]) for row in shots.rows[language]]
    texts = [
        task.prompt(language, solved, texts)
        for name, texts in zip(questions.ids, questions.texts)
        if name not in shots.held_out
    ]
    return tokenise(tokenizer, texts, labels, end)


@torch.inference_mode()
def bare_forward(model, tokens: int, size: int) -> None:
    """The backbone over as many tokens, in plain causal sequences of a pack's size."""
    ids = torch.randint(0, model.config.vocab_size, (1, size))
    for begin in range(0, tokens, size):
        model.model(input_ids=ids[:, : tokens - begin], use_cache=False)


@torch.inference_mode()
def batched(model, items: list) -> None:
    """One pass over prompt and label for each label, in padded batches sorted by length."""
    rows = sorted((item.context + label for item in items for label in item.labels), key=len)
    longest = max(len(label) for item in items for label in item.labels)
    for begin in range(0, len(rows), BATCH):
        batch = rows[begin : begin + BATCH]
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=longest + 1).logits
        torch.log_softmax(logits, -1)


@torch.inference_mode()
def authors(model, items: list) -> None:
    """One pass over the prompt of each row, all positions' probabilities, of which those of the first tokens count."""
    for item in items:
        probabilities = torch.softmax(model(input_ids=torch.tensor([item.context])).logits, -1)
        probabilities[0, -1, [label[0] for label in item.labels]].tolist()


if __name__ == "__main__":
    main()
