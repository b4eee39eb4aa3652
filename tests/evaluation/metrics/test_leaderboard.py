"""Leaderboards: both kinds of input, and AlpacaEval's published figures."""

import datasets
import numpy as np
import pandas as pd
import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.metrics.leaderboard import winrate_leaderboard
from hf_mlalign.evaluation.metrics.winrate import winrate

BOARD = {
    "good": {"predictions": [1, 1, 0.5, 1], "prompt_ids": [1, 2, 3, 4], "languages": ["de", "de", "sw", "sw"],
             "candidate_lengths": [10, 20, 30, 25], "baseline_lengths": [12, 18, 20, 22]},
    "bad": {"predictions": [0, 0, 1, None], "prompt_ids": [1, 2, 3, 4], "languages": ["de", "de", "sw", "sw"],
            "candidate_lengths": [5, 6, 30, 9], "baseline_lengths": [12, 18, 20, 22]},
}  # fmt: skip


def test_rows_hold_what_winrate_gives():
    table = winrate_leaderboard(BOARD, n_resamples=50).set_index("model")
    for model, columns in BOARD.items():
        alone = winrate(**{**columns, "candidate_lengths": None, "baseline_lengths": None}, n_resamples=50)
        for key in ("win_rate", "standard_error", "ci_low", "ci_high", "n", "n_draws", "n_unjudged", "macro_win_rate"):
            assert table.loc[model, key] == pytest.approx(alone[key])
    assert list(table.index) == ["good", "bad"]
    assert table["length_controlled_win_rate"].between(0, 100).all()


def test_a_dataset_gives_the_same_board():
    rows = [{"generator": model, **{key: values[i] for key, values in columns.items()}}
            for model, columns in BOARD.items() for i in range(4)]  # fmt: skip
    ds = datasets.Dataset.from_list(rows).rename_columns({"prompt_ids": "id", "languages": "language"})
    ds = ds.rename_columns({"candidate_lengths": "candidate_length", "baseline_lengths": "words"})
    table = winrate_leaderboard(ds, {"words": "baseline_lengths"}, n_resamples=50)
    pd.testing.assert_frame_equal(table, winrate_leaderboard(BOARD, n_resamples=50))


def test_without_lengths_the_board_is_sorted_by_win_rate():
    board = {name: {"predictions": columns["predictions"], "prompt_ids": [1, 2, 3, 4]} for name, columns in
             reversed(BOARD.items())}  # fmt: skip
    table = winrate_leaderboard(board, n_resamples=0)
    assert list(table["model"]) == ["good", "bad"]
    assert table["length_controlled_win_rate"].isna().all()


def test_a_positive_length_effect_means_that_longer_answers_win():
    lengths = np.tile([10, 50, 90], 20)
    board = {"m": {"predictions": (lengths > 50) + 0.5 * (lengths == 50), "prompt_ids": np.arange(60),
                   "candidate_lengths": lengths, "baseline_lengths": np.full(60, 50)}}  # fmt: skip
    row = winrate_leaderboard(board, n_resamples=0).iloc[0]
    assert row["length_effect"] > 1
    assert row["length_controlled_win_rate"] == pytest.approx(50, abs=0.1)


def test_the_package_has_it():
    import hf_mlalign.evaluation as evaluation

    assert evaluation.winrate_leaderboard is winrate_leaderboard
    assert all(callable(getattr(evaluation, name)) for name in evaluation.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = evaluation.nothing


def test_errors_name_the_model():
    with pytest.raises(DataError, match="no models"):
        winrate_leaderboard({})
    with pytest.raises(DataError, match="Model 'a': prompt_ids are missing"):
        winrate_leaderboard({"a": {"predictions": [1]}})
    with pytest.raises(DataError, match="Model 'a': predictions, row 0"):
        winrate_leaderboard({"a": {"predictions": [3], "prompt_ids": [1]}})
    with pytest.raises(DataError, match="Model 'a': list instead of columns"):
        winrate_leaderboard({"a": [1, 0]})
    with pytest.raises(DataError, match="Model 'a': unknown columns prediction"):
        winrate_leaderboard({"a": {"prediction": [1], "prompt_ids": [1]}})
    with pytest.raises(DataError, match="No column for id"):
        winrate_leaderboard(datasets.Dataset.from_dict({"model": ["a"], "prediction": [1.0]}))


@pytest.fixture(scope="module")
def alpaca_eval(shared_data):
    rows = pd.read_parquet(shared_data / "alpaca_eval_preferences.parquet")
    published = pd.read_parquet(shared_data / "alpaca_eval_leaderboard.parquet").set_index("model")
    ds = datasets.Dataset.from_pandas(rows.assign(preference=rows["preference"] - 1), preserve_index=False)
    return ds, published


def board_of(alpaca_eval, **options):
    ds, published = alpaca_eval
    return winrate_leaderboard(ds, n_resamples=0, **options).set_index("model").loc[published.index]


def closeness(found: pd.Series, published: pd.DataFrame) -> tuple[float, float]:
    """Spearman's correlation with the published length-controlled rates, and the mean absolute difference."""
    wanted = published["length_controlled_winrate"]
    return found.corr(wanted, method="spearman"), float((found - wanted).abs().mean())


@pytest.mark.real_data
def test_alpaca_eval_leaderboard_to_the_digit(alpaca_eval):
    found, published = board_of(alpaca_eval), alpaca_eval[1]
    for ours, theirs in (("win_rate", "win_rate"), ("standard_error", "standard_error"), ("n_draws", "n_draws"),
                         ("n_wins", "n_wins"), ("n_losses", "n_wins_base"), ("n", "n_total"),
                         ("discrete_win_rate", "discrete_win_rate")):  # fmt: skip
        np.testing.assert_allclose(found[ours], published[theirs], rtol=0, atol=1e-6, err_msg=ours)


@pytest.mark.real_data
def test_alpaca_eval_length_controlled_rates(alpaca_eval):
    """Each model by itself with two parameters, and jointly with the other models' rows at three weights."""
    ds, published = alpaca_eval
    alone = {}
    for model in published.index:
        rows = ds.filter(lambda name, model=model: name == model, input_columns="model")
        alone[model] = winrate(rows["preference"][:], candidate_lengths=rows["model_length"][:],
                               baseline_lengths=rows["baseline_length"][:], n_resamples=0)  # fmt: skip
    two = pd.Series({model: result["length_controlled_win_rate"] for model, result in alone.items()})
    by_weight = {w: closeness(board_of(alpaca_eval, shared_weight=w)["length_controlled_win_rate"], published)
                 for w in (0.0, 0.2, 1.0)}  # fmt: skip
    spearman, difference = closeness(two, published)
    assert spearman == pytest.approx(0.833, abs=1e-3)
    assert [by_weight[w][0] for w in (0.2, 1.0)] == pytest.approx([0.881, 0.976], abs=1e-3)
    assert by_weight[1.0][1] < 1.8 < by_weight[0.2][1] < 3.5 < by_weight[0.0][1] < difference
    assert closeness(board_of(alpaca_eval)["length_controlled_win_rate"], published) == by_weight[1.0]
