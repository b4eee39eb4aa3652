"""What CMAlignTrainer relies on in TRL beyond signatures; where it no longer holds, training stops and says so."""

import pytest
import torch
from trl import DPOTrainer

from hf_mlalign.core.errors import DataError
from tests.cmalign.test_trainer import first_batch, trainer

EXPECTED = r"^trl \d[\d.]* differs from what CMAlignTrainer builds on: "


def loss_of(run):
    batch = first_batch(run)
    run.model.train()
    return run.compute_loss(run.model, dict(batch))


def calls_of(module) -> list[dict]:
    """What each later call of `module` gets and gives."""
    calls: list[dict] = []

    def note(module, args, kwargs, output):
        rows = (kwargs.get("input_ids") if args == () else args[0]).shape[0]
        calls.append({"rows": rows, "grad": torch.is_grad_enabled(), "states": getattr(output, "hidden_states", None)})

    module.register_forward_hook(note, with_kwargs=True)
    return calls


def test_one_call_of_the_backbone_for_each_model_on_the_whole_batch(tmp_path):
    """And no hidden states unless they are asked for: they are taken from the backbone by a hook."""
    run = trainer(tmp_path, kind=DPOTrainer)
    policy, reference, head = (calls_of(m) for m in (run.model.base_model, run.ref_model.base_model, run.model))
    loss_of(run)
    rows = 2 * run.args.per_device_train_batch_size
    assert policy == [{"rows": rows, "grad": True, "states": None}]
    assert reference == [{"rows": rows, "grad": False, "states": None}]
    assert [call["states"] for call in head] == [None]


def test_the_fused_head_gives_log_probabilities_and_no_logits(tmp_path):
    run, outputs = trainer(tmp_path, kind=DPOTrainer), []
    run.model.register_forward_hook(lambda module, args, output: outputs.append(output))
    loss_of(run)
    (output,) = outputs
    assert output.log_probs.shape[0] == 2 * run.args.per_device_train_batch_size
    assert getattr(output, "logits", None) is None


def test_a_backbone_that_is_called_row_by_row_is_noticed(tmp_path, monkeypatch):
    whole = DPOTrainer._compute_loss

    def halves(self, model, inputs, return_outputs):
        n = inputs["input_ids"].shape[0] // 2
        first = {k: torch.cat([v[: n // 2], v[n : n + n // 2]]) for k, v in inputs.items()}
        return whole(self, model, first, return_outputs)

    run = trainer(tmp_path, consistency_weight=1.0)
    monkeypatch.setattr(DPOTrainer, "_compute_loss", halves)
    with pytest.raises(DataError, match=EXPECTED + "no call of the backbone on the batch of pairs"):
        loss_of(run)


def test_a_loss_without_the_backbone_is_noticed(tmp_path, monkeypatch):
    run = trainer(tmp_path, consistency_weight=1.0)
    monkeypatch.setattr(DPOTrainer, "_compute_loss", lambda self, model, inputs, return_outputs: torch.zeros(()))
    with pytest.raises(DataError, match=EXPECTED + "no call of the backbone"):
        loss_of(run)


def test_the_policy_under_no_grad_first_is_noticed(tmp_path, monkeypatch):
    """As an adapted model would be called, if the reference's pass (adapter off) came before the policy's."""
    whole = DPOTrainer._compute_loss

    def reference_first(self, model, inputs, return_outputs):
        with torch.no_grad():
            model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        return whole(self, model, inputs, return_outputs)

    run = trainer(tmp_path, consistency_weight=1.0)
    monkeypatch.setattr(DPOTrainer, "_compute_loss", reference_first)
    with pytest.raises(DataError, match=EXPECTED + "the reference model called before the policy"):
        loss_of(run)


def test_log_probabilities_that_are_gone_are_noticed(tmp_path, monkeypatch):
    whole = DPOTrainer._compute_loss

    def once_more(self, model, inputs, return_outputs):
        self.ref_model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        return whole(self, model, inputs, return_outputs)

    run = trainer(tmp_path, weight_by_margin=True)
    monkeypatch.setattr(DPOTrainer, "_compute_loss", once_more)
    with pytest.raises(DataError, match=EXPECTED + "other log-probabilities than those of both models"):
        loss_of(run)


def test_another_formula_is_noticed(tmp_path, monkeypatch):
    whole = DPOTrainer._compute_loss
    run = trainer(tmp_path, weight_by_margin=True)
    monkeypatch.setattr(DPOTrainer, "_compute_loss", lambda self, *given: 1.1 * whole(self, *given))
    with pytest.raises(DataError, match=EXPECTED + "another formula of the sigmoid loss"):
        loss_of(run)


def test_the_formula_is_held_to_the_loss_once(tmp_path):
    run = trainer(tmp_path, weight_by_margin=True)
    assert not run._formula_checked
    loss_of(run)
    assert run._formula_checked
    mixed = trainer(tmp_path, weight_by_margin=True, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5])
    loss_of(mixed)
    assert not mixed._formula_checked  # the other term is in the loss, too


def test_the_first_half_of_a_batch_is_chosen():
    """The consistency term takes that half of TRL's collator."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    batch = DataCollatorForPreference(pad_token_id=0)([
        {"prompt_ids": [1, 2], "chosen_ids": [4], "rejected_ids": [6, 6]},
        {"prompt_ids": [7], "chosen_ids": [9, 9], "rejected_ids": [10]},
    ])  # fmt: skip
    assert batch["input_ids"].tolist() == [[1, 2, 4, 0], [7, 9, 9, 0], [1, 2, 6, 6], [7, 10, 0, 0]]
    assert batch["completion_mask"].tolist() == [[0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
