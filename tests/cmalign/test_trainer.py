"""CMAlignTrainer: plain DPO at λ = 0, the consistency term by hand, weighting, and what it is combined with."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from hf_mlalign.cmalign.trainer import OVERRIDDEN, CMAlignTrainer, DataCollatorForCMAlign, mean_states
from hf_mlalign.cmalign.trainer_config import CMAlignConfig
from hf_mlalign.core.errors import DataError
from tests.cmalign.preference_rows import messages, preference_rows, quiet
from tests.processes import run_group
from tests.tiny_models import byte_tokenizer, tiny_gpt2, tiny_llama

DROPPED = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "epoch")


def trainer(folder, ds=None, model=None, ref_model=None, kind=CMAlignTrainer, **options):
    config = CMAlignConfig if kind is CMAlignTrainer else DPOConfig
    extra = {name: options.pop(name) for name in ("peft_config", "eval_dataset", "data_collator") if name in options}
    if ref_model is None and "peft_config" not in extra and not options.get("precompute_ref_log_probs"):
        ref_model = tiny_llama()
    return kind(
        model=model or tiny_llama(), ref_model=ref_model, args=config(**quiet(folder, **options)),
        train_dataset=preference_rows() if ds is None else ds, processing_class=byte_tokenizer(), **extra,
    )  # fmt: skip


def history(run) -> list[dict]:
    run.train()
    return [
        {k: v for k, v in row.items() if "runtime" not in k and "per_second" not in k} for row in run.state.log_history
    ]


def series(rows: list[dict], name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


@pytest.mark.parametrize(
    "options", [{}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}], ids=["dpo", "nll"]
)
@pytest.mark.parametrize("conversational", [True, False])
def test_without_weight_it_is_dpo_to_the_last_digit(tmp_path, options, conversational):
    ds = preference_rows(conversational=conversational)
    plain = history(trainer(tmp_path, ds, kind=DPOTrainer, **options))
    ours = history(trainer(tmp_path, ds, **options))
    assert ours == plain
    assert len(series(plain, "loss")) == 3


def test_it_takes_any_preference_set_without_weight(tmp_path):
    ds = preference_rows().select_columns(["prompt", "chosen", "rejected"])
    assert len(series(history(trainer(tmp_path, ds, max_steps=1)), "loss")) == 1


def first_batch(run):
    return run._prepare_inputs(next(iter(run.get_train_dataloader())))


def states_by_hand(run, ids, start, layer):
    hidden = run.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer]
    return hidden[0, start:].mean(0)


@pytest.mark.parametrize(("layer", "number"), [(None, 1), (0, 0), (2, 2), (-1, 2)])
def test_the_term_by_hand(tmp_path, layer, number):
    ds = preference_rows(4, without_reference=(1,))
    options = {"consistency_weight": 0.7, "consistency_layer": layer}
    run = trainer(tmp_path, ds, **options)
    plain = trainer(tmp_path, ds)
    batch = first_batch(run)
    difference = run.compute_loss(run.model, dict(batch)) - plain.compute_loss(plain.model, first_batch(plain))
    rows = run.train_dataset
    cosines = []
    for i in (0, 2, 3):
        chosen = states_by_hand(run, rows[i]["prompt_ids"] + rows[i]["chosen_ids"], len(rows[i]["prompt_ids"]), number)
        reference = states_by_hand(run, rows[i]["reference_ids"], rows[i]["reference_start"], number)
        cosines.append(F.cosine_similarity(chosen, reference, dim=0).item())
    assert difference.item() == pytest.approx(0.7 * sum(1 - c for c in cosines) / 4, abs=2e-6)
    logged = run._metrics["eval"]  # the tiny model is built in eval mode
    assert logged["consistency/loss"][0] == pytest.approx(1 - np.mean(cosines), abs=1e-6)
    assert logged["consistency/cosine_ja"] == []  # the only pair in ja has no reference
    assert logged["consistency/cosine_en"][0] == pytest.approx(cosines[1], abs=1e-6)


def test_reference_ids_are_those_of_the_reference_chat(tmp_path):
    run = trainer(tmp_path, preference_rows(3, without_reference=(2,)), consistency_weight=1.0)
    row = run.train_dataset[0]
    decoded = byte_tokenizer().decode(row["reference_ids"])
    assert decoded == "<|user|>en question 0?<|end|><|assistant|>good en 0<|end|>"
    assert byte_tokenizer().decode(row["reference_ids"][row["reference_start"] :]) == "good en 0<|end|>"
    assert run.train_dataset[2]["reference_ids"] == []
    plain = trainer(tmp_path, preference_rows(1, conversational=False), consistency_weight=1.0).train_dataset[0]
    assert byte_tokenizer().decode(plain["reference_ids"][plain["reference_start"] :]) == "good en 0<|end|>"


def test_no_gradient_flows_through_the_reference(tmp_path):
    """With the chosen answers' states held fixed nothing is left to differentiate."""
    run = trainer(tmp_path, consistency_weight=1.0)
    batch = first_batch(run)
    assert not run._reference_states(run.model, batch).requires_grad


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
def test_the_term_falls_and_is_logged_by_language(tmp_path, build):
    run = trainer(
        tmp_path, preference_rows(12), build(), build(), consistency_weight=2.0, max_steps=12, learning_rate=3e-3
    )
    rows = history(run)
    terms = series(rows, "consistency/loss")
    assert len(terms) == 12
    assert np.mean(terms[-3:]) < 0.7 * np.mean(terms[:3])
    for language in ("de", "ja", "en"):
        values = series(rows, f"consistency/cosine_{language}")
        assert values
        assert all(-1 <= v <= 1 + 1e-6 for v in values)


