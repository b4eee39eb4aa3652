"""Log-probabilities of whole labels after prompts: every distinct token is read once, whatever prompts share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.spontaneous.classification.label_tokens import (
    LabelledPrompt,
    TokenTrie,
    ancestors,
    common_prefix,
    packs,
)
from hf_mlalign.spontaneous.lens.hidden_states import evaluating

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

METHODS = ("auto", "trie", "full")
_PACKS_COMPARED = 8


class LabelScorer:
    """Scores labels with a causal LM.

    A call takes prompts that begin alike (the few-shot examples of a language). That beginning is read once and its
    key/value cache kept; the rest of the prompts and their labels go through the model in packs: the trie of a pack is
    one sequence in which a token attends to its own path only (a 4-D mask, positions by depth; sliding windows by
    depth too). The output layer sees only the tokens whose children are label tokens. No padding, no copies of the
    cache: memory is that of one pack, whatever the number of labels and rows. Results do not depend on the packs but
    for the last bits.

    Args:
        model: causal LM in any dtype, on one device or several (`hf_device_map`); put in eval mode while scoring.
        batch_tokens: tokens per pack (512, *ours*).
        method: "trie"; "full", one plain forward pass per label without a cache, for models whose attention takes no
            4-D mask or counts the tokens it sees as they are stored (flash attention, ALiBi, state-space layers, the
            local layers of GPT-Neo); "auto" (*ours*) compares both on a whole pack, see `check`, and takes "full" where
            they differ.
    Raises:
        DataError: unknown method, no causal LM, or batch_tokens below 1.
    """

    def __init__(self, model: PreTrainedModel, batch_tokens: int = 512, method: str = "auto"):
        if method not in METHODS:
            raise DataError(f"method: {method!r} is not one of {', '.join(METHODS)}.")
        if batch_tokens < 1:
            raise DataError(f"batch_tokens: {batch_tokens} is not positive.")
        if getattr(model.config, "is_encoder_decoder", False):
            raise DataError("model: an encoder-decoder model. Pass a causal LM.")
        self.model, self.batch_tokens, self.method = model, batch_tokens, method
        self.reason: str | None = None
        self.tokens_read = 0

    def check(self, groups: Sequence[Sequence[LabelledPrompt]]) -> None:
        """With "auto": decide the method by scoring some items of `groups` (those of one `score` call each) both ways.

        One pack is scored as it will be in the run, the one with the most tokens in memory: its first and last prompts
        must agree with plain passes. The longest item of all must, too. Agreement is 1e-3 per label token in float32,
        0.1 in 16 bits. `reason` says why "full" was chosen.

        Raises:
            DataError: a token id that the model's embedding does not have.
        """
        groups = [items for items in groups if items]
        for items in groups:
            self._check_vocabulary(items)
        if self.method != "auto" or not groups:
            return
        implementation = getattr(self.model.config, "_attn_implementation", "eager")
        if implementation not in ("eager", "sdpa"):
            self.method, self.reason = "full", f"attention {implementation!r} takes no 4-D mask"
            return
        full, trie = (LabelScorer(self.model, self.batch_tokens, method) for method in ("full", "trie"))
        shared = [(items, _shared(items)) for items in groups]
        first = ((items, size, pack) for items, size in shared
                 for pack in islice(packs(items, size, self.batch_tokens), _PACKS_COMPARED))  # fmt: skip

        def in_memory(found: tuple[Sequence[LabelledPrompt], int, list[int]]) -> int:
            items, size, pack = found
            texts = [items[i].context[size:] + label for i in pack for label in items[i].labels]
            return size + int(TokenTrie.build(texts).inner().sum())

        items, size, pack = max(first, key=in_memory)
        longest = max((item for group in groups for item in group), key=lambda item: item.longest)
        # half of the prompt as the common beginning, so that its cache is checked too
        alone = [longest, LabelledPrompt(longest.context[: len(longest.context) // 2 + 1], longest.labels)]
        try:
            with evaluating(self.model):
                packed = trie._score_pack([items[i] for i in pack], size, trie._read_prefix(items[0].context[:size]))
                size = _shared(alone)
                packed += trie._score_pack(alone, size, trie._read_prefix(longest.context[:size]))[:1]
        except (TypeError, ValueError, IndexError, AttributeError, KeyError, NotImplementedError) as error:
            self.method, self.reason = "full", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return
        compared = [(items[pack[0]], packed[0]), (items[pack[-1]], packed[-2]), (longest, packed[-1])]
        worst = max(float(np.max(np.abs(found - full._full(item)) / [len(label) for label in item.labels]))
                    for item, found in compared)  # fmt: skip
        allowed = 1e-3 if self.model.dtype.itemsize >= 4 else 0.1
        self.method = "trie" if worst <= allowed else "full"
        if self.method == "full":
            self.reason = f"the scores of a packed and of a plain pass differ by {worst:.2g} per token"

    def score(self, items: Sequence[LabelledPrompt]) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        """Packs of indices into `items`, and for each of them the (labels,) float64 sums of token log-probabilities.

        Raises:
            DataError: a token id that the model's embedding does not have.
        """
        if not items:
            return
        if self.method == "auto":
            self.check([items])
        self._check_vocabulary(items)
        if self.method == "full":
            for i, item in enumerate(items):
                yield [i], [self._full(item)]
            return
        size = _shared(items)
        with evaluating(self.model):
            cache = self._read_prefix(items[0].context[:size])
        for pack in packs(items, size, self.batch_tokens):
            with evaluating(self.model):
                scores = self._score_pack([items[i] for i in pack], size, cache)
            yield pack, scores

    def _check_vocabulary(self, items: Sequence[LabelledPrompt]) -> None:
        rows = self.model.get_input_embeddings().num_embeddings
        most = max(max(max(item.context), max(map(max, item.labels))) for item in items)
        if most >= rows:
            raise DataError(
                f"tokenizer: it gives token {most:,}, the model's embedding has {rows:,} rows. "
                "Pass the tokenizer the model was trained with."
            )

    def _read_prefix(self, tokens: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of each layer after the common beginning."""
        import torch
        from transformers import DynamicCache

        if not tokens:
            return []
        ids = torch.tensor([tokens], device=_device(self.model))
        cache = self.model(input_ids=ids, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1)
        self.tokens_read += len(tokens)
        return [(layer.keys, layer.values) for layer in cache.past_key_values.layers]

    def _score_pack(self, items: Sequence[LabelledPrompt], size: int, prefix: list) -> list[np.ndarray]:
        import torch
        from transformers import DynamicCache

        trie = TokenTrie.build([item.context[size:] + label for item in items for label in item.labels])
        starts = [len(item.context) - size for item in items for _ in item.labels]
        inner = np.flatnonzero(trie.inner())
        place = np.full(len(trie.tokens), -1)
        place[inner] = np.arange(len(inner))
        nodes = np.unique(np.concatenate([path[start:] for path, start in zip(trie.paths, starts)]))
        asked, which = np.unique(place[trie.parents[nodes]], return_inverse=True)
        device, parents = _device(self.model), trie.parents[inner]
        seen = ancestors(np.where(parents < 0, -1, place[parents]))
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(prefix):
            cache.update(keys, values, layer)
        positions = trie.depths[inner] + size
        self.tokens_read += len(inner)
        logits = self.model(
            input_ids=torch.as_tensor(trie.tokens[inner], device=device)[None],
            position_ids=torch.as_tensor(positions, device=device)[None],
            attention_mask=_masks(self.model, seen, positions, size, device),
            past_key_values=cache, use_cache=True, logits_to_keep=torch.as_tensor(asked, device=device),
        ).logits[0]  # fmt: skip
        rows = torch.log_softmax(logits.float(), dim=-1)
        picked = rows[torch.as_tensor(which, device=rows.device), torch.as_tensor(trie.tokens[nodes]).to(rows.device)]
        values = np.zeros(len(trie.tokens))
        values[nodes] = picked.double().cpu().numpy()
        sums = iter([values[path[start:]].sum() for path, start in zip(trie.paths, starts)])
        return [np.array([next(sums) for _ in item.labels]) for item in items]

    def _full(self, item: LabelledPrompt) -> np.ndarray:
        """One forward pass over prompt and label for each label; nothing shared, nothing padded."""
        import torch

        sums = []
        with evaluating(self.model):
            for label in item.labels:
                ids = torch.tensor([item.context + label], device=_device(self.model))
                logits = self.model(input_ids=ids, use_cache=False, logits_to_keep=len(label) + 1).logits[0, :-1]
                rows = torch.log_softmax(logits.float(), dim=-1)
                picked = rows.gather(1, torch.tensor(label, device=rows.device)[:, None])
                sums.append(float(picked.double().sum()))
                self.tokens_read += ids.shape[1]
        return np.array(sums)


