"""Few-shot classification in many languages: which label a causal LM finds most probable, question by question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.languages import check_languages
from hf_mlalign.generation.transformers_backend import TransformersBackend
from hf_mlalign.hub.run_record import to_json
from hf_mlalign.spontaneous.classification.few_shot import Shots, draw_shots
from hf_mlalign.spontaneous.classification.label_scoring import LabelScorer
from hf_mlalign.spontaneous.classification.label_tokens import check_labels
from hf_mlalign.spontaneous.classification.prompts import CONTENT_FREE, Group, PromptOptions, fitting_groups
from hf_mlalign.spontaneous.classification.result import (
    ClassificationResult,
    RowStore,
    as_dataset,
    check_baseline,
)
from hf_mlalign.spontaneous.classification.rows import Questions, entries, read_questions
from hf_mlalign.spontaneous.classification.tasks import Task, load_task
from hf_mlalign.spontaneous.classification.trie import Item

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

def evaluate_classification(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ds: Dataset,
    task: str | Path | Mapping[str, Any] | Task,
    n_shots: int | None = None,
    languages: Sequence[str] | None = None,
    *,
    labels_in: str = "question",
    normalise: bool = False,
    calibrate: bool = False,
    content_free: Sequence[str] = CONTENT_FREE,
    seed: int = 0,
    same_shots: bool = True,
    shots_from: Dataset | None = None,
    seen: str | Iterable[str] = (),
    baseline: ClassificationResult | str | Path | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    limit: int | None = None,
    max_length: int | None = None,
    drop_long: bool = False,
    batch_tokens: int = 512,
    method: str = "auto",
    column_mapping: Mapping[str, str] | None = None,
    progress: bool = True,
) -> ClassificationResult:
    """Accuracy of a causal LM on a few-shot task, language by language (arXiv 2405.13816).

    A label's score is the log-probability of all its tokens, and of what ends it, after the prompt. The paper compares
    probabilities of first tokens instead.

    Args:
        model: causal LM in any dtype, on one device or sharded by `device_map`.
        tokenizer: its tokenizer. No padding token is needed: nothing is padded.
        ds: rows with an id (the same for a question in every language), language, the task's fields, and the answer.
        task: "emotion", "snli", "paws", a YAML file or a mapping (`load_task`).
        n_shots: examples a prompt; default: the task's (2, 6 and 4, *paper*).
        languages: codes; default: all in `ds`.
        labels_in: labels in the "question"'s language (default) or in "english"; both are in the paper.
        normalise: divide a label's log-probability by its number of tokens (off, *ours*).
        calibrate: subtract the score the label has where every field is a text of `content_free`, averaged over them
            as probabilities (off, *ours*; contextual calibration, arXiv 2102.09690, as a difference of scores). The
            paper averages over "N/A", "[MASK]" and "".
        seed: of the few-shot draw (0, *authors' script*).
        same_shots: the same examples in every language (*authors' script*), or drawn for each language.
        shots_from: where examples are drawn; default: `ds`, whose drawn questions are then scored in no language.
        seen: languages trained on (a text is one language), for the seen/unseen split.
        baseline: an earlier result or its folder; adds paired gains.
        output: folder of the run (rows.jsonl, table.csv, run.json); rows are appended as they are scored, and a stopped
            run goes on where it was.
        overwrite: begin anew where `output` holds a run with other settings.
        limit: only the first so many of the questions that are there in every language.
        max_length: tokens of prompt and label; default: the model's context. From longer prompts the first examples are
            cut, one by one; the column `shots` counts what is left.
        drop_long: leave questions that are too long even without examples out, in every language (default: an error).
            A language left without rows is named in a note, or an error if `seen` names it.
        batch_tokens, method: see `LabelScorer`; they do not change the results.
        column_mapping: your column → role: a field of the task, "answer", "id" or "language".
    Raises:
        DataError: bad input, before anything is scored: columns, labels, languages, too few examples, labels that
            cannot be told apart, a question too long even without examples, a tokenizer of another model, an output
            folder with another run.
    """
    task = load_task(task)
    options = PromptOptions(labels_in, normalise, calibrate, tuple(entries(content_free)), max_length, drop_long)
    if limit is not None and limit < 1:
        raise DataError(f"limit: {limit} is not positive.")
    questions = read_questions(ds, task, languages, column_mapping)
    codes = sorted(questions.by_language)
    seen = _check_seen(seen, codes)
    notes = _preflight(task, tokenizer, codes, labels_in)
    n_shots = task.shots if n_shots is None else n_shots
    source = questions if shots_from is None else read_questions(shots_from, task, None, column_mapping)
    shots = draw_shots(source, codes, n_shots, len(task.classes), seed, same_shots)
    rows = _scored(questions, shots, shots_from is not None, limit)
    scorer = LabelScorer(model, batch_tokens, method)
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
    groups, changes = fitting_groups(task, tokenizer, questions, shots, rows, options, room)
    rows = {code: sorted(row for group in groups if group.language == code for row in group.rows) for code in codes}
    lost, codes = codes, _with_rows(rows, seen)
    lost = [code for code in lost if code not in codes]
    changes += [f"no question is left in {listed(lost)}: not scored"] if lost else []
    notes += [*changes, *_disagreeing(questions, rows, task), *_offloaded(model)]
    settings = to_json({
        "task": task.describe(), "n_shots": n_shots, "shots": shots.ids(), "languages": codes, "labels_in": labels_in,
        "normalise": normalise, "calibrate": calibrate, "content_free": options.content_free if calibrate else None,
        "seed": seed, "same_shots": same_shots, "max_length": max_length, "n_rows": sum(map(len, rows.values())),
        "data": _digest(questions, shots, rows), "tokens": _token_digest(groups), "model": _describe(model, tokenizer),
    })  # fmt: skip
    before = ClassificationResult.load(baseline) if isinstance(baseline, (str, Path)) else baseline
    if before is not None:
        check_baseline(before, settings, [(questions.ids[row], code) for code in codes for row in rows[code]])
    with RowStore(output, settings, overwrite).open() as run:
        _score(scorer, groups, task, questions, options, run, progress)
        if scorer.reason:
            notes.append(f"scored by one plain forward pass per label: {scorer.reason}")
        found = [run.done[questions.ids[row], language] for language in codes for row in rows[language]]
        notes += _ties(found)
        result = ClassificationResult(as_dataset(found), settings, seen, None, notes)
        result = result.compare(before) if before is not None else result
        run.finish(result)
    return result


def _check_seen(seen: str | Iterable[str], codes: Sequence[str]) -> tuple[str, ...]:
    known = tuple(check_languages(entries(seen), "seen"))
    missing = [code for code in known if code not in codes]
    if missing:
        raise DataError(f"seen: {missing[0]!r} is not evaluated. Languages evaluated: {listed(codes)}.")
    return known


def _preflight(task: Task, tokenizer, codes: Sequence[str], labels_in: str) -> list[str]:
    issues = check_labels(task, tokenizer, codes, labels_in)
    fatal = [str(issue) for issue in issues if issue.fatal]
    if fatal:
        more = f" ({len(fatal) - 1} more)" if len(fatal) > 1 else ""
        raise DataError(f"{fatal[0]}{more}. Change the task's labels, or score English ones (labels_in='english').")
    kinds = {issue.kind: issue for issue in issues}
    return [f"labels {issue.says} in {listed(dict.fromkeys(i.language for i in issues if i.kind == kind))}"
            for kind, issue in kinds.items()]  # fmt: skip


def _scored(questions: Questions, shots: Shots, other_source: bool, limit: int | None) -> dict[str, list[int]]:
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
        raise DataError("limit: no question is there in every language. Leave limit out, or give a question the same "
                        "id in every language.")  # fmt: skip
    return {language: [table[name] for name in common] for language, table in left.items()}


def _with_rows(rows: Mapping[str, list[int]], seen: Sequence[str]) -> list[str]:
    """Languages with rows to score; DataError if one of `seen` has none."""
    lost = [code for code in seen if not rows[code]]
    if lost:
        raise DataError(f"seen: no question in {lost[0]!r} is left after drop_long. Raise max_length, or take the "
                        "language out of seen.")  # fmt: skip
    return sorted(code for code in rows if rows[code])


def _disagreeing(questions: Questions, rows: Mapping[str, list[int]], task: Task) -> list[str]:
    counts = {code: sum(row in questions.disagreeing for row in members) for code, members in rows.items()}
    return [f"{code}: the labels of {n:,} of {len(rows[code]):,} scored rows differ from those of the same ids in "
            f"{task.gold_language!r}, which were taken" for code, n in sorted(counts.items()) if n]  # fmt: skip


def _offloaded(model) -> list[str]:
    if not any(parameter.is_meta for parameter in model.parameters()):
        return []
    return ["weights on disk are not compared when a run goes on: a stopped run is taken up by any model of this name"]


def _score(scorer: LabelScorer, groups: Sequence[Group], task, questions, options, run: RowStore, progress) -> None:
    """Score what the run does not hold yet, and add it pack by pack."""
    from tqdm.auto import tqdm

    waiting = [_waiting(group, questions, run) for group in groups]
    scorer.check([group.items for group in waiting])
    total = sum(len(group.rows) for group in groups)
    with tqdm(total=total, initial=len(run.done), unit="row", disable=not progress, desc=task.name) as bar:
        for group in waiting:
            for rows in _rows(scorer, group, task, questions, options):
                run.add(rows)
                bar.update(len(rows))


def _waiting(group: Group, questions: Questions, run: RowStore) -> Group:
    return group.only(lambda row: (questions.ids[row], group.language) not in run.done)


def _rows(scorer: LabelScorer, group: Group, task, questions, options: PromptOptions) -> Iterator[list[dict[str, Any]]]:
    """Scored rows of a group, pack by pack."""
    if not group.items:
        return
    offset = _calibration(scorer, group.content_free, options)
    for indices, values in scorer.score(group.items):
        rows = []
        for i, logprobs in zip(indices, values):
            row = group.rows[i]
            scores = _normalised(logprobs, group.items[i], options) - offset
            best = int(np.argmax(scores))
            rows.append({
                "id": questions.ids[row], "language": group.language, "label": task.classes[questions.classes[row]],
                "prediction": task.classes[best], "correct": best == questions.classes[row],
                "label_logprobs": logprobs.tolist(), "scores": scores.tolist(), "shots": group.shots,
            })  # fmt: skip
        yield rows


def _normalised(logprobs: np.ndarray, item: Item, options: PromptOptions) -> np.ndarray:
    return logprobs / [len(label) for label in item.labels] if options.normalise else logprobs


def _calibration(scorer: LabelScorer, items: Sequence[Item], options: PromptOptions) -> np.ndarray | float:
    """What is subtracted from every score: the labels' scores in content-free prompts, averaged as probabilities."""
    if not items:
        return 0.0
    found = [_normalised(scores, items[i], options) for pack, values in scorer.score(items)
             for i, scores in zip(pack, values)]  # fmt: skip
    return np.logaddexp.reduce(found, axis=0) - np.log(len(found))


def _ties(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    tied = sum(row["scores"].count(max(row["scores"])) > 1 for row in rows)
    return [f"{tied:,} rows have several best labels; the first of them was taken"] if tied else []


def _digest(questions: Questions, shots: Shots, rows: Mapping[str, list[int]]) -> str:
    def line(source: Questions, row: int) -> str:
        content = [source.ids[row], source.languages[row], source.texts[row], source.classes[row]]
        return json.dumps(content, ensure_ascii=False)

    lines = [line(questions, row) for language in sorted(rows) for row in rows[language]]
    lines += [line(shots.source, row) for language in sorted(shots.rows) for row in shots.rows[language]]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _token_digest(groups: Sequence[Group]) -> str:
    """Digest of all token ids the model will read: another tokenizer makes another run."""
    found = hashlib.sha256()
    for group in groups:
        for item in (*group.items, *group.content_free):
            found.update(json.dumps([group.language, item.context, item.labels]).encode())
    return found.hexdigest()[:16]


def _describe(model, tokenizer) -> dict[str, Any]:
    if any(parameter.is_meta for parameter in model.parameters()):  # offloaded to disk
        return {"model": getattr(model.config, "_name_or_path", ""), "weights": None, "dtype": str(model.dtype)}
    known = TransformersBackend(model, tokenizer).describe()
    return {"model": known["model"], "weights": known["weights"], "dtype": str(model.dtype)}
