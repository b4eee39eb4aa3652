"""Opens a source: a local file, a folder, or a dataset on the Hub."""

from __future__ import annotations

import glob
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import MOST_FILES, content_digest
from hf_mlalign.data.file_checks import (
    DELIMITERS,
    check_file,
    check_inside,
    check_values,
    csv_delimiter,
    no_rows,
    shortened,
)

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
"""Messages with which the libraries report that there are no rows."""


def load_source(source: str | Path | Dataset, split: str | None = None, config_name: str | None = None) -> Dataset:
    """One split of a dataset.

    Args:
        source: a Parquet, JSON Lines, JSON, CSV, TSV or Arrow file (also compressed), a glob pattern for such files, a
            folder (of `save_to_disk`, or of data files as `load_dataset` opens them), or a Hub dataset "user/name". The
            fields of a CSV file may be separated by commas, semicolons, tabs or vertical bars. A `Dataset` is returned
            unchanged.
        split: name of the split (default: "train", or the only split; `train[:1000]` works too).
        config_name: configuration of a Hub dataset or folder.
    Raises:
        DataError: the source does not exist, cannot be read (the file is named), or has several splits to choose from.
    """
    if not isinstance(source, (str, Path)):
        return source
    loaded = _load(source, split, config_name)
    if isinstance(loaded, dict):
        if split and "[" in split:
            raise DataError(f"split: {split!r} cannot be sliced here. Name a whole split: {listed(loaded)}.")
        wanted = split or ("train" if "train" in loaded else next(iter(loaded)) if len(loaded) == 1 else None)
        if wanted not in loaded:
            problem = "choose one" if split is None else f"no {split!r}"
            raise DataError(f"split: {problem}. Splits found: {listed(loaded)}.")
        loaded = loaded[wanted]
    elif split and loaded.split is None and split != "train":
        raise DataError(f"split: {split!r} asked for, but this is one Dataset without splits. Leave --split out.")
    return _checked(loaded, source)


def load_splits(source: str | Path, config_name: str | None = None) -> Dataset | DatasetDict:
    """All splits of a source: a `DatasetDict` if there are several, otherwise a `Dataset`.

    Arguments and errors are those of `load_source`.
    """
    loaded = _load(source, None, config_name)
    if not isinstance(loaded, dict):
        return _checked(loaded, source)
    splits = {name: _checked(ds, source) if len(ds) else ds for name, ds in loaded.items()}
    return next(iter(splits.values())) if len(splits) == 1 else type(loaded)(splits)


def _checked(ds: Dataset, source: str | Path) -> Dataset:
    """`ds` with one Arrow type for all texts; DataError if it has no rows or damaged values."""
    from datasets import Value

    if not len(ds):
        raise DataError(no_rows(source))
    check_values(ds.data, source)
    for name, feature in ds.features.items():
        if isinstance(feature, Value) and feature.dtype == "string_view":
            ds = ds.cast_column(name, Value("large_string"))
    return ds


def _load(source: str | Path, split: str | None, config_name: str | None) -> Dataset | DatasetDict:
    import datasets

    path, name = Path(source), str(source)
    files = _data_files(path)
    part = split if split and "[" in split else None
    try:
        if path.is_dir() and ((path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()):
            return datasets.load_from_disk(name)
        if path.is_file() or glob.has_magic(name):
            kind = _kind(path)
            if kind is None:
                raise DataError(f"source: {name!r} has no known ending. Known: {listed(FILE_TYPES)}, also compressed.")
            return datasets.load_dataset(kind, data_files=name, split=split or "train", **_csv_options(files))
        if path.is_dir():
            # the description separates folders of the same name in the cache, see hub.card
            described = f"content {content_digest(path)}"
            options = _csv_options(files) if all(file.suffix.lower() != ".tsv" for file in files) else {}
            return datasets.load_dataset(name, config_name, split=part, description=described, **options)
        if _looks_like_repo(name):
            return datasets.load_dataset(name, config_name, split=part)
    except DataError:
        raise
    except Exception as error:
        raise DataError(_unreadable(source, error)) from error
    raise DataError(f"source: no file or folder {name!r}, and a Hub dataset is called user/name.")


def _data_files(path: Path) -> list[Path]:
    """The data files of a file, a pattern or a folder; DataError if one of them cannot be read safely."""
    if not os.path.lexists(path):
        found = glob.iglob(str(path), recursive=True) if glob.has_magic(str(path)) else ()
        files = [Path(file) for file in itertools.islice(found, MOST_FILES + 1)]
    elif path.is_symlink() and not path.exists():
        raise DataError(f"source: {str(path)!r} is a link that leads nowhere. Correct it or name the file itself.")
    elif path.is_dir():
        check_inside(path)
        files = list(itertools.islice(path.rglob("*"), MOST_FILES + 1))
    else:
        files = [path]
    if len(files) > MOST_FILES:
        raise DataError(f"source: {str(path)!r} holds more than {MOST_FILES:,} files. Name the folder of the data.")
    if path.is_dir():
        hidden = (any(part.startswith(".") for part in file.relative_to(path).parts) for file in files)
        files = sorted(file for file, is_hidden in zip(files, hidden, strict=True) if not is_hidden)
    files = [file for file in files if not file.is_dir() and (_kind(file) or file == path)]
    for file in files:
        check_file(file, _kind(file) or "")
    return files


def _kind(path: Path) -> str | None:
    """The file type by the ending, without that of a compression; `None` if it is unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
    return FILE_TYPES.get(suffixes[-1]) if suffixes else None


def _csv_options(files: Sequence[Path]) -> dict[str, Any]:
    """Options of the CSV reader, if all files are CSV; DataError if their delimiters differ."""
    if not files or any(_kind(file) != "csv" for file in files):
        return {}
    found = {file: csv_delimiter(file) for file in files}
    first, delimiter = next(iter(found.items()))
    other = next((file for file, one in found.items() if one != delimiter), None)
    if other is not None:
        raise DataError(
            f"source: {str(first)!r} has {DELIMITERS[delimiter]} between its columns, but {str(other)!r} has "
            f"{DELIMITERS[found[other]]}. Name one of them, or save both alike."
        )
    if delimiter == ",":
        return {}
    if not any(".tsv" in file.name.lower() for file in files):
        logging.getLogger(__name__).warning("%s: read with %s between the columns.", first, DELIMITERS[delimiter])
    return {"sep": delimiter}


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


def _unreadable(source: str | Path, error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}: {shortened(error)}"
    if any(words in text for words in _EMPTY):
        return f"{no_rows(source)[:-1]} that can be read (cannot read it: {text})."
    remedy = ""
    if Path(source).exists():
        remedy = " Check that every file is complete, in UTF-8, and in the format of its ending."
    if "surrogate" in text:
        remedy = r" Half of a surrogate pair (\ud800 to \udfff) is not a character; replace it by \ufffd."
    return f"source: cannot read {str(source)!r}: {text.rstrip('.')}.{remedy}"
