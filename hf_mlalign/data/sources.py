"""Open what a user names: a local file, a folder, or a dataset of the Hub."""

from __future__ import annotations

import glob
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import MOST_FILES, content_digest
from hf_mlalign.data.file_checks import check_file, check_inside, check_texts, no_rows

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
_EMPTY = (
    "StopIteration", "EmptyDataError", "SchemaInferenceError", "BatchSize must be greater than 0",
    "corresponds to no data", "EmptyDatasetError",
)  # fmt: skip
"""How the libraries say that there are no rows."""


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
    return _checked(_one_split(_load(source, split, config), split), source)


def _checked(ds: Dataset, source: str | Path) -> Dataset:
    """`ds` with texts of one Arrow type; DataError for one without rows or with damaged values."""
    from datasets import Value

    if not len(ds):
        raise DataError(no_rows(source))
    check_texts(ds.data, source)
    for name, feature in ds.features.items():
        if isinstance(feature, Value) and feature.dtype == "string_view":
            ds = ds.cast_column(name, Value("large_string"))
    return ds


def _load(source: str | Path, split: str | None, config: str | None):
    import datasets

    path = Path(source)
    _check(path)
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
        raise DataError(_unreadable(source, error)) from error
    raise DataError(f"source: no file or folder {str(source)!r}, and it is no Hub dataset id (user/name).")


def _check(path: Path) -> None:
    """DataError where the path is a file, a pattern or a folder with a file that cannot be read safely."""
    if not os.path.lexists(path):
        found = glob.iglob(str(path), recursive=True) if glob.has_magic(str(path)) else ()
        files = [Path(file) for file in itertools.islice(found, MOST_FILES + 1)]
    elif path.is_symlink() and not path.exists():
        raise DataError(f"source: {str(path)!r} is a link that leads nowhere. Mend it or name the file itself.")
    elif path.is_dir():
        check_inside(path)
        found = list(itertools.islice(path.rglob("*"), MOST_FILES + 1))
        files = [file for file in sorted(found) if not _hidden(file.relative_to(path))]
    else:
        files = [path]
    if len(files) > MOST_FILES:
        raise DataError(f"source: {str(path)!r} holds more than {MOST_FILES:,} files. Name the folder of the data.")
    for file in files:
        kind = _kind(file)
        if not file.is_dir() and (kind or file == path):
            check_file(file, kind or "")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _kind(path: Path) -> str | None:
    """What a file is by its ending, without that of a compression; `None` for others."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
    return FILE_TYPES.get(suffixes[-1]) if suffixes else None


def _slice(split: str | None) -> str | None:
    return split if split and "[" in split else None


def load_splits(source: str | Path, config: str | None = None) -> Dataset | DatasetDict:
    """All splits of a source: a `DatasetDict` where there are several, else a `Dataset`. Arguments and errors as
    `load_source`."""
    loaded = _load(source, None, config)
    if not isinstance(loaded, dict):
        return _checked(loaded, source)
    splits = {name: _checked(ds, source) if len(ds) else ds for name, ds in loaded.items()}
    return next(iter(splits.values())) if len(splits) == 1 else type(loaded)(splits)


def _load_files(source: str, split: str | None):
    import datasets

    kind = _kind(Path(source))
    if kind is None:
        raise DataError(f"source: {source!r} has no known ending. Known: {listed(FILE_TYPES)}, also compressed.")
    options = {"sep": "\t"} if ".tsv" in map(str.lower, Path(source).suffixes) else {}
    return datasets.load_dataset(kind, data_files=source, split=split or "train", **options)


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


def _unreadable(source: str | Path, error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    if any(words in text for words in _EMPTY):
        return f"{no_rows(source)[:-1]} that can be read (cannot read it: {text})."
    remedy = " Is every file whole, in UTF-8, and what its ending says?" if Path(source).exists() else ""
    if "surrogate" in text:
        remedy = r" A lone surrogate (\ud800 to \udfff) is no text; replace it by \ufffd."
    return f"source: cannot read {str(source)!r}: {text.rstrip('.')}.{remedy}"
