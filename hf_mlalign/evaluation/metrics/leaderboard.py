"""Win rates of several models against one baseline, and their length-controlled rates by one joint fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.roles import choose_column
from hf_mlalign.evaluation.metrics.inputs import Comparisons, read_comparisons
from hf_mlalign.evaluation.metrics.length_control import SHARED_WEIGHT, length_control
from hf_mlalign.evaluation.metrics.winrate import winrate

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

ROLES = {
    "model": ("model", "candidate_model", "generator"),
    "predictions": ("prediction", "predictions", "preference"),
    "prompt_ids": ("prompt_id", "id"),
    "languages": ("language", "lang"),
    "swapped_predictions": ("swapped_prediction", "swapped_predictions"),
    "candidate_lengths": ("candidate_length", "model_length"),
    "baseline_lengths": ("baseline_length",),
}
"""Role → dataset columns that are recognised, in this order; the first three are needed."""
COLUMNS = tuple(role for role in ROLES if role != "model")
NEEDED = ("model", "predictions", "prompt_ids")
SHOWN = ("win_rate", "standard_error", "ci_low", "ci_high", "n", "n_wins", "n_losses", "n_draws", "n_unjudged",
         "discrete_win_rate", "macro_win_rate", "position_consistency", "swap_averaged_win_rate")  # fmt: skip


def winrate_leaderboard(
    comparisons: Dataset | Mapping[str, Mapping[str, Any]],
    column_mapping: Mapping[str, str] | None = None,
    *,
    shared_weight: float = SHARED_WEIGHT,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a model, best length-controlled rate first (best win rate where there are no lengths).

    Args:
        comparisons: model → the columns that `winrate` takes (`prompt_ids` are needed), or a dataset with one row a
            model and prompt (see `ROLES`). All models are compared with the same baseline.
        column_mapping: your column → role, for a dataset.
        shared_weight: see `length_control.length_control`.
        n_resamples, confidence, seed: as in `winrate`.
    Returns:
        model; the overall figures of `winrate`; length_controlled_win_rate, length_controlled_standard_error (per
        cent), length_effect (φ) and difficulty_weight (ψ). NaN where there is nothing to compute them from.
    Raises:
        DataError: a model without prompt ids or with bad columns (the model is named), or no models.
    """
    import pandas as pd

    columns = comparisons if isinstance(comparisons, Mapping) else _by_model(comparisons, column_mapping or {})
    if not columns:
        raise DataError("comparisons: no models. Give at least one.")
    rows, read = [], []
    for model, given in columns.items():
        if not isinstance(given, Mapping):
            raise DataError(f"Model {model!r}: {type(given).__name__} instead of columns. Give "
                            "{'predictions': […], 'prompt_ids': […]}.")  # fmt: skip
        if unknown := sorted(set(given) - set(COLUMNS)):
            raise DataError(f"Model {model!r}: unknown columns {listed(unknown)}. Give {listed(COLUMNS)}.")
        if given.get("prompt_ids") is None:
            raise DataError(f"Model {model!r}: prompt_ids are missing. Give a prompt the same id for all models.")
        try:
            read.append(read_comparisons(**given))
            rates = winrate(**{**given, "candidate_lengths": None, "baseline_lengths": None},
                            n_resamples=n_resamples, confidence=confidence, seed=seed)  # fmt: skip
        except DataError as error:
            raise DataError(f"Model {model!r}: {error}") from None
        rows.append({"model": model, **{key: rates[key] for key in SHOWN}})
    table = pd.DataFrame(rows).assign(**_joint(read, columns, shared_weight, seed))
    order = ["length_controlled_win_rate", "win_rate"]
    return table.sort_values(order, ascending=False, kind="stable", ignore_index=True)


def _joint(
    read: list[Comparisons], columns: Mapping[str, Mapping[str, Any]], shared_weight: float, seed: int
) -> dict[str, np.ndarray]:
    """Length-controlled rates of all models from one fit; a prompt in another language is another prompt."""
    keys = [f"{name}\0{language}" for data, given in zip(read, columns.values())
            for name, language in zip(given["prompt_ids"], _names(data))]  # fmt: skip
    _, prompts = np.unique(np.array(keys, dtype=object).astype(str), return_inverse=True)
    nothing = [np.full(len(d.preferences), np.nan) for d in read]
    differences = [n if d.length_differences is None else d.length_differences for d, n in zip(read, nothing)]
    groups = np.repeat(np.arange(len(read)), [len(d.preferences) for d in read])
    fit = length_control(np.concatenate([d.preferences for d in read]), np.concatenate(differences), groups, prompts,
                         len(read), shared_weight=shared_weight, seed=seed)  # fmt: skip
    return {
        "length_controlled_win_rate": 100 * fit.rates,
        "length_controlled_standard_error": 100 * fit.standard_errors,
        "length_effect": fit.length_effects,
        "difficulty_weight": fit.difficulty_weights,
    }


def _names(data: Comparisons) -> list[str]:
    return [data.names[code] for code in data.languages] if data.names else [""] * len(data.languages)


def _by_model(ds: Dataset, mapping: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The dataset's columns by model, models in order of first appearance."""
    chosen = {role: choose_column(ds.column_names, names, role, dict(mapping)) for role, names in ROLES.items()}
    if missing := [role for role in NEEDED if chosen[role] is None]:
        raise DataError(f"No column for {listed(missing)}. Found: {listed(ds.column_names)}. "
                        "Name it with column_mapping={'your column': role}.")  # fmt: skip
    table = ds.select_columns([column for column in chosen.values() if column]).to_pandas()
    parts = table.groupby(chosen.pop("model"), sort=False, dropna=False)
    roles = {role: column for role, column in chosen.items() if column}
    return {str(model): {role: part[column].to_numpy() for role, column in roles.items()} for model, part in parts}
