"""RewardModelJudge on tiny models built from configs: with a chat template, with text pairs, one class and several."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.judges.reward_model import RewardModelJudge
from tests.tiny_models import byte_tokenizer, saved

PROMPTS = ["Hi", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"},
                  {"role": "user", "content": "And now?"}], "Wie geht es dir heute?", "Hi"]  # fmt: skip
A = ["Hello there, how are you?", "yes", "gut", "same"]
B = ["no", "a longer answer than the other one", "Sehr gut, danke der Nachfrage.", "same"]


def llama(labels: int = 1, pad: int | None = 0, context: int = 256):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=262, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=context, pad_token_id=pad, bos_token_id=1, eos_token_id=2,
        initializer_range=0.3, num_labels=labels,
    )  # fmt: skip
    return LlamaForSequenceClassification(config)


def bert():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=262, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                        num_attention_heads=2, max_position_embeddings=128, num_labels=1, pad_token_id=0,
                        initializer_range=0.3)  # fmt: skip
    return BertForSequenceClassification(config)


def judge(model, template: bool = True, **options) -> RewardModelJudge:
    tokenizer = byte_tokenizer() if template else byte_tokenizer(None)
    return RewardModelJudge((model, tokenizer), **{"progress": False, **options})


def logits_by_hand(model, text: str) -> torch.Tensor:
    ids = byte_tokenizer()(text)["input_ids"]
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids])).logits[0]


def test_preferences_are_those_of_the_models_logits():
    model = llama()
    chats = [f"<|user|>Hi<|end|><|assistant|>{answer}<|end|>" for answer in (A[0], B[0])]
    difference = (logits_by_hand(model, chats[0]) - logits_by_hand(model, chats[1])).item()
    assert abs(difference) > 0.01
    found = judge(model).compare(PROMPTS, A, B)
    assert found.preferences[0] == pytest.approx(1 / (1 + np.exp(-difference)), abs=1e-6)
    assert found.preferences[3] == 0.5
    np.testing.assert_array_equal(found.predictions, found.swapped_predictions)
    np.testing.assert_allclose(judge(model)(PROMPTS, B, A), 1 - found.preferences, atol=1e-12)
    hard = judge(model, hard=True)(PROMPTS, A, B)
    np.testing.assert_array_equal(hard, np.where(found.preferences > 0.5, 1, np.where(found.preferences < 0.5, 0, 0.5)))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_batches_do_not_matter(batch_size):
    for model, template in ((llama(), True), (bert(), False), (llama(pad=None), True)):
        alone = judge(model, template, batch_size=1)(PROMPTS, A, B)
        np.testing.assert_allclose(judge(model, template, batch_size=batch_size)(PROMPTS, A, B), alone, atol=1e-5)


def test_all_turns_are_read_with_and_without_a_template():
    for model, template in ((llama(), True), (bert(), False)):
        reads = judge(model, template)
        cut = [PROMPTS[1][-1:]]
        assert reads(PROMPTS[1:2], A[1:2], B[1:2])[0] != pytest.approx(reads(cut, A[1:2], B[1:2])[0], abs=1e-6)


def test_several_classes():
    model = llama(labels=3)
    with pytest.raises(DataError, match=r"label: None is none of the 3 classes LABEL_0, LABEL_1, LABEL_2"):
        judge(model)(PROMPTS, A, B)
    named, numbered = (judge(model, label=label)(PROMPTS, A, B) for label in ("LABEL_2", 2))
    np.testing.assert_array_equal(named, numbered)
    logits = [logits_by_hand(model, f"<|user|>Hi<|end|><|assistant|>{x}<|end|>").double() for x in (A[0], B[0])]
    odds = [(z.softmax(-1)[2] / (1 - z.softmax(-1)[2])).item() for z in logits]
    assert named[0] == pytest.approx(odds[0] / (odds[0] + odds[1]), abs=1e-6)
    two = llama(labels=2)
    np.testing.assert_array_equal(judge(two)(PROMPTS, A, B), judge(two, label=1)(PROMPTS, A, B))


def test_texts_that_are_too_long_are_left_out_or_cut():
    model = llama(context=60)
    found = judge(model).compare(["Hi", "Hi"], ["x" * 70, "short"], ["short", "other"])
    assert np.isnan(found.preferences[0])
    assert not np.isnan(found.preferences[1])
    assert found.reasons[0] == "candidate: 76 tokens are more than the model's 60"
    cut = judge(model, truncate=True)(["Hi"], ["x" * 70], ["x" * 90])
    assert cut.tolist() == [0.5]  # the same 60 tokens


def test_by_name(tmp_path):
    name = saved(llama(), tmp_path / "rm")
    by_name = RewardModelJudge(name, progress=False, device="cpu")
    np.testing.assert_allclose(by_name(PROMPTS, A, B), judge(llama())(PROMPTS, A, B), atol=1e-6)
    assert by_name.describe()["model"] == name


def test_other_weights_are_another_judge(tmp_path):
    name, model = saved(llama(), tmp_path / "rm"), llama()
    before = RewardModelJudge(name).describe(), judge(model).describe()
    assert (RewardModelJudge(name).describe(), judge(model).describe()) == before
    with torch.no_grad():
        model.score.weight.add_(1.0)
    saved(model, tmp_path / "rm")
    after = RewardModelJudge(name).describe(), judge(model).describe()
    for new, old in zip(after, before, strict=True):
        assert [key for key in old if new[key] != old[key]] == ["weights"]


def test_models_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="cannot load '/no/such/model' as a reward model"):
        RewardModelJudge("/no/such/model")(["q"], ["a"], ["b"])
    with pytest.raises(DataError, match="expected a name, a folder or"):
        RewardModelJudge(llama())
    with pytest.raises(DataError, match="batch_size"):
        RewardModelJudge("x", batch_size=0)
    broken = llama()
    with torch.no_grad():
        broken.score.weight.fill_(float("nan"))
    found = judge(broken).compare(["q"], ["a"], ["b"])
    assert np.isnan(found.preferences).all()
    assert "not a finite number" in found.reasons[0]
