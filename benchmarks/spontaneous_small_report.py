"""Tables and pictures of the small-scale experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from spontaneous_small_measure import Measures, label_likelihoods, load_json

from hf_mlalign.hub.card import markdown_table
from hf_mlalign.spontaneous.lens.plots import heatmap, scatter
from hf_mlalign.spontaneous.lens.result import Geometry

HEADING = "## Tables"
TASK_NAMES = ("kind", "emotion", "snli", "emotion, own words")


def write_report(folder: Path, before: Measures, after: dict[str, list[Measures]], seen: tuple[str, ...],
                 docs: Path | None) -> None:  # fmt: skip
    """Write `tables.md` and the pictures to `folder`. With `docs`, also replace the page's part from `HEADING` on
    (`appendix/spontaneous-evidence.md`) and its pictures."""
    after = {name: runs for name, runs in after.items() if runs}
    parts = [
        HEADING, _pretraining(folder), _accuracies(before, after, seen), _by_language(before, after, seen),
        _likelihoods(before, after, seen), _retrieval(before, after, seen), _translation(before, after),
        _lens(before, after, seen),
    ]  # fmt: skip
    text = "\n\n".join(parts) + "\n"
    (folder / "tables.md").write_text(text, encoding="utf-8")
    pictures = folder if docs is None else docs / "images"
    _pictures(before, after["translation"][0], folder, pictures)
    if docs is not None:
        page = docs / "appendix" / "spontaneous-evidence.md"
        prose = page.read_text(encoding="utf-8").split(f"\n{HEADING}")[0].rstrip() if page.is_file() else "# Evidence"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"{prose}\n\n{text}", encoding="utf-8")


def groups(languages: list[str], seen: tuple[str, ...]) -> dict[str, list[str]]:
    """English, the seen languages, the others; English belongs to neither of the two.

    >>> groups(["de", "en", "es"], ("es",))
    {'English': ['en'], 'seen': ['es'], 'unseen': ['de']}
    """
    return {
        "English": ["en"], "seen": [x for x in languages if x in seen],
        "unseen": [x for x in languages if x not in seen and x != "en"],
    }  # fmt: skip


def spread(values: list[float], digits: int = 3, sign: bool = True) -> str:
    """Mean and standard deviation over runs (n − 1), the latter from two runs on.

    >>> spread([1.0, 2.0]), spread([0.5], 1, sign=False)
    ('+1.500 ± 0.707', '0.5')
    """
    mean = f"{np.mean(values):{'+' if sign else ''}.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def _with_interval(row: pd.Series) -> str:
    return f"{row.accuracy:.3f} ({row.ci_low:.3f}–{row.ci_high:.3f})"


def _pretraining(folder: Path) -> str:
    facts, table = load_json(folder / "pretrained" / "pretraining.json"), pd.read_json(
        folder / "perplexities.json", orient="index")  # fmt: skip
    rows = []
    for language in table.index:
        one, both = (facts["drawn"].get(name, {"tokens": 0}) for name in (language, f"{language}+en"))
        rows.append({
            "language": language, "tokens": one["tokens"], "both": both["tokens"], "texts": one.get("texts", 0),
            "model": float(np.exp(table.model[language])), "unigram": float(np.exp(table.unigram[language])),
        })  # fmt: skip
    for row in rows:
        row |= {name: f"{row[name]:,.0f}" for name in ("model", "unigram")}
    text = markdown_table(rows, {
        "language": "language", "tokens": "tokens", "both": "tokens in pairs with English", "texts": "different texts",
        "model": "perplexity", "unigram": "of a unigram model of the language",
    })  # fmt: skip
    said = f"{facts['parameters']:,} parameters, {facts['tokens']:,} tokens in {facts['seconds'] / 60:.0f} minutes."
    return f"### The pretrained model\n\n{said} Perplexity per token of held-out questions and reviews.\n\n{text}"


def _accuracies(before: Measures, after: dict[str, list[Measures]], seen: tuple[str, ...]) -> str:
    rows = []
    for task in TASK_NAMES:
        first = before.tasks[task].compare(before.tasks[task], seen).per_language()
        compared = {name: [run.tasks[task].compare(before.tasks[task], seen).per_language() for run in runs]
                    for name, runs in after.items()}  # fmt: skip
        for group, line in (("English", "en"), ("seen", "seen"), ("unseen", "unseen")):
            row = {"task": task, "group": group, "n": int(first.n[line]), "before": _with_interval(first.loc[line])}
            for name, tables in compared.items():
                row[name] = spread([float(t.gain[line]) for t in tables])
            table = compared["translation"][0]
            row["interval"] = f"{table.gain_low[line]:+.3f} to {table.gain_high[line]:+.3f}"
            rows.append(row)
    columns = {"task": "task", "group": "languages", "n": "rows", "before": "before (95 % interval)"}
    columns |= {name: f"{name}, gain" for name in after}
    columns["interval"] = "translation, first seed: 95 % interval of the gain"
    return f"### Accuracy\n\n{markdown_table(rows, columns)}"


def _by_language(before: Measures, after: dict[str, list[Measures]], seen: tuple[str, ...]) -> str:
    """Accuracy by language before, and gain of each variant, for the tasks with something to gain or lose."""
    parts = []
    for task in ("kind", "emotion"):
        first = before.tasks[task].per_language()
        rows = []
        for language in first.index.drop("all"):
            name_shown = f"**{language}**" if language in seen else language
            row = {"language": name_shown, "before": _with_interval(first.loc[language])}
            for name, runs in after.items():
                found = [run.tasks[task].per_language().accuracy[language] for run in runs]
                row[name] = spread([float(x - first.accuracy[language]) for x in found])
            rows.append(row)
        columns = {"language": "language", "before": "before (95 % interval)"}
        columns |= {name: f"{name}, gain" for name in after}
        parts.append(f"#### {task}, English template and labels\n\n{markdown_table(rows, columns)}")
    return "### Accuracy by language\n\nSeen languages in bold.\n\n" + "\n\n".join(parts)


LIKELIHOODS = {
    "right": "mean log-probability of the right label, nats",
    "share": "mean probability of the right label among the task's labels",
    "leaning": "share of rows for which the first label is predicted (right: 0.5 in kind, about 0.5 in emotion)",
    "auc": "AUC: how well the difference of the labels' scores separates their rows (chance 0.5)",
}


def _likelihoods(before: Measures, after: dict[str, list[Measures]], seen: tuple[str, ...]) -> str:
    tables = {
        task: {name: [label_likelihoods(run.tasks[task]) for run in runs]
               for name, runs in {"before": [before], **after}.items()}
        for task in TASK_NAMES
    }  # fmt: skip
    parts = []
    for value, title in LIKELIHOODS.items():
        rows = []
        for task, runs in tables.items():
            first = runs["before"][0]
            for group, languages in groups(list(first.index), seen).items() if value in first else ():
                means = {name: [float(t.loc[languages, value].mean()) for t in found] for name, found in runs.items()}
                cells = {name: spread([x - means["before"][0] for x in found]) for name, found in means.items()}
                rows.append({"task": task, "group": group, **cells, "before": f"{means['before'][0]:.3f}"})
        columns = {"task": "task", "group": "languages", "before": "before"}
        columns |= {name: f"{name}, difference" for name in after}
        parts.append(f"#### {title}\n\n{markdown_table(rows, columns)}")
    return "### Likelihood of the right label\n\n" + "\n\n".join(parts)


def _retrieval(before: Measures, after: dict[str, list[Measures]], seen: tuple[str, ...]) -> str:
    parts = []
    for measure, title in (("to_english", "unchanged"), ("to_english_centred", "mean of each language subtracted")):
        parts.append(f"#### {title}\n\n" + _by_layer(before, after, seen, _of_geometry(measure)))
    pairs = int(before.geometry.pairs.max())
    return (f"### Retrieval of the English sentence among {pairs}, top-1 by layer (chance {1 / pairs:.3f})\n\n"
            + "\n\n".join(parts))  # fmt: skip


def _of_geometry(measure: str) -> Callable[[Measures], pd.DataFrame]:
    return lambda run: run.geometry.per_language().pivot(index="layer", columns="language", values=measure)


def _of_lens(value: str) -> Callable[[Measures], pd.DataFrame]:
    def table(run: Measures) -> pd.DataFrame:
        found = run.lens.per_language(without_overlap=True)
        return found.pivot(index="layer", columns="language", values=value)

    return table


def _by_layer(before: Measures, after, seen: tuple[str, ...], table: Callable[[Measures], pd.DataFrame]) -> str:
    first = table(before)
    members = groups(list(first.columns), seen)
    rows = []
    for layer in first.index:
        row = {"layer": int(layer)}
        for group in ("seen", "unseen"):
            languages = [x for x in members[group] if x in first.columns]
            row[f"{group} before"] = f"{first.loc[layer, languages].mean():.4f}"
            for name, runs in after.items():
                gains = [float((table(run) - first).loc[layer, languages].mean()) for run in runs]
                row[f"{group} {name}"] = spread(gains, 4)
        rows.append(row)
    columns = {"layer": "layer"} | {name: name for name in rows[0] if name != "layer"}
    return markdown_table(rows, columns)


def _translation(before: Measures, after: dict[str, list[Measures]]) -> str:
    rows = []
    for language in before.translation.index:
        row = {"language": language}
        for name, runs in {"before": [before], **after}.items():
            tables = [run.translation.loc[language] for run in runs]
            row[f"{name} own"] = spread([float(t.own) for t in tables], 3, False)
            row[f"{name} gain"] = spread([float(t.other - t.own) for t in tables], 3)
        rows.append(row)
    columns = {"language": "source"} | {f"{name} own": f"{name}: nats" for name in ("before", *after)}
    columns |= {f"{name} gain": f"{name}: from the source" for name in ("before", *after)}
    return ("### Translation into English\n\nNats per token of the English question after the question in the source "
            "language and the instruction; \"from the source\": how many more nats it costs after another question.\n\n"
            + markdown_table(rows, columns))  # fmt: skip


def _lens(before: Measures, after: dict[str, list[Measures]], seen: tuple[str, ...]) -> str:
    titles = (("english", "P(an English label)"), ("own", "P(a label of the language)"))
    parts = [f"#### {title}\n\n{_by_layer(before, after, seen, _of_lens(value))}" for value, title in titles]
    left_out = sorted(set(before.lens.languages) - set(before.lens.per_language(without_overlap=True).language))
    said = f"First tokens of both labels. Left out, with a token shared with an English label: {', '.join(left_out)}."
    return "\n\n".join(["### Logit lens, emotion questions in each language's own words", said, *parts])


def _without_english(geometry: Geometry) -> Geometry:
    """Without English's retrieval of itself, which is always right and would set the colour scale."""
    values = geometry.to_english_centred.copy()
    values[:, geometry.names.index(geometry.english)] = np.nan
    return replace(geometry, to_english_centred=values)


def _pictures(before: Measures, after: Measures, folder: Path, pictures: Path) -> None:
    """Pictures of the first seed's translation run; their tables (CSV) stay in `folder`."""
    shown = [_without_english(run.geometry) for run in (before, after)]
    made = {
        "retrieval": heatmap(*shown, "to_english_centred"),
        "lens": heatmap(before.lens, after.lens, "english"),
        "scatter": scatter(before.geometry, after.geometry),
    }
    pictures.mkdir(parents=True, exist_ok=True)
    for name, picture in made.items():
        png = picture.save(folder / f"spontaneous-{name}")
        if pictures != folder:
            (pictures / png.name).write_bytes(png.read_bytes())
