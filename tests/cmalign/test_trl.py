"""The pairs go into trl.DPOTrainer as they are."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder
from tests.cmalign.conftest import table, vectors_of

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROWS = [(f"p{i}", lang, f"{word} text {i}") for i in range(6) for lang in ("en", "de", "sw")
        for word in ("good", "fair", "bad")]  # fmt: skip


def tiny():
    inner = Tokenizer(models.BPE(unk_token=None))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<pad>", "</s>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        [row[2] for row in ROWS], trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", chat_template=CHAT)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0,
                         bos_token_id=1, eos_token_id=1)  # fmt: skip
    return LlamaForCausalLM(config), LlamaForCausalLM(config), tokenizer


@pytest.mark.parametrize("output_format", ["conversational", "standard"])
def test_one_dpo_step(output_format, tmp_path):
    from trl import DPOConfig, DPOTrainer

    builder = CMAlignPreferenceBuilder("embedding", require_language=False, output_format=output_format)
    pairs = builder.build(table(ROWS), embeddings=vectors_of(ROWS))
    assert len(pairs) == 12
    model, reference, tokenizer = tiny()
    reference.load_state_dict(model.state_dict())
    before = model.lm_head.weight.detach().clone()
    args = DPOConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=4, learning_rate=1e-3, bf16=False,
        use_cpu=True, gradient_checkpointing=False, report_to="none", logging_steps=1, save_strategy="no",
    )  # fmt: skip
    trainer = DPOTrainer(model, reference, args=args, train_dataset=pairs, processing_class=tokenizer)
    loss = trainer.train().training_loss
    assert loss == pytest.approx(0.6931, abs=1e-3)
    assert not torch.equal(before, model.lm_head.weight)
