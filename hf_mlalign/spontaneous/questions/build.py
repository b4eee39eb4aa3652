"""From a file, folder or Hub dataset of parallel questions to a folder of training rows that `load_dataset` opens."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.files import write_atomic
from hf_mlalign.core.options import takes
from hf_mlalign.data.sources import load_source
from hf_mlalign.generation.sampler import load_backend
from hf_mlalign.hub.card import markdown_table, write_card
from hf_mlalign.hub.run_record import Run, RunResult, describe_source
from hf_mlalign.spontaneous.options import BuilderOptions, QuestionsOptions
from hf_mlalign.spontaneous.questions.builder import QuestionResult, QuestionTranslationBuilder
from hf_mlalign.spontaneous.questions.translator import QuestionTranslator

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

FAILURES = "translation_failures.jsonl"
TRANSLATIONS = "translations"


@takes(QuestionsOptions)
def build_questions(
    source: str | Path | Dataset, output: str | Path = "questions", *, options: QuestionsOptions
) -> RunResult:
    """Turn parallel questions into prompt/completion rows that teach a model to translate them, without answers.

    Writes `data/<split>.parquet`, `README.md` (a card, with which `load_dataset(output)` finds the splits) and
    `run.json` (options, counts by language and reason, versions). If it is finished, the same call reads it back. A
    translator without its own folder keeps its translations in `translations/`: what a killed run has translated is
    not translated again. Its failures are in `translation_failures.jsonl`.

    Args:
        source: a local file or folder, a Hub dataset, or a `Dataset`; see `hf_mlalign.data.sources.load_source`.
        output: folder to write.
    Returns:
        The `DatasetDict` of the splits; `result` is a `QuestionResult`, or `None` where the rows were found finished.
    Raises:
        DataError: bad input or options, or `output` holds something else, or rows built with other options.
    """
    import datasets

    translator = options.translator
    if translator is None and options.base_url:
        raise DataError("--base-url (base_url): name the model that the server serves with --translator.")
    if isinstance(translator, str):
        model = load_backend(translator, options.base_url) if options.base_url else translator
        translator = QuestionTranslator(model, kind=options.translator_kind, max_tokens=options.max_tokens,
                                        batch_size=options.batch_size, device=options.device)  # fmt: skip
    builder = QuestionTranslationBuilder(options=replace(BuilderOptions.part_of(options), translator=translator))
    which = describe_source(source, split=options.split, config=options.config_name)
    run = Run(output, "questions", builder.parameters(), which, overwrite=options.overwrite, own=(TRANSLATIONS,),
              defaults=QuestionsOptions.defaults())  # fmt: skip
    if run.is_finished:
        return RunResult(datasets.load_dataset(str(run.folder)), run.folder, run.found, fresh=False)
    ds = load_source(source, options.split, options.config_name)
    kept = isinstance(translator, QuestionTranslator)
    if kept and translator.output is None:
        translator.output = run.folder / TRANSLATIONS
    with ExitStack() as stack:
        if kept:  # translations are kept in the folder as soon as they are there
            stack.enter_context(run.open())
        built = run.timed("build", builder.build, ds)
        if not kept:
            stack.enter_context(run.open())
        splits = built if isinstance(built, datasets.DatasetDict) else datasets.DatasetDict(train=built)
        result = builder.result_
        notes = list(result.notes)
        if kept:
            failures = translator.failures().to_json(orient="records", lines=True, force_ascii=False)
            write_atomic(run.folder / FAILURES, failures)
            if failed := len(translator.failures_):
                notes.append(f"{failed:,} translation{'s' * (failed > 1)} failed; see {FAILURES}.")
        _save(run, splits, result)
        run.finish(run.record.results, notes)
    return RunResult(splits, run.folder, run.record, result)


def _save(run: Run, splits: DatasetDict, result: QuestionResult) -> None:
    """Write the rows of every split, and the card."""
    data = run.folder / "data"
    data.mkdir(exist_ok=True)
    for old in data.glob("*.parquet"):
        old.unlink()
    for name, part in splits.items():
        part.to_parquet(str(data / f"{name}.parquet"))
    sizes = {name: len(part) for name, part in splits.items()}
    table = result.per_language().to_dict("records")
    by_language = {row["language"]: {key: row[key] for key in row if key != "language"} for row in table}
    run.record.results = {"rows": sizes, "per_language": by_language, "summary": result.summary()}
    languages = [code for code, row in by_language.items() if row["rows"] and code != "all"]
    files = [{"split": name, "path": f"data/{name}.parquet"} for name in sizes]
    write_card(
        run.folder, "questions_card.md.j2", run.record, QuestionsOptions, rows=sum(sizes.values()),
        languages=sorted({"en", *languages}), tags=["question-translation", "sft", "trl", "multilingual"],
        configs=[{"config_name": "default", "data_files": files}], metadata={"task_categories": ["translation"]},
        summary=result.summary(), table=markdown_table(table, {key: key.replace("_", " ") for key in table[0]}),
    )  # fmt: skip
