"""Scores of whole labels against separate full forward passes, for several architectures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.classification.label_scoring import LabelScorer
from hf_mlalign.spontaneous.classification.label_tokens import LabelledPrompt
from tests.spontaneous.label_models import bloom, gemma2, gpt_neo, mistral
from tests.tiny_models import tiny_gpt2, tiny_llama

LABELS = [[7, 8, 9], [7, 8, 10, 11], [12], [7]]
MODELS = {"llama": tiny_llama, "gpt2": tiny_gpt2, "mistral": mistral, "gemma2": gemma2}


def items(n: int = 9, shared: int = 40, seed: int = 0) -> list[LabelledPrompt]:
    """Prompts that share 40 tokens, and by threes some more."""
    rng = np.random.default_rng(seed)

    def some(k):
        return rng.integers(6, 262, k).tolist()

    head = some(shared)
    middles = [some(5 + i) for i in range(n // 3 + 1)]
    return [LabelledPrompt(head + middles[i // 3] + some(1 + i % 4), LABELS) for i in range(n)]


def reference(model, found: list[LabelledPrompt]) -> np.ndarray:
    """Each label by a full forward pass over prompt and label."""
    scores = []
    for item in found:
        for label in item.labels:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([item.context + label])).logits[0].float()
            steps = torch.log_softmax(logits, -1)[len(item.context) - 1 : -1]
            scores.append(float(steps[range(len(label)), label].double().sum()))
    return np.reshape(scores, (len(found), -1))


def scored(scorer: LabelScorer, found: list[LabelledPrompt]) -> np.ndarray:
    at = {i: scores for pack, values in scorer.score(found) for i, scores in zip(pack, values)}
    return np.stack([at[i] for i in range(len(found))])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tokens", [1, 30, 512])
def test_equal_to_a_forward_pass_per_label(name, tokens):
    model = MODELS[name]()
    assert np.abs(scored(LabelScorer(model, tokens, "trie"), items()) - reference(model, items())).max() < 1e-4


def test_the_window_matters_here():
    wide, narrow = mistral(4000), mistral(16)
    narrow.load_state_dict(wide.state_dict())
    assert np.abs(reference(wide, items()) - reference(narrow, items())).max() > 0.01


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(6, 9), min_size=1, max_size=6), min_size=1, max_size=6), st.integers(1, 40))
def test_any_overlap_of_prompts(contexts, tokens):
    model = tiny_llama()
    found = [LabelledPrompt(context, LABELS) for context in contexts]
    assert np.abs(scored(LabelScorer(model, tokens, "trie"), found) - reference(model, found)).max() < 1e-4


def test_every_distinct_token_is_read_once():
    scorer = LabelScorer(tiny_llama(), 10_000, "trie")
    found = items()
    list(scorer.score(found))
    whole = {tuple(s[: i + 1]) for item in found for label in item.labels
             for s in [item.context + label] for i in range(len(s) - 1)}  # fmt: skip
    assert scorer.tokens_read == len(whole)


def test_auto_takes_the_trie_where_it_is_right_and_plain_passes_elsewhere():
    scorer = LabelScorer(tiny_llama())
    scored(scorer, items())
    assert (scorer.method, scorer.reason) == ("trie", None)
    model = bloom()
    scorer = LabelScorer(model)
    assert np.abs(scored(scorer, items()) - reference(model, items())).max() < 1e-4
    assert scorer.method == "full"
    assert "ValueError" in scorer.reason


def test_auto_sees_a_mask_that_is_not_heeded(monkeypatch):
    from hf_mlalign.spontaneous.classification import label_scoring

    whole = label_scoring.ancestors
    monkeypatch.setattr(label_scoring, "ancestors", lambda parents: np.tril(np.ones_like(whole(parents))))
    model = tiny_llama()
    scorer = LabelScorer(model)
    assert np.abs(scored(scorer, items()) - reference(model, items())).max() < 1e-4
    assert "differ by" in scorer.reason


@pytest.mark.parametrize(("window", "method"), [(70, "full"), (500, "trie")])
def test_auto_sees_attention_that_counts_tokens_as_they_are_stored(window, method):
    """40 shared tokens and 9 to 15 more a prompt: each alone is within a window of 70, a pack of them is not."""
    found = items()
    assert max(item.longest for item in found) < 70
    model = gpt_neo(window)
    scorer = LabelScorer(model)
    assert np.abs(scored(scorer, found) - reference(model, found)).max() < 1e-4
    assert scorer.method == method
    if method == "full":
        assert "differ by" in scorer.reason
        assert np.abs(scored(LabelScorer(model, method="trie"), found) - reference(model, found)).max() > 0.01


def test_the_fullest_group_is_the_one_compared():
    model = gpt_neo(70)
    scorer = LabelScorer(model)
    scorer.check([items(1), [], items(9), items(2)])
    assert scorer.method == "full"
    scorer = LabelScorer(model)
    scorer.check([items(1), items(2)])
    assert scorer.method == "trie"


def test_other_attention_is_scored_plainly():
    model = tiny_llama()
    model.config._attn_implementation = "flash_attention_2"
    scorer = LabelScorer(model)
    scorer.check([items()])
    assert (scorer.method, scorer.reason) == ("full", "attention 'flash_attention_2' takes no 4-D mask")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits(dtype):
    model = tiny_llama().to(dtype)
    scorer = LabelScorer(model)
    found = scored(scorer, items())
    assert scorer.method == "trie"
    assert found.dtype == np.float64
    assert np.abs(found - reference(model, items())).max() < 0.2


def test_eager_attention_and_training_mode():
    model = tiny_gpt2()
    model.set_attn_implementation("eager")
    model.train()
    found = scored(LabelScorer(model, method="trie"), items())
    assert model.training
    assert np.abs(found - reference(model.eval(), items())).max() < 1e-4


def test_a_model_on_several_devices(tmp_path):
    from accelerate import disk_offload, dispatch_model

    model = tiny_llama()
    expected = reference(model, items())
    spread = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu",
              "model.rotary_emb": "cpu", "lm_head": "disk"}  # fmt: skip
    model = dispatch_model(model, spread, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True)
    assert np.abs(scored(LabelScorer(model), items()) - expected).max() < 1e-4
    model = tiny_llama()
    disk_offload(model, str(tmp_path / "all"), execution_device=torch.device("cpu"))
    assert np.abs(scored(LabelScorer(model), items()) - expected).max() < 1e-4


def test_bad_input():
    with pytest.raises(DataError, match="method: 'fast'"):
        LabelScorer(tiny_llama(), method="fast")
    with pytest.raises(DataError, match="batch_tokens: 0"):
        LabelScorer(tiny_llama(), 0)
    with pytest.raises(DataError, match="token 262, the model's embedding has 262 rows"):
        list(LabelScorer(tiny_llama(), method="trie").score([LabelledPrompt([5, 262], LABELS)]))
    with pytest.raises(DataError, match="token 262, the model's embedding has 262 rows"):
        LabelScorer(tiny_llama()).check([items(2), [LabelledPrompt([5, 262], LABELS)]])
    assert list(LabelScorer(tiny_llama()).score([])) == []
