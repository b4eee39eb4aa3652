"""Answers of transformers models: draws by hand, batches, stops, templates, continuous batching."""


import numpy as np
import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.generation.requests import (
    to_messages,
)
from hf_mlalign.generation.transformers_backend import TransformersBackend, chat_ids, draw_tokens
from tests.generation.canned import PROMPTS, prompts, sampler
from tests.tiny_models import byte_tokenizer, saved, tiny_gpt2, tiny_llama


def test_draws_by_hand():
    import torch

    scores = torch.log(torch.tensor([[0.2, 0.5, 0.3]]))

    def drawn(u, temperature=1.0, top_p=1.0):
        return draw_tokens(scores, torch.tensor([[u]]), temperature, top_p).item()

    assert [drawn(u) for u in (0.0, 0.19, 0.21, 0.69, 0.71, 0.9999999)] == [0, 0, 1, 1, 2, 2]
    # Half the temperature squares the odds: 4, 25 and 9 of 38.
    assert [drawn(u, 0.5) for u in (0.1, 0.11, 0.76, 0.77)] == [0, 1, 1, 2]
    # The nucleus of 0.7 is {0.5, 0.3}: 5/8 and 3/8, likeliest first.
    assert [drawn(u, 1.0, 0.7) for u in (0.0, 0.62, 0.63, 0.9999999)] == [1, 1, 2, 2]
    assert [drawn(u, 1.0, 0.4) for u in (0.0, 0.9999999)] == [1, 1]


def test_drawn_frequencies_follow_the_softmax():
    import torch

    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    uniform = torch.linspace(0, 1, 20_001)[:-1, None]
    counts = torch.bincount(draw_tokens(logits.repeat(20_000, 1), uniform, 0.8, 1.0)[:, 0], minlength=4)
    assert np.allclose(counts.numpy() / 20_000, torch.softmax(logits / 0.8, 0).numpy(), atol=2e-4)


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
def test_answers_do_not_depend_on_batches_or_order(build, tmp_path):
    model, tokenizer = build(), byte_tokenizer()
    results = []
    for batch_size, order in ((1, range(4)), (3, (2, 0, 3, 1)), (16, range(4))):
        backend = TransformersBackend(model, tokenizer, batch_size=batch_size)
        ds = sampler(backend, max_tokens=8, top_p=0.9).sample(prompts().select(order))
        results.append({(r["prompt_id"], r["language"], r["sample"]): r["response"] for r in ds})
    assert results[0] == results[1] == results[2]
    assert len(set(results[0].values())) == 8


def test_greedy_answers_equal_generate():
    import torch

    model, tokenizer = tiny_llama(), byte_tokenizer()
    ds = sampler((model, tokenizer), n=1, max_tokens=6, temperature=0).sample(prompts())
    ids = torch.tensor([chat_ids(to_messages(PROMPTS["prompt"][0], "en"), tokenizer)])
    expected = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
    assert ds["response"][0] == tokenizer.decode(expected, skip_special_tokens=True).strip()


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_settings_of_the_models_own_config_do_not_change_draws(temperature):
    model, tokenizer = tiny_llama(), byte_tokenizer()
    plain = sampler((model, tokenizer), max_tokens=12, temperature=temperature).sample(prompts())
    own = model.generation_config
    own.repetition_penalty, own.no_repeat_ngram_size, own.min_new_tokens = 5.0, 1, 12
    own.suppress_tokens, own.top_k, own.temperature = list(range(50, 150)), 2, 0.1
    assert sampler((model, tokenizer), max_tokens=12, temperature=temperature).sample(prompts())[:] == plain[:]
    assert model.generation_config is own
    assert own.repetition_penalty == 5.0


def test_finish_reasons_and_the_padding_side():
    model, tokenizer = tiny_llama(), byte_tokenizer()
    tokenizer.padding_side = "right"
    model.generation_config.eos_token_id = list(range(100, 262))
    ds = sampler((model, tokenizer), n=6, max_tokens=3).sample(prompts())
    assert set(ds["finish_reason"]) == {"stop", "length"}
    stopped = ds.filter(lambda r: r["finish_reason"] == "stop")
    assert all(len(r["response"].encode()) <= 9 for r in stopped)
    assert tokenizer.padding_side == "right"


def test_a_prompt_longer_than_the_context_fails_alone():
    model, tokenizer = tiny_llama(context=64), byte_tokenizer()
    ds = prompts(prompt=["Hi", "x" * 100, "Ho", "He"])
    message = r"2 of 8 .*prompt 'a' in 'de': the prompt has 126 tokens; .* room for 60 .*lower max_tokens"
    with pytest.raises(DataError, match=message):
        sampler((model, tokenizer), max_tokens=4).sample(ds)
    assert len(sampler((model, tokenizer), max_tokens=4, allow_missing=True).sample(ds)) == 6


def test_model_by_name_and_its_identity(tmp_path):
    name = saved(tiny_llama(), tmp_path / "model")
    named = sampler(name, max_tokens=5)
    by_name = named.sample(prompts(), tmp_path / "out")
    assert named.sample(prompts(), tmp_path / "out")[:] == by_name[:]  # also once the model is loaded
    by_object = sampler((tiny_llama(), byte_tokenizer()), max_tokens=5).sample(prompts())
    assert by_name["response"][:] == by_object["response"][:]
    tiny_llama(seed=1).save_pretrained(name)
    with pytest.raises(DataError, match="other parameters \\(weights was"):
        sampler(name, max_tokens=5).sample(prompts(), tmp_path / "out")
    with pytest.raises(DataError, match="cannot load"):
        sampler(str(tmp_path / "nothing")).sample(prompts())
    with pytest.raises(DataError, match="tokenizer: a model object"):
        TransformersBackend(tiny_llama())


def test_templates_without_a_system_role_and_tokenizers_without_a_template():
    messages = to_messages("Hi", "en", "Short.", answer_in_language=False)
    refusing = byte_tokenizer(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m['content'] }}]{% endfor %}"
    )
    assert refusing.decode(chat_ids(messages, refusing)) == "[Short.\n\nHi]"
    bare = byte_tokenizer(template=None)
    assert bare.decode(chat_ids(messages, bare)) == "Short.\n\nHi\n\n"


def test_continuous_batching_with_a_bounded_cache():
    backend = TransformersBackend(
        tiny_llama(), byte_tokenizer(), continuous_batching=True, num_blocks=64, page_size=16, max_batch_tokens=128
    )
    greedy = sampler(backend, n=1, max_tokens=6, temperature=0).sample(prompts())
    padded = sampler((tiny_llama(), byte_tokenizer()), n=1, max_tokens=6, temperature=0).sample(prompts())
    assert greedy["response"][:] == padded["response"][:]
    drawn = sampler(backend, n=3, max_tokens=4).sample(prompts())
    assert len(set(drawn["response"])) > 6
