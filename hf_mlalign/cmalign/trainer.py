"""DPO with a term that pulls each chosen answer's hidden states towards those of the English reference."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from datasets import Dataset

from hf_mlalign._version import TESTED, installed_version
from hf_mlalign.cmalign.trainer_config import CMAlignConfig, check_preferences, margin_mean
from hf_mlalign.core.errors import DataError


def changed_trl(found: str) -> DataError:
    """The error for a version of TRL whose trainer differs from the one that `CMAlignTrainer` builds on."""
    return DataError(
        f"trl {installed_version('trl')} differs from what CMAlignTrainer builds on: {found}. Install a tested "
        f'version: pip install "trl=={TESTED["trl"][1]}".'
    )


try:
    from accelerate.utils import is_peft_model
    from trl import DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.utils import get_config_model_id, global_then_local_main_first, pad
except (ImportError, AttributeError) as error:
    raise changed_trl(str(error)) from error

OVERRIDDEN = {
    "_compute_loss": ["self", "model", "inputs", "return_outputs"],
    "_prepare_dataset": ["self", "dataset", "processing_class", "args", "dataset_name"],
    "_set_signature_columns_if_needed": ["self"],
    "compute_ref_log_probs": ["self", "model", "inputs"],
}
"""Methods of `trl.DPOTrainer` that `CMAlignTrainer` overrides, and their parameters."""

ADDED = ("reference_ids", "reference_start", "language_code", "pair_weight")
"""Columns `CMAlignTrainer` adds to a tokenised dataset."""
BATCH_KEYS = ("reference_input_ids", "reference_attention_mask", "reference_mask", "language_code", "pair_weight")
"""What `DataCollatorForCMAlign` adds to a batch of b pairs: (b, t) token ids, attention mask and mask of the reference
answer's tokens; (b,) language codes and pair weights."""

FORMULA_TOLERANCE = 0.02
"""Relative difference of TRL's sigmoid loss and ours that half precision may cause (*ours*)."""


