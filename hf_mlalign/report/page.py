"""Write a report: find the run folders, ask every section, draw and render."""

from __future__ import annotations

import base64
import hashlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError, printable
from hf_mlalign.core.files import list_names, write_atomic
from hf_mlalign.core.secrets import redacted
from hf_mlalign.data.languages import is_right_to_left, language_name, normalise
from hf_mlalign.hub.run_record import RECORD, read_record, versions
from hf_mlalign.report.drawing import STYLE, save_png, to_svg
from hf_mlalign.report.registry import SECTIONS, Block, Chart, Examples, Facts, Numbers, ReportedRun
from hf_mlalign.report.tables import settings, shown_table

FIGURES = "figures"
BUILT_IN = ("curation", "cluster_map", "pairs", "training", "judging", "scaling", "models")
"""Modules with sections, in the order of the page."""
PAGE = "report.html"
DEPTH = 3
"""Levels of folders in which run folders are looked for."""
ORDER = ("sample", "curate", "questions", "build-pairs", "train", "judge", "classify", "lens")
"""Order of the commands on the page; others come last."""
SHOWN_ELSEWHERE = ("curate", "build-pairs", "classify", "lens", "judge")
"""Commands whose results have sections of their own."""
TRAINING = ("curve.json", "trainer_state.json", "checkpoint-*/trainer_state.json")
JUDGED = ("judgements.parquet",)
TEXT = 1500
"""Most characters of an example that are shown (*ours*)."""


@dataclass
class View:
    """A part as the template shows it."""

    part: ReportedRun
    key: str
    title: str
    facts: dict[str, str] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def write_report(run: str | Path, output: str | Path | None = None, *, source: Any = None, seed: int = 0) -> Path:
    """Write `report.html` and its figures as PNGs (`figures/`); returns the path of the page.

    The page is self-contained: it needs no other file and no network. Damaged or missing files are named on the page;
    the rest is shown.

    Args:
        run: a run folder (of a command or a training), or a folder with run folders up to three levels down.
        output: folder to write. Default: `report` in a folder with several runs, or `<run>-report` next to a single
            run folder, which itself does not change.
        source: the pool that a set was curated from (a `Dataset`, file or folder). With it, the map shows the whole
            pool and the examples show rows that were not selected. A file next to the run folder is found without it.
        seed: seed of the sample that the map shows of a large pool (0, *ours*).
    Raises:
        DataError: `run` is not a folder or holds nothing to report on, or `output` holds something else.
    """
    run, output = Path(run), None if output is None else Path(output)
    for module in BUILT_IN:
        importlib.import_module(f"hf_mlalign.report.sections.{module}")
    parts = find_parts(run, source, seed)
    if output is None:  # a run's own folder stays as it is: its content is its identity for commands that read it
        single = any(part.folder == run for part, _ in parts)
        output = run.resolve().with_name(f"{run.resolve().name}-report") if single else run / "report"
    if list_names(output) and not (output / PAGE).is_file():
        raise DataError(f"output: {str(output)!r} holds something other than a report. Name another folder.")
    (output / FIGURES).mkdir(parents=True, exist_ok=True)
    for old in (output / FIGURES).glob("*.png"):
        old.unlink()
    views = [_view(part, problems, f"p{i}", output) for i, (part, problems) in enumerate(parts, 1)]
    text = _render(run.resolve().name, views)
    write_atomic(output / PAGE, text)
    return output / PAGE


def _view(part: ReportedRun, problems: list[str], key: str, output: Path) -> View:
    """The output of all sections for one run folder; a section that fails is named, the others are shown."""
    import matplotlib

    view = View(part, key, command_of(part), problems=list(problems))
    with matplotlib.rc_context(STYLE):
        fitting = [section for section in SECTIONS if section.fits(part)]
        fitting.sort(key=lambda section: not (section.show.__module__ or "").startswith(__package__))  # others' last
        own = [("Results by language", results_per_language)]
        for title, show in own + [(section.title, section.show) for section in fitting]:
            try:
                for block in show(part):
                    _add(view, block, output)
            except Exception as error:  # one damaged file must not cost the reader the rest of the page
                reason = " ".join(str(error).split())[:300]
                kind = "" if isinstance(error, DataError) else f"{type(error).__name__}: "
                view.problems.append(f"“{title}” is missing or incomplete: {kind}{reason}")
    view.problems = [text.replace(str(part.folder), part.name) for text in dict.fromkeys(view.problems)]
    return view


