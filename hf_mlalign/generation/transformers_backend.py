"""Answers from a transformers model: padded batches with a seed for every answer, or continuous batching."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.generation.requests import Answer, OnAnswer, OnFailure, Request, Sampling
from hf_mlalign.models.loading import load_model

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

OWN_SETTINGS = (
    "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "sequence_bias", "max_length", "min_length", "min_new_tokens", "forced_bos_token_id",
    "forced_eos_token_id", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
    "guidance_scale", "temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "renormalize_logits", "watermarking_config", "max_time", "stop_strings", "num_return_sequences", "length_penalty",
    "prompt_lookup_num_tokens", "penalty_alpha", "dola_layers", "num_beam_groups", "diversity_penalty",
)  # fmt: skip
"""Fields of a model's own generation config that would change which tokens are drawn, or how many."""


class TransformersBackend:
    """Draws answers with a causal LM in this process.

    Prompts are sorted by length, padded on the left and generated in batches. Each answer is drawn by inverting the
    cumulative distribution with uniform numbers of its own seed, so it does not depend on its batch or on earlier
    answers (up to rounding: where a kernel gives other last bits for another batch shape, a draw within those bits of
    a boundary may fall on the other side).

    Args:
        model: folder or Hub name of a causal LM, or the model itself.
        tokenizer: needed with a model object.
        batch_size: answers per batch (16, *ours*).
        device: "cpu", "cuda", …; default: the best there is. A model object stays where it is.
        dtype: of the weights, e.g. "bfloat16"; default "auto": as saved.
        continuous_batching: let transformers schedule the answers (`ContinuousBatchingConfig`): on a GPU no slot waits
            for the longest answer of its batch. The whole run then has one seed, and answers depend on the schedule.
            Off by default (*ours*): on CPUs padded batches are faster, and each answer is reproducible.
        num_blocks, page_size, max_batch_tokens: bounds of the key/value cache for continuous batching
            (512 × 32 tokens, and 2,048 tokens per step, *ours*).
        trust_remote_code: run model code from the Hub.
    """

    kind = "causal"
    """What a name is loaded as, see `hf_mlalign.models.load_model`."""

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        batch_size: int = 16,
        device: str | None = None,
        dtype: str = "auto",
        continuous_batching: bool = False,
        num_blocks: int = 512,
        page_size: int = 32,
        max_batch_tokens: int = 2048,
        trust_remote_code: bool = False,
    ):
        self._named = named = isinstance(model, (str, Path))
        if not named and tokenizer is None:
            raise DataError("tokenizer: a model object needs its tokenizer. Pass (model, tokenizer) or a model name.")
        if batch_size < 1:
            raise DataError(f"batch_size: {batch_size} is below 1.")
        self._model, self._tokenizer = (None, tokenizer) if named else (model, tokenizer)
        self.model = str(model) if named else getattr(model.config, "_name_or_path", "") or type(model).__name__
        self.batch_size, self.device, self.dtype = batch_size, device, dtype
        self.continuous_batching, self.trust_remote_code = continuous_batching, trust_remote_code
        self._cache = {"num_blocks": num_blocks, "page_size": page_size, "max_batch_tokens": max_batch_tokens}

    def describe(self) -> dict[str, Any]:
        """Backend, model name, digest of the weights, and whether batching is continuous."""
        digest = folder_digest(self.model) if self._named else weights_digest(self._model)
        return {
            "backend": "transformers", "model": self.model, "weights": digest, "dtype": self.dtype,
            "continuous_batching": self.continuous_batching,
        }  # fmt: skip

    def run(self, requests: Sequence[Request], settings: Sampling, on_answer: OnAnswer, on_failure: OnFailure) -> None:
        """See `Backend.run`. Prompts too long for the model's context are failures."""
        if not requests:
            return
        model, tokenizer = self._load()
        known: dict[str, list[int]] = {}
        fitting = []
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
        limit = context - settings.max_tokens
        for request in requests:
            if request.digest not in known:
                known[request.digest] = chat_ids(request.messages, tokenizer)
            ids = known[request.digest]
            if len(ids) > limit:
                room = f"the model's context leaves room for {max(limit, 0)} beside max_tokens={settings.max_tokens}"
                on_failure(request, f"the prompt has {len(ids)} tokens; {room}: lower max_tokens")
            else:
                fitting.append((request, ids))
        fitting.sort(key=lambda item: -len(item[1]))
        generate = self._continuous if self.continuous_batching else self._padded
        was_training, own = model.training, model.generation_config
        model.eval()
        model.generation_config = copy.deepcopy(own)  # `generate` fills unset fields from there
        for name in OWN_SETTINGS:
            if getattr(own, name, None) is not None:
                setattr(model.generation_config, name, None)
        try:
            read = {request.key: len(ids) for request, ids in fitting}
            for request, tokens, stopped in generate(model, tokenizer, fitting, settings):
                text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
                counts = read[request.key], len(tokens) + stopped
                on_answer(request, Answer(text, "stop" if stopped else "length", self.model, *counts))
        finally:
            model.generation_config = own
            model.train(was_training)

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if self._model is None:
            self._model, self._tokenizer = load_model(
                self.model, self.kind, self.device, tokenizer=self._tokenizer, dtype=self.dtype,
                trust_remote_code=self.trust_remote_code,
            )  # fmt: skip
        rows = self._model.get_input_embeddings().num_embeddings
        if len(self._tokenizer) > rows:
            raise DataError(
                f"tokenizer: it has {len(self._tokenizer):,} tokens, the model's embedding {rows:,} rows. "
                "Pass the tokenizer the model was trained with."
            )
        return self._model, self._tokenizer

    def _padded(self, model, tokenizer, items: list, settings: Sampling) -> Iterator[tuple[Request, list[int], bool]]:
        import torch

        stops = _stop_ids(model, tokenizer)
        config = _generation_config(model, tokenizer, settings, stops)
        for begin in range(0, len(items), self.batch_size):
            batch = items[begin : begin + self.batch_size]
            width = max(len(tokens) for _, tokens in batch)
            ids = np.full((len(batch), width), config.pad_token_id, np.int64)
            mask = np.zeros_like(ids)
            for i, (_, tokens) in enumerate(batch):
                ids[i, width - len(tokens) :], mask[i, width - len(tokens) :] = tokens, 1
            processors = [] if settings.temperature == 0 else [_sampler([r for r, _ in batch], settings, width)]
            with torch.no_grad():
                out = model.generate(
                    input_ids=torch.from_numpy(ids).to(model.device),
                    attention_mask=torch.from_numpy(mask).to(model.device),
                    generation_config=config,
                    logits_processor=processors,
                )
            for (request, _), row in zip(batch, out[:, width:].tolist(), strict=True):
                end = next((i for i, token in enumerate(row) if token in stops), None)
                yield request, row[:end], end is not None

    def _continuous(self, model, tokenizer, items: list, settings: Sampling):
        from transformers import ContinuousBatchingConfig

        stops = _stop_ids(model, tokenizer)
        config = _generation_config(model, tokenizer, settings, stops, sample=settings.temperature > 0)
        bounds = ContinuousBatchingConfig(**self._cache, seed=items[0][0].seed if items else 0)
        waiting = {f"r{i}": request for i, (request, _) in enumerate(items)}
        with model.continuous_batching_context_manager(config, continuous_batching_config=bounds) as manager:
            for name, (_, tokens) in zip(waiting, items, strict=True):
                manager.add_request(tokens, request_id=name, max_new_tokens=settings.max_tokens)
            while waiting:
                result = manager.get_result(timeout=1)
                if result is None:
                    if not manager.is_running():
                        raise RuntimeError("continuous batching ended early; use continuous_batching=False")
                elif result.is_finished():
                    if result.error is not None:
                        raise RuntimeError(f"continuous batching failed: {result.error}")
                    row = list(result.generated_tokens)
                    stopped = bool(row) and row[-1] in stops
                    yield waiting.pop(result.request_id), row[:-1] if stopped else row, stopped


