"""Measures on the model itself, before training, whether packed examples see each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LENGTHS = (7, 11, 5)
TOLERANCE = {"float32": 1e-3, "float64": 1e-3}
"""Largest accepted difference, relative to the largest logit (*ours*); half precision gets `HALF`."""
HALF = 5e-2


def packing_difference(model: PreTrainedModel, lengths: Sequence[int] = LENGTHS) -> float:
    """Largest difference between the logits of examples packed in one row and of each alone, over the largest logit.

    The row is collated as in TRL, with position ids that restart at each example and no attention mask. A model that
    separates the examples gives rounding errors (about 1e-6); one that ignores the positions gives about 1.
    """
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    device = next(model.parameters()).device
    size = model.get_input_embeddings().weight.shape[0]
    draw = torch.Generator().manual_seed(0)
    examples = [torch.randint(0, size, (n,), generator=draw).tolist() for n in lengths]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    packed = collate([{"input_ids": [*chain.from_iterable(examples)], "seq_lengths": list(lengths)}])
    packed = {k: v.to(device) if hasattr(v, "to") else v for k, v in packed.items() if k != "labels"}
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = torch.cat([model(input_ids=torch.tensor([ids], device=device)).logits[0] for ids in examples])
            together = model(**packed, use_cache=False).logits[0]
    finally:
        model.train(was_training)
    return float((alone - together).abs().max() / alone.abs().max())


def check_packing(model: PreTrainedModel, packing: bool, strategy: str) -> float | None:
    """Refuse packing that lets examples see each other.

    Returns:
        The measured difference; `None` with an attention kernel for packed rows (flash attention), which is trusted.
    Raises:
        DataError: the strategy "wrapped", which cuts and mixes examples, or a model that reads across the boundaries.
    """
    if packing and strategy == "wrapped":
        raise DataError('packing_strategy: "wrapped" cuts examples and lets them see each other. Use bfd.')
    attention = getattr(model.config.get_text_config(), "_attn_implementation", None) or ""
    if "flash" in attention:
        return None
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    difference = packing_difference(model)
    if not difference <= TOLERANCE.get(dtype, HALF):
        raise DataError(
            f"packing: in this model ({type(model).__name__}, {attention or 'no'} attention) packed examples see each "
            f"other: packing changes their logits by {difference:.2g} of the largest. Train without packing, or with "
            "--attn_implementation flash_attention_2 if the model supports it."
        )
    return difference