def weighted_by_hand(run, batch) -> float:
    """Mean of weight times −log σ(β·Δ) for sums of log-probabilities of the answers' tokens."""

    def sums(model):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        logps = torch.log_softmax(logits, -1).gather(2, batch["input_ids"][:, 1:, None])[..., 0]
        return (logps * batch["completion_mask"][:, 1:]).sum(1).chunk(2)

    (chosen, rejected), (ref_chosen, ref_rejected) = sums(run.model), sums(run.ref_model)
    losses = -F.logsigmoid(0.1 * ((chosen - ref_chosen) - (rejected - ref_rejected)))
    return (batch["pair_weight"] * losses).mean().item()


def test_weighting_by_margin_by_hand(tmp_path):
    run = trainer(tmp_path, preference_rows(4), model=tiny_llama(seed=1), weight_by_margin=True)
    assert run.train_dataset["pair_weight"][:] == pytest.approx([0.4, 0.8, 1.2, 1.6])
    batch = first_batch(run)
    assert run.compute_loss(run.model, dict(batch)).item() == pytest.approx(weighted_by_hand(run, batch), abs=1e-5)


def test_equal_margins_weigh_nothing(tmp_path):
    ds = preference_rows().map(lambda row: {"margin": 0.25})
    options = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}
    plain = series(history(trainer(tmp_path, ds, **options)), "loss")
    assert series(history(trainer(tmp_path, ds, weight_by_margin=True, **options)), "loss") == plain


@pytest.mark.parametrize("peft", [False, True])
def test_weighting_with_precomputed_reference_and_lora(tmp_path, peft):
    options = {"peft_config": lora()} if peft else {}
    shared = {"weight_by_margin": True, "consistency_weight": 0.5, **options}
    direct = history(trainer(tmp_path, model=stored(tmp_path), **shared))
    ahead = history(trainer(tmp_path, model=stored(tmp_path), precompute_ref_log_probs=True, **shared))
    assert series(direct, "loss") == pytest.approx(series(ahead, "loss"), abs=1e-5)


def lora() -> LoraConfig:
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=True)


def stored(folder):
    """A tiny model loaded from disk, so that its reference can be, too."""
    from transformers import AutoModelForCausalLM

    if not (folder / "stored").is_dir():
        tiny_llama().save_pretrained(folder / "stored")
        byte_tokenizer().save_pretrained(folder / "stored")
    return AutoModelForCausalLM.from_pretrained(folder / "stored")


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_checkpointing": True},
        {"precompute_ref_log_probs": True},
        {"loss_type": ["sigmoid", "sft"]},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    ],
    ids=["checkpointing", "precomputed", "nll", "accumulation"],
)
@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_combinations(tmp_path, options, peft):
    options = dict(options)
    if peft:
        options["peft_config"] = lora()
    run = trainer(tmp_path, model=stored(tmp_path), consistency_weight=1.0, **options)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters() if p.requires_grad}
    rows = history(run)
    assert len(series(rows, "consistency/loss")) == 3
    assert np.isfinite(series(rows, "loss")).all()
    changed = [name for name, p in run.model.named_parameters() if p.requires_grad and not torch.equal(p, before[name])]
    assert changed
    assert not peft or all("lora" in name for name in before)


