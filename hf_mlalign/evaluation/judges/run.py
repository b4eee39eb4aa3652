"""Comparing answers: reading them from datasets, judging every row, and folders of judgements."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import atomic_path, list_names, write_atomic
from hf_mlalign.core.options import takes
from hf_mlalign.core.validation import shown
from hf_mlalign.data.columns import ROLES, arrow_column, check_dataset, find_roles, read_ids, read_languages
from hf_mlalign.data.layouts import message_turns
from hf_mlalign.evaluation.judges.base import (
    Judge,
    Judgements,
    Prompt,
    check_prompt,
    describe,
    judge_from_options,
    run_judge,
)
from hf_mlalign.evaluation.metrics.winrate import winrate
from hf_mlalign.evaluation.options import JudgeOptions
from hf_mlalign.hub.card import markdown_table, write_card
from hf_mlalign.hub.run_record import PREVIOUS, Run, RunRecord, RunResult, describe_source, read_record, to_json

if TYPE_CHECKING:
    from datasets import Dataset

REPLIES = "replies"
SELF_TEST = "self-test.json"
SELF_TEST_ROWS = 20
"""How many rows of your own a self-test takes (*ours*)."""


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairTable:
    """n comparisons; an answer is `None` where the row has none; optional columns are `None` where there is none."""

    prompts: list[Prompt]
    candidates: list[str | None]
    baselines: list[str | None]
    languages: list[str] | None
    ids: list[str | int] | None
    references: list[str | None] | None
    columns: dict[str, str]
    """Role → column."""

    def __len__(self) -> int:
        return len(self.prompts)


def answer_columns(columns: list[str], column_mapping: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """The pairs (candidate, baseline) of columns that are recognised; none where your mapping names an answer."""
    mapping = column_mapping or {}
    if {"candidate", "baseline"} & set(mapping.values()):
        return []
    pairs = zip(ROLES["candidate"], ROLES["baseline"], strict=True)
    return [pair for pair in pairs if set(pair) <= set(columns) - mapping.keys()]


def read_answer_pairs(ds: Dataset, column_mapping: Mapping[str, str] | None = None) -> PairTable:
    """Read prompts, both answers and what else there is.

    Args:
        ds: one row per comparison: prompt (a text or messages), candidate and baseline answers (texts, or messages of
            which the last counts), optionally language, id and reference; `hf_mlalign.data.columns.ROLES` lists the
            names that are recognised.
        column_mapping: your column → role.
    Raises:
        DataError: no rows, a needed column is missing, or a value cannot be read (column and row named).
    """
    check_dataset(ds)
    pairs = answer_columns(ds.column_names, column_mapping)
    columns = find_roles(
        ds.column_names, ("prompt", "candidate", "baseline", "language", "id", "reference"), column_mapping,
        needed=("prompt", "candidate", "baseline"), remedy="e.g. output=candidate",
        names={"candidate": pairs[0][:1], "baseline": pairs[0][1:]} if pairs else None,
    )  # fmt: skip
    ds = ds.with_format(None)

    def optional(role: str, read: Callable[[Dataset, str], list]) -> list | None:
        column = columns.get(role)
        return None if column is None or arrow_column(ds, column).null_count == len(ds) else read(ds, column)

    return PairTable(
        _read_prompts(ds, columns["prompt"]), read_answers(ds, columns["candidate"]),
        read_answers(ds, columns["baseline"]), optional("language", read_languages), optional("id", read_ids),
        optional("reference", read_answers), columns,
    )  # fmt: skip


def join_responses(
    candidate: Dataset, baseline: Dataset, column_mapping: Mapping[str, str] | None = None
) -> tuple[Dataset, list[str]]:
    """One row for every prompt and language that both sets answer: prompt_id, language, prompt, candidate, baseline.

    Of several samples, the one with the lowest number is taken.

    Args:
        candidate, baseline: rows with prompt_id, language, prompt and response (`ResponseSampler` writes them).
        column_mapping: your column → role, for both.
    Returns:
        The rows in the candidate's order, and notes on what was left out.
    Raises:
        DataError: missing columns, two answers to one prompt, different prompts under one id, or nothing in common.
    """
    from datasets import Dataset

    ours, theirs = (_read_responses(ds, name, column_mapping) for ds, name in
                    ((candidate, "candidate"), (baseline, "baseline")))  # fmt: skip
    keys = [key for key in ours if key in theirs]
    if not keys:
        raise DataError(f"baseline: no prompt_id and language in common with the candidate, whose first is "
                        f"{next(iter(ours), None)}. Use the same ids for both.")  # fmt: skip
    for key in keys:
        if ours[key][0] != theirs[key][0]:
            raise DataError(f"baseline: prompt {key[0]!r} in {key[1]!r} has another text than the candidate's. "
                            "Give different prompts different ids.")  # fmt: skip
    notes = [f"{len(part) - len(keys):,} answers of the {name} have no counterpart and are left out"
             for name, part in (("candidate", ours), ("baseline", theirs)) if len(part) > len(keys)]  # fmt: skip
    rows = [{"prompt_id": key[0], "language": key[1], "prompt": ours[key][0], "candidate": ours[key][1],
             "baseline": theirs[key][1]} for key in keys]  # fmt: skip
    return Dataset.from_list(rows), notes


def _read_responses(ds: Dataset, name: str, mapping: Mapping[str, str] | None) -> dict[tuple, tuple]:
    """(id, language) → (prompt, answer, sample)."""
    check_dataset(ds, f"{name}: ", empty=None)
    needed = ("prompt", "language", "id", "response")
    columns = find_roles(ds.column_names, (*needed, "sample"), mapping, needed=needed, where=f"{name}: ")
    ds = ds.with_format(None)
    prompts, answers = _read_prompts(ds, columns["prompt"]), read_answers(ds, columns["response"])
    ids, languages = read_ids(ds, columns["id"]), read_languages(ds, columns["language"])
    samples = ds[columns["sample"]][:] if "sample" in columns else [0] * len(ds)
    out: dict[tuple, tuple] = {}
    for row, (*key, prompt, answer, sample) in enumerate(
        zip(ids, languages, prompts, answers, samples, strict=True)
    ):
        found = out.get(tuple(key))
        if found is not None and found[2] == sample:
            raise DataError(f"{name}, row {row}: prompt {key[0]!r} in {key[1]!r} is answered twice. Keep one answer.")
        if found is None or sample < found[2]:
            out[tuple(key)] = prompt, answer, sample
    return out


def _read_prompts(ds: Dataset, column: str) -> list[Prompt]:
    """The prompts as they are given, once each has been checked."""
    values = ds[column][:]
    for row, value in enumerate(values):
        check_prompt(value, f"Column {column!r}, row {row}")
    return values


def read_answers(ds: Dataset, column: str) -> list[str | None]:
    """One text per row, of a conversational answer the last message; `None` where there is none.

    Raises:
        DataError: another kind of value (row named).
    """
    out = []
    for row, value in enumerate(ds[column][:]):
        if isinstance(value, list):
            value = message_turns(value, column, row)[-1][1] if value else None
        if value is not None and not isinstance(value, str):
            raise DataError(f"Column {column!r}, row {row}: expected a text or a list of messages, found "
                            f"{shown(value)}. Convert it to a string.")  # fmt: skip
        out.append(value)
    return out


# --- judging ----------------------------------------------------------------------------------------------------------


def judge_dataset(
    ds: Dataset, judge: Judge, *, column_mapping: Mapping[str, str] | None = None, both_orders: bool = True
) -> Dataset:
    """Judge every row of a dataset.

    Args:
        ds: see `read_answer_pairs`.
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
    reasons = ["there is no candidate answer" if a is None else "there is no baseline answer" if b is None else ""
               for a, b in zip(table.candidates, table.baselines, strict=True)]  # fmt: skip
    rows = [i for i, reason in enumerate(reasons) if not reason]

    def part(values: list | None) -> list | None:
        return None if values is None else [values[i] for i in rows]

    found = run_judge(
        judge, part(table.prompts), part(table.candidates), part(table.baselines), both_orders=both_orders,
        languages=part(table.languages), references=part(table.references), prompt_ids=part(table.ids),
    )  # fmt: skip

    def whole(values: Any, empty: Any) -> Any:
        out = np.full(len(table), empty, object if empty == "" else float)
        out[rows] = values
        return out.tolist() if empty == "" else out

    swapped = None if found.swapped_predictions is None else whole(found.swapped_predictions, np.nan)
    for i, reason in zip(rows, found.reasons, strict=True):
        reasons[i] = reason
    replies = None if found.replies is None else (whole(found.replies[0], ""), whole(found.replies[1], ""))
    return Judgements(whole(found.predictions, np.nan), swapped, reasons, found.usage, replies)


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


