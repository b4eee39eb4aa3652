"""Open what a user names: a local file, a folder, or a dataset of the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_mlalign.errors import DataError, listed
from hf_mlalign.files import content_digest

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

FILE_TYPES = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".arrow": "arrow",
}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def load_source(source: str | Path, split: str | None = None, config: str | None = None) -> Dataset:
    """One split of a dataset.

    Args:
        source: a Parquet, JSON Lines, JSON, CSV, TSV or Arrow file (also compressed), a glob pattern of such files, a
            folder (of `save_to_disk`, or of data files as `load_dataset` opens them), or a Hub dataset "user/name".
        split: which split (default: "train", or the only one there is; `train[:1000]` works too).
        config: configuration of a Hub dataset or folder.
    Raises:
        DataError: nothing is there, it cannot be read (the file is named), or the split must be chosen.
    """
    return _one_split(_load(source, split, config), split)


def _load(source: str | Path, split: str | None, config: str | None):
    import datasets

    path = Path(source)
    try:
        if path.is_dir() and ((path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()):
            return datasets.load_from_disk(str(path))
        elif path.is_file() or any(ch in str(source) for ch in "*?["):
            return _load_files(str(source), split)
        elif path.is_dir():
            # the description keeps folders of one name apart in the cache, see cards.data_configs
            return datasets.load_dataset(
                str(source), config, split=_slice(split), description=f"content {content_digest(path)}"
            )
        elif _looks_like_repo(str(source)):
            return datasets.load_dataset(str(source), config, split=_slice(split))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"source: cannot read {str(source)!r}: {_reason(error)}") from error
    raise DataError(f"source: no file or folder {str(source)!r}, and it is no Hub dataset id (user/name).")


def _slice(split: str | None) -> str | None:
    return split if split and "[" in split else None


def load_splits(source: str | Path, config: str | None = None) -> Dataset | DatasetDict:
    """All splits of a source: a `DatasetDict` where there are several, else a `Dataset`. Arguments and errors as
    `load_source`."""
    loaded = _load(source, None, config)
    return next(iter(loaded.values())) if isinstance(loaded, dict) and len(loaded) == 1 else loaded


def _load_files(source: str, split: str | None):
    import datasets

    suffixes = [s for s in Path(source).suffixes if s not in _COMPRESSED]
    suffix = suffixes[-1].lower() if suffixes else ""
    if suffix not in FILE_TYPES:
        raise DataError(f"source: {source!r} has no known ending. Known: {listed(FILE_TYPES)}, also compressed.")
    options = {"sep": "\t"} if suffix == ".tsv" else {}
    return datasets.load_dataset(FILE_TYPES[suffix], data_files=source, split=split or "train", **options)


def _looks_like_repo(source: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if Path(source).suffix in FILE_TYPES or source.startswith((".", "/", "~")):
        return False
    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def _one_split(loaded, split: str | None) -> Dataset:
    import datasets

    if split and "[" in split and loaded.__class__ is not datasets.Dataset:
        raise DataError(f"split: {split!r} cannot be sliced here. Name a whole split: {listed(loaded)}.")
    if not isinstance(loaded, datasets.DatasetDict):
        if split and loaded.split is None and split != "train":
            raise DataError(f"split: {split!r} asked for, but this is one Dataset without splits. Leave --split out.")
        return loaded
    wanted = split or ("train" if "train" in loaded else next(iter(loaded)) if len(loaded) == 1 else None)
    if wanted is None or wanted not in loaded:
        raise DataError(f"split: {'choose one' if split is None else f'no {split!r}'}. Splits found: {listed(loaded)}.")
    return loaded[wanted]


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:400]}"