def test_checkpointing_and_accumulation_change_nothing(tmp_path):
    ds = preference_rows(without_reference=(0, 5))
    plain = history(trainer(tmp_path, ds, consistency_weight=1.0))
    for options in (
        {"gradient_checkpointing": True},
        {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 1},
    ):
        other = history(trainer(tmp_path, ds, consistency_weight=1.0, **options))
        assert series(other, "loss") == pytest.approx(series(plain, "loss"), abs=1e-5)


def test_a_sharded_model_gives_the_same_loss_and_gradients(tmp_path):
    """FSDP2 over two CPU processes: forward hooks must see whole layers and whole log-probabilities."""
    launcher = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--rdzv_backend", "c10d",
                "--rdzv_endpoint", "127.0.0.1:0"]  # fmt: skip
    run_group([*launcher, "-m", "tests.cmalign.sharded_step", str(tmp_path)], tmp_path)
    figures = json.loads((tmp_path / "step.json").read_text())
    assert figures["rows"] == 131  # half of the vocabulary
    assert figures["sharded"] == pytest.approx(figures["plain"], abs=1e-6)
    assert figures["gap"] < 1e-5


def test_evaluation_per_language(tmp_path):
    ds = preference_rows()
    splits = {code: ds.filter(lambda row, code=code: row["language"] == code) for code in ("de", "ja")}
    run = trainer(tmp_path, ds, eval_dataset=splits, consistency_weight=1.0, eval_strategy="steps", eval_steps=3)
    rows = history(run)
    for code in ("de", "ja"):
        assert len(series(rows, f"eval_{code}_loss")) == 1
    metrics = run.evaluate()
    assert {"eval_de_loss", "eval_ja_loss"} <= metrics.keys()
    assert any("rewards/accuracies" in key for row in rows for key in row if key.startswith("eval"))
    fresh = run.evaluate(preference_rows(3))
    assert np.isfinite(fresh["eval_loss"])


# Bad input


@pytest.mark.parametrize(
    ("options", "dropped", "message"),
    [
        ({"consistency_weight": 1.0}, ["reference"], "train: no column reference among"),
        ({"consistency_weight": 1.0}, ["language", "reference_prompt"], "no column reference_prompt, language among"),
        ({"weight_by_margin": True}, ["margin"], "train: no column margin among"),
        ({}, ["chosen"], "train: no column chosen among .*; preference pairs need chosen and rejected"),
    ],
)
def test_missing_columns(tmp_path, options, dropped, message):
    with pytest.raises(DataError, match=message):
        trainer(tmp_path, preference_rows().remove_columns(dropped), **options)


def mixed(column: str) -> Dataset:
    texts = preference_rows(conversational=False)
    return texts.map(lambda row: {column: messages(column, row[column])})


@pytest.mark.parametrize("column", ["prompt", "rejected"])
def test_mixed_texts_and_messages(tmp_path, column):
    with pytest.raises(DataError, match=f"the columns mix texts and messages .*{column}: messages"):
        trainer(tmp_path, mixed(column))


def test_mixed_references_matter_only_where_they_are_used(tmp_path):
    trainer(tmp_path, mixed("reference"))
    with pytest.raises(DataError, match="reference: messages"):
        trainer(tmp_path, mixed("reference"), consistency_weight=1.0)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_bad_weights(tmp_path, weight):
    with pytest.raises(DataError, match="consistency_weight"):
        CMAlignConfig(**quiet(tmp_path, consistency_weight=weight))


@pytest.mark.parametrize("options", [{"loss_type": ["ipo"]}, {"ld_alpha": 0.5}, {"f_divergence_type": "forward_kl"}])
def test_weighting_is_refused_where_it_would_be_wrong(tmp_path, options):
    with pytest.raises(DataError, match="weight_by_margin"):
        CMAlignConfig(**quiet(tmp_path, weight_by_margin=True, **options))


