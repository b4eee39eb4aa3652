"""Rewards that run a model, on tiny models built from configs, against arithmetic done token by token."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder
from hf_mlalign.cmalign.model_rewards import (
    HiddenStateReward,
    ImplicitReward,
    TranslationReward,
    prompt_ids,
)
from hf_mlalign.core.errors import DataError
from hf_mlalign.models.loading import load_model
from tests.cmalign.conftest import table

WORDS = [
    "good",
    "bad",
    "fair",
    "worse",
    "one",
    "two",
    "three",
    "vier",
    "fünf",
    "sechs",
    "acht",
    "elf",
    "p1",
    "in",
    "en",
    "de",
]
CHAT = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
ROWS = [
    ("p1", "en", "good one"), ("p1", "en", "good one two"), ("p1", "en", "bad three"),
    ("p1", "de", "fair vier"), ("p1", "de", "bad"), ("p1", "de", "worse fünf sechs acht elf"), ("p1", "de", ""),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    words = ["<pad>", "</s>", "<unk>", "user", "assistant", *WORDS]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", chat_template=CHAT
    )


def causal(tokenizer, seed):
    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=4, n_head=2, bos_token_id=1, eos_token_id=1
        )
    )


@pytest.fixture(scope="module")
def translator(tokenizer):
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, pad_token_id=0,
                      eos_token_id=1, decoder_start_token_id=0, dropout_rate=0.0)  # fmt: skip
    return T5ForConditionalGeneration(config)


def test_translation_cross_entropy_by_hand(tokenizer, translator):
    reward = TranslationReward((translator, tokenizer), batch_size=2)
    sources, targets = ["fair vier", "bad", "worse fünf sechs acht elf"], ["good one", "bad three one", "two"]
    found = reward.cross_entropies(sources, targets, ["de"] * 3)
    for source, target, value in zip(sources, targets, found, strict=True):
        ids, labels = tokenizer(source, return_tensors="pt").input_ids, tokenizer(target).input_ids
        decoder = torch.tensor([[0, *labels[:-1]]])
        with torch.no_grad():
            logits = translator(input_ids=ids, decoder_input_ids=decoder).logits[0]
        total = -sum(torch.log_softmax(logits[i].double(), 0)[label].item() for i, label in enumerate(labels))
        assert value == pytest.approx(total / len(labels), abs=1e-5)


def test_translation_builds_pairs(tokenizer, translator, counting_encoder):
    options = {"model": (translator, tokenizer)}
    builder = CMAlignPreferenceBuilder(
        "translation", model=counting_encoder, reward_options=options, require_language=False
    )
    pairs = builder.build(table(ROWS))
    entropies = 1 / builder.result_.scores[3:6]
    assert np.isnan(builder.result_.scores[[0, 1, 2, 6]]).all()
    assert pairs["score_chosen"] == pytest.approx([1 / entropies.min()])


def test_translation_languages(tokenizer, translator):
    class Tagged:
        pad_token_id, src_lang, tgt_lang, seen = 0, "eng_Latn", "eng_Latn", ()

        def __call__(self, texts=None, text_target=None, **options):
            self.seen = (*self.seen, (self.src_lang, self.tgt_lang))
            return {"input_ids": [[3, 4] for _ in (texts or text_target)]}

        def convert_tokens_to_ids(self, token):
            return 3

    tagged = Tagged()
    reward = TranslationReward((translator, tagged))
    found = reward.cross_entropies(["a", "b"], ["x", "y"], ["de", "sw"])
    assert tagged.seen == (("deu_Latn", "eng_Latn"), ("swh_Latn", "eng_Latn"), ("eng_Latn", "eng_Latn"))
    with torch.no_grad():
        logits = translator(input_ids=torch.tensor([[3, 4]]), decoder_input_ids=torch.tensor([[0, 3]])).logits[0]
    assert found == pytest.approx([-torch.log_softmax(logits[1], 0)[4].item()] * 2, abs=1e-5)  # the tag 3 is left out
    with pytest.raises(DataError, match="no tag for 'xx'"):
        reward.cross_entropies(["a"], ["x"], ["xx"])


def test_implicit_reward_by_hand(tokenizer):
    tuned, base = causal(tokenizer, 0), causal(tokenizer, 1)
    reward = ImplicitReward((tuned, tokenizer), (base, tokenizer), batch_size=2)
    prompts, responses = ["p1 in en"] * 3, ["fair vier", "bad", "worse fünf sechs acht elf"]
    found = reward.log_probs((tuned.eval(), tokenizer), prompts, responses)
    start = prompt_ids(tokenizer, "p1 in en")
    assert tokenizer.decode(start) == "user p1 in en"
    for response, value in zip(responses, found, strict=True):
        ids = [*start, *tokenizer(response).input_ids, tokenizer.eos_token_id]
        with torch.no_grad():
            logits = torch.log_softmax(tuned(torch.tensor([ids])).logits[0].double(), -1)
        expected = sum(logits[i - 1, ids[i]].item() for i in range(len(start), len(ids)))
        assert value == pytest.approx(expected, abs=1e-4)


def test_implicit_reward_uses_the_english_prompt_and_the_penalty(tokenizer, counting_encoder):
    tuned, base = causal(tokenizer, 0), causal(tokenizer, 1)
    scores = {}
    for penalty in (0.0, 0.5, "auto"):
        options = {"model": (tuned, tokenizer), "reference_model": (base, tokenizer), "length_penalty": penalty}
        builder = CMAlignPreferenceBuilder(
            "implicit", model=counting_encoder, reward_options=options, require_language=False, max_length_ratio=None
        )
        builder.build(table(ROWS))
        scores[penalty] = builder.result_.scores[3:6]
    reward = ImplicitReward((tuned, tokenizer), (base, tokenizer))
    texts = [row[2] for row in ROWS[3:6]]
    gain = reward.log_probs((tuned, tokenizer), ["p1 in en"] * 3, texts) - reward.log_probs(
        (base, tokenizer), ["p1 in en"] * 3, texts
    )
    assert scores[0.0] == pytest.approx(gain, abs=1e-4)
    assert scores[0.5] == pytest.approx(gain - 0.5 * np.array([len(t) for t in texts]), abs=1e-4)
    best, worst = (texts[int(f(scores["auto"]))] for f in (np.argmax, np.argmin))
    longest, shortest = (texts[int(f(scores[0.0]))] for f in (np.argmax, np.argmin))
    assert len(best) - len(worst) <= max(0, len(longest) - len(shortest))


def test_hidden_state_by_hand(tokenizer):
    model = causal(tokenizer, 0).eval()
    texts = ["good one", "bad", "worse fünf sechs acht elf", ""]
    for layer, place in ((None, 2), (1, 1), (-1, 4)):
        found = HiddenStateReward((model, tokenizer), layer=layer, batch_size=3).vectors(texts)
        for text, vector in zip(texts[:3], found, strict=False):
            with torch.no_grad():
                states = model(tokenizer(text, return_tensors="pt").input_ids, output_hidden_states=True).hidden_states
            assert vector == pytest.approx(states[place][0].mean(0).numpy(), abs=1e-5)
        assert not found[3].any()
    with pytest.raises(DataError, match="hidden states 0 to 4"):
        HiddenStateReward((model, tokenizer), layer=9).vectors(texts)


def test_hidden_state_builds_pairs(tokenizer):
    model = causal(tokenizer, 0)
    options = {"model": (model, tokenizer), "layer": 2}
    builder = CMAlignPreferenceBuilder("hidden_state", reward_options=options, require_language=False)
    builder.build(table(ROWS))
    reward = HiddenStateReward((model, tokenizer), layer=2)
    vectors = reward.vectors([row[2] for row in ROWS])
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    english = unit[:3] @ unit[:3].T
    reference = int((english.sum(1) - 1).argmax())
    assert builder.result_.samples.reference.tolist() == [reference]
    assert builder.result_.scores[3:6] == pytest.approx(unit[3:6] @ unit[reference], abs=1e-5)


def test_models_by_name(tokenizer, tmp_path):
    causal(tokenizer, 0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, loaded = load_model(str(tmp_path), device="cpu")
    assert not model.training
    assert loaded("good").input_ids == tokenizer("good").input_ids


def test_bad_models():
    for bad in (3, (1, 2, 3)):
        with pytest.raises(DataError, match="model: expected"):
            load_model(bad)
    with pytest.raises(DataError, match="batch_size"):
        HiddenStateReward("x", batch_size=0)
    with pytest.raises(DataError, match="hidden_state"):
        HiddenStateReward()


def test_unknown_model_names(tmp_path):
    with pytest.raises(DataError, match="model: cannot load .*nowhere' as a causal LM"):
        load_model(str(tmp_path / "nowhere"))


def test_prompts_of_several_turns(tokenizer):
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    assert tokenizer.decode(prompt_ids(tokenizer, turns)) == "user one assistant two"
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    assert plain.decode(prompt_ids(plain, turns)) == "one two"
