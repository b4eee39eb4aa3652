"""From a file, folder or Hub dataset of samples to a folder of preference pairs that `load_dataset` opens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign._version import versions
from hf_mlalign.cmalign.builder import CMAlignPreferenceBuilder
from hf_mlalign.cmalign.result import PairResult
from hf_mlalign.core.files import commit, write_atomic
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
from hf_mlalign.hub.trackers import check_trackers, report_run

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

WORK = ".work"
"""Vectors and scores of models of a run that is not finished."""
ORIGINS = {"policy": "paper", "include_english": "paper"}


@dataclass
class BuiltPairs:
    """Pairs that were saved: the splits, the run's record with its counts, and the folder they are in.

    `result` is there when the pairs were built by this call, not when they were found finished.
    """

    pairs: DatasetDict
    record: RunRecord
    folder: Path
    result: PairResult | None = None


def build_pairs_from_source(
    source: str | Path | Dataset,
    output: str | Path,
    *,
    split: str | None = None,
    config: str | None = None,
    overwrite: bool = False,
    report_to: str | Sequence[str] | None = None,
    **options: Any,
) -> BuiltPairs:
    """Build pairs and save them: `data/<split>/<language>.parquet`, `README.md` (a card, and what makes
    `load_dataset(output)` find splits and languages) and `run.json` (settings, counts by language and guard, versions).

    The same call again reads what is there. After a kill it goes on: vectors and scores of models are kept in
    `output`/.work until the pairs are saved.

    Args:
        source: see `hf_mlalign.data.sources.load_source`; or a `Dataset`.
        output: folder to write.
        split, config: which part of the source.
        overwrite: replace pairs that are in `output` already.
        report_to: see `hf_mlalign.hub.trackers.report_run`.
        **options: of `CMAlignPreferenceBuilder`.
    Raises:
        DataError: bad input or options, or `output` holds something else, or pairs built with other options.
    """
    import datasets

    from hf_mlalign.data.sources import load_source

    check_trackers(report_to)
    builder = CMAlignPreferenceBuilder(**options)
    which = describe_source(source, split=split, config=config)
    run = Run(output, "build-pairs", builder.options, which, overwrite=overwrite, own=[WORK])
    if run.is_finished:
        run.drop(WORK)
        return BuiltPairs(datasets.load_dataset(str(run.folder), "default"), run.found, run.folder)
    ds = load_source(source, split, config) if isinstance(source, (str, Path)) else source
    with run.open():
        builder.keep_in(run.folder / WORK)
        built = run.timed("build", builder.build, ds)
        pairs = built if isinstance(built, datasets.DatasetDict) else datasets.DatasetDict(train=built)
        _save(run.folder, pairs)
        result = builder.result_
        counts = {"pairs": {name: len(part) for name, part in pairs.items()}, "languages": _languages(pairs)}
        run.record.results = {**counts, "per_language": result.table(), "summary": result.summary()}
        write_atomic(run.folder / "README.md", _card(run.folder, run.record))
        run.finish(run.record.results, result.notes)
        shutil.rmtree(run.folder / WORK, ignore_errors=True)
    report_run(run.record, report_to, run.folder)
    return BuiltPairs(pairs, run.record, run.folder, result)


def _save(folder: Path, pairs: DatasetDict) -> None:
    partial = folder / WORK / "data"
    shutil.rmtree(partial, ignore_errors=True)
    for name, part in pairs.items():
        languages = part["language"]
        for language in sorted(set(languages)):
            path = partial / name / f"{language}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            part.select([row for row, code in enumerate(languages) if code == language]).to_parquet(str(path))
    shutil.rmtree(folder / "data", ignore_errors=True)
    commit(partial, folder / "data")


def _languages(pairs: DatasetDict) -> list[str]:
    return sorted({code for part in pairs.values() for code in part["language"]})


def _card(folder: Path, record: RunRecord) -> str:
    results, options = record.results, record.parameters
    languages, total = results["languages"], sum(results["pairs"].values())
    configs = [{"config_name": "default", "data_files": _files(results["pairs"], "*")}]
    if len(languages) > 1:
        configs += [{"config_name": code, "data_files": _files(results["pairs"], code)} for code in languages]
    metadata = {
        "language": languages, **provenance(record.source), "task_categories": ["text-generation"],
        "size_categories": [size_category(total)],
        "tags": ["preference", "dpo", "trl", "multilingual", "hf_mlalign", "cm-align"],
        "configs": data_configs(folder, configs),
    }  # fmt: skip
    defaults = defaults_of(CMAlignPreferenceBuilder)
    rows = [{"language": code, **row} for code, row in results["per_language"].items()]
    return render_card(
        "pairs_card.md.j2", metadata, title=f"Preference pairs: {', '.join(languages)}", pairs=total,
        languages=languages, policy=options["policy"], repo_id=None, summary=results["summary"],
        table=markdown_table(rows, {key: key.replace("_", " ") for key in rows[0]}),
        parameters=parameter_table(options, {**defaults, "reward_options": {}}, ORIGINS),
        source=source_text(record.source), versions=versions(),
    )  # fmt: skip


def _files(splits: dict[str, int], language: str) -> list[dict[str, str]]:
    return [{"split": name, "path": f"data/{name}/{language}.parquet"} for name in splits]