@pytest.mark.parametrize(
    ("value", "message"), [(-1.0, "row 2: -1.0"), (None, "row 2: nan"), (float("inf"), "row 2: inf")]
)
def test_bad_margins(tmp_path, value, message):
    rows = preference_rows(4).to_list()
    rows[2]["margin"] = value
    with pytest.raises(DataError, match=message):
        trainer(tmp_path, Dataset.from_list(rows), weight_by_margin=True)
    with pytest.raises(DataError, match="all margins are 0"):
        trainer(tmp_path, preference_rows(4).map(lambda row: {"margin": 0.0}), weight_by_margin=True)


def test_other_bad_input(tmp_path):
    with pytest.raises(DataError, match="layer"):
        trainer(tmp_path, consistency_weight=1.0, consistency_layer=3)
    with pytest.raises(DataError, match="train: the dataset is empty"):
        trainer(tmp_path, preference_rows().select([]))
    rows = preference_rows(4, conversational=False).to_list()
    rows[1]["rejected"] = None
    with pytest.raises(DataError, match="'rejected', row 1 is missing"):
        trainer(tmp_path, Dataset.from_list(rows))
    with pytest.raises(DataError, match="expected a CMAlignConfig, got DPOConfig"):
        CMAlignTrainer(tiny_llama(), args=DPOConfig(**quiet(tmp_path)), train_dataset=preference_rows())
    with pytest.raises(DataError, match="'language' has missing values"):
        trainer(tmp_path, preference_rows(3).map(lambda row: {"language": None}), consistency_weight=1.0)
    with pytest.raises(DataError, match="eval: no column reference"):
        trainer(tmp_path, consistency_weight=1.0, eval_dataset=preference_rows().remove_columns("reference"))


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_a_method_that_is_gone_or_changed_in_trl_is_named_before_training(name, monkeypatch):
    expected = rf"^trl \d.* differs from what CMAlignTrainer builds on: DPOTrainer\.{name}\(.*\) was expected, found "
    with monkeypatch.context() as patch:
        patch.setattr(DPOTrainer, name, lambda self, other: None)
        with pytest.raises(DataError, match=expected + r'.*pip install "trl=='):
            CMAlignTrainer(model=None)  # the model is not looked at
    monkeypatch.delattr(DPOTrainer, name)  # one of transformers' Trainer may be left
    with pytest.raises(DataError, match=expected + "None"):
        CMAlignTrainer(model=None)


def test_a_collator_without_references_is_named(tmp_path):
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    run = trainer(tmp_path, consistency_weight=1.0, data_collator=DataCollatorForPreference(pad_token_id=0))
    with pytest.raises(DataError, match="data_collator: batches lack reference_input_ids"):
        run.compute_loss(run.model, first_batch(run))


# Parts


def test_collator_by_hand():
    collate = DataCollatorForCMAlign(pad_token_id=0, max_length=4)
    shared = {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}
    batch = collate(
        [
            {**shared, "reference_ids": [5, 6, 7], "reference_start": 1, "language_code": 0, "pair_weight": 0.5},
            {**shared, "reference_ids": [], "reference_start": 0, "language_code": 1, "pair_weight": 1.5},
            {**shared, "reference_ids": [5, 6, 7, 8, 9], "reference_start": 2, "language_code": 1, "pair_weight": 1.0},
        ]
    )
    assert batch["reference_input_ids"].tolist() == [[5, 6, 7, 0], [0, 0, 0, 0], [5, 6, 7, 8]]
    assert batch["reference_attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert batch["reference_mask"].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1]]
    assert batch["language_code"].tolist() == [0, 1, 1]
    assert batch["pair_weight"].tolist() == [0.5, 1.5, 1.0]


def test_mean_states_by_hand():
    states = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]], [[9.0, 9.0], [5.0, 6.0], [7.0, 8.0]]])
    assert mean_states(states, torch.tensor([[1, 1], [0, 1]])).tolist() == [[2.0, 3.0], [7.0, 8.0]]
    assert mean_states(states, torch.zeros(2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
