"""Rows written in the layout in which each source is published, and the scripts as modules."""

import importlib.util
import json
import sys
from collections import defaultdict
from pathlib import Path

from shared.building import main
from shared.recipes import BuildArguments

SCRIPTS = Path(__file__).resolve().parents[2] / "dataset_scripts"
NAMES = ("expert_revisions", "x_alpacaeval", "xcsqa_samples", "multilingual_evaluation", "question_translation", "mgsm")


def script(name):
    """A script of `dataset_scripts/` as a module."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def run(name, *arguments):
    """Run a script in this process; returns its exit code."""
    module = script(name)
    return main(module.recipe, getattr(module, "Arguments", BuildArguments), [str(a) for a in arguments])


def arguments(name, folder, **layout):
    """The arguments that name the sources which `write` made."""
    found = ["--source", folder / "source"]
    second = {"expert_revisions": "--english-source", "question_translation": "--gsm8k-source"}.get(name)
    found += [second, folder / "second"] if second else []
    return found + [str(word) for key, value in layout.items() for word in (f"--{key}", value)]


def grouped(rows, *keys):
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=4), encoding="utf-8")


def write(name, folder, rows, **layout):
    """Write rows as their source publishes them, into `folder/source` and `folder/second`."""
    {
        "expert_revisions": write_expert_revisions, "x_alpacaeval": write_x_alpacaeval,
        "xcsqa_samples": write_xcsqa_samples, "multilingual_evaluation": write_multilingual_evaluation,
        "question_translation": write_question_translation, "mgsm": write_mgsm,
    }[name](folder, rows, **layout)  # fmt: skip


def write_expert_revisions(folder, rows):
    names = script("expert_revisions").LANGUAGES
    for (code,), group in grouped(rows, "language").items():
        path = folder / "source" / "data" / "MIDB_train" / f"{names.get(code)}.json"
        if code == "en":
            path = folder / "second" / ".ipynb_checkpoints" / "Expert Revision Dataset-checkpoint.json"
        texts = script("expert_revisions").TEXTS
        dump(path, [{**{key: row[name] for name, key in texts.items()}, "Distance": row["distance"]} for row in group])


def write_x_alpacaeval(folder, rows, content="responses"):
    if content == "prompts":
        for (code,), group in grouped(rows, "language").items():
            dump(folder / "source" / "data" / "x-alpacaeval" / "data" / f"{code}.json",
                 [{"id": r["id"], "dataset": r["subset"], "instruction": r["prompt"]} for r in group])  # fmt: skip
        return
    for (model, code), group in grouped(rows, "model", "language").items():
        path = folder / "source" / "results" / "base_model" / "x-alpacaeval" / model / f"{code}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            {"id": r["id"], "dataset": r["subset"], "prompt": r["prompt"], "response": r["response"],
             "model_api": model} for r in group
        ]  # fmt: skip
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def write_xcsqa_samples(folder, rows):
    for (model, code), group in grouped(rows, "model", "language").items():
        name = f"x_csqa_{'cn' if code == 'zh' else code}_train{'_mistral' if model == 'mistral' else ''}_sampled.json"
        keys = {"instruction": "instruction", "input": "input", "output": "gold", "pred": "samples"}
        dump(folder / "source" / "data" / "xcsqa" / "samples" / name,
             [{key: row[column] for key, column in keys.items()} for row in group])  # fmt: skip


def write_multilingual_evaluation(folder, rows, task="snli"):
    where = {"emotion": ("ap_emotion", 500), "snli": ("snli", 600), "paws": ("paws", 500)}[task]
    for (code,), group in grouped(rows, "language").items():
        path = folder / "source" / "data" / where[0] / f"{task}_{code}{where[1]}_test.json"
        dump(path, [{key: value for key, value in row.items() if key not in ("id", "language")} for row in group])


def write_question_translation(folder, rows):
    for (task, code), group in grouped(rows, "task", "source_language").items():
        if task == "snli":
            path = folder / "source" / "data" / "snli" / f"snli_{code}10k_train_question.json"
            dump(path, [{"input": row["source"], "answer": row["target"]} for row in group])
            continue
        pair = folder / "second" / "data" / "gsmtrans" / "gsm8kinstruct_question" / f"{code}-en"
        pair.mkdir(parents=True, exist_ok=True)
        for name, column in ((code, "source"), ("en", "target")):
            text = "".join(row[column] + "\n" for row in group)
            (pair / f"train.{name}").write_text(text, encoding="utf-8")


def write_mgsm(folder, rows):
    for (code,), group in grouped(rows, "language").items():
        path = folder / "source" / "mgsm" / f"mgsm_{code}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{row['query']}\t{row['response']}\n" for row in group), encoding="utf-8")


def small(name, task="snli", content="responses", n=4):
    """A few rows of our own in the columns of a set, in German and Chinese."""
    rows = []
    for code in ("de", "zh"):
        for i in range(n):
            text = {"de": f"Schöne Frage {i}?\u2028Ja", "zh": f"好问题 {i}？"}[code]
            rows += _small_rows(name, task, content, code, i, text)
    return rows


def _small_rows(name, task, content, code, i, text):
    if name == "expert_revisions":
        texts = {key: f"{key} {text}" for key in script(name).TEXTS}
        code = {"de": "de", "zh": "en"}[code]
        return [{"id": i, "language": code, **texts, "raw_input": "", "distance": 100 - i // 2}]
    if name == "x_alpacaeval":
        both = {"id": i + 1, "language": code, "subset": "vicuna", "prompt": text}
        models = ("gpt-4-turbo-2024-04-09", "gpt-4-0613")[: 2 if code == "de" else 1]
        return [both] if content == "prompts" else [{**both, "model": m, "response": f"{m}\n{text}"} for m in models]
    if name == "xcsqa_samples":
        return [
            {"id": i, "language": code, "model": model, "instruction": "Antworte.", "input": text, "gold": "ABCDE"[i],
             "samples": [f"{model} {k}" for k in range(3)]} for model in ("mistral", "llama")
        ]  # fmt: skip
    if name == "multilingual_evaluation":
        columns = [column for column in script(name).FIELDS[task] if column != "answer"]
        return [{"id": i, "language": code, **dict.fromkeys(columns, text), "answer": "neutral"}]
    if name == "question_translation":
        base = {"id": i, "source_language": code, "target_language": "en", "target": f"Question {i}"}
        return [{**base, "task": task, "source": f"{task} {text}"} for task in ("snli", "gsm8k")]
    return [{"id": i, "language": code, "query": text, "response": f"{i},000"}]
