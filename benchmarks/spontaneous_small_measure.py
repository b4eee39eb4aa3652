"""What the small-scale experiment measures of a model: classification, retrieval by layer, logit lens, translation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from spontaneous_small_data import question_lines, review_rows, scored_part, snli_rows
from spontaneous_small_model import nats_per_token, unigram_nats
from spontaneous_small_tasks import TASKS, completion_loss, encode, scored_rows, task_of

from hf_mlalign.core.files import write_atomic
from hf_mlalign.data.languages import SPONTANEOUS_LANGUAGES
from hf_mlalign.spontaneous.classification.evaluate import evaluate_classification
from hf_mlalign.spontaneous.classification.result import ClassificationResult
from hf_mlalign.spontaneous.classification.tasks import load_task
from hf_mlalign.spontaneous.lens.answers import logit_lens
from hf_mlalign.spontaneous.lens.distances import pca
from hf_mlalign.spontaneous.questions.templates import Templates

if TYPE_CHECKING:
    from hf_mlalign.spontaneous.lens.result import Geometry, LensResult

LIMITS = {"kind": 200, "emotion": 80, "snli": 40}
LENS_PROMPTS = 20
TRANSLATIONS = 50


@dataclass
class Measures:
    """Everything measured of one model."""

    tasks: dict[str, ClassificationResult]
    geometry: Geometry
    lens: LensResult
    translation: pd.DataFrame


def measure(model, tokenizer, data: Path, folder: Path, limits: dict[str, int] | None = None, axes=None) -> Measures:
    """Measure a model, or read what was measured into `folder` before. "emotion, own words" is the paper's form: the
    template and the labels in the question's language; the other tasks have both in English for every language."""
    limits, model = limits or LIMITS, model.eval()
    tasks = {}
    for name, own in [*((name, False) for name in TASKS), ("emotion", True)]:
        key = f"{name}, own words" if own else name
        tasks[key] = evaluate_classification(
            model, tokenizer, scored_rows(data, name), task_of(name, own), n_shots=0, limit=limits[name],
            labels_in="question" if own else "english", output=folder / key.replace(", own words", "_own"),
        )  # fmt: skip
    geometry = _geometry(model, tokenizer, data, folder / "geometry.npz", axes)
    lens = _lens(model, tokenizer, data, folder / "lens.npz", limits["emotion"])
    translation = _translation(model, tokenizer, data, folder / "translation.json")
    return Measures(tasks, geometry, lens, translation)


def _geometry(model, tokenizer, data: Path, path: Path, axes) -> Geometry:
    """Scored SNLI premises in 20 languages, pooled over their tokens; same id = same premise."""
    from hf_mlalign.spontaneous.lens.result import Geometry

    if path.is_file():
        return Geometry.load(path)
    frame = scored_part(snli_rows(data), "snli")
    first = frame[frame.language == "en"].drop_duplicates("premise").id
    frame = frame[frame.id.isin(set(first))]
    result = pca(model, tokenizer, frame.premise.tolist(), frame.language.tolist(), frame.id.tolist(), axes=axes)
    result.save(path)
    return result


def _lens(model, tokenizer, data: Path, path: Path, limit: int) -> LensResult:
    """Emotion questions in each language's own words; answers: both labels of the language, and both English ones."""
    from hf_mlalign.spontaneous.lens.result import LensResult

    if path.is_file():
        return LensResult.load(path)
    task = load_task("emotion")
    frame = scored_part(review_rows(data), "emotion")
    ids = frame[frame.language == "en"].id.tolist()[: min(limit, LENS_PROMPTS)]
    frame = frame[frame.id.isin(ids)]
    prompts = [task.prompt(row.language, [], {"input": row.input}) for row in frame.itertuples()]
    codes = frame.language.tolist()
    targets = {name: [list(task.labels[name]) if name in ("en", code) else None for code in codes]
               for name in sorted(set(codes))}  # fmt: skip
    result = logit_lens(model, tokenizer, prompts, targets, codes)
    result.save(path)
    return result