def _shared(items: Sequence[LabelledPrompt]) -> int:
    """How many first tokens of all prompts are read once; each keeps one of its own."""
    return min(common_prefix([item.context for item in items]), min(len(item.context) for item in items) - 1)


def _masks(model, seen: np.ndarray, positions: np.ndarray, size: int, device) -> Any:
    """Additive 4-D mask of a pack after a prefix of `size` tokens; one for each kind of layer where kinds differ."""
    import torch

    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    visible = np.concatenate([np.ones((len(seen), size), bool), seen], axis=1)
    before = np.concatenate([np.arange(size), positions])
    near = visible if window is None else visible & (positions[:, None] - before < window)

    def additive(mask: np.ndarray) -> torch.Tensor:
        kind = model.dtype
        floats = torch.zeros(mask.shape, dtype=kind, device=device)
        return floats.masked_fill_(~torch.as_tensor(mask, device=device), torch.finfo(kind).min)[None, None]

    if kinds == {"full_attention"}:
        return additive(visible)
    if kinds == {"sliding_attention"} and getattr(config, "layer_types", None) is None:
        return additive(near)
    return {"full_attention": additive(visible), "sliding_attention": additive(near)}


def _device(model) -> torch.device:
    """Where the input embeddings work: the inputs of a sharded model go there; offloaded ones say it in their hook."""
    import torch

    embeddings = model.get_input_embeddings()
    hook = getattr(embeddings, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return embeddings.weight.device if device is None else torch.device(device)