def _generation_config(model, tokenizer, settings: Sampling, stops: set[int], sample: bool = False) -> GenerationConfig:
    from transformers import GenerationConfig

    pad = tokenizer.pad_token_id
    if pad is None:
        pad = min(stops) if stops else 0
    drawn = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0} if sample else {}
    return GenerationConfig(
        max_new_tokens=settings.max_tokens, do_sample=sample, num_beams=1, pad_token_id=pad,
        eos_token_id=sorted(stops) or None, **drawn,
    )  # fmt: skip


def _stop_ids(model, tokenizer) -> set[int]:
    ids = [tokenizer.eos_token_id]
    given = model.generation_config.eos_token_id
    ids += given if isinstance(given, (list, tuple)) else [given]
    return {i for i in ids if i is not None}


def _sampler(requests: Sequence[Request], settings: Sampling, prompt_length: int):
    """A logits processor that leaves one token per row: the one on which this step's own uniform number falls."""
    import torch
    from transformers import LogitsProcessor

    draws = np.stack([np.random.default_rng(r.seed).random(settings.max_tokens, dtype=np.float32) for r in requests])

    class _Draw(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            uniform = torch.from_numpy(draws[:, input_ids.shape[1] - prompt_length, None].copy()).to(scores.device)
            token = draw_tokens(scores, uniform, settings.temperature, settings.top_p)
            return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)

    return _Draw()


