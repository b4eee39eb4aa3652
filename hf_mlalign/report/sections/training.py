"""Sections of a training: curves, consistency and the last evaluation per language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import normalise
from hf_mlalign.report.drawing import BLUE, GREEN, ORANGE, RED, legend_above, name_rows, new_figure, rows_figure
from hf_mlalign.report.page import TRAINING
from hf_mlalign.report.registry import Block, Chart, Facts, Numbers, ReportedRun, section

PANELS = {
    "loss": ("loss",),
    "reward accuracy": ("rewards/accuracies",),
    "reward": ("rewards/chosen", "rewards/rejected"),
    "reward margin": ("rewards/margins",),
    "consistency (cosine)": ("consistency/cosine",),
    "token accuracy": ("mean_token_accuracy",),
}
"""Panel → keys of transformers' log, as trl writes them."""
REWARDS = (
    " The reward is how much more likely an answer is than under the reference model. The margin should rise and the "
    "accuracy move away from 50 %. If the rewards of chosen and rejected answers fall together, both become less "
    "likely."
)
EVAL = re.compile(r"eval_(?:(?P<name>[a-z]{2,3}|[\w-]+?)_)?(?P<key>loss|rewards/\w+|mean_token_accuracy|accuracy)")
COSINE = "consistency/cosine_"


@section("Training curves", command="train", files=TRAINING)
def curves_section(part: ReportedRun) -> Iterator[Block]:
    """Loss, rewards and accuracies by step, in training and evaluation."""
    import pandas as pd

    log = read_training_log(part)
    if not log:
        return
    shown = {title: keys for title, keys in PANELS.items() if any(k in row for row in log for k in keys)}
    last = [row for row in log if "loss" in row]
    if last:
        facts = {"steps": f"{max(row.get('step', 0) for row in log):,}", "last loss": f"{last[-1]['loss']:.3f}"}
        if "rewards/accuracies" in last[-1]:
            facts["last reward accuracy"] = f"{last[-1]['rewards/accuracies']:.0%}"
        yield Facts(facts)
    if not shown:
        return
    down = -(-len(shown) // 2)
    figure = new_figure(0.5 + 2.2 * down, 9.4 if len(shown) > 1 else 4.6)
    grid = figure.subplots(down, min(2, len(shown)), squeeze=False)
    for axes, (title, keys) in zip(grid.flat, shown.items()):
        _panel(axes, title, keys, log)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    keys = [key for group in shown.values() for key in group]
    columns = ["step", "epoch", *keys, *(f"eval_{key}" for key in keys)]
    table = pd.DataFrame([{c: row.get(c) for c in columns} for row in log]).dropna(axis=1, how="all")
    numbers = [c for c in table if c not in ("step", "epoch")]
    yield Chart(
        "Curves", "Lines with dots are the training log (means since the last entry), open diamonds are evaluations; "
        "several diamonds at one step are several evaluation sets." + REWARDS * ("reward margin" in shown),
        f"Curves over training steps: {', '.join(shown)}.", figure,
        table.dropna(subset=numbers, how="all") if numbers else table, wide=len(shown) > 1,
    )  # fmt: skip


def _panel(axes, title: str, keys: tuple[str, ...], log: list[dict[str, Any]]) -> None:
    for key, colour, marker in zip(keys, (BLUE, RED), ("o", "s")):
        own = [(row["step"], row[key]) for row in log if key in row and "step" in row]
        evaluated = [(row["step"], row[f"eval_{key}"]) for row in log if f"eval_{key}" in row and "step" in row]
        name = key.split("/")[-1] if len(keys) > 1 else "training"
        if own:
            axes.plot(*zip(*own), color=colour, marker=marker, markersize=3.5, linewidth=1.6, label=name)
        if evaluated:
            label = f"{name} (evaluation)" if len(keys) > 1 else "evaluation"
            axes.plot(*zip(*evaluated), color=colour, marker="D", markersize=6, markerfacecolor="none",
                      linestyle="none", label=label)  # fmt: skip
    axes.set_title(title, loc="left")
    axes.set_xlabel("step")
    axes.grid()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, ncols=2, columnspacing=1)


@section("Consistency by language", command="train", files=TRAINING)
def consistency(part: ReportedRun) -> Iterator[Block]:
    """Cosine of the hidden states with the English reference per language, first and last logged value."""
    import pandas as pd

    seen: dict[str, list[float]] = {}
    for row in read_training_log(part):
        for key, value in row.items():
            if key.startswith(COSINE):
                seen.setdefault(key.removeprefix(COSINE), []).append(value)
    if not seen:
        return
    names = sorted(seen)
    figure, axes = rows_figure(len(names))
    for i, name in enumerate(names):
        axes.plot([seen[name][0], seen[name][-1]], [i, i], color=ORANGE, linewidth=2)
    for k, (label, marker, face) in enumerate((("first", "o", "none"), ("last", "o", GREEN))):
        axes.plot([seen[name][-k] for name in names], range(len(names)), linestyle="none", marker=marker, color=GREEN,
                  markerfacecolor=face, markersize=7, label=f"{label} logged")  # fmt: skip
    axes.set_xlabel("cosine with the English reference")
    name_rows(axes, names)
    legend_above(figure, axes)
    table = pd.DataFrame([{"language": n, "first": seen[n][0], "last": seen[n][-1]} for n in names])
    yield Chart(
        "Consistency of the chosen answers with the English reference, by language",
        "Cosine of the mean hidden states in the training batches, at the first logging step (open) and the last "
        "(filled); 1 is the same direction. Batches differ from step to step, so ignore small changes.",
        f"First and last cosine for {len(names)} languages.", figure, table,
    )  # fmt: skip


@section("Last evaluation by language", command="train", files=TRAINING)
def by_language(part: ReportedRun) -> Iterator[Block]:
    """The last evaluation of each language that has its own evaluation set."""
    import pandas as pd

    rows: dict[str, dict[str, Any]] = {}
    for row in read_training_log(part):
        for key, value in row.items():
            found = EVAL.fullmatch(key)
            if found and found["name"] and normalise(found["name"]) and isinstance(value, (int, float)):
                own = rows.setdefault(found["name"], {"language": found["name"]})
                own |= {"step": row.get("step"), found["key"]: value}
    if rows:
        yield Numbers("Last evaluation by language", "The evaluation set of each language, at the last step when it "
                      "was evaluated.", pd.DataFrame([rows[name] for name in sorted(rows)]))  # fmt: skip


def read_training_log(part: ReportedRun) -> list[dict[str, Any]]:
    """Log history of a training: `curve.json`, or `trainer_state.json` of the folder or else of its last checkpoint;
    DataError if it is damaged."""

    def step(path) -> int:
        digits = path.parent.name.rpartition("-")[2]
        return int(digits) if digits.isdigit() else -1

    files = part.files(*TRAINING[:2]) or sorted(part.files(TRAINING[2]), key=step)[-1:]
    if not files:
        return []
    name = files[0].relative_to(part.folder).as_posix()
    try:
        content = json.loads(files[0].read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read: {error}") from error
    log = content.get("log_history") if isinstance(content, dict) else content
    if not isinstance(log, list) or not all(isinstance(row, dict) for row in log):
        raise DataError(f"{name} holds no log history.")
    return log