def _add(view: View, block: Block, output: Path) -> None:
    if isinstance(block, Facts):
        view.facts |= block.values
        return
    key = f"{view.key}-{len(view.blocks) + 1}"
    made: dict[str, Any] = {"key": key, "kind": type(block).__name__, "block": block}
    if isinstance(block, Chart):
        made["svg"] = to_svg(block.figure, key)
        folder, words = view.part.name.replace("/", "-"), re.findall("[a-z0-9]+", block.title.lower())
        made["png"] = f"{folder}-{len(view.blocks) + 1}-{'-'.join(words)[:60]}.png"
        save_png(block.figure, output / FIGURES / made["png"])
    if isinstance(block, (Chart, Numbers)):
        made["table"] = shown_table(block.table)
    if isinstance(block, Examples):
        made["groups"] = {f"{language_name(code)} ({code})" if normalise(code) else code: examples
                          for code, examples in block.groups.items()}  # fmt: skip
    view.blocks.append(made)


def _render(name: str, views: list[View]) -> str:
    import jinja2
    from markupsafe import Markup

    def text(value: Any) -> Any:
        """Escape control characters and direction overrides in texts; our own markup stays."""
        return value if not isinstance(value, str) or hasattr(value, "__html__") else printable(value)

    def cut(value: str) -> str:
        return value if len(value) <= TEXT else f"{value[:TEXT]}… ({len(value):,} characters)"

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=True, finalize=text,
                                     trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    names = ("report_script.js.j2", "report_style.css.j2")
    script, style = (Markup(loader.get_source(environment, name)[0]) for name in names)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    for view in views:
        for made in view.blocks:
            made["svg"] = Markup(made["svg"]) if "svg" in made else ""
    page = environment.get_template("report.html.j2").render(
        name=name, views=views, script=script, style=style, script_digest=digest, cut=cut,
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), versions=versions(), settings=settings,
        direction=lambda code: "rtl" if code and is_right_to_left(code) else "auto", figures=FIGURES,
    )  # fmt: skip
    return redacted(page)


def results_per_language(part: ReportedRun) -> Iterator[Block]:
    """Single numbers and the table per language from `run.json`, for commands without sections of their own."""
    import pandas as pd

    if part.record is None or part.record.command in SHOWN_ELSEWHERE:
        return
    results = part.record.results
    facts = {k.replace("_", " "): f"{v:,}" for k, v in results.items()
             if isinstance(v, (int, float)) and not isinstance(v, bool)}  # fmt: skip
    if facts:
        yield Facts(dict(list(facts.items())[:8]))
    rows = results.get("per_language")
    if isinstance(rows, dict):
        rows = [{"language": name, **row} for name, row in rows.items() if isinstance(row, dict)]
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        yield Numbers("Results by language", "As recorded in run.json.", pd.DataFrame(rows))


def find_parts(run: Path, source: Any, seed: int) -> list[tuple[ReportedRun, list[str]]]:
    """The run folders of a report in the order of the work, each with a sentence if its record cannot be read.

    Raises:
        DataError: the folder does not exist or holds nothing to report on.
    """
    if not run.is_dir():
        raise DataError(f"run: no folder {str(run)!r}. Name a run folder, or a folder with several of them.")
    parts = []
    for folder in _folders(run, DEPTH):
        name = folder.relative_to(run).as_posix() if folder != run else run.resolve().name
        try:
            part, problems = ReportedRun(folder, name, read_record(folder), source, seed), []
        except DataError as error:
            part, problems = ReportedRun(folder, name, None, source, seed), [str(error)]
        if part.record is not None or problems or any(section.fits(part) for section in SECTIONS):
            parts.append((part, problems))
    if not parts:
        raise DataError(
            f"run: neither {str(run)!r} nor the folders in it hold a {RECORD}, a training or judgements. Name a folder "
            "that hf-mlalign wrote."
        )
    rank = {command: place for place, command in enumerate(ORDER)}
    return sorted(parts, key=lambda pair: (rank.get(command_of(pair[0]), len(ORDER)), pair[0].name))


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    for path in sorted(folder.iterdir()) if depth else ():
        hidden = path.name.startswith((".", "checkpoint-")) or path.name == "data" or (path / PAGE).is_file()
        if path.is_dir() and not path.is_symlink() and not hidden:
            yield from _folders(path, depth - 1)


def command_of(part: ReportedRun) -> str:
    """The command that wrote a run folder, by its record or else by its files; "" if unknown."""
    if part.record is not None:
        return part.record.command
    return "train" if part.files(*TRAINING) else "judge" if part.files(*JUDGED) else ""

