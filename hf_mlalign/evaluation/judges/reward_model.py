"""A reward model as judge: any sequence-classification model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.evaluation.judges.base import Turns
from hf_mlalign.evaluation.judges.rules import ScoreJudge
from hf_mlalign.generation.transformers_backend import folder_digest, weights_digest
from hf_mlalign.models.loading import load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class RewardModelJudge(ScoreJudge):
    """Scores every answer with a sequence-classification model; preference = σ(score_a − score_b).

    With a chat template, the model reads the conversation with the answer as the assistant's last message; without one,
    prompt and answer as a pair of texts. One logit is the score itself; of several, the log-odds of `label`.

    Args:
        model: name or folder, or (model, tokenizer).
        label: index or name of the class "good", for models with several; of two, the second (*ours*).
        batch_size: answers a batch (8, *ours*); 1 for tokenizers or models without a padding token.
        max_length: longest text in tokens; default: what tokenizer and model take.
        truncate: cut longer texts at their end; otherwise they are not judged, with a reason (*ours*: off).
        device: where a model given by name goes (default: a GPU if there is one).
        trust_remote_code: run model code from the Hub.
        progress: show a progress bar.
        **options: of `ScoreJudge`.
    Raises:
        DataError: an option out of range.
    """

    name = "reward_model"

    def __init__(
        self,
        model: str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase],
        *,
        label: int | str | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
        truncate: bool = False,
        device: str | None = None,
        trust_remote_code: bool = False,
        progress: bool = True,
        **options: Any,
    ):
        super().__init__(**options)
        if batch_size < 1 or (max_length is not None and max_length < 2):
            raise DataError(f"batch_size: {batch_size} and max_length: {max_length}; use at least 1 and 2.")
        if not isinstance(model, (str, Path)) and not (isinstance(model, (tuple, list)) and len(model) == 2):
            raise DataError(f"model: expected a name, a folder or (model, tokenizer), got {type(model).__name__}.")
        self._pair = model if not isinstance(model, (str, Path)) else None
        self.model = str(model) if self._pair is None else (
            getattr(model[0].config, "_name_or_path", "") or type(model[0]).__name__
        )  # fmt: skip
        self.label, self.batch_size, self.max_length, self.truncate = label, batch_size, max_length, truncate
        self.device, self.trust_remote_code, self.progress = device, trust_remote_code, progress
        self._named = self._pair is None

    def describe(self) -> dict[str, Any]:
        """Name, model, digest of its weights (`None` for a Hub name), and options."""
        weights = folder_digest(self.model) if self._named else weights_digest(self._pair[0])
        return {**super().describe(), "model": self.model, "weights": weights, "label": self.label,
                "max_length": self.max_length, "truncate": self.truncate}  # fmt: skip

    def scores(self, prompts, answers, languages, references):
        """(n,) logits or log-odds; NaN with a reason for texts longer than the model takes.

        Raises:
            DataError: the model cannot be loaded, or has several classes and `label` names none of them.
        """
        import torch
        from tqdm.auto import tqdm

        self._pair = model, tokenizer = load_model(
            self._pair or self.model, "reward", self.device, trust_remote_code=self.trust_remote_code
        )
        n_classes, classes = model.config.num_labels, model.config.label2id or {}
        column = classes.get(self.label) if isinstance(self.label, str) else self.label
        if self.label is None and n_classes <= 2:
            column = n_classes - 1
        if column is None or not 0 <= column < n_classes:
            problem = f"{self.label!r} is none of the {n_classes} classes {listed(classes)}"
            raise DataError(f"label: {problem}. Name the good one.")
        segments = "token_type_ids" in inspect.signature(model.forward).parameters
        names = ("input_ids", "token_type_ids") if segments else ("input_ids",)
        rows = [_tokenise(tokenizer, turns, answer, names) for turns, answer in zip(prompts, answers, strict=True)]
        config = model.config.get_text_config()
        context = getattr(config, "max_position_embeddings", None) or 2**31
        limit = self.max_length or min(context, tokenizer.model_max_length or 2**31)
        if self.truncate:
            rows = [{name: ids[:limit] for name, ids in row.items()} for row in rows]
        lengths = np.array([len(row["input_ids"]) for row in rows])
        scores = np.full(len(rows), np.nan)
        order = [i for i in np.argsort(-lengths, kind="stable") if lengths[i] <= limit]
        can_pad = tokenizer.pad_token_id is not None and tokenizer.pad_token_id == config.pad_token_id
        size = self.batch_size if can_pad else 1
        for begin in tqdm(range(0, len(order), size), "Judging", unit="batch", disable=not self.progress):
            batch = order[begin : begin + size]
            width, fill = int(lengths[batch].max()), {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": 0}
            padded = {name: [rows[i][name] + [fill[name]] * (width - len(rows[i][name])) for i in batch]
                      for name in rows[batch[0]]}  # fmt: skip
            padded["attention_mask"] = [[1] * (n := len(rows[i]["input_ids"])) + [0] * (width - n) for i in batch]
            inputs = {name: torch.tensor(values, device=model.device) for name, values in padded.items()}
            with torch.no_grad():
                logits = model(**inputs).logits.double().cpu()
            others = torch.arange(logits.shape[1]) != column
            odds = logits[:, column] - torch.logsumexp(logits[:, others], dim=1) if others.any() else logits[:, 0]
            scores[batch] = odds.numpy()
        reasons = ["" if n <= limit else f"{n} tokens are more than the model's {limit}" for n in lengths.tolist()]
        for i in np.flatnonzero(~np.isfinite(scores) & (lengths <= limit)):
            scores[i], reasons[i] = np.nan, "the model's score is not a finite number"
        return scores, reasons

def _tokenise(tokenizer, turns: Turns, answer: str, names: Sequence[str]) -> dict[str, list[int]]:
    """A conversation with its answer as token ids; without a chat template, prompt and answer as a pair of texts."""
    if tokenizer.chat_template:
        chat = [*map(dict, turns), {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]
        return {"input_ids": list(ids)}
    encoded = tokenizer("\n\n".join(turn["content"] for turn in turns), answer, truncation=False, verbose=False)
    return {name: list(encoded[name]) for name in names if name in encoded}