@dataclass
class DataCollatorForCMAlign(DataCollatorForPreference):
    """TRL's collator, which also pads the English references; see `BATCH_KEYS`."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        if "pair_weight" in examples[0]:
            batch["pair_weight"] = torch.tensor([example["pair_weight"] for example in examples], dtype=torch.float32)
        if "reference_ids" not in examples[0]:
            return batch
        rows = [example["reference_ids"][: self.max_length] or [self.pad_token_id] for example in examples]
        starts = [example["reference_start"] for example in examples]
        lengths = [len(example["reference_ids"][: self.max_length]) for example in examples]
        batch["reference_input_ids"] = self._padded([torch.tensor(ids) for ids in rows], self.pad_token_id)
        batch["reference_attention_mask"] = self._padded([torch.ones(len(ids), dtype=torch.long) for ids in rows], 0)
        masks = [(torch.arange(len(ids)) >= s) & (torch.arange(len(ids)) < n)
                 for ids, s, n in zip(rows, starts, lengths, strict=True)]  # fmt: skip
        batch["reference_mask"] = self._padded([mask.long() for mask in masks], 0)
        batch["language_code"] = torch.tensor([example["language_code"] for example in examples])
        return batch

    def _padded(self, rows: list[torch.Tensor], value: int) -> torch.Tensor:
        return pad(rows, padding_value=value, padding_side="right", pad_to_multiple_of=self.pad_to_multiple_of)


class CMAlignTrainer(DPOTrainer):
    """`trl.DPOTrainer` with a consistency term for CM-Align's pairs (*ours*).

    loss = DPO + λ·(1 − cos(h(chosen in language x), stopgrad h(English reference))), h being the mean over the answer's
    tokens of one layer's hidden states under the policy. λ and the layer are settings of `CMAlignConfig`; with λ = 0
    and no weighting this is `DPOTrainer`, whose arguments it takes.

    Datasets are those of `CMAlignPreferenceBuilder`: beside prompt, chosen and rejected they need `reference_prompt`,
    `reference` and `language` where λ > 0, and `margin` for `weight_by_margin`. A pair without a reference adds 0 to
    the consistency term.

    Logged beside TRL's figures: `consistency/loss` (mean of 1 − cos, before λ, pairs without a reference left out),
    `consistency/cosine`, and `consistency/cosine_<language>`.

    Raises:
        DataError: missing columns, mixed texts and messages, missing answers, bad margins, a layer that is not there,
            or a version of TRL whose loss is computed in another way than this class knows.
    """

    _tag_names: ClassVar[list[str]] = ["trl", "dpo", "cm-align"]
    _name = "CM-Align"

    def __init__(self, model, ref_model=None, args: CMAlignConfig | None = None, data_collator=None, **kwargs):
        for name, expected in OVERRIDDEN.items():
            method = vars(DPOTrainer).get(name)
            if method is None or list(inspect.signature(method).parameters) != expected:
                raise changed_trl(f"DPOTrainer.{name}({', '.join(expected[1:])}) was expected, found {method}")
        if args is None:
            name = model if isinstance(model, str) else get_config_model_id(model.config)
            args = CMAlignConfig(f"{name.split('/')[-1]}-CM-Align")
        if not isinstance(args, CMAlignConfig):
            raise DataError(f"args: expected a CMAlignConfig, got {type(args).__name__}.")
        self._language_codes: dict[str, int] = {}
        self._margin_scale: float | None = None
        self._formula_checked = False
        train, evaluation = kwargs.get("train_dataset"), kwargs.get("eval_dataset")
        if train is not None:  # checked before anything is tokenised
            splits = {"train": train}
            if evaluation is not None:
                splits |= dict(evaluation) if isinstance(evaluation, Mapping) else {"eval": evaluation}
            for name, ds in splits.items():
                check_preferences(ds, name, reference=args.consistency_weight > 0, margin=args.weight_by_margin)
            if args.weight_by_margin:
                self._margin_scale = {name: margin_mean(ds, name) for name, ds in splits.items()}["train"]
        super().__init__(model, ref_model=ref_model, args=args, data_collator=data_collator, **kwargs)
        if args.needs_columns and data_collator is None:
            self.data_collator = DataCollatorForCMAlign(
                pad_token_id=self._tokenizer.pad_token_id, max_length=args.max_length,
                truncation_mode=args.truncation_mode, pad_to_multiple_of=args.pad_to_multiple_of,
            )  # fmt: skip
        if args.consistency_weight:
            layers, layer = self.model.config.get_text_config().num_hidden_layers, args.consistency_layer
            layer = layers // 2 if layer is None else layer
            if not -layers - 1 <= layer <= layers:
                raise DataError(
                    f"consistency_layer: {layer} is not in the model, which has layers 0 (embeddings) to {layers}."
                )
            self.consistency_layer = layer % (layers + 1)

    # Data

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        if args.needs_columns and ADDED[-1] not in (dataset.column_names or ()):
            check_preferences(
                dataset, dataset_name, reference=args.consistency_weight > 0, margin=args.weight_by_margin
            )
            languages = None
            if args.consistency_weight > 0:
                if not isinstance(dataset, Dataset):
                    raise DataError(
                        f"{dataset_name}: the languages of a streamed set are unknown. Load it without streaming."
                    )
                if None in (found := dataset.unique("language")):
                    raise DataError(
                        f"{dataset_name}: column 'language' has missing values. Fill them in or drop such rows."
                    )
                for language in found:
                    self._language_codes.setdefault(language, len(self._language_codes))
                languages = dict(self._language_codes)
            add = _AddColumns(processing_class, languages, self._margin_scale, self._tokenizer.eos_token)
            options = {}
            if isinstance(dataset, Dataset):
                title = f"Tokenizing the references of the {dataset_name} dataset"
                options = {"num_proc": args.dataset_num_proc, "desc": title}
            with global_then_local_main_first():
                dataset = dataset.map(add, **options)
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        if self.args.needs_columns and not set(ADDED) <= set(self._signature_columns):
            self._signature_columns = [*self._signature_columns, *ADDED]

    # Loss

    def compute_ref_log_probs(self, model, inputs):
        return super().compute_ref_log_probs(model, {k: v for k, v in inputs.items() if k not in BATCH_KEYS})

    def _compute_loss(self, model, inputs, return_outputs):
        extra = {key: inputs[key] for key in BATCH_KEYS if key in inputs}
        inputs = {key: value for key, value in inputs.items() if key not in BATCH_KEYS}
        if not self.args.needs_columns:
            return super()._compute_loss(model, inputs, return_outputs)
        needed = ["pair_weight"] if self.args.weight_by_margin else []
        if self.args.consistency_weight:
            needed += ["reference_input_ids", "reference_attention_mask", "reference_mask", "language_code"]
        if missing := [key for key in needed if key not in extra]:
            raise DataError(f"data_collator: batches lack {', '.join(missing)}. Use DataCollatorForCMAlign.")
        reference = self._reference_states(model, extra) if self.args.consistency_weight else None
        with self._recorded() as record:
            result = super()._compute_loss(model, inputs, return_outputs)
        loss, outputs = result if return_outputs else (result, None)
        self._check_record(record, inputs)
        if self.args.weight_by_margin:
            loss = loss + self._weighting_correction(record, inputs, extra["pair_weight"], loss.detach())
        if reference is not None:
            loss = loss + self.args.consistency_weight * self._consistency(record, inputs, extra, reference)
        return (loss, outputs) if return_outputs else loss

    def _check_record(self, record: dict[str, Any], inputs: dict[str, torch.Tensor]) -> None:
        """The first call of the backbone must have been the policy's on the whole batch, that of the reference next."""
        rows, length = inputs["input_ids"].shape
        if self.args.consistency_weight:
            states = record["states"]
            if states is None or states.dim() != 3 or len(states) != rows or states.shape[1] < length:
                raise changed_trl("no call of the backbone on the batch of pairs")
            if record["grad"] != torch.is_grad_enabled():
                raise changed_trl("the reference model called before the policy")
        if self.args.weight_by_margin:
            found, wanted = record["log_probs"], 1 if self.precompute_ref_logps else 2
            if len(found) != wanted or any(each is None or len(each) != rows for each in found):
                raise changed_trl("other log-probabilities than those of both models")

    def _causal_lm(self) -> torch.nn.Module:
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if is_peft_model(model) else model

    @contextmanager
    def _recorded(self) -> Iterator[dict[str, Any]]:
        """Record, of the calls inside: the policy's hidden states of the layer, log-probabilities of both models."""
        record: dict[str, Any] = {"states": None, "grad": None, "log_probs": []}
        backbone, handles = self._causal_lm().base_model, []

        def ask(module, args, kwargs):
            return (args, {**kwargs, "output_hidden_states": True}) if record["states"] is None else None

        def keep_states(module, args, output):
            if record["states"] is None:
                record["states"] = output.hidden_states[self.consistency_layer]
                record["grad"] = torch.is_grad_enabled()

        def keep_log_probs(module, args, output):
            record["log_probs"].append(getattr(output, "log_probs", None))

        if self.args.consistency_weight:
            handles.append(backbone.register_forward_pre_hook(ask, with_kwargs=True))
            handles.append(backbone.register_forward_hook(keep_states))
        if self.args.weight_by_margin:
            models = [self.model] if self.ref_model is None else [self.model, self.ref_model]
            handles += [each.register_forward_hook(keep_log_probs) for each in models]
        try:
            yield record
        finally:
            for handle in handles:
                handle.remove()

    def _reference_states(self, model, extra: dict[str, torch.Tensor]) -> torch.Tensor:
        """(b, d) float32 mean states of the English references under the policy, without gradient."""
        options = {}
        if "logits_to_keep" in inspect.signature(type(self._causal_lm()).forward).parameters:
            options["logits_to_keep"] = 1
        with torch.no_grad(), self._recorded() as record:
            model(
                input_ids=extra["reference_input_ids"], attention_mask=extra["reference_attention_mask"],
                use_cache=False, **options,
            )  # fmt: skip
        return mean_states(record["states"], extra["reference_mask"])

    def _consistency(self, record, inputs, extra, reference: torch.Tensor) -> torch.Tensor:
        """Sum over the b pairs of weight·(1 − cos), divided by b: a mean that adds up over devices and batches."""
        chosen, _ = inputs["completion_mask"].chunk(2, dim=0)
        states, _ = record["states"].chunk(2, dim=0)
        cosine = F.cosine_similarity(mean_states(states, chosen), reference, dim=-1)
        valid = (extra["reference_mask"].sum(1) > 0) & (chosen.sum(1) > 0)
        weight = valid.float() * (extra["pair_weight"] if self.args.weight_by_margin else 1.0)
        found, sums = cosine.detach()[valid], cosine.new_zeros(len(self._language_codes), 2)
        sums.index_add_(0, extra["language_code"][valid], torch.stack([found, torch.ones_like(found)], dim=1))
        sums = self.accelerator.gather(sums[None]).sum(0).cpu()
        metrics = self._metrics["train" if self.model.training else "eval"]
        total, count = sums.sum(0).tolist()
        if count:
            metrics["consistency/cosine"].append(total / count)
            metrics["consistency/loss"].append(1 - total / count)
        for name, (part, n) in zip(self._language_codes, sums.tolist(), strict=True):
            if n:
                metrics[f"consistency/cosine_{name}"].append(part / n)
        return (weight * (1 - cosine)).mean()

    def _weighting_correction(self, record, inputs, weight: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        """mean((w − 1)·(−log σ(β·Δ))) times the weight of the sigmoid loss: turns its mean into a weighted one.

        Where `loss` is nothing but that mean, the formula is held to it at the first batch.
        """
        mask = inputs["completion_mask"][..., 1:]
        logps = [log_probs[:, -mask.size(1) :].sum(1) for log_probs in record["log_probs"][:2]]
        chosen, rejected = logps[0].chunk(2, dim=0)
        if self.precompute_ref_logps:
            ref_chosen, ref_rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            ref_chosen, ref_rejected = logps[1].chunk(2, dim=0)
        losses = -F.logsigmoid(self.beta * ((chosen - ref_chosen) - (rejected - ref_rejected)))
        share = sum(w for name, w in zip(self.loss_types, self.loss_weights, strict=True) if name == "sigmoid")
        if not self._formula_checked and len(self.loss_types) == 1 and not self.aux_loss_enabled:
            if not torch.allclose(share * losses.detach().mean().to(loss), loss, rtol=FORMULA_TOLERANCE, atol=1e-3):
                raise changed_trl("another formula of the sigmoid loss")
            self._formula_checked = True
        return share * ((weight - 1) * losses).mean()


def mean_states(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(b, d) float32 means of (b, t, d) states over the positions where (b, t) `mask` is 1; zeros where there is none.

    Positions in front that the mask does not know (virtual tokens of prompt tuning) are left out.
    """
    states = states[:, -mask.size(1) :].float()
    mask = mask.to(states)
    return torch.einsum("btd,bt->bd", states, mask) / mask.sum(1, keepdim=True).clamp(min=1)


class _AddColumns:
    """Adds `ADDED` to a row: only the columns that the settings need."""

    def __init__(self, processing_class, languages: dict[str, int] | None, scale: float | None, eos: str):
        self.processing_class, self.languages, self.scale, self.eos = processing_class, languages, scale, eos

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        from trl.data_utils import _tokenize, common_prefix_length

        weight = 1.0 if self.scale is None else max(0.0, float(row["margin"])) / self.scale
        if self.languages is None:
            return {"pair_weight": weight}
        ids, start = [], 0  # of a missing reference
        prompt, answer = row["reference_prompt"], row["reference"]
        if prompt and answer:
            is_text = isinstance(answer, str)
            if is_text and not answer.endswith(self.eos):
                answer += self.eos
            turns = {} if is_text else {"add_generation_prompt": True}
            before = _tokenize(self.processing_class, prompt, **turns)["input_ids"]
            ids = list(_tokenize(self.processing_class, prompt + answer)["input_ids"])
            start = common_prefix_length(before, ids)
        return {
            "reference_ids": ids, "reference_start": start, "language_code": self.languages[row["language"]],
            "pair_weight": weight,
        }  # fmt: skip
