"""The logit lens: against models' own logits, against probabilities worked out by hand, on many architectures."""

import math

import numpy as np
import pytest
import torch

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.lens.answers import continuations, logit_lens
from hf_mlalign.spontaneous.lens.hidden_states import Layers
from hf_mlalign.spontaneous.lens.result import LensResult
from tests.tiny_models import byte_tokenizer, tiny_gpt2, tiny_llama

PROMPTS = ["Deutsch: eins", "English: one", "Français : un deux trois", "日本語 一"]
LANGUAGES = ["de", "en", "fr", "ja"]
TARGETS = {
    "de": ["ja", None, None, None],
    "fr": [None, None, "oui", None],
    "ja": [None, None, None, ["はい", "うん"]],
    "en": {"yes", "yep"},
}
SIZE = {"vocab_size": 262, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "pad_token_id": 0,
        "num_attention_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2}  # fmt: skip
GROUPED = {"num_key_value_heads": 1, "head_dim": 16}
CONFIGS = {
    "qwen3": SIZE | GROUPED,
    "gemma2": SIZE | GROUPED | {"final_logit_softcapping": 2.0},
    "gemma3_text": SIZE | GROUPED,
    "mistral": SIZE | {"num_key_value_heads": 1},
    "mixtral": SIZE | {"num_key_value_heads": 1, "num_local_experts": 3},
    "cohere": SIZE | {"logit_scale": 0.5},
    "granite": SIZE | {"logits_scaling": 4.0},
    "gpt_neox": SIZE,
    "phi": SIZE,
    "falcon": SIZE,
    "opt": SIZE | {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False, "init_std": 0.2},
    "bloom": {"vocab_size": 262, "hidden_size": 32, "n_layer": 3, "n_head": 2, "initializer_range": 0.2},
}


def built(kind: str, dtype=torch.float32):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **CONFIGS[kind])).eval().to(dtype)


def own_probabilities(model, tokenizer, prompt: str) -> np.ndarray:
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        return model(ids).logits[0, -1].float().softmax(-1).numpy()


def first(text: str) -> int:
    return byte_tokenizer()(text).input_ids[0]


@pytest.mark.parametrize("kind", ["llama", "gpt2", *CONFIGS])  # blocks of bloom and falcon return tuples
def test_last_layer_is_the_model_itself(kind):
    model = {"llama": tiny_llama, "gpt2": tiny_gpt2}[kind]() if kind in ("llama", "gpt2") else built(kind)
    tokenizer = byte_tokenizer()
    result = logit_lens(model, tokenizer, PROMPTS, TARGETS, LANGUAGES)
    assert result.probabilities.shape == (4, len(Layers(model)), 4)
    for i, answer in enumerate(("j", "y", "o", "は")):
        own = own_probabilities(model, tokenizer, PROMPTS[i])
        tokens = {first(answer)} | ({first("う")} if answer == "は" else set())
        assert result.in_own_language[i, -1] == pytest.approx(own[list(tokens)].sum(), rel=1e-4)
        assert result.in_english[i, -1] == pytest.approx(own[first("y")], rel=1e-4)
        assert result.entropy[i, -1] == pytest.approx(-(own * np.log(own)).sum(), rel=1e-4)
        assert result.top_tokens[i, -1] == tokenizer.decode([int(own.argmax())])


