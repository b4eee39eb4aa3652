"""Judging a whole dataset, and folders of judgements that `load_dataset` opens and the winrate metric takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import commit, write_atomic
from hf_mlalign.evaluation.judges.base import Judge, Judgements, describe, run_judge
from hf_mlalign.evaluation.judges.columns import PairTable, join_responses, read_answer_pairs
from hf_mlalign.hub.card import data_configs, front_matter
from hf_mlalign.hub.run_record import PREVIOUS, Run, describe_source, read_record
from hf_mlalign.hub.trackers import check_trackers, report_run

if TYPE_CHECKING:
    from datasets import Dataset

REPLIES = "replies"
SELF_TEST = "self-test.json"
NO_ANSWER = "there is no {} answer"


@dataclass
class JudgedSource:
    """What `judge_source` made: the rows, the outcome with its counts, the folder, and the win rates.

    `rates` is what `hf_mlalign.evaluation.metrics.winrate.winrate` returns for both orders averaged, with the
    position_consistency of the two. `fresh` is False where the folder held these judgements already.
    """

    judged: Dataset
    judgements: Judgements
    folder: Path
    rates: dict[str, Any]
    fresh: bool = True


def judge_dataset(
    ds: Dataset,
    judge: Judge,
    *,
    column_mapping: Mapping[str, str] | None = None,
    both_orders: bool = True,
) -> Dataset:
    """Judge every row of a dataset.

    Args:
        ds: prompt (text or messages), candidate and baseline answers (texts or assistant messages), optionally
            language, prompt_id and reference; `judge_columns.ROLES` lists the names that are recognised.
        judge: see `hf_mlalign.evaluation.judges.base.Judge`.
        column_mapping: your column → role.
        both_orders: see `hf_mlalign.evaluation.judges.base.run_judge`.
    Returns:
        `ds` with the columns prediction, swapped_prediction (float64, preference for the candidate in [0, 1]; null
        where not judged; the second only if both orders were asked), preference (their mean), judge_reason,
        candidate_length, baseline_length (int32, characters), and judge_reply, swapped_judge_reply where the judge has
        words of its own. `winrate_columns` turns them into the arguments of the winrate metric.
    Raises:
        DataError: columns that are missing or cannot be read, or a judge that does not keep the protocol.
    """
    table = read_answer_pairs(ds, column_mapping)
    return _with_columns(ds, table, judge_table(table, judge, both_orders))


def judge_table(table: PairTable, judge: Judge, both_orders: bool = True) -> Judgements:
    """Judge the rows that have both answers; the others get NaN and a reason."""
    missing = {
        i: NO_ANSWER.format("candidate" if a is None else "baseline")
        for i, (a, b) in enumerate(zip(table.candidates, table.baselines, strict=True)) if a is None or b is None
    }  # fmt: skip
    rows = [i for i in range(len(table)) if i not in missing]

    def part(values: list | None) -> list | None:
        return None if values is None else [values[i] for i in rows]

    found = run_judge(
        judge, part(table.prompts), part(table.candidates), part(table.baselines), both_orders=both_orders,
        languages=part(table.languages), references=part(table.references), prompt_ids=part(table.ids),
    )  # fmt: skip

    def whole(values: np.ndarray | None) -> np.ndarray | None:
        if values is None:
            return None
        out = np.full(len(table), np.nan)
        out[rows] = values
        return out

    def texts(values: list[str]) -> list[str]:
        known = dict(zip(rows, values, strict=True))
        return [known.get(i, "") for i in range(len(table))]

    reasons = [missing.get(i, reason) for i, reason in enumerate(texts(found.reasons))]
    replies = None if found.replies is None else (texts(found.replies[0]), texts(found.replies[1]))
    return Judgements(whole(found.predictions), whole(found.swapped_predictions), reasons, found.usage, replies)


def winrate_columns(
    judged: Dataset, column_mapping: Mapping[str, str] | None = None, *, average_orders: bool = False
) -> dict[str, Any]:
    """The arguments of the winrate metric from what `judge_dataset` returned.

    Args:
        average_orders: the mean of both orders as predictions, without swapped_predictions: rates by language and their
            intervals are then free of the pull of a place.
    Returns:
        predictions, candidate_lengths, baseline_lengths, and where there are such columns swapped_predictions,
        languages, prompt_ids. Missing predictions are NaN.
    """
    if "prediction" not in judged.column_names:
        raise DataError(f"judged: no column 'prediction' among {judged.column_names}. Judge the dataset first.")
    columns = {"predictions": "preference" if average_orders else "prediction",
               "candidate_lengths": "candidate_length", "baseline_lengths": "baseline_length"}  # fmt: skip
    if not average_orders:
        columns["swapped_predictions"] = "swapped_prediction"
    frame = judged.select_columns([c for c in columns.values() if c in judged.column_names]).to_pandas()
    out = {name: frame[column].to_numpy(float) for name, column in columns.items() if column in frame}
    table = read_answer_pairs(judged, column_mapping)
    named = {"languages": table.languages, "prompt_ids": table.ids}
    return {**out, **{name: values for name, values in named.items() if values is not None}}


def judge_source(
    source: str | Path,
    output: str | Path,
    judge: Judge,
    *,
    baseline: str | Path | None = None,
    split: str | None = None,
    config: str | None = None,
    column_mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    report_to: str | Sequence[str] | None = None,
) -> JudgedSource:
    """Judge a file, folder or Hub dataset and save the judgements (the command `hf-mlalign judge`).

    Writes `data/judgements.parquet`, `README.md` and `run.json` (judge, win rates, tokens, versions). The same call
    again reads what is there; where some comparisons could not be judged, it asks for these once more and writes the
    folder anew. What is there stays until the new judgements are.

    Args:
        source: see `hf_mlalign.data.sources.load_source`; rows with candidate and baseline answers, or, with
            `baseline`, the candidate's answers.
        output: folder to write.
        judge: see `hf_mlalign.evaluation.judges.base.Judge`; an `LLMJudge` goes on after a kill if its cache is
            `output`/replies.
        baseline: the baseline's answers to the same prompts, joined on prompt_id and language.
        split, config: which part of the source(s).
        column_mapping: your column → role.
        limit: only the first so many rows.
        overwrite: judge again where the folder holds judgements.
        report_to: see `hf_mlalign.hub.trackers.report_run`.
    Raises:
        DataError: bad input, or `output` holds something else, or judgements by another judge or of another source.
    """
    check_trackers(report_to)
    parameters = {"judge": describe(judge), "baseline": None if baseline is None else describe_source(baseline),
                  "column_mapping": dict(column_mapping or {}), "limit": limit}  # fmt: skip
    which = describe_source(source, split=split, config=config)
    run = Run(output, "judge", parameters, which, overwrite=overwrite, own=[REPLIES, SELF_TEST])
    if run.is_finished and not run.found.results["unjudged"]:
        return _read_judged(run)
    rounds = _rounds(run)
    if hasattr(judge, "go_on"):
        judge.go_on(rounds)
    ds, table, notes = load_answer_pairs(source, baseline, split, config, column_mapping, limit)
    with run.open(anew=run.is_finished):
        found = run.timed("judge", judge_table, table, judge)
        judged = _with_columns(ds, table, found)
        rates = _rates(judged, None if baseline is not None else column_mapping)
        _save(run, judged, table, found, {**rates, "rounds": rounds + 1}, notes)
    report_run(run.record, report_to, run.folder)
    return JudgedSource(judged, found, run.folder, rates)


def _rounds(run: Run) -> int:
    """How often the folder's comparisons were judged to the end: what could not be is asked once more each time."""
    there = read_record(run.folder)
    if there is None or there.state != "finished":
        there = read_record(run.folder / PREVIOUS)
    return 0 if there is None else there.results.get("rounds", 1)


