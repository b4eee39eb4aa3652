"""Upload finished folders to the Hub, load the data back and compare."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import lock
from hf_mlalign.core.options import PushOptions, takes
from hf_mlalign.hub.repository import hub_errors, upload
from hf_mlalign.hub.run_record import RECORD, read_record

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = (".*", "*/.*", "scores.parquet", "answers.jsonl", "*.lock", "training_args.bin", "checkpoint-*/*")
"""Working files that are not uploaded: locks, raw logs, the scores of rows that were not selected."""
SIGNS = {
    "adapter_config.json": "adapter",
    "modules.json": "encoder",
    "config.json": "model",
}
"""File that identifies a model folder → its kind, in order of precedence."""
QSM = "hf_mlalign_quality_head"
HASH_ROWS = 1000


@dataclass(frozen=True)
class Pushed:
    """What was uploaded.

    Attributes:
        repo_id, repo_type, address: the repository.
        kind: "curate", "build-pairs", … for a run folder; "adapter", "encoder", "qsm" or "model".
        verified: configuration/split → content hash, equal in the folder and on the Hub; empty for models.
    """

    repo_id: str
    repo_type: str
    address: str
    kind: str
    verified: dict[str, str] = field(default_factory=dict)


@takes(PushOptions)
def push(folder: str | Path, repo_id: str, *, token: str | None = None, options: PushOptions) -> Pushed:
    """Upload what a command or a training wrote.

    A folder with `run.json` and Parquet files becomes a dataset repository with one configuration per language; a
    folder with an adapter, a sentence-transformers encoder, a Quality Scoring Model or a model becomes a model
    repository. The card of an existing repository keeps its own text. If an upload breaks, the same call resumes it.

    Args:
        folder: what to upload.
        repo_id: user/name.
        token: Hub token; default: the saved one.
    Raises:
        DataError: there is nothing to upload, the run is unfinished, another process is writing to the folder, the
            upload failed, or the data on the Hub differ.
    """
    folder = Path(folder)
    kind_of(folder)
    ours = (folder / RECORD).is_file() and os.access(folder, os.W_OK)
    with lock(folder) if ours else nullcontext():  # a lock would change the content of a model's folder
        kind = kind_of(folder)
        is_data = (folder / RECORD).is_file() and _has_data(folder)
        repo_type = "dataset" if is_data else "model"
        address = upload(
            folder, repo_id, repo_type, private=options.private, token=token, license=options.license,
            ignore_patterns=IGNORED, delete_patterns=["data/*"] if is_data else (),
        )  # fmt: skip
        verified = verify_upload(folder, repo_id, token=token) if is_data and options.verify else {}
        if options.collection:
            add_to_collection(options.collection, repo_id, repo_type, private=options.private, token=token)
        return Pushed(repo_id, repo_type, address, kind, verified)


def kind_of(folder: Path) -> str:
    """The kind of a folder, see `Pushed.kind`; DataError if it cannot be uploaded."""
    record = read_record(folder) if folder.is_dir() else None
    if record is not None and record.state != "finished":
        raise DataError(
            f"folder: {str(folder)!r} holds an unfinished {record.command!r} run. Run the command again to finish it."
        )
    if record is not None and _has_data(folder):
        return record.command
    found = next((kind for name, kind in SIGNS.items() if (folder / name).is_file()), None)
    if found is None:
        raise DataError(
            f"folder: {str(folder)!r} holds neither a run with data/*.parquet nor a model ({listed(SIGNS)}). "
            "Name the folder that curate, build-pairs or a training wrote."
        )
    config = folder / "config.json"
    try:
        is_scorer = found == "model" and json.loads(config.read_text(encoding="utf-8")).get("model_type") == QSM
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f"folder: {str(config)!r} is not the config of a model: {error}. Save the model again."
        ) from error
    return "qsm" if is_scorer else found


def _has_data(folder: Path) -> bool:
    return any((folder / "data").rglob("*.parquet"))


def verify_upload(folder: str | Path, repo_id: str, *, token: str | None = None) -> dict[str, str]:
    """Load every configuration from the Hub and from the folder and compare their content.

    Returns:
        configuration/split → content hash.
    Raises:
        DataError: a configuration or split is missing or differs (named).
    """
    import datasets

    from hf_mlalign.core.errors import quiet

    what = f"push_to_hub: {repo_id!r} was uploaded, but could not be loaded back"
    with tempfile.TemporaryDirectory() as cache, quiet(), hub_errors(what, token):
        here = _hashes(lambda name: datasets.load_dataset(str(folder), name, cache_dir=f"{cache}/here"), folder)
        try:
            there = _hashes(
                lambda name: datasets.load_dataset(repo_id, name, token=token, cache_dir=f"{cache}/there"), folder
            )
        except (ValueError, datasets.exceptions.DatasetGenerationError) as error:
            raise DataError(f"{what}: {' '.join(str(error).split())[:300]}") from error
    different = [name for name in here if here[name] != there.get(name)] + [name for name in there if name not in here]
    if different:
        raise DataError(
            f"push_to_hub: {repo_id!r} was uploaded, but its content differs from {str(folder)!r} in "
            f"{listed(different)}. Push again; if that does not help, somebody else is writing to this repository."
        )
    return here


def _hashes(load, folder: str | Path) -> dict[str, str]:
    import datasets

    names = datasets.get_dataset_config_names(str(folder))
    return {f"{name}/{split}": content_hash(ds) for name in names for split, ds in load(name).items()}


def content_hash(ds: Dataset) -> str:
    """SHA-256 of column names and values in row order; independent of chunks, file layout and cache."""
    columns = sorted(ds.column_names)
    digest = hashlib.sha256(json.dumps(columns).encode())
    for batch in ds.select_columns(columns).with_format(None).iter(HASH_ROWS):
        rows = [[batch[name][row] for name in columns] for row in range(len(batch[columns[0]]))]
        digest.update(json.dumps(rows, sort_keys=True, default=repr).encode())
    return digest.hexdigest()


def add_to_collection(
    title: str, repo_id: str, repo_type: str, *, private: bool = True, token: str | None = None
) -> str:
    """Add a repository to the collection with this title in its namespace; returns the slug of the collection.

    Raises:
        DataError: the Hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with hub_errors(f"collection: {repo_id!r} was not added to {title!r}", token):
        namespace = repo_id.split("/")[0]
        found = api.create_collection(title, namespace=namespace, private=private, exists_ok=True)
        api.add_collection_item(found.slug, repo_id, repo_type, exists_ok=True)
        return found.slug
