"""The small-scale experiment's classification tasks: rows scored in 20 languages, and tuning on English rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from spontaneous_small_data import (
    PRETRAINING_QUESTIONS,
    question_lines,
    review_rows,
    scored_part,
    snli_rows,
    training_part,
)

from hf_mlalign.core.files import write_atomic
from hf_mlalign.spontaneous.classification.tasks import Task, load_task

if TYPE_CHECKING:
    from datasets import Dataset

TASKS = ("kind", "emotion", "snli")
EPOCHS = {"kind": 1, "emotion": 5, "snli": 3}
KIND = {
    "name": "kind", "fields": ["text"], "answer": "answer", "shots": 0, "template": '{text}\nKind: "{label}"',
    "labels": {"en": ["picture", "review"]},
}  # fmt: skip
"""Do a few words stem from the description of a picture (SNLI) or from a review? A task with thousands of English
examples whose answer lies in what the words mean: all texts are cut to the same number of words."""
WORDS, CHARACTERS = 8, 16
SCORED_KINDS = 100


def task_of(name: str, own_words: bool = False) -> Task:
    """A task with the English template for every language, or with the templates of each language (`own_words`)."""
    task = load_task(KIND if name == "kind" else name)
    return task if own_words else replace(task, template={"*": task.template.get("en", task.template.get("*"))})


def scored_rows(folder: Path, name: str) -> Dataset:
    """The rows of a task that are scored, in 20 languages: columns id, language, answer and the task's fields."""
    from datasets import Dataset

    snli, reviews = scored_part(snli_rows(folder), "snli"), scored_part(review_rows(folder), "emotion")
    frame = {"kind": _kinds, "emotion": lambda *_: reviews, "snli": lambda *_: snli}[name](snli, reviews)
    return Dataset.from_pandas(frame[["id", "language", *task_of(name).fields, "answer"]], preserve_index=False)


def _kinds(snli: pd.DataFrame, reviews: pd.DataFrame) -> pd.DataFrame:
    """The first words of scored premises and reviews, as many of one kind as of the other."""
    first = snli[snli.language == "en"].drop_duplicates("premise").id
    parts = []
    for label, frame, field, ids in (("picture", snli, "premise", first), ("review", reviews, "input", reviews.id)):
        kept = sorted(set(ids))[:SCORED_KINDS]
        frame = frame[frame.id.isin(kept)]
        texts = [windows(text, code)[0] for text, code in zip(frame[field], frame.language, strict=True)]
        ids = [f"{label}-{name}" for name in frame.id]
        parts.append(pd.DataFrame({"id": ids, "language": frame.language, "text": texts, "answer": label}))
    return pd.concat(parts, ignore_index=True)


def windows(text: str, language: str) -> list[str]:
    """`text` in pieces of `WORDS` words (`CHARACTERS` characters where words are not spaced), without what is left
    over, and without punctuation at the ends. At least one piece.

    >>> windows("a b c d e f g h, i j", "en")
    ['a b c d e f g h']
    """
    if language in ("ja", "th", "zh"):
        units, size, glue = list(text), CHARACTERS, ""
    else:
        units, size, glue = text.split(), WORDS, " "
    found = [glue.join(units[i : i + size]) for i in range(0, max(1, len(units) - size + 1), size)]
    return [piece.strip(" .,;:!?。、！？\"'") for piece in found]


def english_rows(folder: Path, seed: int = 0) -> list[tuple[str, str]]:
    """(prompt, label) of every training row of the three tasks, English only, each task as often as `EPOCHS` says, in
    random order."""
    rows = []
    for name, frame in _english(folder, seed).items():
        task = task_of(name)
        for row in frame.to_dict("records"):
            rows += [(task.prompt("en", [], {f: row[f] for f in task.fields}), row["answer"])] * EPOCHS[name]
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]


