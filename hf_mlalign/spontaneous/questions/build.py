"""From a file, folder or Hub dataset of parallel questions to a folder of training rows that `load_dataset` opens."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign._version import versions
from hf_mlalign.core.files import write_atomic
from hf_mlalign.data.sources import load_source
from hf_mlalign.hub.card import (
    data_configs,
    defaults_of,
    markdown_table,
    parameter_table,
    provenance,
    render_card,
    size_category,
    source_text,
)
from hf_mlalign.hub.run_record import Run, RunRecord, describe_source
from hf_mlalign.spontaneous.questions.builder import QuestionTranslationBuilder
from hf_mlalign.spontaneous.questions.result import QuestionResult
from hf_mlalign.spontaneous.questions.translator import QuestionTranslator

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

FAILURES = "translation_failures.jsonl"
TRANSLATIONS = "translations"
ORIGINS = dict.fromkeys(
    ("direction", "n_per_language", "template", "instruction_language", "seed", "strip_pattern"), "authors' script"
)


@dataclass
class BuiltQuestions:
    """Rows that were saved: the splits, the run's record with its counts, and the folder they are in.

    `result` is there when the rows were built by this call, not when they were found finished.
    """

    rows: DatasetDict
    record: RunRecord
    folder: Path
    result: QuestionResult | None = None


def build_questions_from_source(
    source: str | Path | Dataset,
    output: str | Path,
    *,
    split: str | None = None,
    config: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> BuiltQuestions:
    """Build question-translation rows and save them: `data/<split>.parquet`, `README.md` (a card, and what makes
    `load_dataset(output)` find the splits) and `run.json` (settings, counts by language and reason, versions).

    The same call again reads what is there. A `QuestionTranslator` without a folder of its own keeps its translations
    in `translations/`: what a killed run has translated is not translated again. Its failures are in
    `translation_failures.jsonl`.

    Args:
        source: see `hf_mlalign.data.sources.load_source`; or a `Dataset`.
        output: folder to write.
        split, config: which part of the source.
        overwrite: replace rows that are in `output` already (translations are kept).
        **options: of `QuestionTranslationBuilder`.
    Raises:
        DataError: bad input or options, or `output` holds something else, or rows built with other options.
    """
    import datasets

    builder = QuestionTranslationBuilder(**options)
    which = describe_source(source, split=split, config=config)
    run = Run(output, "questions", builder.options, which, overwrite=overwrite, own=(TRANSLATIONS,))
    if run.is_finished:
        return BuiltQuestions(datasets.load_dataset(str(run.folder)), run.found, run.folder)
    ds = load_source(source, split, config) if isinstance(source, (str, Path)) else source
    translator = builder.translator if isinstance(builder.translator, QuestionTranslator) else None
    if translator is not None and translator.output is None:
        translator.output = run.folder / TRANSLATIONS
    with ExitStack() as stack:
        if translator is not None:  # translations are kept in the folder as soon as they are there
            stack.enter_context(run.open())
        built = run.timed("build", builder.build, ds)
        if translator is None:
            stack.enter_context(run.open())
        rows = built if isinstance(built, datasets.DatasetDict) else datasets.DatasetDict(train=built)
        _save(run, rows, builder.result_)
        if translator is not None:
            failures = translator.failures().to_json(orient="records", lines=True, force_ascii=False)
            write_atomic(run.folder / FAILURES, failures)
        run.finish(run.record.results, builder.result_.notes)
    return BuiltQuestions(rows, run.record, run.folder, builder.result_)


def _save(run: Run, rows: DatasetDict, result: QuestionResult) -> None:
    data = run.folder / "data"
    data.mkdir(exist_ok=True)
    for old in data.glob("*.parquet"):
        old.unlink()
    for name, part in rows.items():
        part.to_parquet(str(data / f"{name}.parquet"))
    sizes = {name: len(part) for name, part in rows.items()}
    run.record.results = {"rows": sizes, "per_language": result.table(), "summary": result.summary()}
    write_atomic(run.folder / "README.md", _card(run.folder, run.record))


def _card(folder: Path, record: RunRecord) -> str:
    results = record.results
    kept = [code for code, row in results["per_language"].items() if row["rows"] and code != "all"]
    total = sum(results["rows"].values())
    files = [{"split": name, "path": f"data/{name}.parquet"} for name in results["rows"]]
    metadata = {
        "language": sorted({"en", *kept}), **provenance(record.source), "task_categories": ["translation"],
        "size_categories": [size_category(total)],
        "tags": ["question-translation", "sft", "trl", "multilingual", "hf_mlalign"],
        "configs": data_configs(folder, [{"config_name": "default", "data_files": files}]),
    }  # fmt: skip
    defaults = defaults_of(QuestionTranslationBuilder)
    table = [{"language": code, **row} for code, row in results["per_language"].items()]
    return render_card(
        "questions_card.md.j2", metadata, languages=kept, rows=total, summary=results["summary"],
        table=markdown_table(table, {key: key.replace("_", " ") for key in table[0]}),
        parameters=parameter_table(record.parameters, defaults, ORIGINS),
        source=source_text(record.source), versions=versions(),
    )  # fmt: skip
