"""Shared by the training scripts: data, options of the model, checkpoints, the record, saving, and the exit code."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed, printable
from hf_mlalign.core.system_errors import known
from hf_mlalign.hub.run_record import RunRecord, describe_source, to_json, write_record
from hf_mlalign.models.loading import from_pretrained, refuse_pickles, safe_options

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments
    from trl import ModelConfig, TrlParser

ROLE = "model_name_or_path"
PROMPT_IDS = ("prompt_id", "question_id", "id", "prompt")
"""Columns that identify the prompt of a row; the first one found is used."""


def argument(default: Any, help: str) -> Any:
    """A field of an arguments class, for TRL's parser."""
    return field(default=default, metadata={"help": help})


@dataclass
class DataArguments:
    """What to train on and what to evaluate on."""

    dataset: str | None = argument(None, "File, folder or Hub dataset.")
    dataset_config: str | None = argument(None, "Configuration of the dataset.")
    dataset_train_split: str = argument("train", "Split to train on.")
    dataset_test_split: str | None = argument(None, "Split to evaluate on.")
    eval_prompts: float = argument(
        0.0, "Without a test split: share of prompts, in all their languages, held out for evaluation (ours: none)."
    )
    eval_per_language: bool = argument(True, "Evaluate each language separately (ours).")
    languages: list[str] | None = argument(None, "Train on these languages only.")
    world_size: int | None = argument(
        None, "Stop unless this many processes are running: a launcher may start fewer than you asked for."
    )

    def __post_init__(self):
        if not 0 <= self.eval_prompts < 1:
            raise DataError(f"eval_prompts: {self.eval_prompts} is not a share in [0, 1).")
        if self.eval_prompts and self.dataset_test_split:
            raise DataError("eval_prompts and dataset_test_split: give only one of them.")


def load_data(
    data: DataArguments, seed: int, kind: str = "preference pairs", read: Callable[[Dataset], Dataset] | None = None
) -> tuple[Dataset, Dataset | dict[str, Dataset] | None]:
    """Training and evaluation sets; the latter per language unless switched off.

    Args:
        kind: what the dataset should contain, for the message if none is named.
        read: turns the rows of the file into rows to train on.
    """
    from hf_mlalign.data.sources import load_source

    read = read or (lambda ds: ds)

    if not data.dataset:
        raise DataError(f"dataset: name a file, a folder or a Hub dataset with {kind}.")
    ds = read(load_source(data.dataset, data.dataset_train_split, data.dataset_config))
    held_out = None
    if data.dataset_test_split:
        held_out = read(load_source(data.dataset, data.dataset_test_split, data.dataset_config))
    elif data.eval_prompts:
        ds, held_out = hold_out_prompts(ds, data.eval_prompts, seed)
    if data.languages:
        ds = only_languages(ds, data.languages)
        held_out = None if held_out is None else only_languages(held_out, data.languages)
    if held_out is not None and data.eval_per_language and "language" in held_out.column_names:
        held_out = split_by_language(held_out)
    return ds, held_out


