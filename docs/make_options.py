"""Writes docs/options.md, the tables of all options, from the options classes.

    python docs/make_options.py

Run it after an option has changed; a test compares the page with the code.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_mlalign.cli.app import PANELS, app
from hf_mlalign.cli.options import LAST
from hf_mlalign.core.options import Options

PAGE = Path(__file__).resolve().parent / "options.md"
INTRO = """# Options

Every option of every command. The same options are keyword arguments in Python:
`hf-mlalign curate pool.jsonl --n-quality 600` and `curate("pool.jsonl", n_quality=600)` do the same. This page is made
from the code by `python docs/make_options.py`.

- *flag*: the name on the command line; a dash marks an option that only Python takes. Write lists as `de,ja,sw` and
  mappings as `yours=role,other=role`.
- *name*: the keyword in Python, and the key in the file of `--config run.yaml`.
- *origin*: where the default comes from: *paper*, *authors' script* or *ours*.

Every command below also takes these:

| flag | meaning |
|---|---|
| `--config FILE` | Read options from a YAML file. Options on the command line win. |
| `--print-config` | Write the YAML of what would run, and stop. |
| `--quiet`, `-q` | Print errors only. |
| `--verbose`, `-v` | Also print what libraries have to say. |
| `--help`, `-h` | Show the help page, and stop. |

`hf-mlalign --debug COMMAND …` shows the traceback of an error. `hf-mlalign train dpo|sft|qsm` passes its options on to
the training script; `python -m hf_mlalign.launch.dpo --help` (or `sft`, `train_qsm`) lists them.
"""
COMMANDS = {
    "curate": ("mdaq.curate", "mdaq.md", "MDaQSelector", "mdaq.SelectionOptions"),
    "score": ("mdaq.score", "scoring.md"),
    "sample": ("generation.sample", "cmalign.md", "ResponseSampler", "generation.SamplerOptions"),
    "build-pairs": ("cmalign.build_pairs", "cmalign.md", "CMAlignPreferenceBuilder", "cmalign.PairOptions"),
    "lint": ("cmalign.lint_preferences", "cmalign.md"),
    "questions": ("spontaneous.build_questions", "spontaneous-training.md", "QuestionTranslationBuilder",
                  "spontaneous.BuilderOptions"),
    "judge": ("evaluation.judge", "judges.md"),
    "annotate": ("evaluation.annotate", "annotate.md"),
    "classify": ("spontaneous.classify", "spontaneous-evaluation.md", "evaluate_classification",
                 "spontaneous.ScoringOptions"),
    "lens": ("spontaneous.run_lens", "spontaneous-lenses.md"),
    "report": ("report.write_report", "report.md"),
    "push": ("hub.push", "how-to.md#push-to-the-hub"),
}  # fmt: skip
"""Command → the function that does the same, the page about it, and what else takes a part of its options."""


def jobs() -> dict[str, type[Options]]:
    """Command → its options class in the package, the one with the most options of those that name it."""
    found: dict[str, type[Options]] = {}
    waiting = [Options]
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        ours = one.__module__.startswith("hf_mlalign.")
        if ours and one.job and (one.job not in found or len(one.defaults()) > len(found[one.job].defaults())):
            found[one.job] = one
    return found


def option_lines(options: type[Options]) -> Iterator[str]:
    """A table per group of options, in the order of the help page."""
    fields = {field.name: field for field in dataclasses.fields(options)}
    groups: dict[str, list[dict[str, str]]] = {}
    for row in options.table():
        groups.setdefault(fields[row["name"]].metadata["panel"], []).append(row)
    for group in sorted(groups, key=lambda name: LAST.index(name) if name in LAST else -1):
        yield from (f"**{group}**", "", "| flag | name | type | default | origin | meaning |", "|---" * 6 + "|")
        for row in groups[group]:
            field, flag = fields[row["name"]], row["flag"].replace(",", "`, `")
            if row["type"] == "bool" and row["default"] == "True" and "/" not in flag:
                flag += f"/--no-{flag.removeprefix('--')}"
            cells = (f"`{flag}`" if flag else "–", f"`{row['name']}`", f"`{shown_type(row['type'])}`",
                     shown_default(row, field), row["origin"], meaning(row, field))  # fmt: skip
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        yield ""


def shown_type(text: str) -> str:
    """A type without the modules of its parts and without `None`, which the default shows."""
    text = "str | Any" if text == "Any" else text
    return re.sub(r"\w+\.", "", text).replace(" | None", "").replace("Any", "object")


def shown_default(row: dict[str, str], field: dataclasses.Field) -> str:
    """The words of the option where it has some, else the value as code; a dash for none."""
    if field.metadata.get("shown"):
        return row["default"]
    return "–" if row["default"] == "None" else f"`{row['default']}`"


def meaning(row: dict[str, str], field: dataclasses.Field) -> str:
    """The help text, with the known values that it does not name, and without the default."""
    text = re.sub(r" \(default: [^;)]*\)", "", row["help"])
    choices = field.metadata.get("choices") or ()
    return text if all(choice in text for choice in choices) else f"{text} One of {', '.join(choices)}."


def page() -> str:
    """The text of docs/options.md."""
    classes = jobs()
    lines = [INTRO]
    for panel in PANELS:
        commands = [one for one in app.registered_commands if one.rich_help_panel == panel and one.name in COMMANDS]
        lines += [f"## {panel}", ""] if commands else []
        for command in commands:
            door, about, *part = COMMANDS[command.name]
            first = " ".join(command.callback.__doc__.split("\n\n")[0].split())
            lines += [f"### {command.name}", "", f"{first} See [{about.split('.')[0]}]({about})."]
            lines += ["", f"In Python: `hf_mlalign.{door}`."]
            if part:
                name, group = part
                lines[-1] += f" `{name}` takes those of `hf_mlalign.{group}`: {names_of(classes[command.name], group)}."
            lines += ["", *option_lines(classes[command.name])]
    return "\n".join(lines).rstrip() + "\n"


def names_of(options: type[Options], group: str) -> str:
    """The names of the options of a class that `options` is made of."""
    found: Any = next(one for one in options.__mro__ if one.__name__ == group.rpartition(".")[2])
    return ", ".join(f"`{field.name}`" for field in dataclasses.fields(found))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)
