"""Loads models: from safetensors only, and without running code that comes with them, unless the user allows it.

A pickle (`pytorch_model.bin`, `*.pt`, …) can run any code when it is loaded. Every model, adapter, tokenizer and
encoder of this package is loaded by the functions of this module, which refuse pickles unless the environment variable
MLALIGN_ALLOW_PICKLE is 1, and code from a model's folder unless a caller passes `trust_remote_code=True`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed

if TYPE_CHECKING:
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


VARIABLE = "MLALIGN_ALLOW_PICKLE"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
STATES = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "pytorch_model_fsdp")
"""How the names of files start that training saves beside the weights; models are not loaded from them."""
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.spm", "*.tiktoken", "*.vocab")
HUB_NOT = ("onnx/*", "openvino/*", "checkpoint-*/*", "runs/*")
OWN_CODE = "trust_remote_code"
REASON_CHARS = 300


def pickles_allowed() -> bool:
    """Whether the user allows pickled weights: MLALIGN_ALLOW_PICKLE is set, and not to 0."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def safe_options() -> dict[str, Any]:
    """Options of a `from_pretrained` that loads weights: only safetensors, unless pickles are allowed."""
    return {} if pickles_allowed() else {"use_safetensors": True}


def from_pretrained(
    loader: Any, name: str | Path, what: str, *, role: str = "model", trust_remote_code: bool | None = False, **options
) -> Any:
    """`loader.from_pretrained(name, …)` for models, tokenizers and configs of transformers and PEFT.

    Args:
        loader: e.g. `AutoModelForCausalLM` or `AutoTokenizer`.
        name: folder or Hub name.
        what: what it is loaded as, for the message, e.g. "a causal LM".
        role: the argument that the message names.
        trust_remote_code: run code that comes with the model (*ours*: False, without a prompt).
        **options: other options of `from_pretrained`.
    Raises:
        DataError: it cannot be loaded, its weights are pickles, or it needs code of its own.
    """
    has_weights = "Model" in loader.__name__
    if has_weights:
        refuse_pickles(name, role)
    weights = safe_options() if has_weights else {}
    with load_errors(name, what, role):
        return loader.from_pretrained(str(name), trust_remote_code=bool(trust_remote_code), **weights, **options)


def sentence_transformer(name: str | Path, *, revision: str | None = None, **options: Any) -> SentenceTransformer:
    """The SentenceTransformer in a folder or on the Hub; of a Hub model only safetensors and texts are fetched.

    Raises:
        DataError: it cannot be loaded, its weights are pickles, or its modules are classes of another library.
    """
    from sentence_transformers import SentenceTransformer

    with load_errors(name, "a sentence encoder", "model"):
        folder = _hub_folder(name, revision)
        refuse_pickles(folder, "model", name)
        _check_modules(Path(folder), name)
        return SentenceTransformer(
            str(folder), revision=revision, trust_remote_code=False, model_kwargs=safe_options(), **options
        )


def peft_adapter(model: Any, adapter: str | Path, *, role: str = "adapter") -> PeftModel:
    """The model with a PEFT adapter from a folder or the Hub.

    Raises:
        DataError: it cannot be loaded, or its weights are a pickle.
    """
    from peft import PeftModel

    with load_errors(adapter, "an adapter", role):
        folder = _hub_folder(adapter, None)
        refuse_pickles(folder, role, adapter)
        return PeftModel.from_pretrained(model, str(folder))


def to_device(model: Any, device: str | None) -> Any:
    """The model on a device, by default a GPU if there is one; DataError for a missing device."""
    import torch

    try:
        return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise DataError(f"device: cannot use {device!r}: {_reason(error)}. Use cpu, cuda or cuda:0.") from error


