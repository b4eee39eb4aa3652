"""Few-shot classification in many languages: which label a causal LM finds most probable, question by question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.options import takes
from hf_mlalign.data.languages import check_languages
from hf_mlalign.data.sources import load_source
from hf_mlalign.generation.transformers_backend import TransformersBackend
from hf_mlalign.hub.run_record import RunResult, read_record, to_json
from hf_mlalign.models.loading import load_causal_lm
from hf_mlalign.spontaneous.classification.few_shot import Group, Shots, draw_shots, fitting_groups
from hf_mlalign.spontaneous.classification.label_scoring import LabelScorer
from hf_mlalign.spontaneous.classification.label_tokens import LabelledPrompt, check_labels
from hf_mlalign.spontaneous.classification.result import ClassificationResult, RowStore, check_baseline, rows_to_dataset
from hf_mlalign.spontaneous.classification.rows import Questions, read_questions
from hf_mlalign.spontaneous.classification.tasks import Task, load_task
from hf_mlalign.spontaneous.options import ClassifyOptions, ScoringOptions

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@takes(ClassifyOptions)
def classify(
    source: str | Path | Dataset, output: str | Path = "classification", *, options: ClassifyOptions
) -> RunResult:
    """Measure few-shot accuracy, language by language; with a baseline, also whether the model got better.

    Loads the model and the rows, and calls `evaluate_classification`. Rows are written as they are scored; the same
    call continues where it was stopped.

    Args:
        source: labelled questions: a local file or folder, a Hub dataset, or a `Dataset`.
        output: folder of the run: rows.jsonl, table.csv, run.json.
    Returns:
        The scored rows; `result` is a `ClassificationResult`.
    Raises:
        DataError: model or task is not named or cannot be loaded; see also `evaluate_classification`.
    """
    for name in ("model", "task"):
        if not getattr(options, name):
            raise DataError(f"--{name} ({name}): name one.")
    task = load_task(options.task)
    ds = load_source(source, options.split, options.config_name)
    before = read_record(output)
    model, tokenizer = load_causal_lm(options.model, options.adapter, options.dtype, options.device)
    result = evaluate_classification(model, tokenizer, ds, task, baseline=options.baseline, output=output,
                                     options=ScoringOptions.part_of(options))  # fmt: skip
    fresh = before is None or before.state != "finished" or options.overwrite
    return RunResult(result.rows, Path(output), read_record(output), result, fresh)


@takes(ScoringOptions)
def evaluate_classification(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ds: Dataset,
    task: str | Path | Mapping[str, Any] | Task,
    n_shots: int | None = None,
    languages: Sequence[str] | None = None,
    *,
    shots_from: Dataset | None = None,
    baseline: ClassificationResult | str | Path | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    options: ScoringOptions,
) -> ClassificationResult:
    """Accuracy of a causal LM on a few-shot task, language by language (arXiv 2405.13816).

    A label's score is the log-probability of all its tokens, and of what ends it, after the prompt. The authors
    compare probabilities of first tokens instead. Calibration subtracts the score that the label has if every field is
    a text of `content_free`, averaged over these texts as probabilities (contextual calibration, arXiv 2102.09690, as a
    difference of scores; that paper averages over "N/A", "[MASK]" and "").

    Args:
        model: causal LM in any dtype, on one device or sharded by `device_map`.
        tokenizer: its tokenizer. It needs no padding token: nothing is padded.
        ds: rows with an id (the same for a question in every language), language, the task's fields, and the answer.
        task: "emotion", "snli", "paws", a YAML file or a mapping (`load_task`).
        n_shots: examples per prompt; default: the task's (2, 6 and 4, *authors' script*).
        languages: codes; default: all in `ds`.
        shots_from: where examples are drawn; default: `ds`, whose drawn questions are then scored in no language.
        baseline: an earlier result or its folder; adds paired gains.
        output: folder of the run (rows.jsonl, table.csv, run.json); rows are appended as they are scored, and a stopped
            run is continued. `None` keeps everything in memory.
        progress: show a progress bar.
    Raises:
        DataError: bad input, before anything is scored: columns, labels, languages, too few examples, labels that
            cannot be distinguished, a question too long even without examples, a tokenizer of another model, an output
            folder with another run. A language that `drop_long` leaves without rows is named in a note, or an error if
            `seen` names it.
    """
    given = {"n_shots": n_shots, "languages": languages}
    options = replace(options, **{name: value for name, value in given.items() if value is not None})
    task = load_task(task)
    questions = read_questions(ds, task, options.languages, options.column_mapping)
    codes = sorted(questions.by_language)
    seen = tuple(check_languages(options.seen or (), "seen"))
    if missing := [code for code in seen if code not in codes]:
        raise DataError(f"seen: {missing[0]!r} is not evaluated. Languages evaluated: {listed(codes)}.")
    notes = _label_notes(task, tokenizer, codes, options.labels_in)
    options = replace(options, n_shots=task.shots if options.n_shots is None else options.n_shots)
    source = questions if shots_from is None else read_questions(shots_from, task, None, options.column_mapping)
    shots = draw_shots(source, codes, options.n_shots, len(task.classes), options.seed, options.same_shots)
    rows = _rows_to_score(questions, shots, shots_from is not None, options.limit)
    scorer = LabelScorer(model, options.batch_tokens, options.method)
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
    groups, changes = fitting_groups(task, tokenizer, questions, shots, rows, options, room)
    rows = {code: sorted(row for group in groups if group.language == code for row in group.rows) for code in codes}
    lost = [code for code in codes if not rows[code]]
    if seen_lost := [code for code in seen if code in lost]:
        raise DataError(f"seen: no question in {seen_lost[0]!r} is left after --drop-long (drop_long=True). Raise "
                        "max_length, or take the language out of seen.")  # fmt: skip
    codes = [code for code in codes if rows[code]]
    notes += [*changes, *([f"no question is left in {listed(lost)}: not scored"] if lost else [])]
    for code in sorted(rows):
        if n := sum(row in questions.disagreeing for row in rows[code]):
            notes.append(f"{code}: the labels of {n:,} of {len(rows[code]):,} scored rows differ from those of the "
                         f"same ids in {task.gold_language!r}, which were taken")  # fmt: skip
    settings = _settings(model, tokenizer, task, questions, shots, rows, groups, options)
    if settings["model"]["weights"] is None:
        notes.append("weights on disk are not compared: any model of this name continues a stopped run")
    before = ClassificationResult.load(baseline) if isinstance(baseline, (str, Path)) else baseline
    if before is not None:
        check_baseline(before, settings, [(questions.ids[row], code) for code in codes for row in rows[code]])
    with RowStore(output, settings, options.overwrite).open() as run:
        _score(scorer, groups, task, questions, options, run, progress)
        if scorer.reason:
            notes.append(f"scored by one plain forward pass per label: {scorer.reason}")
        found = [run.done[questions.ids[row], language] for language in codes for row in rows[language]]
        if tied := sum(row["scores"].count(max(row["scores"])) > 1 for row in found):
            rows_have = "rows have" if tied > 1 else "row has"
            notes.append(f"{tied:,} {rows_have} several best labels; the first of them was taken")
        result = ClassificationResult(rows_to_dataset(found), settings, seen, None, notes)
        result = result.compare(before) if before is not None else result
        run.finish(result)
    return result


def _label_notes(task: Task, tokenizer, codes: Sequence[str], labels_in: str) -> list[str]:
    """What a reader should know about the labels; DataError where they cannot be distinguished."""
    issues = check_labels(task, tokenizer, codes, labels_in)
    fatal = [str(issue) for issue in issues if issue.fatal]
    if fatal:
        more = f" ({len(fatal) - 1} more)" if len(fatal) > 1 else ""
        raise DataError(f"{fatal[0]}{more}. Change the task's labels, or score English ones with --labels-in english "
                        "(labels_in='english').")  # fmt: skip
    kinds = {issue.kind: issue for issue in issues}
    return [f"labels {issue.says} in {listed(dict.fromkeys(i.language for i in issues if i.kind == kind))}"
            for kind, issue in kinds.items()]  # fmt: skip


def _rows_to_score(questions: Questions, shots: Shots, other_source: bool, limit: int | None) -> dict[str, list[int]]:
    """Language → rows to score: no example and no translation of one, and the first `limit` of the rest."""
    held_out = frozenset() if other_source else shots.held_out
    left: dict[str, dict[str, int]] = {}
    for language, table in questions.by_language.items():
        shown = shots.texts(language)
        left[language] = {name: row for name, row in table.items()
                          if name not in held_out and tuple(questions.texts[row].values()) not in shown}  # fmt: skip
        if not left[language]:
            raise DataError(f"ds: no question of {language!r} is left to score beside the few-shot examples. "
                            "Give shots_from or fewer shots.")  # fmt: skip
    if limit is None:
        return {language: list(table.values()) for language, table in left.items()}
    common = [name for name in questions.order if all(name in table for table in left.values())][:limit]
    if not common:
        raise DataError("limit: no question exists in every language. Leave --limit out, or give a question the same "
                        "id in every language.")  # fmt: skip
    return {language: [table[name] for name in common] for language, table in left.items()}


def _settings(
    model, tokenizer, task: Task, questions: Questions, shots: Shots, rows: Mapping[str, list[int]],
    groups: Sequence[Group], options: ScoringOptions,
) -> dict[str, Any]:  # fmt: skip
    """What the scores depend on: options, model, digests of the rows and of all token ids the model will read."""

    def line(source: Questions, row: int) -> str:
        content = [source.ids[row], source.languages[row], source.texts[row], source.classes[row]]
        return json.dumps(content, ensure_ascii=False)

    lines = [line(questions, row) for language in sorted(rows) for row in rows[language]]
    lines += [line(shots.source, row) for language in sorted(shots.rows) for row in shots.rows[language]]
    tokens = hashlib.sha256()
    for group in groups:
        for item in (*group.items, *group.content_free):
            tokens.update(json.dumps([group.language, item.context, item.labels]).encode())
    offloaded = any(parameter.is_meta for parameter in model.parameters())  # to disk
    known = {"model": getattr(model.config, "_name_or_path", ""), "weights": None}
    known = known if offloaded else TransformersBackend(model, tokenizer).describe()
    scored = options.parameters() | {
        "n_shots": options.n_shots, "languages": [code for code in sorted(rows) if rows[code]],
        "content_free": options.content_free if options.calibrate else None,
    }  # fmt: skip
    return to_json({
        "task": task.describe(), "n_shots": options.n_shots, "shots": shots.ids(), **scored,
        "model": {"model": known["model"], "weights": known["weights"], "dtype": str(model.dtype)},
        "n_rows": sum(map(len, rows.values())),
        "data": hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16],
        "tokens": tokens.hexdigest()[:16],
    })  # fmt: skip


def _score(scorer: LabelScorer, groups: Sequence[Group], task, questions, options, run: RowStore, progress) -> None:
    """Score what the run does not hold yet, and add it pack by pack."""
    from tqdm.auto import tqdm

    def normalised(logprobs: np.ndarray, item: LabelledPrompt) -> np.ndarray:
        return logprobs / [len(label) for label in item.labels] if options.normalise else logprobs

    waiting = [group.only(lambda row, code=group.language: (questions.ids[row], code) not in run.done)
               for group in groups]  # fmt: skip
    scorer.check([group.items for group in waiting])
    total = sum(len(group.rows) for group in groups)
    with tqdm(total=total, initial=len(run.done), unit="row", disable=not progress, desc=task.name) as bar:
        for group in (group for group in waiting if group.items):
            free = [normalised(scores, group.content_free[i]) for pack, values in scorer.score(group.content_free)
                    for i, scores in zip(pack, values)]  # fmt: skip
            # calibration: the labels' scores in content-free prompts, averaged as probabilities
            offset = np.logaddexp.reduce(free, axis=0) - np.log(len(free)) if free else 0.0
            for indices, values in scorer.score(group.items):
                rows = []
                for i, logprobs in zip(indices, values):
                    row = group.rows[i]
                    scores = normalised(logprobs, group.items[i]) - offset
                    best, right = int(np.argmax(scores)), questions.classes[row]
                    rows.append({
                        "id": questions.ids[row], "language": group.language, "label": task.classes[right],
                        "prediction": task.classes[best], "correct": best == right,
                        "label_logprobs": logprobs.tolist(), "scores": scores.tolist(), "shots": group.shots,
                    })  # fmt: skip
                run.add(rows)
                bar.update(len(rows))
