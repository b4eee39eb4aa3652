"""Where a label begins in tokens, and what the pre-flight says about labels."""

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.classification.label_tokens import check_labels, tokenise
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