def winrate_columns(
    judged: Dataset, column_mapping: Mapping[str, str] | None = None, *, average_orders: bool = False
) -> dict[str, Any]:
    """The arguments of the winrate metric from what `judge_dataset` returned.

    Args:
        average_orders: use the mean of both orders as predictions, without swapped_predictions, so that rates per
            language and their intervals are free of position bias.
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


# --- the job ----------------------------------------------------------------------------------------------------------


@dataclass
class JudgeResult:
    """What a run of `judge` found, apart from the rows.

    Attributes:
        judgements: of all rows, with reasons, token counts and replies.
        rates: what `hf_mlalign.evaluation.metrics.winrate.winrate` returns for both orders averaged, with the
            position_consistency of the two.
    """

    judgements: Judgements
    rates: dict[str, Any]


@takes(JudgeOptions)
def judge(
    source: str | Path | None, output: str | Path = "judged", judge: str | Judge | None = None, *, options: JudgeOptions
) -> RunResult:
    """Judge a file, folder or Hub dataset and save the judgements (the command `hf-mlalign judge`).

    Writes `data/judgements.parquet`, `README.md` and `run.json` (judge, win rates, tokens, versions). If it is
    finished, the same call reads it back; comparisons that could not be judged are tried once more, and the folder is
    written again. The old judgements stay until the new ones are complete.

    With `self_test`, the judge is tested instead, on the rows of `source` or, if it is `None`, on examples of the
    package: the result is a `JudgeReport`, which is also saved as `self-test.json`.

    Args:
        source: see `hf_mlalign.data.sources.load_source`; rows with candidate and baseline answers, or, with
            `baseline`, the candidate's answers, joined with the baseline's on prompt_id and language.
        output: folder to write.
        judge: a name, or any `hf_mlalign.evaluation.judges.base.Judge`. The judge "llm" keeps its replies in
            `output`/replies, so that a killed run asks nothing twice; an `LLMJudge` of your own does so if that folder
            is its cache.
    Returns:
        A `RunResult` with the judged rows (see `judge_dataset`) and a `JudgeResult`.
    Raises:
        DataError: bad input, an option that the judge does not have, or `output` holds something else, or judgements by
            another judge or of another source.
    """
    if source is None and not options.self_test:
        raise DataError("source: name a file, folder or Hub dataset, or use --self-test.")
    chosen = judge_from_options(options, judge, Path(output) / REPLIES)
    which = {} if source is None else describe_source(source, split=options.split, config=options.config_name)
    parameters = {"judge": None} | options.parameters() | {
        "judge": describe(chosen), "column_mapping": options.column_mapping or {},
        "baseline": None if options.baseline is None else describe_source(options.baseline),
    }  # fmt: skip
    if options.self_test:
        return _test_judge(chosen, source, Path(output), options, parameters, which)
    if options.report_to:
        from hf_mlalign.hub.trackers import check_trackers, report_run

        check_trackers(options.report_to)
    run = Run(output, "judge", parameters, which, overwrite=options.overwrite, own=[REPLIES, SELF_TEST])
    if run.is_finished and not run.found.results["unjudged"]:
        return _read_judged(run)
    earlier = read_record(run.folder)
    if earlier is None or earlier.state != "finished":
        earlier = read_record(run.folder / PREVIOUS)
    rounds = 0 if earlier is None else earlier.results.get("rounds", 1)
    if hasattr(chosen, "start_round"):
        chosen.start_round(rounds)
    ds, table, notes = _load_answer_pairs(source, options, options.limit)
    with run.open(overwrite=run.is_finished):
        found = run.timed("judge", judge_table, table, chosen)
        judged = _with_columns(ds, table, found)
        mapping = None if options.baseline is not None else options.column_mapping
        rates = winrate(**winrate_columns(judged, mapping, average_orders=True))
        both = winrate(**winrate_columns(judged, mapping), n_resamples=0)
        rates["position_consistency"] = both["position_consistency"]
        _save(run, judged, table, found, {**rates, "rounds": rounds + 1}, notes)
    if options.report_to:
        report_run(run.record, options.report_to, run.folder)
    return RunResult(judged, run.folder, run.record, JudgeResult(found, rates))


def _load_answer_pairs(
    source: str | Path, options: JudgeOptions, limit: int | None
) -> tuple[Dataset, PairTable, list[str]]:
    """The rows of a source, what was read from them, and notes on what was left out."""
    from hf_mlalign.data.sources import load_source

    part = options.split, options.config_name
    ds, mapping, notes = load_source(source, *part), options.column_mapping, []
    if options.baseline is not None:
        ds, notes = join_responses(ds, load_source(options.baseline, *part), mapping)
        mapping = None
    ds = ds if limit is None else ds.select(range(min(limit, len(ds))))
    return ds, read_answer_pairs(ds, mapping), notes


def _test_judge(
    judge: Judge, source: str | Path | None, output: Path, options: JudgeOptions, parameters: dict, which: dict
) -> RunResult:
    from hf_mlalign.evaluation.judges.self_test import check_judge

    own = ()
    if source is not None:
        table = _load_answer_pairs(source, options, options.limit or SELF_TEST_ROWS)[1]
        own = table.prompts, table.candidates, table.baselines, table.languages
    list_names(output)
    report = check_judge(judge, *own)
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(output / SELF_TEST, json.dumps(report.record(), indent=1, ensure_ascii=False) + "\n")
    record = RunRecord(command="judge", parameters=to_json(parameters), source=to_json(which))
    record.results = to_json(report.record())
    return RunResult(None, output, record, report)


def _save(run: Run, judged: Dataset, table: PairTable, found: Judgements, rates: dict, notes: list[str]) -> None:
    folder, unjudged = run.folder, int(np.isnan(found.preferences).sum())
    (folder / "data").mkdir(exist_ok=True)
    with atomic_path(folder / ".judgements.parquet.partial", folder / "data" / "judgements.parquet") as partial:
        judged.to_parquet(str(partial))
    rows = [{**row, "language": name, "rate": f"{row['win_rate']:.1f}",
             "interval": f"{row['ci_low']:.1f} to {row['ci_high']:.1f}"}
            for name, row in (*rates["per_language"].items(), ("all", rates))]  # fmt: skip
    heads = {"language": "language", "n": "judged", "rate": "win rate, %", "interval": "95 % interval",
             "n_unjudged": "not judged"}  # fmt: skip
    write_card(
        folder, "judged_card.md.j2", run.record, JudgeOptions, rows=len(judged), tags=["judgements"],
        languages=sorted({code for code in table.languages or () if code}) or ["mul"],
        configs=[{"config_name": "default", "data_files": "data/judgements.parquet"}], unjudged=unjudged,
        rates=markdown_table(rows, heads),
    )  # fmt: skip
    run.finish({**rates, "rows": len(judged), "unjudged": unjudged, "usage": found.usage}, notes)


def _read_judged(run: Run) -> RunResult:
    """Finished judgements as they were returned, and the rates of the record."""
    from datasets import Dataset

    judged = Dataset.from_parquet(str(run.folder / "data" / "judgements.parquet"))
    frame = judged.to_pandas()

    def column(name: str) -> np.ndarray | None:
        return frame[name].to_numpy(float) if name in frame else None

    def with_nan(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: with_nan(part) for name, part in value.items()}
        return np.nan if value is None else value

    replies = None
    if "judge_reply" in frame:
        other = frame.get("swapped_judge_reply")
        replies = frame["judge_reply"].tolist(), [""] * len(frame) if other is None else other.tolist()
    results = run.found.results
    found = Judgements(column("prediction"), column("swapped_prediction"), frame["judge_reason"].tolist(),
                       results["usage"], replies)  # fmt: skip
    return RunResult(judged, run.folder, run.found, JudgeResult(found, with_nan(results)), fresh=False)
