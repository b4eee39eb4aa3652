"""From a file, folder or Hub dataset of samples to a folder of preference pairs that `load_dataset` opens."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder
from hf_mlalign.cmalign.options import BuildPairsOptions, PairOptions
from hf_mlalign.core.files import commit
from hf_mlalign.core.options import takes
from hf_mlalign.data.sources import load_source
from hf_mlalign.hub.card import markdown_table, write_card
from hf_mlalign.hub.run_record import Run, RunRecord, RunResult, describe_source

if TYPE_CHECKING:
    from datasets import Dataset

WORK = ".work"
"""Folder for vectors and scores of models while a run is not finished."""


@takes(BuildPairsOptions)
def build_pairs(source: str | Path | Dataset, output: str | Path = "pairs", *, options: BuildPairsOptions) -> RunResult:
    """Build preference pairs from samples and save them.

    `output` gets `data/<split>/<language>.parquet`, `README.md` (the card, which also tells `load_dataset(output)` the
    splits and languages) and `run.json` (options, counts per language and filter, versions). If it is finished, the
    same call reads it back. After a kill, the same call continues where it stopped: vectors and scores of models are
    kept in `output`/.work until the pairs are saved.

    Args:
        source: a file, folder, glob or Hub dataset (see `hf_mlalign.data.sources.load_source`), or a `Dataset`; rows as
            `CMAlignPreferenceBuilder.build` takes them.
        output: folder to write.
    Returns:
        `RunResult`: `dataset` a `DatasetDict` with the split "train", and "test" where test_size is above 0; `result`
        the `PairResult`.
    Raises:
        DataError: unusable rows or options, `output` holds something else, or pairs built with other options.
    """
    import datasets

    if options.report_to:
        from hf_mlalign.hub.trackers import check_trackers, report_run

        check_trackers(options.report_to)
    builder = CMAlignPreferenceBuilder(options=PairOptions.part_of(options))
    which = describe_source(source, split=options.split, config=options.config_name)
    run = Run(output, options.job, builder.parameters, which, overwrite=options.overwrite, own=[WORK],
              defaults=BuildPairsOptions.defaults())  # fmt: skip
    if run.is_finished:
        run.drop(WORK)
        pairs = datasets.load_dataset(str(run.folder), "default")
        return RunResult(pairs, run.folder, run.found, fresh=False)
    ds = load_source(source, options.split, options.config_name) if isinstance(source, (str, Path)) else source
    with run.open():
        builder.keep_in(run.folder / WORK)
        built = run.timed("build", builder.build, ds)
        pairs = built if isinstance(built, datasets.DatasetDict) else datasets.DatasetDict(train=built)
        partial = run.folder / WORK / "data"
        shutil.rmtree(partial, ignore_errors=True)
        for name, part in pairs.items():
            codes = part["language"]
            for language in sorted(set(codes)):
                path = partial / name / f"{language}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                part.select([row for row, code in enumerate(codes) if code == language]).to_parquet(str(path))
        shutil.rmtree(run.folder / "data", ignore_errors=True)
        commit(partial, run.folder / "data")
        result = builder.result_
        run.record.results = {
            "pairs": {name: len(part) for name, part in pairs.items()},
            "languages": sorted({code for part in pairs.values() for code in part.unique("language")}),
            "per_language": result.table(), "summary": result.summary(),
        }  # fmt: skip
        _write_card(run.folder, run.record)
        run.finish(run.record.results, result.notes)
        shutil.rmtree(run.folder / WORK, ignore_errors=True)
    if options.report_to:
        report_run(run.record, options.report_to, run.folder)
    return RunResult(pairs, run.folder, run.record, result)


def _write_card(folder: Path, record: RunRecord) -> None:
    results = record.results
    splits, languages = results["pairs"], results["languages"]

    def files(language: str) -> list[dict[str, str]]:
        return [{"split": name, "path": f"data/{name}/{language}.parquet"} for name in splits]

    configs = [{"config_name": "default", "data_files": files("*")}]
    if len(languages) > 1:
        configs += [{"config_name": code, "data_files": files(code)} for code in languages]
    rows = [{"language": code, **row} for code, row in results["per_language"].items()]
    write_card(
        folder, "pairs_card.md.j2", record, PairOptions, rows=sum(splits.values()), languages=languages,
        tags=["preference", "dpo", "trl", "multilingual", "cm-align"], configs=configs,
        metadata={"task_categories": ["text-generation"]}, repo_id=None,
        table=markdown_table(rows, {key: key.replace("_", " ") for key in rows[0]}),
    )  # fmt: skip
