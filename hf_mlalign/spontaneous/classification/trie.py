"""Token sequences as a trie: what several prompts and labels have in common is held, and computed, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Item:
    """A prompt and the labels that may follow it, as token ids."""

    context: list[int]
    labels: list[list[int]]

    @property
    def longest(self) -> int:
        """Tokens of the prompt and its longest label."""
        return len(self.context) + max(map(len, self.labels))


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


def packs(items: Sequence[Item], prefix: int, budget: int) -> Iterator[list[int]]:
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
