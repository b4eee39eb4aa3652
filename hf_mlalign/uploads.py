"""Folders to repositories of the Hub, with errors a user can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_mlalign.errors import DataError


def upload(
    folder: str | Path,
    repo_id: str,
    repo_type: str,
    *,
    private: bool = True,
    token: str | None = None,
    space_sdk: str | None = None,
    **options: Any,
) -> str:
    """Create a repository where there is none, upload a folder to it, and return its address.

    Args:
        folder: what to upload.
        repo_id: user/name.
        repo_type: "dataset", "model" or "space".
        private: of a new repository (`True`, *ours*).
        token: Hub token; default: the saved one.
        space_sdk: needed for a Space.
        **options: of `HfApi.upload_folder`, e.g. ignore_patterns, delete_patterns.
    Raises:
        DataError: the Hub cannot be reached, refuses the token, or the name is not valid.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi(token=token)
    try:
        address = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True, space_sdk=space_sdk)
        api.upload_folder(repo_id=repo_id, repo_type=repo_type, folder_path=str(folder), **options)
    except (HFValidationError, *connection_errors()) as error:
        raise DataError(f"push_to_hub: {repo_id!r} was not uploaded: {' '.join(str(error).split())[:300]}") from error
    return str(address)


def connection_errors() -> tuple[type[Exception], ...]:
    """What the client raises when the Hub refuses or cannot be reached, whatever HTTP library it is built on."""
    from huggingface_hub.errors import HfHubHTTPError

    transport = tuple(c for c in HfHubHTTPError.__mro__ if c.__module__.split(".")[0].startswith(("httpx", "requests")))
    return (*transport[-1:], HfHubHTTPError, OSError)
