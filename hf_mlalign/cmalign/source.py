"""From a file, folder or Hub dataset of samples to a folder of preference pairs that `load_dataset` opens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.cmalign.pairs import CMAlignPreferenceBuilder
from hf_mlalign.cmalign.result import PairResult
from hf_mlalign.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

RECORD = "pairs.json"


@dataclass
class BuiltPairs:
    """Pairs that were saved: the splits, the result with its counts, and the folder they are in."""

    pairs: DatasetDict
    result: PairResult
    folder: Path


def build_pairs_from_source(
    source: str | Path | Dataset,
    output: str | Path,
    *,
    split: str | None = None,
    config: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> BuiltPairs:
    """Build pairs and save them: `data/<split>.parquet`, `README.md` (so that `load_dataset(output)` finds the splits)
    and `pairs.json` (settings, counts by language and guard, versions).

    Args:
        source: see `hf_mlalign.sources.load_source`; or a `Dataset`.
        output: folder to write.
        split, config: which part of the source.
        overwrite: replace pairs that are in `output` already.
        **options: of `CMAlignPreferenceBuilder`.
    Raises:
        DataError: bad input or options, or `output` holds something.
    """
    from datasets import DatasetDict

    from hf_mlalign.sources import load_source

    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (
        overwrite and (folder / RECORD).is_file()
    ):  # fmt: skip
        raise DataError(f"output: {str(folder)!r} is not empty. Name a new folder, or overwrite pairs built before.")
    builder = CMAlignPreferenceBuilder(**options)
    ds = load_source(source, split, config) if isinstance(source, (str, Path)) else source
    built = builder.build(ds)
    pairs = built if isinstance(built, DatasetDict) else DatasetDict(train=built)
    _save(folder, pairs, builder.result_, str(source) if isinstance(source, (str, Path)) else "a Dataset in memory")
    return BuiltPairs(pairs, builder.result_, folder)


def _save(folder: Path, pairs: DatasetDict, result: PairResult, source: str) -> None:
    """The record goes first: it marks what an interrupted run leaves as something that may be overwritten."""
    import yaml

    from hf_mlalign._version import versions

    folder.mkdir(parents=True, exist_ok=True)
    record = {"source": source, "pairs": {name: len(part) for name, part in pairs.items()}, **result.record(),
              "versions": versions()}  # fmt: skip
    (folder / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / "data").mkdir(exist_ok=True)
    for old in (folder / "data").glob("*.parquet"):
        old.unlink()
    for name, part in pairs.items():
        part.to_parquet(str(folder / "data" / f"{name}.parquet"))
    files = [{"split": name, "path": f"data/{name}.parquet"} for name in pairs]
    languages = sorted(
        {result.samples.languages[code] for code in set(result.samples.language[result.chosen].tolist())}
    )
    block = {"language": languages, "tags": ["preference", "dpo", "hf_mlalign"],
             "configs": [{"config_name": "default", "data_files": files}]}  # fmt: skip
    header = yaml.safe_dump(block, sort_keys=False, allow_unicode=True)
    (folder / "README.md").write_text(f"---\n{header}---\n\n# Preference pairs\n\n{result.summary()}\n", "utf-8")
