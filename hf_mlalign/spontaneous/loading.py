"""Load a causal LM and its tokenizer, with an adapter on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_mlalign.errors import DataError
from hf_mlalign.weights import from_pretrained, peft_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_causal_lm(
    model: str | Path, adapter: str | Path | None = None, dtype: str = "auto", device: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal LM in eval mode, and its tokenizer.

    Args:
        model: folder or Hub name.
        adapter: folder or Hub name of a PEFT adapter.
        dtype: of the weights; "auto" (default): as saved.
        device: "cpu", "cuda", …; "auto": shard over all devices there are; default: the best one.
    Raises:
        DataError: model or adapter cannot be loaded, or the dtype is unknown.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in DTYPES:
        raise DataError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}.")
    placed = device or ("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = from_pretrained(AutoTokenizer, model, "a causal LM")
    loaded = from_pretrained(AutoModelForCausalLM, model, "a causal LM", dtype=dtype, device_map=placed)
    if adapter is not None:
        loaded = peft_adapter(loaded, adapter)
    return loaded.eval(), tokenizer