@contextmanager
def load_errors(name: str | Path, what: str, role: str = "model") -> Iterator[None]:
    """Context in which every problem with the files of a model becomes a `DataError` that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{role}: cannot load {str(name)!r} as {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if OWN_CODE in text:
        return (
            "it needs code that comes with it, and such code is not run. Use a model that the installed libraries "
            "know by themselves; where a class of this package takes trust_remote_code, only Python can set it."
        )
    if "safetensors" in text and isinstance(error, OSError):
        return f"{text[:REASON_CHARS]} {_remedy()}"
    named = isinstance(error, (OSError, ValueError, RuntimeError))
    return text[:REASON_CHARS] if text and named else f"{type(error).__name__}: {text[:REASON_CHARS]}"


def _remedy() -> str:
    return (
        "Loading a pickle would run its author's code. Convert the weights to safetensors "
        f"(model.save_pretrained writes them), or, if you trust the author, set {VARIABLE}=1."
    )


def refuse_pickles(folder: str | Path, role: str = "model", shown: str | Path | None = None) -> None:
    """Raise a `DataError` if a local folder has only pickled weights, or if an index of shards names other files.

    Args:
        folder: folder with the weights (subfolders are not checked). A Hub name passes: its loader takes safetensors
            only.
        role: the argument that the message names.
        shown: the name for the message.
    """
    folder = Path(folder)
    if pickles_allowed() or not folder.is_dir():
        return
    pickles = [p.name for p in sorted(folder.iterdir()) if p.suffix in PICKLED and not p.name.startswith(STATES)]
    if pickles and not any(folder.glob("*.safetensors")):
        names = listed(pickles, 3)
        raise DataError(f"{role}: {str(shown or folder)!r} has its weights as pickles ({names}). {_remedy()}")
    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_index(index, role)


def _check_index(index: Path, role: str) -> None:
    """Raise a `DataError` if an index of shards names anything but safetensors files beside it."""
    try:
        shards = set(map(str, json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{role}: {str(index)!r} is not an index of weights ({reason}).") from error
    for shard in sorted(shards):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            problem = f"names {shard!r}, which is not a safetensors file beside it"
            raise DataError(f"{role}: {str(index)!r} {problem}. {_remedy()}")


def _check_modules(folder: Path, shown: str | Path) -> None:
    """Raise a `DataError` if a sentence encoder has classes of other libraries, or parts with pickled weights."""
    path = folder / "modules.json"
    for module in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else ():
        if not str(module.get("type")).startswith("sentence_transformers."):
            raise DataError(
                f"model: {str(shown)!r} uses the class {module.get('type')!r} (modules.json), which is not part of "
                "sentence-transformers. Loading it would run its author's code; use another encoder."
            )
        part = folder / str(module.get("path", ""))
        if not part.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"model: {str(shown)!r} names a part outside itself, {module['path']!r} (modules.json).")
        for inside in [part, *part.glob("**/")] if part != folder else ():
            refuse_pickles(inside, "model", shown)


def _hub_folder(name: str | Path, revision: str | None) -> str | Path:
    """The folder itself, or a local copy of a Hub model without pickles and code."""
    if pickles_allowed() or Path(name).exists():
        return name
    from huggingface_hub import snapshot_download

    return snapshot_download(
        str(name), revision=revision, allow_patterns=list(HUB_FILES), ignore_patterns=list(HUB_NOT)
    )


KINDS = {
    "causal": ("AutoModelForCausalLM", "a causal LM"),
    "seq2seq": ("AutoModelForSeq2SeqLM", "a seq2seq model"),
    "reward": ("AutoModelForSequenceClassification", "a reward model"),
}
"""Kind of model → the class of transformers that loads it, and its name in messages."""
DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_model(
    model: Any,
    kind: str = "causal",
    device: str | None = None,
    *,
    adapter: str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in eval mode, and its tokenizer.

    Args:
        model: folder or Hub name; or a loaded (model, tokenizer) pair, which stays on its device.
        kind: "causal", "seq2seq" or "reward" (sequence classification), if `model` is a name.
        device: device of a named model: "cpu", "cuda", …; "auto" shards it over all devices; default: a GPU if there
            is one.
        adapter: folder or Hub name of a PEFT adapter to load onto the model.
        tokenizer: used instead of the model's own.
        dtype: type of the weights; "auto" (default): as saved.
        trust_remote_code: run code that comes with the model (*ours*: False, without a prompt).
    Raises:
        DataError: model or adapter cannot be loaded, another kind of object, or an unknown dtype or device.
    """
    if isinstance(model, (tuple, list)):
        if len(model) != 2:
            raise DataError(f"model: expected (model, tokenizer), got {len(model)} objects")
        return model[0].eval(), model[1]
    if not isinstance(model, (str, Path)):
        raise DataError(f"model: expected a name, a folder or (model, tokenizer), got {type(model).__name__}")
    import transformers

    if isinstance(dtype, str) and dtype not in DTYPES:
        raise DataError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}.")
    loader, what = KINDS[kind]
    options = {"trust_remote_code": trust_remote_code}
    sharded = {"device_map": "auto"} if device == "auto" else {}
    tokenizer = tokenizer or from_pretrained(transformers.AutoTokenizer, model, what, **options)
    loaded = from_pretrained(getattr(transformers, loader), model, what, dtype=dtype, **sharded, **options)
    loaded = loaded if sharded else to_device(loaded, device)
    return (peft_adapter(loaded, adapter) if adapter is not None else loaded).eval(), tokenizer


def load_causal_lm(
    model: str | Path, adapter: str | Path | None = None, dtype: str = "auto", device: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal LM in eval mode, with its adapter if one is named, and its tokenizer; see `load_model`."""
    return load_model(model, "causal", device, adapter=adapter, dtype=dtype)