def hold_out_prompts(ds: Dataset, share: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """(rest, held out): about `share` of the prompts, at least one, each with all its languages and rows.

    A prompt is identified by `prompt_id`, `question_id` (within its `task`, if there is such a column) or `id`, or by
    its text if there are no such columns.
    """
    column = next((name for name in PROMPT_IDS if name in ds.column_names), None)
    if column is None:
        raise DataError(f"eval_prompts: no column {listed(PROMPT_IDS)} among {listed(ds.column_names)}.")
    tasks = ds["task"] if column == "question_id" and "task" in ds.column_names else [None] * len(ds)
    keys = [json.dumps(key, ensure_ascii=False, sort_keys=True) for key in zip(tasks, ds[column], strict=True)]
    distinct = sorted(set(keys))
    if len(distinct) < 2:
        raise DataError("eval_prompts: a single prompt cannot be split. Switch the evaluation off.")
    count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
    chosen = {distinct[i] for i in np.random.default_rng(seed).permutation(len(distinct))[:count]}
    held = np.array([key in chosen for key in keys])
    return ds.select(np.flatnonzero(~held)), ds.select(np.flatnonzero(held))


def split_by_language(ds: Dataset) -> dict[str, Dataset]:
    """Language → its rows, in alphabetical order of the languages."""
    languages = _languages(ds)
    return {name: ds.select(np.flatnonzero(languages == name)) for name in sorted(set(languages))}


def _languages(ds: Dataset) -> np.ndarray:
    languages = np.array(ds["language"], dtype=object)
    if len(missing := np.flatnonzero(languages == None)):  # noqa: E711  (elementwise)
        raise DataError(f"Column 'language', row {missing[0]}: missing. Fill it in or drop such rows.")
    return languages


def only_languages(ds: Dataset, wanted: Sequence[str]) -> Dataset:
    """The rows in these languages (ISO 639-1 codes or English names); DataError if one has none."""
    from hf_mlalign.data.languages import check_languages

    if "language" not in ds.column_names:
        raise DataError(f"languages: no column language among {listed(ds.column_names)}.")
    codes = check_languages(wanted)
    languages = _languages(ds)
    if absent := [code for code in codes if code not in set(languages)]:
        raise DataError(f"languages: no rows in {listed(absent)}. There are: {listed(sorted(set(languages)))}.")
    return ds.select(np.flatnonzero(np.isin(languages, codes)))


def load_tokenizer(training: TrainingArguments, model: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of the named model; DataError if no model is named or it cannot be loaded."""
    from transformers import AutoTokenizer

    if not model.model_name_or_path:
        raise DataError("model_name_or_path: name the model to train.")
    name, trusted = model.model_name_or_path, training.trust_remote_code
    refuse_pickles(name, ROLE)
    return from_pretrained(
        AutoTokenizer, name, "a causal LM", role=ROLE, revision=model.model_revision, trust_remote_code=trusted
    )


def model_options(training: TrainingArguments, model: ModelConfig) -> dict[str, Any]:
    """Options of `from_pretrained` from the model's settings; --model_init_kwargs overrides them."""
    return {
        "revision": model.model_revision, "attn_implementation": model.attn_implementation, "dtype": model.dtype,
        **safe_options(),
        **(training.model_init_kwargs or {}),
    }  # fmt: skip


def find_checkpoint(wanted: str | None, output_dir: str, say: Callable[[str], Any] = print) -> str | None:
    """The checkpoint to resume from: the given folder, or, for "auto" or "true", the last complete one in `output_dir`.

    Args:
        say: called with one sentence for each incomplete checkpoint that is skipped, and if none is complete.
    Raises:
        DataError: the given folder does not exist or is incomplete; see `missing_parts`.
    """
    if not wanted or wanted.lower() == "false":
        return None
    if wanted.lower() in ("auto", "true"):
        found = [path for path in Path(output_dir).glob("checkpoint-*") if path.name.split("-")[-1].isdecimal()]
        found = sorted(filter(Path.is_dir, found), key=lambda path: int(path.name.split("-")[-1]), reverse=True)
        for path in found:
            if not (missing := missing_parts(path)):
                return str(path)
            say(f"resume_from_checkpoint: skipped {path.name}, which has no {listed(missing)}.")
        if found:
            say("resume_from_checkpoint: there is no complete checkpoint; training starts from the beginning.")
        return None
    if not Path(wanted).is_dir():
        raise DataError(
            f"resume_from_checkpoint: no folder {wanted!r}. Use auto for the last one of the output folder."
        )
    if missing := missing_parts(Path(wanted)):
        raise DataError(f"resume_from_checkpoint: {wanted!r} has no {listed(missing)}. Use auto for a complete one.")
    return wanted


def missing_parts(checkpoint: Path) -> list[str]:
    """What a checkpoint lacks for resuming: weights, optimizer, scheduler, and the trainer's state (written last).

    Knows the files of one process, DDP, FSDP and DeepSpeed (which keeps the scheduler in its own files).
    """
    parts = {
        "weights": ("*model*.safetensors", "*model*.bin", "pytorch_model_fsdp*", "global_step*"),
        "optimizer": ("optimizer*", "global_step*"),
        "scheduler": ("scheduler.pt", "global_step*"),
    }
    missing = [name for name, files in parts.items() if not any(any(checkpoint.glob(file)) for file in files)]
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        missing.append("trainer_state.json")
    return missing


def checkpoint_of(training: TrainingArguments) -> str | None:
    """The checkpoint that these settings resume from; see `find_checkpoint`. One process prints what was skipped."""
    say = print if training.process_index == 0 else lambda sentence: None
    checkpoint = find_checkpoint(training.resume_from_checkpoint, training.output_dir, say)
    if checkpoint:
        refuse_pickles(checkpoint, "resume_from_checkpoint")
    return checkpoint


def evaluated_by_language(trainer: Trainer) -> list[dict[str, Any]]:
    """The last evaluation of each language in the log: rows with the language and the values of the metrics."""
    found: dict[str, dict[str, Any]] = {}
    names = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {}
    for entry in trainer.state.log_history:
        for language in names:
            start = f"eval_{language}_"
            values = {key.removeprefix(start): value for key, value in entry.items() if key.startswith(start)}
            if values:
                found.setdefault(language, {"language": language}).update(values)
    return list(found.values())


@contextmanager
def recorded(
    trainer: Trainer, command: str, script: DataArguments, model: ModelConfig, described: dict[str, Any] | None = None
) -> Iterator[None]:
    """Keep `run.json` in the output folder during training: options, source, versions, and at the end the figures.

    Args:
        described: what is known about the training before it starts.
    """
    if not trainer.accelerator.is_main_process:
        yield
        return
    folder = Path(trainer.args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    given = {**trainer.args.to_dict(), **vars(script), "model": vars(model)}
    options = {name: value for name, value in given.items() if name not in ("dataset", "output_dir", "logging_dir")}
    source = describe_source(script.dataset, config=script.dataset_config, split=script.dataset_train_split)
    record = RunRecord(command=command, parameters=to_json(options), source=source, results=to_json(described or {}))
    write_record(folder, record)
    yield
    record.state, record.finished = "finished", datetime.now(UTC)
    record.seconds = {"train": round((record.finished - record.started).total_seconds(), 3)}
    record.results |= to_json({"steps": trainer.state.global_step, "per_language": evaluated_by_language(trainer)})
    write_record(folder, record)


def train_and_save(
    trainer: Trainer, training: TrainingArguments, dataset: str, evaluate: bool, checkpoint: str | None
) -> None:
    """Train from the beginning or from a checkpoint, evaluate, save model, state and metrics, and push if requested."""
    result = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    if evaluate:
        trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_model(training.output_dir)
    trainer.save_state()
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=hub_name(dataset))
    trainer.accelerator.print(f"Saved to {training.output_dir}.")


def check_evaluation(training: TrainingArguments, eval_set: Any) -> None:
    """Raise a `DataError` if evaluation is requested and there is nothing to evaluate on."""
    if training.eval_strategy != "no" and eval_set is None:
        raise DataError("eval_strategy: there is nothing to evaluate on. Give --dataset_test_split or --eval_prompts.")


def finish(trainer: Trainer) -> None:
    """Take the model out of its distributed wrapper, then leave the process group together.

    A wrapper that outlives its process group can hang in its destructor.
    """
    trainer.accelerator.wait_for_everyone()
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()
    gc.collect()
    if hasattr(trainer, "end"):
        trainer.end()


def hub_name(dataset: str) -> str | None:
    """The name of a Hub dataset for the model card; `None` for a local path or pattern."""
    return None if Path(dataset).exists() or any(ch in dataset for ch in "*?[") else dataset


def parse_options(parser: TrlParser, arguments: Sequence[str] | None) -> tuple:
    """Settings from the flags and the file of --config; DataError for an unknown option or a bad value."""
    from yaml import YAMLError

    try:
        return parser.parse_args_and_config(arguments, fail_with_unknown_args=True)
    except DataError:
        raise
    except (ValueError, TypeError, OSError, ImportError, YAMLError) as error:
        raise DataError(f"options: {' '.join(str(error).split())[:500]} See --help.") from error


def run_script(train: Callable[..., Any], parse: Callable[..., tuple], arguments: Sequence[str] | None) -> int:
    """Parse and train; returns the exit code, 2 for unusable input and for a full disk or memory."""
    try:
        train(*parse(arguments))
    except Exception as error:
        if (told := known(error)) is None:
            raise
        print(printable(f"Error: {told}"), file=sys.stderr)
        return 2
    return 0
