"""Send the results of a run, per language, to experiment trackers, by the names of transformers' `report_to`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.hub.run_record import RunRecord, language_rows


def per_language_metrics(record: RunRecord) -> dict[str, float]:
    """The numbers in `results["per_language"]` as `<command>_<name>/<language>`; nulls and texts are left out."""
    return {
        f"{record.command}_{name}/{row['language']}": value
        for row in language_rows(record) for name, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }  # fmt: skip


def report_run(record: RunRecord, report_to: str | Sequence[str] | None, folder: str | Path) -> list[str]:
    """Log the results of a finished run per language; returns the names of the trackers.

    Args:
        record: the record of the run.
        report_to: one or more names that transformers knows ("trackio", "tensorboard", "wandb", …), "all" for those
            that are installed, `None` or "none" for none.
        folder: run folder. Trackers that write files (tensorboard) write into it; its name is that of the run.
    Raises:
        DataError: a tracker that transformers does not know, or that is not installed.
    """
    if report_to in (None, "none", []):
        return []
    from transformers import TrainerControl, TrainerState, TrainingArguments

    # The callbacks of transformers' trainer: every tracker and its environment variables work as in a training.
    callbacks = _callbacks(report_to)
    folder = Path(folder)
    args = TrainingArguments(str(folder), run_name=folder.name, project="hf_mlalign", report_to=[], use_cpu=True)
    state, control, metrics = TrainerState(), TrainerControl(), per_language_metrics(record)
    for callback in callbacks:
        callback.on_train_begin(args, state, control, model=None)
        callback.on_log(args, state, control, logs=dict(metrics), model=None)
        callback.on_train_end(args, state, control, model=None, processing_class=None)
    return [type(callback).__name__.removesuffix("Callback").lower() for callback in callbacks]


def _callbacks(report_to: str | Sequence[str]) -> list[Any]:
    from transformers.integrations import get_available_reporting_integrations, get_reporting_integration_callbacks

    names = get_available_reporting_integrations() if report_to == "all" else report_to
    try:
        classes = get_reporting_integration_callbacks([names] if isinstance(names, str) else list(names))
        return [each() for each in classes]
    except (ValueError, RuntimeError, ImportError) as error:
        raise DataError(f"report_to: {error}") from error


def check_trackers(report_to: str | Sequence[str] | None) -> None:
    """Raise the `DataError` of `report_run` before a command starts its work."""
    if report_to not in (None, "none", []):
        _callbacks(report_to)