def _english(folder: Path, seed: int) -> dict[str, pd.DataFrame]:
    snli, reviews = training_part(snli_rows(folder), "snli"), training_part(review_rows(folder), "emotion")
    snli, reviews = snli[snli.language == "en"], reviews[reviews.language == "en"]
    return {"kind": english_kinds(folder, reviews.input.tolist(), seed), "emotion": reviews, "snli": snli}


def english_kinds(folder: Path, reviews: list[str], seed: int) -> pd.DataFrame:
    """Pieces of reviews, and as many of the premises of the SNLI questions that are pretraining text."""
    frame = pd.read_parquet(folder / "question_translation.parquet")
    frame = frame[(frame.task == "snli") & (frame.id < PRETRAINING_QUESTIONS)].drop_duplicates("id")
    premises = frame.target.map(question_lines).str.split("\n").str[0].str.removeprefix("Premise: ")
    pieces = {
        "review": [piece for text in reviews for piece in windows(text, "en")],
        "picture": [piece for text in sorted(set(premises)) for piece in windows(text, "en")],
    }
    rng, size = np.random.default_rng(seed), min(map(len, pieces.values()))
    rows = [(found[i], label) for label, found in pieces.items() for i in rng.permutation(len(found))[:size]]
    return pd.DataFrame(rows, columns=["text", "answer"])


def tune_on_english(model, tokenizer, folder: Path, rows: list[tuple[str, str]], text: np.ndarray, batch: int = 32,
                    learning_rate: float = 5e-4, seed: int = 0, say=print):  # fmt: skip
    """Full training on English rows, loss on the label and its closing quotation mark, beside a block of pretraining
    text a step so that the other languages are not forgotten. Returns the model, from `folder` if it is there."""
    from transformers import AutoModelForCausalLM

    if (folder / "tuning.json").is_file():
        return AutoModelForCausalLM.from_pretrained(folder)
    encoded = [encode(tokenizer, prompt, label + '"\n') for prompt, label in rows]
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    steps = len(encoded) // batch
    model.train()
    began, losses = time.perf_counter(), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * min((step + 1) / 30, (steps - step) / steps)
        loss = completion_loss(model, encoded[step * batch : (step + 1) * batch])
        losses.append(loss.item())
        loss = loss + _text_loss(model, text[step : step + 1])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 20 == 0:
            say(f"English tasks: step {step + 1}/{steps} loss {np.mean(losses[-20:]):.3f}", flush=True)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {"rows": len(rows), "steps": steps, "learning_rate": learning_rate, "seconds": time.perf_counter() - began}
    write_atomic(folder / "tuning.json", json.dumps(facts, indent=1))
    return AutoModelForCausalLM.from_pretrained(folder)


def encode(tokenizer, prompt: str, completion: str) -> tuple[list[int], int]:
    """Token ids of both together and how many belong to the prompt; the prompt ends on a token boundary."""
    start = tokenizer(prompt).input_ids
    return start + tokenizer(completion, add_special_tokens=False).input_ids, len(start)


def completion_loss(model, rows: Iterable[tuple[list[int], int]], reduction: str = "mean") -> torch.Tensor:
    """Negative log-likelihood of the completions' tokens: mean over all of them, or (rows,) sums with "rows"."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row, _ in rows], batch_first=True, padding_value=-100)
    labels = ids.clone()
    for i, (_, start) in enumerate(rows):
        labels[i, :start] = -100
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = model.model(input_ids=ids.clamp(min=0), attention_mask=(ids >= 0).long(), use_cache=False)
        wanted = labels[:, 1:] >= 0
        logits = model.lm_head(states.last_hidden_state[:, :-1][wanted])
    losses = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="none")
    if reduction == "mean":
        return losses.mean()
    return torch.zeros(len(ids)).index_add_(0, torch.nonzero(wanted)[:, 0], losses)


def _text_loss(model, text: np.ndarray) -> torch.Tensor:
    return completion_loss(model, [(row.tolist(), 1) for row in text])
