"""Find tokens and keys, hide them in messages, and keep them out of uploads."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hf_mlalign.core.errors import DataError

SECRET = re.compile(r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}")
SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MLALIGN_API_KEY", "OPENAI_API_KEY")
TEXT_FILES = (".md", ".json", ".jsonl", ".yaml", ".yml", ".txt", ".html", ".csv", ".tsv")


def refuse_secrets(folder: Path, paths: Sequence[str], token: str | None = None) -> None:
    """Raise a `DataError` if one of these text files holds something that looks like a token or key."""
    known = _known_secrets(token)
    for path in paths:
        if Path(path).suffix not in TEXT_FILES:
            continue
        with open(folder / path, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if SECRET.search(line) or any(secret in line for secret in known):
                    raise DataError(
                        f"push_to_hub: {path}, line {number} holds what looks like an access token. Nothing was "
                        "uploaded. Remove it, and revoke it if others could have read it."
                    )


def redacted(text: str, token: str | None = None) -> str:
    """`text` with tokens and keys replaced by `***`."""
    for secret in _known_secrets(token):
        text = text.replace(secret, "***")
    return SECRET.sub("***", text)


def _known_secrets(token: str | None) -> set[str]:
    """The tokens and keys of this user, except very short ones."""
    from huggingface_hub import get_token

    found = {token, get_token(), *(os.environ.get(name) for name in SECRET_VARIABLES)}
    return {secret for secret in found if secret and len(secret) >= 6}