def _rates(judged: Dataset, column_mapping: Mapping[str, str] | None) -> dict[str, Any]:
    """Win rates with both orders averaged, and the share of comparisons with one winner in either order."""
    from hf_mlalign.evaluation.metrics.winrate import winrate

    rates = winrate(**winrate_columns(judged, column_mapping, average_orders=True))
    both = winrate(**winrate_columns(judged, column_mapping), n_resamples=0)
    return {**rates, "position_consistency": both["position_consistency"]}


def load_answer_pairs(
    source: str | Path,
    baseline: str | Path | None = None,
    split: str | None = None,
    config: str | None = None,
    column_mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> tuple[Dataset, PairTable, list[str]]:
    """The rows of a source, what was read from them, and notes on what was left out; arguments as `judge_source`."""
    from hf_mlalign.data.sources import load_source

    ds, notes = load_source(source, split, config), []
    if baseline is not None:
        ds, notes = join_responses(ds, load_source(baseline, split, config), column_mapping)
        column_mapping = None
    ds = ds if limit is None else ds.select(range(min(limit, len(ds))))
    return ds, read_answer_pairs(ds, column_mapping), notes


def _with_columns(ds: Dataset, table: PairTable, found: Judgements) -> Dataset:
    import pyarrow as pa

    columns: dict[str, Any] = {"prediction": pa.array(found.predictions, from_pandas=True)}
    if found.swapped_predictions is not None:
        columns["swapped_prediction"] = pa.array(found.swapped_predictions, from_pandas=True)
    columns["preference"] = pa.array(found.preferences, from_pandas=True)
    columns["judge_reason"] = pa.array(found.reasons, pa.string())
    for side, answers in (("candidate", table.candidates), ("baseline", table.baselines)):
        columns[f"{side}_length"] = pa.array([None if x is None else len(x) for x in answers], pa.int32())
    if found.replies is not None:
        columns["judge_reply"] = pa.array(found.replies[0], pa.string())
        if found.swapped_predictions is not None:
            columns["swapped_judge_reply"] = pa.array(found.replies[1], pa.string())
    out = ds.remove_columns([name for name in columns if name in ds.column_names])
    for name, values in columns.items():
        out = out.add_column(name, values)
    return out


def _save(run: Run, judged: Dataset, table: PairTable, found: Judgements, rates: dict, notes: list[str]) -> None:
    folder, unjudged = run.folder, int(np.isnan(found.preferences).sum())
    (folder / "data").mkdir(exist_ok=True)
    partial = folder / ".judgements.parquet.partial"
    judged.to_parquet(str(partial))
    commit(partial, folder / "data" / "judgements.parquet")
    block = {
        "language": sorted({code for code in table.languages or () if code}) or ["mul"],
        "tags": ["hf_mlalign", "judgements"],
        "configs": data_configs(folder, [{"config_name": "default", "data_files": "data/judgements.parquet"}]),
    }
    rows = "\n".join(f"| {name} | `{value}` |" for name, value in run.record.parameters["judge"].items())
    write_atomic(folder / "README.md", (
        f"{front_matter(block)}\n# Judgements\n\n{len(judged):,} comparisons, "
        f"{unjudged:,} of them not judged (see `judge_reason`).\n\n| judge | |\n|---|---|\n{rows}\n"
    ))  # fmt: skip
    run.finish({**rates, "rows": len(judged), "unjudged": unjudged, "usage": found.usage}, notes)


def _read_judged(run: Run) -> JudgedSource:
    """Finished judgements as they were returned, and the rates of the record."""
    from datasets import Dataset

    judged = Dataset.from_parquet(str(run.folder / "data" / "judgements.parquet"))
    frame = judged.to_pandas()

    def column(name: str) -> np.ndarray | None:
        return frame[name].to_numpy(float) if name in frame else None

    replies = None
    if "judge_reply" in frame:
        other = frame.get("swapped_judge_reply")
        replies = frame["judge_reply"].tolist(), [""] * len(frame) if other is None else other.tolist()
    found = Judgements(column("prediction"), column("swapped_prediction"), frame["judge_reason"].tolist(),
                       run.found.results["usage"], replies)  # fmt: skip
    return JudgedSource(judged, found, run.folder, _rates_of(run.found.results), fresh=False)


def _rates_of(results: dict[str, Any]) -> dict[str, Any]:
    """The record's rates with NaN where JSON holds null."""
    return {
        key: _rates_of(value) if isinstance(value, dict) else np.nan if value is None else value
        for key, value in results.items()
    }
