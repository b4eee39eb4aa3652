"""LoRA on the query and value projections, whatever the architecture calls them; merging adapters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.launch.common import ROLE
from hf_mlalign.models.loading import from_pretrained, load_errors

if TYPE_CHECKING:
    from peft import LoraConfig
    from trl import ModelConfig

SEPARATE = (("q_proj", "v_proj"), ("q_lin", "v_lin"), ("query", "value"), ("wq", "wv"))
FUSED = ("c_attn", "qkv_proj", "query_key_value", "Wqkv", "qkv")
"""Projections that compute queries, keys and values together: GPT-2, Phi-3, GPT-NeoX, Falcon and BLOOM, MPT, …"""
NOT_TEXT = r".*(vision|visual|audio|image|speech).*"


@dataclass(frozen=True)
class LoraTargets:
    """Module names that get an adapter; `fused`: they also compute the keys."""

    names: tuple[str, ...]
    fused: bool = False
    other_towers: bool = False


def query_and_value(modules: Iterable[str]) -> LoraTargets:
    """Query and value projections among the full names of a model's linear modules.

    Raises:
        DataError: none of the known names occurs; the message lists the names found.
    """
    import re

    modules = list(modules)
    text = [name for name in modules if not re.fullmatch(NOT_TEXT, name)]
    last = {name.rpartition(".")[2] for name in text}
    others = {name.rpartition(".")[2] for name in set(modules) - set(text)}
    for pair in SEPARATE:
        if set(pair) <= last:
            return LoraTargets(pair, other_towers=bool(set(pair) & others))
    for name in FUSED:
        if name in last:
            return LoraTargets((name,), fused=True, other_towers=name in others)
    raise DataError(
        f"lora_target_modules: no query and value projections known among the linear modules {listed(sorted(last))}. "
        "Name the modules to adapt with --lora_target_modules."
    )


def linear_modules(model: ModelConfig, trust_remote_code: bool = False) -> list[str]:
    """Full names of the linear modules of a model, from its config alone, without loading weights."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    return _modules(model, trust_remote_code, (Linear, Conv1D))


def check_targets(model: ModelConfig, trust_remote_code: bool = False) -> None:
    """Raise a `DataError` if an entry of `lora_target_modules` names no module, or a single pattern matches none.

    TRL turns a list of one name into a string. Unless that is a pattern of full names, it is turned back into a list.
    """
    import re

    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, Conv1D, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
    wanted = model.lora_target_modules
    if not model.use_peft or not wanted or wanted == "all-linear":
        return
    try:
        modules = _modules(model, trust_remote_code, kinds)
    except DataError:  # not a causal LM by its config; PEFT checks the model itself
        return
    if isinstance(wanted, str):
        try:
            if any(re.fullmatch(wanted, name) for name in modules):
                return
        except re.error as error:
            raise DataError(f"lora_target_modules: {wanted!r} is not a regular expression: {error}.") from error
        wanted = model.lora_target_modules = [wanted]
    if absent := [name for name in wanted if not any(f".{full}".endswith(f".{name}") for full in modules)]:
        known = sorted({name.rpartition(".")[2] for name in modules})
        raise DataError(f"lora_target_modules: no {listed(absent)} among the modules to adapt, {listed(known)}.")


def _modules(model: ModelConfig, trust_remote_code: bool, kinds: tuple[type, ...]) -> list[str]:
    """Full names of a model's modules of these kinds, from its config alone."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    which, options = (model.model_name_or_path, "a causal LM"), {"trust_remote_code": trust_remote_code}
    config = from_pretrained(AutoConfig, *which, role=ROLE, revision=model.model_revision, **options)
    with load_errors(*which, ROLE), torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, **options)
    return [name for name, module in empty.named_modules() if isinstance(module, kinds)]


def lora_config(model: ModelConfig, on_query_and_value: bool, trust_remote_code: bool) -> tuple[LoraConfig | None, str]:
    """(adapter settings, a note on what was chosen); `None` for full training.

    Args:
        on_query_and_value: if no modules are named, choose queries and values; otherwise PEFT chooses.
    Raises:
        DataError: a named module does not exist, or the query and value projections are not known.
    """
    from trl import get_peft_config

    note, towers = "", False
    check_targets(model, trust_remote_code)
    if model.use_peft and on_query_and_value and not model.lora_target_modules:
        targets = query_and_value(linear_modules(model, trust_remote_code))
        model.lora_target_modules, towers = list(targets.names), targets.other_towers
        note = f"LoRA on {' and '.join(targets.names)}"
        note += ", which also computes the keys, so they are adapted too." if targets.fused else "."
    config = get_peft_config(model)
    if towers:
        config.exclude_modules = NOT_TEXT
    return config, note


def merge_adapter(adapter: str | Path, output: str | Path, *, dtype: str = "float32", trust_remote_code: bool = False):
    """Add an adapter's weights to those of its model and save both as one model with its tokenizer.

    Args:
        adapter: folder of the adapter; its config names the model.
        output: folder to write.
        dtype: type in which the weights are added (*ours*: float32; bfloat16 loses small changes).
    """
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    options = {"trust_remote_code": trust_remote_code}
    model = from_pretrained(AutoPeftModelForCausalLM, adapter, "an adapter", role="adapter", dtype=dtype, **options)
    model.merge_and_unload().save_pretrained(str(output))
    from_pretrained(AutoTokenizer, adapter, "a tokenizer", role="adapter", **options).save_pretrained(str(output))
