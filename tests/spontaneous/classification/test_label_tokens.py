"""Where a label begins in tokens, and what the pre-flight says about labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.classification.label_tokens import (
    LabelledPrompt,
    TokenTrie,
    ancestors,
    check_labels,
    common_prefix,
    packs,
    tokenise,
)
from hf_mlalign.spontaneous.classification.tasks import load_task
from tests.tiny_models import byte_tokenizer


def bpe(words: list[str], merges: list[tuple[str, str]], pre=None, special: bool = False) -> PreTrainedTokenizerFast:
    vocabulary = {w: i for i, w in enumerate(["<unk>", "<s>", "</s>", *words, *("".join(m) for m in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    tokenizer.add_special_tokens([AddedToken("<s>"), AddedToken("</s>")])
    if special:
        ends = [("<s>", 1), ("</s>", 2)]
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def texts(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(ids)


def test_a_token_across_the_border_belongs_to_the_label():
    tokenizer = bpe(list('a:"pn'), [('"', "p")])
    item = tokenise(tokenizer, ['a:"'], ["pa", "na"], '"')[0]
    assert texts(tokenizer, item.context) == ["a", ":"]
    assert [texts(tokenizer, label) for label in item.labels] == [['"p', "a", '"'], ['"', "n", "a", '"']]


def test_the_end_may_join_the_label():
    tokenizer = bpe(list('a:"pn'), [("a", '"')])
    item = tokenise(tokenizer, ['a:"'], ["pa", "n"], '"')[0]
    assert [texts(tokenizer, label) for label in item.labels] == [["p", 'a"'], ["n", '"']]


def test_the_leading_space_of_sentencepiece_comes_once():
    tokenizer = bpe(list("▁a:pn"), [("▁", "p")], pre_tokenizers.Metaspace(prepend_scheme="first", split=False))
    item = tokenise(tokenizer, ["a: "], ["pa", "na"], "")[0]
    assert texts(tokenizer, item.context) == ["▁", "a", ":"]
    assert [texts(tokenizer, label) for label in item.labels] == [["▁p", "a"], ["▁", "n", "a"]]


def test_front_special_tokens_stay_and_last_ones_go():
    tokenizer = bpe(list("a:pn"), [], special=True)
    item = tokenise(tokenizer, ["a:"], ["p", "n"], "")[0]
    assert texts(tokenizer, item.context) == ["<s>", "a", ":"]
    assert [texts(tokenizer, label) for label in item.labels] == [["p"], ["n"]]


def test_many_prompts_keep_their_order():
    tokenizer = byte_tokenizer()
    prompts = [f"number {i}: " for i in range(1500)]
    items = tokenise(tokenizer, prompts, ["x", "yy"], ".")
    assert [tokenizer.decode(item.context) for item in items] == prompts
    assert {tuple(map(len, item.labels)) for item in items} == {(2, 3)}


def test_a_label_without_tokens_is_named():
    tokenizer = bpe(list("a:p"), [], pre_tokenizers.WhitespaceSplit())
    with pytest.raises(DataError, match="leaves no token"):
        tokenise(tokenizer, ["a:"], [" ", "p"], "")


def kinds(labels, tokenizer, template="{text}:{label}", separator="\n"):
    task = load_task({"name": "t", "fields": ["text"], "answer": "a", "template": template, "labels": {"en": labels},
                      "separator": separator})  # fmt: skip
    return [(issue.kind, issue.labels) for issue in check_labels(task, tokenizer, ["en"])]


def test_preflight():
    assert kinds(["up", "down"], byte_tokenizer()) == []
    assert kinds(["up", "under"], byte_tokenizer()) == [("shared_prefix", ("up", "under"))]
    assert kinds(["up", "up"], byte_tokenizer()) == [("identical", ("up", "up"))]
    assert kinds(["up", "upper"], byte_tokenizer()) == [("shared_prefix", ("up", "upper"))]  # their ends differ
    assert kinds(["up", "upper"], bpe(list(":uper"), []), separator=" ") != []
    few = bpe(list(":ap\n"), [])
    assert kinds(["x", "y"], few) == [("unknown_token", ("x", "y")), ("same_tokens", ("x", "y"))]
    no_end = bpe(list(":uper"), [], pre_tokenizers.WhitespaceSplit())
    assert kinds(["up", "upper"], no_end, separator=" ") == [("beginning", ("up", "upper"))]


def test_issues_say_what_is_wrong():
    task = load_task({"name": "t", "fields": ["text"], "answer": "a", "template": "{text}:{label}",
                      "labels": {"en": ["up", "down"], "de": ["auf", "ab"]}})  # fmt: skip
    issue = check_labels(task, byte_tokenizer(), ["en", "de"])[0]
    assert str(issue).startswith("labels in 'de': 'auf', 'ab' share their first tokens")
    assert not issue.fatal
    with pytest.raises(DataError, match="no labels in 'fr'"):
        check_labels(task, byte_tokenizer(), ["fr"])
    assert check_labels(task, byte_tokenizer(), ["fr"], "english") == []


# Tries

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
    items = [LabelledPrompt([0, *context], [[1, 2], [1, 3]]) for context in contexts]
    found = list(packs(items, 1, budget))
    assert sorted(i for pack in found for i in pack) == list(range(len(items)))
    for pack in found:
        trie = TokenTrie.build([items[i].context[1:] + label for i in pack for label in items[i].labels])
        assert len(pack) == 1 or trie.inner().sum() <= budget