@pytest.mark.parametrize(("kind", "span"), [("llama", "first"), ("gemma2", "first"), ("gpt2", "word")])
def test_batches_equal_single_prompts(kind, span):
    model = {"llama": tiny_llama, "gpt2": tiny_gpt2}.get(kind, lambda: built(kind))()
    options = {"span": span, "languages": LANGUAGES}
    single = logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, batch_size=1, **options)
    batched = logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, batch_size=64, **options)
    np.testing.assert_allclose(single.probabilities, batched.probabilities, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(single.entropy, batched.entropy, rtol=1e-5)


def test_blocks_that_add_nothing_leave_every_layer_the_same():
    model = tiny_llama(layers=3)
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        model.model.norm.weight.copy_(torch.linspace(0.5, 2.0, 32))
    result = logit_lens(model, byte_tokenizer(), ["ab"], {"de": "ja", "en": "yes"})
    with torch.no_grad():
        hidden = model.model.embed_tokens.weight[first("b")]
        normed = hidden / (hidden.pow(2).mean() + model.config.rms_norm_eps).sqrt() * torch.linspace(0.5, 2.0, 32)
        expected = (model.lm_head.weight @ normed).softmax(-1)
    np.testing.assert_allclose(result.in_own_language[0], expected[first("j")].item(), rtol=1e-4)
    np.testing.assert_allclose(result.in_english[0], expected[first("y")].item(), rtol=1e-4)


def answering_in_block(n_layers: int, changes: dict[int, str]):
    """A Llama whose head reads one dimension a token, and whose block l writes a long state towards one token."""
    model = tiny_llama(layers=n_layers, width=264)
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
        model.model.embed_tokens.weight[:, 0] = 100.0
        model.lm_head.weight.copy_(torch.eye(262, 264))
        for i, block in enumerate(model.model.layers):
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
            if i + 1 in changes:
                block.register_forward_hook(writing(first(changes[i + 1])))
    return model


def writing(token: int):
    def hook(module, args, output):
        state = torch.zeros_like(output)
        state[..., token] = 100.0
        return state

    return hook


def test_probability_jumps_where_a_block_writes_the_answer():
    """English after block 2, German after block 4: the picture of a model that thinks in English, by construction.

    A state with one non-zero dimension is normed to √264 there: p = e^√264 / (e^√264 + 261), else 1 / (…).
    """
    model = answering_in_block(4, {2: "y", 4: "j"})
    result = logit_lens(model, byte_tokenizer(), ["eins", "zwei drei"], {"de": "ja", "en": "yes"})
    high = math.exp(math.sqrt(264)) / (math.exp(math.sqrt(264)) + 261)
    low = high / math.exp(math.sqrt(264))
    for row in (0, 1):
        np.testing.assert_allclose(result.in_english[row], [low, low, high, high, low], rtol=1e-3)
        np.testing.assert_allclose(result.in_own_language[row], [low, low, low, low, high], rtol=1e-3)
        assert list(result.top_tokens[row, 2:]) == ["y", "y", "j"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_other_dtypes(kind, dtype):
    model = (tiny_llama() if kind == "llama" else built(kind)).to(dtype)
    result = logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    own = own_probabilities(model, byte_tokenizer(), PROMPTS[0])
    assert result.probabilities.dtype == np.float32
    assert result.in_own_language[0, -1] == pytest.approx(own[first("j")], rel=0.1)


def test_whole_words_are_products_of_their_tokens():
    model, tokenizer = tiny_llama(), byte_tokenizer()
    result = logit_lens(model, tokenizer, PROMPTS[:1], {"de": "ja", "en": "yes"}, span="word")
    expected = 0.0
    for spelling in ("yes", " yes"):
        probability = 1.0
        for j, letter in enumerate(spelling):
            probability *= own_probabilities(model, tokenizer, PROMPTS[0] + spelling[:j])[first(letter)]
        expected += probability
    assert result.in_english[0, -1] == pytest.approx(expected, rel=1e-4)


def test_answer_that_continues_another_is_not_counted_twice():
    model = tiny_llama()
    short = logit_lens(model, byte_tokenizer(), ["a"], {"de": [["j"]], "en": "yes"}, span="word")
    both = logit_lens(model, byte_tokenizer(), ["a"], {"de": [["j", "ja"]], "en": "yes"}, span="word")
    np.testing.assert_array_equal(short.in_own_language, both.in_own_language)


def test_adapter_before_and_after():
    from peft import LoraConfig, get_peft_model

    plain = logit_lens(tiny_llama(), byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    model = get_peft_model(tiny_llama(), LoraConfig(target_modules=["v_proj", "lm_head"], r=2))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    after = logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    with model.disable_adapter():
        before = logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    np.testing.assert_allclose(before.probabilities, plain.probabilities, rtol=1e-5)
    assert np.nanmax(abs(after.probabilities - before.probabilities)) > 1e-3
    merged = logit_lens(model.merge_and_unload(), byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    np.testing.assert_allclose(after.probabilities, merged.probabilities, rtol=1e-3, atol=1e-7)


def test_offloaded_weights():
    """accelerate replaces `forward` of the modules it shards or offloads; both are there again afterwards."""
    from accelerate import cpu_offload

    plain = logit_lens(tiny_llama(), byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    model = cpu_offload(tiny_llama(), execution_device=torch.device("cpu"))
    forwards = {name: vars(module).get("forward") for name, module in model.named_modules()}
    assert model.model.embed_tokens.weight.device.type == "meta"
    found = logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    np.testing.assert_allclose(found.probabilities, plain.probabilities, rtol=1e-5)
    assert forwards == {name: vars(module).get("forward") for name, module in model.named_modules()}


def test_prompt_learning_adapters_are_refused():
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(tiny_llama(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(DataError, match="nor can prompt-learning adapters"):
        logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)


def test_model_is_left_as_it_was():
    model = tiny_llama().train()
    before = {name: id(block.forward.__func__) for name, block in model.named_modules() if hasattr(block, "forward")}
    logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    assert model.training
    assert all("forward" not in vars(module) for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.layers)
    assert before == {n: id(b.forward.__func__) for n, b in model.named_modules() if hasattr(b, "forward")}


def test_a_model_that_cannot_be_read_is_refused():
    model = tiny_llama()
    model.lm_head.register_forward_hook(lambda module, args, out: out + 0.1 * torch.randn_like(out))
    with pytest.raises(DataError, match="differs from its own logits by"):
        logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)


def test_logits_that_are_not_finite():
    model = tiny_llama()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        logit_lens(model, byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)


def test_overlapping_first_tokens_are_reported():
    targets = {"de": ["Winter", "Sommer"], "en": ["winter", "Summer"]}
    result = logit_lens(tiny_llama(), byte_tokenizer(), ["Jahreszeit: ", "Zeit: "], targets, "de")
    assert result.shares_token.tolist() == [False, True]
    assert result.notes == ["de: in 1 of 2 prompts (first: row 1) the answer shares tokens with the English one; "
                            "both probabilities count them"]  # fmt: skip
    assert result.per_language()[["n", "n_overlap"]].iloc[0].tolist() == [2, 1]
    assert result.per_language(without_overlap=True)[["n", "n_overlap"]].iloc[0].tolist() == [1, 1]
    np.testing.assert_allclose(result.per_language(without_overlap=True)["own"], result.in_own_language[0], rtol=1e-6)
    whole = logit_lens(tiny_llama(), byte_tokenizer(), ["Jahreszeit: ", "Zeit: "], targets, "de", span="word")
    assert whole.shares_token.tolist() == [False, False]


def metaspace_tokenizer():
    """Words of a SentencePiece kind: "▁" stands for a space and is put before a text that does not begin with one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "▁", "▁yes", "yes", "\n", "▁\n", "是", "▁ja"]
    tokenizer = Tokenizer(models.Unigram([(word, -float(i + 1)) for i, word in enumerate(words)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_first_tokens_with_and_without_a_space():
    tokenizer = metaspace_tokenizer()
    assert tokenizer("yes").input_ids == [2]
    assert continuations(tokenizer, "yes") == {(2,), (3,)}
    assert continuations(tokenizer, "是") == {(6,)}
    assert continuations(tokenizer, "是", "word") == {(6,), (1, 6)}
    assert continuations(tokenizer, "no") == set()  # it knows no such letters
    assert continuations(byte_tokenizer(), "ja") == {(first("j"),)}


def test_first_tokens_where_the_tokenizer_knows_no_line_break():
    """Its unknown token swallows what follows the line break: "▁⏎ho", "t"."""
    from hf_mlalign.cli.demo.tiny_dpo import tiny_causal_lm

    _, tokenizer = tiny_causal_lm(["The opposite of cold:", "Das Gegenteil von kalt:", "small hot klein heiß warm"])
    tokens = {tokenizer.convert_ids_to_tokens(s[0]) for s in continuations(tokenizer, "hot")}
    assert tokenizer.tokenize("\nhot")[0].endswith("ho")
    assert "t" not in tokens
    assert "▁hot" in tokens


def test_tokenizer_that_ends_texts_with_a_special_token():
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A <|end|>", special_tokens=[("<s>", 1), ("<|end|>", 2)]
    )
    assert tokenizer("a").input_ids == [1, first("a"), 2]
    result = logit_lens(tiny_llama(), tokenizer, ["abc"], {"de": "ja", "en": "yes"})
    with torch.no_grad():
        ids = torch.tensor([[1, first("a"), first("b"), first("c")]])
        own = tiny_llama()(ids).logits[0, -1].softmax(-1)
    assert result.in_english[0, -1] == pytest.approx(own[first("y")].item(), rel=1e-4)


def test_saved_and_loaded(tmp_path):
    result = logit_lens(tiny_llama(), byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    loaded = LensResult.load(result.save(tmp_path / "lens.npz"))
    for name, value in vars(result).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
    frame = loaded.to_pandas()
    assert len(frame) == 4 * 3
    assert list(frame.columns) == ["row", "language", "layer", "own", "english", "entropy", "top_token", "overlap"]
    with pytest.raises(DataError, match="does not end in .npz"):
        result.save(tmp_path / "lens.pickle")
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    with pytest.raises(DataError, match="cannot read"):
        LensResult.load(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {"en": "yes"}, "languages": "de"}, "prompt 0 is in 'de' and has no answer"),
        ({"targets": {"de": ["ja"], "en": "yes"}}, "has 1 entries for 4 prompts"),
        ({"targets": {"de": ["ja", " ", "ja", "ja"]}}, "row 1: ' ' is not an answer"),
        ({"targets": {}}, "give a dict"),
        ({"targets": {"xx": "ja"}}, "unknown language 'xx'"),
        ({"languages": None}, "Say which one each prompt is in"),
        ({"languages": ["de"]}, "has 1 entries for 4 prompts"),
        ({"prompts": ["a", ""]}, "prompts, row 1: '' is not a text"),
        ({"prompts": []}, "at least one"),
        ({"prompts": ["x" * 600, *PROMPTS[1:]]}, "row 0: 600 tokens with the answer, and the context has 512"),
        ({"span": "last"}, "Use 'first'"),
        ({"batch_size": 0}, "not positive"),
    ],
)
def test_bad_input_is_refused(changes, message):
    given = {"prompts": PROMPTS, "targets": TARGETS, "languages": LANGUAGES} | changes
    with pytest.raises(DataError, match=message):
        logit_lens(tiny_llama(), byte_tokenizer(), **given)


def test_models_of_another_kind_are_refused():
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(vocab_size=262, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(DataError, match="encoder-decoder"):
        Layers(model)
    with pytest.raises(DataError, match="no language-model head"):
        Layers(tiny_llama().model)
    small = tiny_llama()
    small.resize_token_embeddings(200)
    with pytest.raises(DataError, match="it has 262 tokens, the embedding of the model 200 rows"):
        logit_lens(small, byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)


def test_projection_is_done_in_blocks(monkeypatch):
    from hf_mlalign.spontaneous.lens import answers as lens

    whole = logit_lens(tiny_llama(), byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    seen = []
    end = Layers.end
    monkeypatch.setattr(Layers, "end", lambda self, states: seen.append(len(states)) or end(self, states))
    monkeypatch.setattr(lens, "LOGITS_PER_STEP", 5 * 262)
    blocks = logit_lens(tiny_llama(), byte_tokenizer(), PROMPTS, TARGETS, LANGUAGES)
    assert max(seen) == 5
    assert sum(seen) == 3 * 4
    np.testing.assert_allclose(whole.probabilities, blocks.probabilities, rtol=1e-5)
