"""Tries of token sequences."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hf_mlalign.spontaneous.classification.trie import Item, TokenTrie, ancestors, common_prefix, packs

SEQUENCES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=9)


def test_a_trie_by_hand():
    trie = TokenTrie.build([[5, 6, 7], [5, 6], [5, 8], [9]])
    assert trie.tokens.tolist() == [5, 6, 7, 8, 9]
    assert trie.parents.tolist() == [-1, 0, 1, 0, -1]
    assert trie.depths.tolist() == [0, 1, 2, 1, 0]
    assert [path.tolist() for path in trie.paths] == [[0, 1, 2], [0, 1], [0, 3], [4]]
    assert trie.inner().tolist() == [True, True, False, False, False]
    assert ancestors(trie.parents).astype(int).tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1],
    ]  # fmt: skip


@given(SEQUENCES)
def test_every_distinct_beginning_is_one_node(sequences):
    trie = TokenTrie.build(sequences)
    assert len(trie.tokens) == len({tuple(s[:i]) for s in sequences for i in range(1, len(s) + 1)})
    for sequence, path in zip(sequences, trie.paths):
        assert trie.tokens[path].tolist() == sequence
        assert trie.depths[path].tolist() == list(range(len(sequence)))
        seen = np.flatnonzero(ancestors(trie.parents)[path[-1]])
        assert seen.tolist() == sorted(path.tolist())


@given(SEQUENCES)
def test_common_prefix(sequences):
    n = common_prefix(sequences)
    assert len({tuple(s[:n]) for s in sequences}) == 1
    assert any(len(s) == n for s in sequences) or len({tuple(s[: n + 1]) for s in sequences}) > 1


@given(SEQUENCES, st.integers(1, 30))
def test_packs_hold_each_item_once_within_the_budget(contexts, budget):
    items = [Item([0, *context], [[1, 2], [1, 3]]) for context in contexts]
    found = list(packs(items, 1, budget))
    assert sorted(i for pack in found for i in pack) == list(range(len(items)))
    for pack in found:
        trie = TokenTrie.build([items[i].context[1:] + label for i in pack for label in items[i].labels])
        assert len(pack) == 1 or trie.inner().sum() <= budget
