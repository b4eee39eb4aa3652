"""Win rates of several models against one baseline, and their length-controlled rates by one joint fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.columns import check_dataset, find_roles
from hf_mlalign.evaluation.metrics.length_control import SHARED_WEIGHT, length_control
from hf_mlalign.evaluation.metrics.winrate import Comparisons, read_comparisons, winrate

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

ARGUMENTS = {
    "prediction": "predictions", "id": "prompt_ids", "language": "languages",
    "swapped_prediction": "swapped_predictions", "candidate_length": "candidate_lengths",
    "baseline_length": "baseline_lengths",
}  # fmt: skip
"""Role of a column (`hf_mlalign.data.columns`) → argument of `winrate`; model, prediction and id are needed."""
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
    """One row per model, best length-controlled rate first (without lengths, best win rate first).

    Args:
        comparisons: model → the columns that `winrate` takes (`prompt_ids` are needed), or a dataset with one row per
            model and prompt: columns of the roles model and id (of the prompt) and those of `ARGUMENTS`. All models are
            compared with the same baseline.
        column_mapping: your column → role, for a dataset.
        shared_weight: see `hf_mlalign.evaluation.metrics.length_control.length_control`.
        n_resamples, confidence, seed: as in `winrate`.
    Returns:
        model; the overall figures of `winrate`; length_controlled_win_rate, length_controlled_standard_error (per
        cent), length_effect (φ) and difficulty_weight (ψ). NaN where there is nothing to compute them from.
    Raises:
        DataError: a model without prompt ids or with bad columns (the model is named), or no models.
    """
    import pandas as pd

    columns = comparisons
    if not isinstance(comparisons, Mapping):
        check_dataset(comparisons, "comparisons: ", empty=None)
        roles = find_roles(comparisons.column_names, ("model", *ARGUMENTS), column_mapping,
                           needed=("model", "prediction", "id"))  # fmt: skip
        frame = comparisons.select_columns(list(roles.values())).to_pandas()
        parts = frame.groupby(roles.pop("model"), sort=False, dropna=False)  # models in order of first appearance
        columns = {
            str(model): {ARGUMENTS[role]: part[column].to_numpy() for role, column in roles.items()}
            for model, part in parts
        }
    if not columns:
        raise DataError("comparisons: no models. Give at least one.")
    rows, read = [], []
    for model, given in columns.items():
        if not isinstance(given, Mapping):
            raise DataError(f"Model {model!r}: {type(given).__name__} instead of columns. Give "
                            "{'predictions': […], 'prompt_ids': […]}.")  # fmt: skip
        if unknown := sorted(set(given) - set(ARGUMENTS.values())):
            raise DataError(f"Model {model!r}: unknown columns {listed(unknown)}. Give {listed(ARGUMENTS.values())}.")
        if given.get("prompt_ids") is None:
            raise DataError(f"Model {model!r}: prompt_ids are missing. Give a prompt the same id for all models.")
        try:
            read.append(read_comparisons(**given))
            rates = winrate(**{**given, "candidate_lengths": None, "baseline_lengths": None},
                            n_resamples=n_resamples, confidence=confidence, seed=seed)  # fmt: skip
        except DataError as error:
            raise DataError(f"Model {model!r}: {error}") from None
        rows.append({"model": model, **{key: rates[key] for key in SHOWN}})
    table = pd.DataFrame(rows).assign(**_length_controlled(read, columns, shared_weight, seed))
    order = ["length_controlled_win_rate", "win_rate"]
    return table.sort_values(order, ascending=False, kind="stable", ignore_index=True)


def _length_controlled(
    read: list[Comparisons], columns: Mapping[str, Mapping[str, Any]], shared_weight: float, seed: int
) -> dict[str, np.ndarray]:
    """Figures of all models from one joint fit; the same prompt in another language counts as another prompt."""
    keys, differences = [], []
    for data, given in zip(read, columns.values()):
        names = [data.names[code] for code in data.languages] if data.names else [""] * len(data.languages)
        keys += [f"{prompt}\0{name}" for prompt, name in zip(given["prompt_ids"], names)]
        unknown = np.full(len(data.preferences), np.nan)
        differences.append(unknown if data.length_differences is None else data.length_differences)
    _, prompts = np.unique(np.array(keys, dtype=object).astype(str), return_inverse=True)
    groups = np.repeat(np.arange(len(read)), [len(data.preferences) for data in read])
    fit = length_control(np.concatenate([data.preferences for data in read]), np.concatenate(differences), groups,
                         prompts, len(read), shared_weight=shared_weight, seed=seed)  # fmt: skip
    return {
        "length_controlled_win_rate": 100 * fit.rates,
        "length_controlled_standard_error": 100 * fit.standard_errors,
        "length_effect": fit.length_effects,
        "difficulty_weight": fit.difficulty_weights,
    }
