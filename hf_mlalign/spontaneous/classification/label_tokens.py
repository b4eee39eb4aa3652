"""Prompts and labels as token ids: where the label begins, a check of the labels before any work, and the tries in
which prompts and labels that begin alike are held, and computed, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.spontaneous.classification.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_AT_A_TIME = 1024


@dataclass(frozen=True)
class LabelledPrompt:
    """A prompt and the labels that may follow it, as token ids."""

    context: list[int]
    labels: list[list[int]]

    @property
    def longest(self) -> int:
        """Tokens of the prompt and its longest label."""
        return len(self.context) + max(map(len, self.labels))


def tokenise(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], labels: Sequence[str], end: str
) -> list[LabelledPrompt]:
    """Each prompt with the labels that may follow it, as token ids.

    Prompt + label + end is tokenised as one text, so a label is cut as the model would see it in running text (with
    the space, the merged quotation mark or the SentencePiece "▁" that belong to its place). The context is what the
    prompt alone and all labelled texts begin with alike; the rest of each labelled text, a token across the border
    included, is the label. Special tokens that the tokenizer puts in front (BOS) are kept, those at the end are not.

    Args:
        prompts: texts that end where the label begins.
        labels: label texts of this language.
        end: text that ends a label, scored with it: labels that begin alike compete fairly.
    Raises:
        DataError: a label leaves no token (named).
    """
    whole, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    at = next((i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare), 0)
    head = list(whole[:at])  # special tokens that the tokenizer puts before a text
    endings = ["", *(label + end for label in labels)]
    items = []
    per_call = max(1, _AT_A_TIME // len(endings))
    for begin in range(0, len(prompts), per_call):
        texts = [prompt + ending for prompt in prompts[begin : begin + per_call] for ending in endings]
        rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for at in range(0, len(rows), len(endings)):
            group = rows[at : at + len(endings)]
            shared = common_prefix(group)
            bare = [label for label, row in zip(labels, group[1:]) if len(row) == shared]
            if bare:
                raise DataError(f"labels: {bare[0]!r} leaves no token of its own with this tokenizer. Change it.")
            items.append(LabelledPrompt(head + group[0][:shared], [row[shared:] for row in group[1:]]))
    return items


@dataclass(frozen=True)
class LabelIssue:
    """Something about the labels of a language that a score depends on.

    `kind`: "identical" (same text), "same_tokens" (other text, same tokens), "unknown_token" (holds the tokenizer's
    unknown token), "beginning" (all tokens of one begin the other) or "shared_prefix" (first tokens in common).
    """

    language: str
    kind: str
    labels: tuple[str, ...]

    @property
    def says(self) -> str:
        """The kind in words."""
        return {
            "identical": "are the same text",
            "same_tokens": "become the same tokens",
            "unknown_token": "hold tokens the tokenizer does not know",
            "beginning": "are one the beginning of the other",
            "shared_prefix": "share their first tokens (first tokens alone could not distinguish them)",
        }[self.kind]

    def __str__(self) -> str:
        return f"labels in {self.language!r}: {listed(map(repr, self.labels))} {self.says}"

    @property
    def fatal(self) -> bool:
        """Whether the labels cannot be distinguished."""
        return self.kind in ("identical", "same_tokens")


def check_labels(
    task: Task, tokenizer: PreTrainedTokenizerBase, languages: Sequence[str], labels_in: str = "question"
) -> list[LabelIssue]:
    """Check a task's labels with this tokenizer before anything is scored, language by language.

    Labels are tokenised at the end of the language's template with empty fields and with the text that ends them.

    Raises:
        DataError: labels or template are missing in a language.
    """
    issues = []
    for language in languages:
        labels, (_, end) = task.label_texts(language, labels_in), task.parts(language)
        twins = [pair for pair in combinations(labels, 2) if pair[0].strip() == pair[1].strip()]
        issues += [LabelIssue(language, "identical", pair) for pair in twins]
        prompt = task.prompt(language, [], dict.fromkeys(task.fields, ""))
        tokens = dict(zip(labels, tokenise(tokenizer, [prompt], labels, end)[0].labels))
        unknown = tuple(label for label, ids in tokens.items() if tokenizer.unk_token_id in ids)
        if unknown and tokenizer.unk_token_id is not None:
            issues.append(LabelIssue(language, "unknown_token", unknown))
        for a, b in combinations(tokens, 2):
            shared, least = common_prefix([tokens[a], tokens[b]]), min(len(tokens[a]), len(tokens[b]))
            kind = "same_tokens" if tokens[a] == tokens[b] else "beginning" if shared == least else "shared_prefix"
            if shared and (a, b) not in twins:
                issues.append(LabelIssue(language, kind, (a, b)))
    return issues


@dataclass(frozen=True)
class TokenTrie:
    """A trie of token sequences, parents before their children.

    Attributes:
        tokens: (n,) int64, the token of each node.
        parents: (n,) int64, the node before it; -1 for the first tokens.
        depths: (n,) int64, from 0.
        paths: for each sequence the (length,) nodes from its first token to its last.
    """

    tokens: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    paths: list[np.ndarray]

    @classmethod
    def build(cls, sequences: Sequence[Sequence[int]]) -> TokenTrie:
        """The trie of `sequences`; O(number of tokens)."""
        known: dict[tuple[int, int], int] = {}
        tokens, parents, depths, paths = [], [], [], []
        for sequence in sequences:
            node, path = -1, np.empty(len(sequence), np.int64)
            for depth, token in enumerate(sequence):
                child = known.setdefault((node, token), len(tokens))
                if child == len(tokens):
                    tokens.append(token)
                    parents.append(node)
                    depths.append(depth)
                node = path[depth] = child
            paths.append(path)
        return cls(*(np.asarray(values, np.int64) for values in (tokens, parents, depths)), paths)

    def inner(self) -> np.ndarray:
        """(n,) bool: which nodes have a child. Only these need to be read by a model to score every sequence."""
        marked = np.zeros(len(self.tokens), bool)
        marked[self.parents[self.parents >= 0]] = True
        return marked


def ancestors(parents: np.ndarray) -> np.ndarray:
    """(n, n) bool: [i, j] is true where node j is node i or comes before it on its path; parents before children."""
    seen = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    return seen


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many first tokens all sequences share."""
    least, most = min(sequences), max(sequences)  # lexicographic: what these two share, all share
    shared = next((i for i, (a, b) in enumerate(zip(least, most)) if a != b), None)
    return min(len(least), len(most)) if shared is None else shared


def packs(items: Sequence[LabelledPrompt], prefix: int, budget: int) -> Iterator[list[int]]:
    """Indices of `items` in packs whose tries have at most `budget` nodes to read, the first `prefix` tokens aside.

    Neighbours in a pack share as much of their prompts as there is to share. An item above the budget is a pack alone.
    """
    pack, used, previous = [], 0, None
    for i in sorted(range(len(items)), key=lambda i: items[i].context):
        context = items[i].context
        labels = sum(len(label) - 1 for label in items[i].labels)
        shared = common_prefix([previous, context]) if pack else prefix
        if pack and used + len(context) - shared + labels > budget:
            yield pack
            pack, used, shared = [], 0, prefix
        pack.append(i)
        used += len(context) - max(shared, prefix) + labels
        previous = context
    if pack:
        yield pack
