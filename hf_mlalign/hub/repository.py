"""Upload folders to repositories of the Hub: merge cards, keep secrets out, explain errors."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.secrets import redacted, refuse_secrets

CARD = "README.md"
BEGIN, END = "<!-- hf_mlalign: begin -->", "<!-- hf_mlalign: end -->"
"""An upload replaces the text of a card between these marks, and keeps everything else."""
OURS = ("configs", "size_categories", "dataset_info")
"""Metadata keys of a card that a later upload replaces; lists under other keys are joined."""
OFFLINE = "OfflineModeIsEnabled"
REMEDIES = {
    401: " Log in with `hf auth login`, or set HF_TOKEN.",
    403: " The token may not write there: make one with write access to this namespace.",
    429: " The Hub asks to slow down: run the same again later; what was uploaded is kept.",
}
AGAIN = " Run the same again to continue; what was uploaded is kept."


def upload(
    folder: str | Path,
    repo_id: str,
    repo_type: str,
    *,
    private: bool = True,
    token: str | None = None,
    space_sdk: str | None = None,
    license: str | None = None,
    ignore_patterns: Sequence[str] = (),
    delete_patterns: Sequence[str] = (),
) -> str:
    """Create a repository if there is none, upload a folder to it in one commit, and return its address.

    If the connection breaks, make the same call again to send only what is missing. The card of an existing repository
    keeps its text; see `merged_card`.

    Args:
        folder: what to upload.
        repo_id: user/name.
        repo_type: "dataset", "model" or "space".
        private: visibility of a new repository (`True`, *ours*); that of an existing one does not change.
        token: Hub token; default: the saved one.
        space_sdk: needed for a Space.
        license: identifier on the Hub for the card, e.g. "cc-by-nc-4.0" (default: as the card says).
        ignore_patterns: files of the folder that are not uploaded.
        delete_patterns: files of the repository that are deleted unless the folder has them.
    Raises:
        DataError: the Hub cannot be reached or refuses, the name is invalid, or a file holds something like a token.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils import filter_repo_objects

    folder, api = Path(folder), HfApi(token=token)
    paths = _files(folder, ignore_patterns)
    refuse_secrets(folder, paths, token)
    with hub_errors(f"push_to_hub: {repo_id!r} was not uploaded", token):
        address = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True, space_sdk=space_sdk)
        there = set(api.list_repo_files(repo_id, repo_type=repo_type))
        card = None
        if repo_type != "space" and CARD in paths:
            existing = None
            if CARD in there:
                with tempfile.TemporaryDirectory() as cache:
                    path = api.hf_hub_download(repo_id, CARD, repo_type=repo_type, cache_dir=cache)
                    existing = Path(path).read_text(encoding="utf-8")
            card = merged_card((folder / CARD).read_text(encoding="utf-8"), existing, license)
        operations = [
            CommitOperationAdd(path, card.encode() if card and path == CARD else str(folder / path)) for path in paths
        ]
        if delete_patterns:
            gone = filter_repo_objects(sorted(there - set(paths)), allow_patterns=list(delete_patterns))
            operations += map(CommitOperationDelete, gone)
        api.create_commit(repo_id, operations, commit_message="Upload with hf_mlalign", repo_type=repo_type)
    return str(address)


def _files(folder: Path, ignore_patterns: Sequence[str]) -> list[str]:
    from huggingface_hub.utils import filter_repo_objects

    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    paths = list(filter_repo_objects(found, ignore_patterns=list(ignore_patterns)))
    for path in paths:
        if not (folder / path).is_file():
            raise DataError(f"push_to_hub: {path!r} is not a file, or a broken link. Remove it.")
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise DataError(
                f"push_to_hub: {path!r} is a link to a file outside of {str(folder)!r}. "
                "Nothing was uploaded. Replace the link with the file, or remove it."
            )
    return paths


def merged_card(ours: str, existing: str | None, license: str | None = None) -> str:
    """Merge our card into an existing one.

    The section of an earlier upload is replaced; if there is none, ours is added at the end. Other text stays.
    Existing metadata is kept, lists are joined, and the keys that describe the files (`OURS`) are replaced.
    """
    new = _card(ours)
    if license:
        new.data.license = license
    body = f"{BEGIN}\n{new.text.strip()}\n{END}\n"
    if existing is None:
        new.text = f"\n{body}"
        return _text(new)
    old = _card(existing)
    before, begin, rest = old.text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        old.text = f"{before}{body.rstrip()}{after}"
    else:
        old.text = f"{old.text.rstrip()}\n\n{body}"
    for key, value in new.data.to_dict().items():
        there = getattr(old.data, key, None)
        if key in OURS or there is None:
            setattr(old.data, key, value)
        elif isinstance(value, list):
            kept = there if isinstance(there, list) else [there]
            setattr(old.data, key, [*kept, *(item for item in value if item not in kept)])
    if license:
        old.data.license = license
    return _text(old)


def _card(text: str):
    import yaml
    from huggingface_hub import RepoCard

    try:
        return RepoCard(text if text.startswith("---") else f"---\n{{}}\n---\n{text}", ignore_metadata_errors=True)
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"{CARD}: its metadata cannot be read: {error}. Correct the YAML between the ---.") from error


def _text(card) -> str:
    return str(card).rstrip("\n") + "\n"


@contextmanager
def hub_errors(what: str, token: str | None = None) -> Iterator[None]:
    """Turn errors of the Hub's client into a `DataError` that begins with `what` and contains no token."""
    from huggingface_hub.errors import HFValidationError

    known = (HFValidationError, *connection_errors())
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, known):
            cause = cause.__cause__
        if cause is None:
            raise
        status = getattr(getattr(cause, "response", None), "status_code", None)
        broken = status is None and isinstance(cause, connection_errors()) and type(cause).__name__ != OFFLINE
        remedy = REMEDIES.get(status, AGAIN if broken or (status or 0) >= 500 else "")
        reason = redacted(" ".join(str(cause).split()), token)[:300]
        raise DataError(f"{what}: {reason or type(cause).__name__}{remedy}") from None


def connection_errors() -> tuple[type[Exception], ...]:
    """The errors of the client when the Hub refuses or cannot be reached, for any HTTP library."""
    from huggingface_hub.errors import HfHubHTTPError

    transport = tuple(c for c in HfHubHTTPError.__mro__ if c.__module__.split(".")[0].startswith(("httpx", "requests")))
    return (*transport[-1:], HfHubHTTPError, OSError)