def _translation(model, tokenizer, data: Path, path: Path) -> pd.DataFrame:
    """By language, nats per token of the English question after the instruction to translate the question in that
    language (`own`), and after the same with another question (`other`): other − own is what the model takes from the
    source. None of the questions was trained on."""
    if path.is_file():
        return pd.read_json(path, orient="index")
    frame = scored_part(snli_rows(data), "snli")
    ids = sorted(frame.id.unique())[:: max(1, frame.id.nunique() // TRANSLATIONS)][:TRANSLATIONS]
    task, template = load_task("snli"), Templates().of("snli")
    text = {(row.language, row.id): question_lines(task.prompt(row.language, [], {"premise": row.premise,
            "hypothesis": row.hypothesis})) for row in frame[frame.id.isin(ids)].itertuples()}  # fmt: skip
    found = {}
    for language in SPONTANEOUS_LANGUAGES:
        if language == "en":
            continue
        rows = {"own": [], "other": []}
        for i, name in enumerate(ids):
            for side, source in (("own", name), ("other", ids[(i + len(ids) // 2) % len(ids)])):
                prompt = template.prompt_for(text[language, source], language, "en", "en")
                rows[side].append(encode(tokenizer, prompt, text["en", name]))
        found[language] = {side: _nats(model, part) for side, part in rows.items()}
    frame = pd.DataFrame.from_dict(found, orient="index")
    write_atomic(path, frame.to_json(orient="index"))
    return frame


@torch.inference_mode()
def _nats(model, rows: list[tuple[list[int], int]], batch: int = 20) -> float:
    total = sum(completion_loss(model, rows[i : i + batch], "rows").sum().item() for i in range(0, len(rows), batch))
    return total / sum(len(ids) - start for ids, start in rows)


def perplexities(model, tokenizer, data: Path, train: dict[str, list[str]], path: Path) -> pd.DataFrame:
    """By language, nats per token of held-out text (scored SNLI questions and reviews), of the model and of a unigram
    model of up to 1,500 of the same language's pretraining texts."""
    if path.is_file():
        return pd.read_json(path, orient="index")
    snli, reviews = scored_part(snli_rows(data), "snli"), scored_part(review_rows(data), "emotion")
    found = {}
    for language in SPONTANEOUS_LANGUAGES:
        texts = [f"{r.premise}\n{r.hypothesis}" for r in snli[snli.language == language].head(150).itertuples()]
        texts += reviews[reviews.language == language].head(40).input.tolist()
        nats, ids = nats_per_token(model, tokenizer, texts)
        texts = train[language][:: len(train[language]) // 1500 + 1]
        known = tokenizer(texts, add_special_tokens=False).input_ids
        found[language] = {"model": nats, "unigram": unigram_nats(known, ids, len(tokenizer)),
                           "tokens": sum(map(len, ids))}  # fmt: skip
    frame = pd.DataFrame.from_dict(found, orient="index")
    write_atomic(path, frame.to_json(orient="index"))
    return frame


def label_likelihoods(result: ClassificationResult) -> pd.DataFrame:
    """By language: mean log-probability of the right label (`right`), its mean probability among the labels (`share`),
    and with two labels how often the first is predicted (`leaning`) and the area under the ROC curve of the difference
    of their scores (`auc`), which a leaning towards one of them does not change: 0.5 is chance."""
    rows = result.rows.to_pandas()
    logprobs = np.stack(rows.label_logprobs.to_numpy())
    right = logprobs[np.arange(len(rows)), [result.classes.index(label) for label in rows.label]]
    together = np.logaddexp.reduce(logprobs, axis=1)
    share = np.exp(right - together)
    frame = pd.DataFrame({"language": rows.language, "right": right, "share": share})
    table = frame.groupby("language").mean()
    if len(result.classes) == 2:
        first, difference = rows.label == result.classes[0], logprobs[:, 0] - logprobs[:, 1]
        table["leaning"] = (rows.prediction == result.classes[0]).groupby(rows.language).mean()
        table["auc"] = [auc(difference[at], first[at]) for at in (rows.language == code for code in table.index)]
    return table


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive row's score is above a negative one's, ties counting half.

    >>> auc(np.array([3.0, 1.0, 1.0]), np.array([True, False, True]))
    0.75
    """
    scores, positive = np.asarray(scores), np.asarray(positive)
    gaps = scores[positive][:, None] - scores[~positive][None]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def load_json(path: Path) -> dict:
    """What a stage wrote about itself."""
    return json.loads(path.read_text(encoding="utf-8"))
