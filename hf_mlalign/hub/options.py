"""The options of `push`, and those with which other jobs share their results."""

from __future__ import annotations

from dataclasses import dataclass

from hf_mlalign.core.options import Options, option


@dataclass(kw_only=True)
class VisibilityOptions(Options):
    """Who sees a repository."""

    private: bool = option(
        True, "Who can see a new repository: only its owner, or everybody.", panel="Output",
        flag="--private/--public", in_record=False,
    )  # fmt: skip


@dataclass(kw_only=True)
class PushOptions(VisibilityOptions):
    """How a finished folder is uploaded."""

    job = "push"

    verify: bool = option(
        True, "Load the data back from the Hub and compare content hashes.", panel="Run", in_record=False
    )
    collection: str | None = option(
        None, "Title of a collection that lists the repository; made if there is none.", panel="Output",
        in_record=False,
    )  # fmt: skip
    license: str | None = option(
        None, "License for the card, by the Hub's name, e.g. cc-by-4.0.", panel="Output", in_record=False,
        shown="as the card says",
    )  # fmt: skip


@dataclass(kw_only=True)
class UploadOptions(VisibilityOptions):
    """Where a job uploads the folder that it wrote."""

    push_to_hub: str | None = option(
        None, "Upload the result to this dataset repository (user/name).", panel="Output", in_record=False
    )


@dataclass(kw_only=True)
class TrackerOptions(Options):
    """Which experiment trackers get a job's figures."""

    report_to: list[str] | None = option(
        None, "Trackers that get the figures per language: trackio, tensorboard, …, or all.", panel="Output",
        in_record=False,
    )  # fmt: skip


@dataclass(kw_only=True)
class PublishOptions(UploadOptions, TrackerOptions):
    """Upload and trackers together."""
