"""Uploads to the Hub."""

from __future__ import annotations

from pathlib import Path

from hf_mlalign.uploads import upload


def push_folder(folder: str | Path, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload a curated folder (its card and data) as a dataset repository; returns its address. See `upload`."""
    return upload(folder, repo_id, "dataset", private=private, token=token, ignore_patterns=[".*", "scores.parquet"],
                  delete_patterns="data/*.parquet")  # fmt: skip
