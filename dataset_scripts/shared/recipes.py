"""How a public set is built: its files, a pure function from a record to a row, and what is known of its sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from .public_files import Record

if TYPE_CHECKING:
    from datasets import Features

Row = dict[str, Any]


@dataclass
class BuildArguments:
    """Arguments of every script.

    Args:
        source: a clone, folder, file, zip or tar archive, or a URL of any of these.
        output: folder to write.
        languages: build these only; default: all that the source has.
        cache_dir: where downloads and prepared rows are kept.
        push_to_hub: repository to upload to.
        private: of a new repository (`True`, *ours*).
        overwrite: start again if the folder holds a set with other parameters.
    """

    source: str = field(metadata={"help": "Clone, folder, file, archive or URL of the public source."})
    output: str = field(metadata={"help": "Folder to write."})
    languages: list[str] | None = field(default=None, metadata={"help": "Build these languages only (de fr …)."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads and prepared rows are kept."})
    push_to_hub: str | None = field(default=None, metadata={"help": "Upload to this repository: user/name."})
    private: bool = field(default=True, metadata={"help": "Make a new repository private."})
    overwrite: bool = field(default=False, metadata={"help": "Replace another set in the output folder."})


@dataclass(frozen=True)
class Part:
    """Files of one layout, one for each language.

    Attributes:
        paths: language → paths below the source, the first that exists is read.
        read: from the file (and the one beside it) to its records.
        row: from a record to its columns, without the language; `None` leaves a record out. Must be pure.
        values: columns that are the same in all rows.
        source: the argument that names the source; a part without one is left out.
        beside: language → paths of a second file that is read together with the first.
    """

    paths: Mapping[str, Sequence[str]]
    read: Callable[..., Iterator[Record]]
    row: Callable[[Record], Row | None]
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str = "source"
    beside: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True)
class Origin:
    """A public source in the card: what it is called, where it is, what is read of it, what is known of its licence."""

    name: str
    address: str
    reads: str
    licence: str


@dataclass(frozen=True)
class Recipe:
    """How a public set is built.

    Attributes:
        name: of the script, e.g. "mgsm".
        title, summary: of the card.
        features: column → type.
        columns: column → what it holds.
        parts: the files.
        origins: where they are from.
        licence: the card's `license`, a name the Hub knows.
        limits: what a user should know, one sentence each.
        split: what the only split is called.
        aligned: the same id must be there in every language of a part.
        arrange: from language → rows to the same with ids and without rows that do not fit; default: as they are.
        reference: a language that `arrange` needs; it is read even where others are asked for.
        language_column: the column that names the language.
        tasks, tags: for the Hub.
    """

    name: str
    title: str
    summary: str
    features: Features
    columns: Mapping[str, str]
    parts: Sequence[Part]
    origins: Sequence[Origin]
    licence: str
    limits: Sequence[str] = ()
    split: str = "train"
    aligned: bool = True
    arrange: Callable[[dict[str, list[Row]]], dict[str, list[Row]]] | None = None
    reference: str | None = None
    language_column: str = "language"
    tasks: Sequence[str] = ("text-generation",)
    tags: Sequence[str] = ()


def places(template: str, codes: Mapping[str, str] | Sequence[str]) -> dict[str, tuple[str, str]]:
    """Language → (path with the language in the place of `{}`, its last part alone, for files copied out of a clone).

    Args:
        template: path below the source.
        codes: languages; or language → what the source calls it.
    """
    named = codes if isinstance(codes, Mapping) else {code: code for code in codes}
    return {code: (path := template.format(name), path.rsplit("/", 1)[-1]) for code, name in named.items()}


def own_arguments(recipe: Recipe, arguments: BuildArguments) -> dict[str, Any]:
    """The arguments that only this script has, without sources: name → value."""
    shared = {one.name for one in fields(BuildArguments)} | {part.source for part in recipe.parts}
    return {one.name: getattr(arguments, one.name) for one in fields(arguments) if one.name not in shared}