def draw_tokens(scores: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """(b, 1) tokens drawn from softmax(scores / temperature) cut to its top-p set.

    Args:
        scores: (b, v) logits.
        uniform: (b, 1) float32 in [0, 1); the first token whose cumulative probability exceeds it is taken.
    """
    import torch

    probabilities = torch.softmax(scores.float() / temperature, dim=-1)
    order = None
    if top_p < 1:
        probabilities, order = torch.sort(probabilities, descending=True, stable=True, dim=-1)
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0.0)
    cumulative = probabilities.cumsum(-1)
    at = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    possible = (probabilities > 0).long()
    last = possible.shape[1] - 1 - possible.flip(-1).argmax(-1, keepdim=True)
    at = torch.minimum(at, last)
    return at if order is None else order.gather(1, at)


def chat_ids(messages: Sequence[Mapping[str, str]], tokenizer) -> list[int]:
    """Token ids of a chat that ends where the answer begins; plain paragraphs for a tokenizer without a template.

    A system prompt is joined to the first user turn where the template knows no system role.
    """
    import jinja2

    turns = [dict(turn) for turn in messages]
    if not tokenizer.chat_template:
        return tokenizer("\n\n".join(turn["content"] for turn in turns) + "\n\n")["input_ids"]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    try:
        return tokenizer.apply_chat_template(turns, **options)["input_ids"]
    except jinja2.TemplateError:
        if turns[0]["role"] != "system" or len(turns) < 2:
            raise
        first = {**turns[1], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
        return tokenizer.apply_chat_template([first, *turns[2:]], **options)["input_ids"]


def weights_digest(model) -> str:
    """Digest of 64 values and the shape of each parameter."""
    digest = hashlib.sha256()
    for name, parameter in model.state_dict().items():
        flat = parameter.detach().reshape(-1)
        values = flat[:: max(1, flat.numel() // 64)].float().cpu().numpy()
        digest.update(f"{name}{tuple(parameter.shape)}".encode() + values.tobytes())
    return digest.hexdigest()[:16]


def folder_digest(name: str, slice_bytes: int = 65_536) -> str | None:
    """Digest of the names, the sizes and three slices of a local model's weight files; `None` for a Hub name."""
    folder = Path(name)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".json", ".jinja")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size};".encode())
        with open(path, "rb") as handle:
            for at in (0, size // 2, max(0, size - slice_bytes)):
                handle.seek(at)
                digest.update(handle.read(slice_bytes))
    return digest.hexdigest()[:16]
