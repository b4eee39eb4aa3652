"""The command `push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_mlalign.cli.options import say


def push(
    folder: Annotated[Path, typer.Argument(help="What curate, build-pairs, … or a training wrote.")],
    repo_id: Annotated[str, typer.Argument(help="Repository on the Hub: user/name.")],
    private: Annotated[bool, typer.Option("--private/--public", help="Who may see a new repository.")] = True,
    verify: Annotated[bool, typer.Option(help="Load the data back and compare content hashes.")] = True,
    collection: Annotated[str | None, typer.Option(help="Title of a collection that is to list it.")] = None,
    license: Annotated[str | None, typer.Option(help="For the card, by the Hub's name, e.g. cc-by-4.0.")] = None,
) -> None:
    """Upload a finished folder to the Hub with its card; a broken upload goes on when the command is run again.

    The token is that of `hf auth login`, or of the environment variable HF_TOKEN.
    """
    from hf_mlalign.hub.publish import push as run

    done = run(folder, repo_id, private=private, verify=verify, collection=collection, license=license)
    say(f"Uploaded to {done.address}.")
    if done.verified:
        say(f"Loaded back: {len(done.verified)} configurations and splits have the same content there as here.")
