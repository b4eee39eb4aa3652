"""Looking between the blocks of a causal LM: what every block puts out, and what the model's end makes of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOGITS_PER_STEP = 2**24
"""Most logits held at a time when states are projected on the vocabulary: 64 MiB in float32 (*ours*)."""


class Layers:
    """The blocks of a decoder-only LM, found by what they are and not by their name.

    Nothing is taken for granted about the architecture but this: there is one list of as many blocks as the config has
    layers, each block takes and returns states of shape (batch, tokens, width), and they run one after the other.
    PEFT-wrapped, quantised and sharded models are used as they are; weights and settings stay unchanged.

    Args:
        model: a causal LM of transformers, PEFT-wrapped or not.
    Raises:
        DataError: the model is not a decoder-only LM, or its blocks are not found.
    """

    def __init__(self, model: PreTrainedModel):
        from torch.nn import ModuleList

        self.model = model
        self._base = model.get_base_model() if hasattr(model, "get_base_model") else model
        if getattr(self._base.config, "is_encoder_decoder", False):
            raise DataError("model: an encoder-decoder model has two stacks. Pass a decoder-only causal LM.")
        name = type(self._base).__name__
        if not hasattr(self._base, "get_output_embeddings") or self._base.get_output_embeddings() is None:
            raise DataError(f"model: {name} has no language-model head. Load it with AutoModelForCausalLM.")
        n = getattr(self._base.config.get_text_config(), "num_hidden_layers", None)
        decoder = self._base.get_decoder() if hasattr(self._base, "get_decoder") else self._base
        lists = (module for module in decoder.modules() if isinstance(module, ModuleList) and len(module) == n)
        self.blocks = list(next(lists, ()))
        if not self.blocks:
            raise DataError(f"model: {name} has no list of {n} blocks; it cannot be read by layers.")
        accepted = inspect.signature(self._base.forward).parameters
        self._options = {"use_cache": False} if "use_cache" in accepted else {}
        self._keeps = "logits_to_keep" in accepted
        self._tuple_length = 0

    def __len__(self) -> int:
        """How many layers are seen: the embedding output and every block."""
        return len(self.blocks) + 1

    @property
    def context(self) -> int | None:
        """Longest input in tokens, where the config tells."""
        return getattr(self._base.config.get_text_config(), "max_position_embeddings", None)

    @property
    def device(self) -> torch.device:
        """Where inputs go: the device of the token embedding (the CPU where the weights are offloaded)."""
        import torch

        device = self._base.get_input_embeddings().weight.device
        return torch.device("cpu") if device.type == "meta" else device

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """DataError if the tokenizer has tokens for which the model has no embedding."""
        rows = self._base.get_input_embeddings().weight.shape[0]
        if len(tokenizer) > rows:
            raise DataError(
                f"tokenizer: it has {len(tokenizer):,} tokens, the embedding of the model {rows:,} rows. "
                "Pass the tokenizer of this model."
            )

    def forward(
        self, rows: Sequence[Sequence[int]], reduce: Callable[[torch.Tensor], torch.Tensor], keep: list[int] | None
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """One pass over a batch, padded on the right and masked.

        Args:
            rows: token ids.
            reduce: what to keep of the (batch, tokens, width) states of a layer, on their device.
            keep: positions whose logits are wanted, ascending; None for the last one only.
        Returns:
            What `reduce` made of the embedding output and of each block's output (before the final norm), and the
            logits at `keep`, (batch, positions, vocabulary).
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        # nothing in a causal model depends on what follows: any id pads, and no position ids are needed
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(self.device)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True).to(self.device)
        positions = torch.tensor([ids.shape[1] - 1] if keep is None else keep, device=self.device)
        options = {"logits_to_keep": positions} if self._keeps else {}
        states: list = [None] * len(self)

        def keep_states(i: int, hidden: torch.Tensor) -> None:
            if hidden.dim() != 3 or hidden.shape[:2] != ids.shape:
                raise DataError(
                    f"model: the states at layer {i} have the shape {tuple(hidden.shape)}, not (batch, tokens, width). "
                    "Blocks of this kind cannot be read, nor can prompt-learning adapters."
                )
            states[i] = reduce(hidden)

        def before(module, args, kwargs):
            keep_states(0, args[0] if args else kwargs["hidden_states"])

        def after(i: int, module, args, output):
            self._tuple_length = len(output) if isinstance(output, tuple) else 0
            keep_states(i, output[0] if isinstance(output, tuple) else output)

        handles = [self.blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
        handles += [block.register_forward_hook(partial(after, i)) for i, block in enumerate(self.blocks, 1)]
        try:
            with torch.no_grad():
                logits = self.model(input_ids=ids, attention_mask=mask, **self._options, **options).logits
        finally:
            for handle in handles:
                handle.remove()
        return states, logits if self._keeps else logits[:, positions.to(logits.device)]

    def end(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (n, vocabulary) that the model's own end makes of (n, width) states.

        One-token inputs pass through the whole model with every block replaced by one that returns the given states:
        what follows the last block is done by the model itself, each thing once: final norm, output projection, head,
        logit scale, soft cap, adapters on the head.
        """
        import torch

        ids = torch.zeros((len(states), 1), dtype=torch.long, device=self.device)
        output = states[:, None]
        if self._tuple_length:
            output = (output, *[None] * (self._tuple_length - 1))
        own = [vars(block).get("forward") for block in self.blocks]
        handle = self.blocks[-1].register_forward_hook(lambda *args: output)  # after hooks that others have put there
        try:
            for block in self.blocks:
                block.forward = lambda *args, **kwargs: output
            with torch.no_grad():
                out = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), **self._options)
        finally:
            handle.remove()
            for block, forward in zip(self.blocks, own, strict=True):
                vars(block).pop("forward", None)
                if forward is not None:
                    block.forward = forward
        return out.logits[:, -1]


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout and gradients; the model's mode is as before afterwards."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def by_length(rows: Sequence[Sequence[int]], batch_size: int, what: str) -> Iterator[list[int]]:
    """Indices of batches of similar length, the longest first, with a progress bar."""
    from tqdm.auto import tqdm

    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    with tqdm(total=len(rows), desc=what, unit="prompt", disable=len(rows) <= batch_size) as bar:
        for begin in range(0, len(order), batch_size):
            batch = order[begin : begin + batch_size]
            yield batch
            bar.update(len(batch))


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], special: bool = True) -> list[list[int]]:
    """Token ids of texts that something may follow: with the special tokens put before a text, without those after."""
    bare = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    if not special:
        return bare
    whole = tokenizer(texts, verbose=False)["input_ids"]
    found = []
    for ids, long in zip(bare, whole, strict=True):
        ends = range(len(ids), len(long) + 1)  # where the text ends among the special tokens
        found.append(long[: next((end for end in ends if long[end - len(ids) : end] == ids), len(long))])
    return found


def check_prompts(texts: Sequence[str], name: str) -> list[str]:
    """`texts` as a list; DataError if there are none, or one is blank or not a text."""
    if isinstance(texts, str) or not len(texts):
        raise DataError(f"{name}: give a list of at least one text.")
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{name}, row {i}: {text!r} is not a text. Fill it in or drop the row.")
    return list(texts)


def check_batch_size(batch_size: int) -> None:
    """DataError unless positive."""
    if batch_size < 1:
        raise DataError(f"batch_size: {batch_size} is not positive.")
