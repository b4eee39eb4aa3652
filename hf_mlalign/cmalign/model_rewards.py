"""Rewards that run a language model: translation (MAPO), implicit (ICR) and hidden_state (LaCoMSA).

Each takes a model by name or folder, or a (model, tokenizer) pair that is loaded already. Samples are scored in batches
of similar length; only usable samples of the languages that make pairs are scored, the others get NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hf_mlalign.cmalign.samples import Samples
from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import cached_blocks
from hf_mlalign.models.loading import load_model

NLLB_CODES = {
    "ar": "arb_Arab", "bg": "bul_Cyrl", "bn": "ben_Beng", "cs": "ces_Latn", "de": "deu_Latn", "el": "ell_Grek",
    "en": "eng_Latn", "es": "spa_Latn", "fa": "pes_Arab", "fr": "fra_Latn", "hi": "hin_Deva", "id": "ind_Latn",
    "is": "isl_Latn", "it": "ita_Latn", "ja": "jpn_Jpan", "ko": "kor_Hang", "ms": "zsm_Latn", "nl": "nld_Latn",
    "no": "nob_Latn", "pl": "pol_Latn", "pt": "por_Latn", "ru": "rus_Cyrl", "sl": "slv_Latn", "sv": "swe_Latn",
    "sw": "swh_Latn", "te": "tel_Telu", "th": "tha_Thai", "tl": "tgl_Latn", "tr": "tur_Latn", "uk": "ukr_Cyrl",
    "vi": "vie_Latn", "zh": "zho_Hans",
}  # fmt: skip
"""ISO 639-1 → language tags of NLLB-200."""


class _ModelReward:
    """Batching that all three share. `batch_size`: texts per batch (8, *ours*)."""

    needs_reference = True

    def __init__(self, batch_size: int = 8, max_length: int = 1024, device: str | None = None):
        if batch_size < 1 or max_length < 2:
            raise DataError(f"batch_size: {batch_size}, max_length: {max_length}. Use at least 1 and 2.")
        self.batch_size, self.max_length, self.device = batch_size, max_length, device
        self._folder, self._key = None, ()

    def keep_in(self, folder: Path, key: Sequence[Any]) -> None:
        """Keep what the model gives in this folder; `key`: all that decides it, see `core.files.cached_blocks`."""
        self._folder, self._key = folder, key

    def _wanted(self, samples: Samples) -> np.ndarray:
        """Numbers of the samples to score: usable, with a reference, of a language that makes pairs."""
        return np.flatnonzero(samples.usable & (samples.reference_rows >= 0) & samples.wanted)

    def _run(self, out: np.ndarray, lengths: Sequence[int], compute: Callable, *key: Any) -> np.ndarray:
        """`out`, filled batch by batch by `compute`; `key`: the texts, and what else decides the result."""
        order = np.argsort(-np.asarray(lengths), kind="stable")  # longest first
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return cached_blocks(batches, compute, out, self._folder, (*self._key, *key))


class TranslationReward(_ModelReward):
    """MAPO: how easily a model translates a sample into the English reference: 1 / (mean cross-entropy per token).

    1/CE is MAPO's reward (*authors' script*); CE is in nats over the reference's tokens, language tag left out.

    Args:
        model: seq2seq model, e.g. "facebook/nllb-200-distilled-600M" (*authors' script*).
        language_codes: ISO 639-1 → the tokenizer's language tag; default NLLB's tags for tokenizers that know them.
        batch_size, max_length, device: of the batches; longer texts are cut (1,024 tokens, *ours*).
    """

    name = "translation"

    def __init__(self, model: Any = "facebook/nllb-200-distilled-600M", language_codes: dict[str, str] | None = None,
                 **options: Any):  # fmt: skip
        super().__init__(**options)
        self.model, self.language_codes = model, language_codes or NLLB_CODES

    def __call__(self, samples: Samples) -> np.ndarray:
        self.model = load_model(self.model, "seq2seq", self.device)
        rows, texts = self._wanted(samples), samples.texts
        sources = [texts[row] for row in rows]
        targets = [texts[row] for row in samples.reference_rows[rows]]
        codes = [samples.languages[code] for code in samples.language[rows]]
        out = np.full(len(samples), np.nan)
        out[rows] = 1 / np.maximum(self.cross_entropies(sources, targets, codes), 1e-9)
        return out

    def cross_entropies(self, sources: list[str], targets: list[str], languages: list[str]) -> np.ndarray:
        """(n,) mean negative log-likelihood, nats per token, of each English target given its source."""
        import torch

        model, tokenizer = self.model = load_model(self.model, "seq2seq", self.device)
        inputs: list[list[int]] = [[]] * len(sources)
        for language in dict.fromkeys(languages):
            rows = [i for i, code in enumerate(languages) if code == language]
            texts = [sources[i] for i in rows]
            with self._language(tokenizer, "src_lang", language):
                encoded = tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
            for i, ids in zip(rows, encoded, strict=True):
                inputs[i] = ids
        with self._language(tokenizer, "tgt_lang", "en"):
            labels = tokenizer(text_target=targets, truncation=True, max_length=self.max_length)["input_ids"]
        tag = None  # the language tag that some tokenizers put first does not count
        if getattr(tokenizer, "tgt_lang", None) is not None:
            tag = tokenizer.convert_tokens_to_ids(self.language_codes.get("en", "eng_Latn"))

        def mean_losses(batch: np.ndarray) -> np.ndarray:
            ids, mask = _padded([inputs[i] for i in batch], tokenizer.pad_token_id or 0, model.device)
            target, used = _padded([labels[i] for i in batch], 0, model.device)
            with torch.no_grad():
                logits = model(
                    input_ids=ids, attention_mask=mask, labels=target.masked_fill(used == 0, -100)
                ).logits.float()
            used = used * (target != tag) if tag is not None else used
            losses = torch.logsumexp(logits, -1) - logits.gather(-1, target[..., None])[..., 0]
            return ((losses * used).sum(1) / used.sum(1).clamp(min=1)).cpu().numpy()

        lengths = [len(a) + len(b) for a, b in zip(inputs, labels, strict=True)]
        return self._run(np.full(len(sources), np.nan), lengths, mean_losses, sources, targets, languages)

    @contextmanager
    def _language(self, tokenizer: Any, side: str, language: str):
        """Set the tokenizer's source or target language, if it has such a setting and knows the language."""
        if getattr(tokenizer, side, None) is None:
            yield
            return
        before, code = getattr(tokenizer, side), self.language_codes.get(language)
        if code is None:
            raise DataError(f"language_codes: no tag for {language!r}. Known: {listed(self.language_codes)}.")
        setattr(tokenizer, side, code)
        try:
            yield
        finally:
            setattr(tokenizer, side, before)


class ImplicitReward(_ModelReward):
    """ICR: log π_DPO(y | English prompt) − log π_SFT(y | English prompt), minus α·characters of y.

    The two sums run over the response's tokens: the implicit reward of a DPO model under the English prompt, minus a
    length penalty (*authors' script*, which also orders the model to answer in the target language). β only scales the
    reward and is left out.

    Args:
        model: the model after DPO.
        reference_model: the model before DPO, with the same tokenizer.
        length_penalty: α in nats per character (0, *ours*). "auto" sets it so that chosen and rejected are equally long
            on average, over all languages together; the *authors' script* does so for each language.
        batch_size, max_length, device: of the batches; longer responses are cut.
    """

    name = "implicit"

    def __init__(
        self, model: Any = None, reference_model: Any = None, length_penalty: float | str = 0.0, **options: Any
    ):
        super().__init__(**options)
        if model is None or reference_model is None:
            raise DataError(
                "reward implicit compares two models: set --reward-model and --reward-reference-model (reward_options: "
                "model, reference_model)."
            )
        self.model, self.reference_model, self.length_penalty = model, reference_model, length_penalty

    def __call__(self, samples: Samples) -> np.ndarray:
        rows, texts = self._wanted(samples), samples.texts
        prompts = samples.prompt_messages_of(samples.reference_rows[rows])
        responses = [texts[row] for row in rows]
        self.model = load_model(self.model, "causal", self.device)
        self.reference_model = load_model(self.reference_model, "causal", self.device)
        gain = self.log_probs(self.model, prompts, responses) - self.log_probs(self.reference_model, prompts, responses)
        out = np.full(len(samples), np.nan)
        lengths = samples.lengths[rows]
        alpha = _balanced(gain, lengths, samples.group[rows]) if self.length_penalty == "auto" else self.length_penalty
        out[rows] = gain - float(alpha) * lengths
        return out

    def log_probs(self, model: tuple[Any, Any], prompts: list[str | list], responses: list[str]) -> np.ndarray:
        """(n,) sums of the response tokens' log-probabilities, nats; prompts are texts or lists of messages."""
        import torch

        network, tokenizer = model
        end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        pairs = []  # token ids of prompt and response, and where the response begins
        for prompt, response in zip(prompts, responses, strict=True):
            start = prompt_ids(tokenizer, prompt)[-max(1, self.max_length // 2) :]
            answer = tokenizer(response, add_special_tokens=False)["input_ids"]
            pairs.append((start + answer[: self.max_length - len(start) - len(end)] + end, len(start)))

        def sums(batch: np.ndarray) -> np.ndarray:
            ids, mask = _padded([pairs[i][0] for i in batch], tokenizer.pad_token_id or 0, network.device)
            starts = torch.tensor([pairs[i][1] for i in batch], device=ids.device)
            with torch.no_grad():
                logits = network(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            gained = logits.gather(-1, ids[:, 1:, None])[..., 0] - torch.logsumexp(logits, -1)
            place = torch.arange(1, ids.shape[1], device=ids.device)
            used = mask[:, 1:].bool() & (place[None] >= starts[:, None])
            return (gained * used).sum(1).cpu().numpy()

        which = "model" if model is self.model else "reference_model"
        lengths = [len(ids) for ids, _ in pairs]
        return self._run(np.full(len(pairs), np.nan), lengths, sums, which, prompts, responses)


def prompt_ids(tokenizer: Any, prompt: str | list[dict]) -> list[int]:
    """Token ids of a user's prompt or of a list of messages, by the chat template if there is one; at least one token.

    Without a chat template the messages' contents are joined by line breaks.
    """
    if getattr(tokenizer, "chat_template", None):
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
    text = prompt if isinstance(prompt, str) else "\n".join(message["content"] or "" for message in prompt)
    ids = tokenizer(text)["input_ids"]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return ids or [start if start is not None else 0]


def _balanced(gain: np.ndarray, lengths: np.ndarray, groups: np.ndarray) -> float:
    """The penalty α ≥ 0 with which best and worst of the groups are equally long on average (bisection)."""
    from hf_mlalign.cmalign.pairs import choose_pairs

    def surplus(alpha: float) -> float:
        chosen, rejected = choose_pairs("best_worst", gain - alpha * lengths, groups, np.zeros(len(gain)))
        return float((lengths[chosen] - lengths[rejected]).sum())

    low, high = 0.0, 1e-3
    if not len(gain) or surplus(0.0) <= 0:
        return 0.0
    while surplus(high) > 0 and high < 1e3:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if surplus(middle) > 0 else (low, middle)
    return high


class HiddenStateReward(_ModelReward):
    """LaCoMSA: cosine of a middle layer's mean-pooled hidden states of the sample and of the English reference.

    Args:
        model: causal model or encoder, by name or as (model, tokenizer).
        layer: which hidden state, 0 = embeddings, negative from the end; default: the middle one (LaCoMSA: 15 of 32,
            *authors' script*).
        batch_size, max_length, device: of the batches; longer texts are cut.
    """

    name = "hidden_state"

    def __init__(self, model: Any = None, layer: int | None = None, **options: Any):
        super().__init__(**options)
        if model is None:
            raise DataError("reward hidden_state needs a model: set --reward-model (reward_options: model).")
        self.model, self.layer = model, layer

    def rank_references(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from hf_mlalign.cmalign.consistency import self_consistency

        texts = samples.texts
        consistency = self_consistency(self.vectors([texts[row] for row in rows]), samples.prompt[rows])
        return np.nan_to_num(consistency), consistency

    def __call__(self, samples: Samples) -> np.ndarray:
        from hf_mlalign.core.validation import unit_rows

        rows, texts = self._wanted(samples), samples.texts
        distinct, place = np.unique(samples.reference_rows[rows], return_inverse=True)
        references = unit_rows(self.vectors([texts[row] for row in distinct]))[place]
        vectors = unit_rows(self.vectors([texts[row] for row in rows]))
        out = np.full(len(samples), np.nan)
        out[rows] = np.einsum("nd,nd->n", vectors, references)
        return out

    def vectors(self, texts: list[str]) -> np.ndarray:
        """(n, d) float32 means of the layer's hidden states over each text's tokens; zeros for one without tokens."""
        import torch

        model, tokenizer = self.model = load_model(self.model, "causal", self.device)
        base = getattr(model, "base_model", model)
        ids = [tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"] for text in texts]
        layer = base.config.num_hidden_layers // 2 if self.layer is None else self.layer

        def means(batch: np.ndarray) -> np.ndarray:
            padded, mask = _padded([ids[i] for i in batch], tokenizer.pad_token_id or 0, model.device)
            if not padded.shape[1]:
                return np.zeros((len(batch), base.config.hidden_size), np.float32)
            with torch.no_grad():
                states = base(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states
            if not -len(states) <= layer < len(states):
                raise DataError(f"layer: {layer} is not in the model, which has hidden states 0 to {len(states) - 1}.")
            weights = mask[..., None].to(torch.float32)
            return ((states[layer].float() * weights).sum(1) / weights.sum(1).clamp(min=1)).cpu().numpy()

        out = np.zeros((len(texts), base.config.hidden_size), np.float32)
        return self._run(out, [len(one) for one in ids], means, texts)


def _padded(rows: list[list[int]], pad: int, device: Any) -> tuple[Any, Any]:
    """(ids, mask), right-padded int64 tensors."""
    import torch

    width = max((len(row) for row in rows), default=0)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], dtype=torch.long, device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=torch.long, device=device)
    return ids.reshape(len(rows), width), mask.reshape(len(rows), width)
