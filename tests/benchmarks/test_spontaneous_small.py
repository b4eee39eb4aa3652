"""The parts of the small-scale experiment that its figures rest on: what is kept apart, what is made from what."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import spontaneous_small as small
import spontaneous_small_data as data
import spontaneous_small_measure as measure
import spontaneous_small_model as model
import spontaneous_small_report as report
import spontaneous_small_tasks as tasks


def test_stream_uses_every_text_once_before_any_twice():
    corpus = data.Corpus({"de": [f"Satz {i}" for i in range(7)]}, {"de": [("Hund", "dog")]})
    stream = data.Stream(corpus, seed=3)
    drawn = [stream.draw() for _ in range(400)]
    texts = [text for language, text in drawn if language == "de"]
    assert all(len(set(texts[i : i + 7])) == 7 for i in range(0, len(texts) - 7, 7))
    both = {text for language, text in drawn if language == "de+en"}
    assert both == {"Hund\ndog", "dog\nHund"}
    assert 0.1 < 1 - len(texts) / 400 < 0.3


def test_windows_hold_as_many_words_and_leave_the_rest_out():
    assert tasks.windows("one two three four five six seven eight nine ten", "en") == [
        "one two three four five six seven eight"
    ]
    text = " ".join(str(i) for i in range(16)) + "."
    assert tasks.windows(text, "de") == ["0 1 2 3 4 5 6 7", "8 9 10 11 12 13 14 15"]
    assert tasks.windows("Short one.", "en") == ["Short one"]
    assert tasks.windows("一二三四五六七八九十" * 2, "zh") == ["一二三四五六七八九十一二三四五六"]


def test_learning_rate_plateau_does_not_depend_on_the_number_of_steps():
    short, long = model.Size(steps=1000, warmup=10), model.Size(steps=2000, warmup=10)
    assert [model._scale(s, short) for s in range(701)] == [model._scale(s, long) for s in range(701)]
    assert model._scale(0, short) == pytest.approx(0.1)
    assert model._scale(999, short) == pytest.approx(1 / 300)


def test_unigram():
    found = model.unigram_nats([[0, 0, 1]], [[0], [1]], 2)
    assert found == pytest.approx(-(math.log(3 / 5) + math.log(2 / 5)) / 2)


def test_completion_loss_counts_completion_tokens_only():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    lm = LlamaForCausalLM(LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0,
    )).eval()  # fmt: skip
    rows = [([1, 2, 3, 4], 2), ([5, 6, 7], 2)]
    with torch.no_grad():
        sums = tasks.completion_loss(lm, rows, "rows")
        for (ids, start), found in zip(rows, sums, strict=True):
            logp = lm(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            expected = -sum(logp[i - 1, ids[i]] for i in range(start, len(ids)))
            assert float(found) == pytest.approx(float(expected), abs=0.05)  # bfloat16 autocast
        mean = tasks.completion_loss(lm, rows)
    assert float(mean) == pytest.approx(float(sums.sum()) / 3, abs=1e-5)


def test_controls_keep_rows_and_shuffle_completions():
    from datasets import Dataset

    rows = Dataset.from_dict({"prompt": ["a", "b", "c"], "completion": ["A", "B", "C"], "language": ["es"] * 3})
    moved = small.shifted(rows)
    assert moved["prompt"][:] == ["a", "b", "c"]
    assert moved["completion"][:] == ["B", "C", "A"]


def test_auc_counts_ties_half():
    assert measure.auc(np.array([3.0, 1.0, 1.0]), np.array([True, False, True])) == 0.75
    assert measure.auc(np.array([0.0, 1.0]), np.array([True, False])) == 0.0


def test_groups_and_spread():
    assert report.groups(["de", "en", "es"], ("es",)) == {"English": ["en"], "seen": ["es"], "unseen": ["de"]}
    assert report.spread([1.0, 2.0]) == "+1.500 ± 0.707"
    assert report.spread([0.5], 1, sign=False) == "0.5"


@pytest.mark.real_data
def test_scored_rows_are_nowhere_in_training(shared_data):
    """No scored sentence is a pretraining text, a training row or a question to translate."""
    folder = Path(shared_data)
    lines = {line for texts in data.read_corpus(folder).texts.values() for text in texts for line in text.split("\n")}
    seen = lines | {line.partition(": ")[2] for line in lines}
    prompts = "\n".join(prompt for prompt, _ in tasks.english_rows(folder))
    questions = "\n".join(data.translation_questions(folder, small.SEEN).target)
    for name, field in (("snli", "premise"), ("emotion", "input")):
        scored = tasks.scored_rows(folder, name).to_pandas()
        assert not seen & set(scored[field].str.strip())
        english = scored[scored.language == "en"][field]
        assert not [text for text in english if text in prompts or text in questions]
    kinds = tasks.scored_rows(folder, "kind").to_pandas()
    counts = kinds.groupby(["language", "answer"]).size()
    assert len(counts) == 40
    assert set(counts) == {tasks.SCORED_KINDS}
