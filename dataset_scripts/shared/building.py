"""What the scripts in `dataset_scripts/` share: from files as published to Parquet, a card and a run record."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from hf_mlalign.core.errors import DataError, listed, quiet
from hf_mlalign.core.files import content_digest
from hf_mlalign.data.languages import check_languages
from hf_mlalign.hub.publish import push
from hf_mlalign.hub.run_record import Run

from .card import write_card
from .public_files import PublicFile, PublicSource
from .recipes import BuildArguments, Part, Recipe, Row, own_arguments

if TYPE_CHECKING:
    from datasets import Dataset


COMMAND = "build-dataset"
WORK = ".work"


@dataclass
class _Found:
    """The files of a build: part → language → files; those that are not there; names of sources; languages to build."""

    files: list[dict[str, list[PublicFile]]]
    absent: list[str]
    names: dict[str, str]
    wanted: list[str] = field(default_factory=list)

    @property
    def languages(self) -> list[str]:
        return list(dict.fromkeys(language for part in self.files for language in part))

    @property
    def all(self) -> list[PublicFile]:
        return [file for part in self.files for files in part.values() for file in files]

    def identity(self) -> dict[str, Any]:
        """For the run record: what was read, by name and content; where a clone lies and what else it holds is not."""
        import xxhash

        digests = {file.name: xxhash.xxh3_128(file.path.read_bytes()).hexdigest() for file in self.all}
        whole = xxhash.xxh3_128(repr(sorted(digests.items())).encode()).hexdigest()
        return {"name": listed(self.names.values()), "digest": whole, "files": digests}


def find_files(recipe: Recipe, arguments: BuildArguments) -> _Found:
    """Look up (and download) the files; DataError if there is none, or none in a language that was asked for."""
    wanted = None if arguments.languages is None else check_languages(arguments.languages)
    sources = {
        part.source: PublicSource(place, part.source, arguments.cache_dir)
        for part in recipe.parts if (place := getattr(arguments, part.source))
    }  # fmt: skip
    chosen = [
        [code for code in part.paths if wanted is None or code in wanted or code == recipe.reference]
        for part in recipe.parts
    ]
    _refuse_one_for_many(recipe, sources, chosen)
    found = _Found([], [], {name: source.name for name, source in sources.items()})
    for part, codes in zip(recipe.parts, chosen):
        found.files.append(_files_of(part, codes, sources.get(part.source), found.absent))
    found.wanted = [code for code in found.languages if wanted is None or code in wanted]
    missing = [code for code in wanted or [] if code not in found.languages]
    if missing or not found.all:
        raise DataError(
            f"source: {listed(found.names.values())} has no file for {listed(missing) if missing else 'any language'}. "
            f"Looked for {listed(found.absent, 3)}; known languages: {listed(_known(recipe))}."
        )
    return found


def _refuse_one_for_many(recipe: Recipe, sources: Mapping[str, PublicSource], chosen: Sequence[Sequence[str]]) -> None:
    """DataError where a source is one file but several are needed of it."""
    for name, source in sources.items():
        parts = [(part, codes) for part, codes in zip(recipe.parts, chosen) if part.source == name]
        needed = sum(len(codes) * (2 if part.beside else 1) for part, codes in parts)
        if needed > 1 and source.is_file:
            raise DataError(
                f"{name}: {source.name!r} is one file, but {needed} are needed, such as "
                f"{next(part.paths[codes[0]][0] for part, codes in parts if codes)}. Name their folder"
                + (", or choose one language with --languages." if len(parts) == 1 else ".")
            )


def _files_of(
    part: Part, codes: Sequence[str], source: PublicSource | None, absent: list[str]
) -> dict[str, list[PublicFile]]:
    """Language → the files of a part that are there; paths of others are added to `absent`."""
    here: dict[str, list[PublicFile]] = {}
    for code in codes:
        needed = [part.paths[code], *([part.beside[code]] if part.beside else [])]
        files = [source and source.find(paths) for paths in needed]
        if all(files):
            here[code] = files
        else:
            absent += [paths[0] for paths, file in zip(needed, files) if not file]
    return here


def _known(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(code for part in recipe.parts for code in part.paths))


def read_rows(recipe: Recipe, found: _Found) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Language → rows, and language → how many records were left out.

    Raises:
        DataError: a damaged file, an id that is there twice, or languages with other ids (file and row named).
    """
    tables: dict[str, list[Row]] = {code: [] for code in found.languages}
    left_out = dict.fromkeys(tables, 0)
    for part, here in zip(recipe.parts, found.files):
        ids: dict[str, dict[int, str]] = {}
        for code, files in here.items():
            seen = ids.setdefault(code, {})
            for record in part.read(*files):
                row = part.row(record)
                if row is None:
                    left_out[code] += 1
                    continue
                if (number := row["id"]) in seen:
                    raise DataError(f"{record.place}: id {number} is also at {seen[number]}. Remove one of them.")
                seen[number] = record.place
                tables[code].append({recipe.language_column: code, **part.values, **row})
        if recipe.aligned and recipe.arrange is None:
            _check_aligned(ids, here)
    if recipe.arrange is not None:
        arranged = recipe.arrange(tables)
        left_out = {code: left_out[code] + len(rows) - len(arranged[code]) for code, rows in tables.items()}
        tables = {code: arranged[code] for code in found.wanted}
    return tables, left_out


def _check_aligned(ids: Mapping[str, Mapping[int, str]], here: Mapping[str, list[PublicFile]]) -> None:
    if not ids:
        return
    counts = [len(seen) for seen in ids.values()]
    usual = max(set(counts), key=lambda count: (counts.count(count), count))
    reference = next(code for code, seen in ids.items() if len(seen) == usual)
    for code, seen in ids.items():
        if seen.keys() != ids[reference].keys():
            other = min(seen.keys() ^ ids[reference].keys())
            raise DataError(
                f"{here[code][0].name} has {len(seen):,} rows, {here[reference][0].name} {usual:,} (first id in one of "
                f"them only: {other}): the same id would be another sample. Fetch it again, or leave {code!r} out with "
                "--languages."
            )


def build(
    recipe: Recipe, arguments: BuildArguments, code: str | Path, say: Callable[[str], None] = print
) -> Path:
    """Build the set; the same call again finds it done.

    Args:
        recipe: what to build.
        arguments: from where to where.
        code: file of the script; other code is another run.
        say: called with a sentence at each step.
    Returns:
        The folder: `data/<language>.parquet`, `README.md` (card), `run.json`.
    Raises:
        DataError: bad input, an output folder that holds something else, or an upload that failed.
    """
    found = find_files(recipe, arguments)
    given = own_arguments(recipe, arguments)
    parameters = {"script": recipe.name, **given, "languages": arguments.languages, "code": content_digest(code)}
    run = Run(arguments.output, COMMAND, parameters, found.identity(), overwrite=arguments.overwrite, own=[WORK])
    if run.is_finished:
        say(f"Nothing to do: {str(run.folder)!r} holds this set already.")
    else:
        tables, left_out = run.timed("read", read_rows, recipe, found)
        with run.open():
            run.timed("write", _write, run, recipe, arguments, tables)
            _finish(run, recipe, arguments, found, {c: len(rows) for c, rows in tables.items()}, left_out)
        for note in run.record.notes:
            say(f"Note: {note}")
        say(f"Wrote {sum(map(len, tables.values())):,} rows in {len(tables)} languages to {str(run.folder)!r}.")
    if arguments.push_to_hub:
        done = push(run.folder, arguments.push_to_hub, private=arguments.private)
        say(f"Uploaded to {done.address}; loaded back and compared: {len(done.verified)} configurations.")
    return run.folder


def _write(run: Run, recipe: Recipe, arguments: BuildArguments, tables: Mapping[str, list[Row]]) -> None:
    """`data/<language>.parquet` for every language, all of them or none."""
    partial = run.folder / WORK / "data"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for code, rows in tables.items():
        ds = _dataset(run, recipe, arguments, code, rows)
        with quiet():
            ds.to_parquet(str(partial / f"{code}.parquet"))
    shutil.rmtree(run.folder / "data", ignore_errors=True)
    os.replace(partial, run.folder / "data")
    shutil.rmtree(run.folder / WORK, ignore_errors=True)


def _dataset(run: Run, recipe: Recipe, arguments: BuildArguments, code: str, rows: list[Row]) -> Dataset:
    import xxhash

    what = [run.record.source["digest"], run.record.parameters, content_digest(__file__), str(recipe.features),
            recipe.split]  # fmt: skip
    builder = RowBuilder(
        rows, recipe.features, recipe.split, cache_dir=arguments.cache_dir, dataset_name=recipe.name, config_name=code,
        hash=xxhash.xxh3_128(repr(what).encode()).hexdigest(),
    )  # fmt: skip
    return builder.build()


def _finish(
    run: Run, recipe: Recipe, arguments: BuildArguments, found: _Found, counts: Mapping[str, int],
    left_out: Mapping[str, int],
) -> None:  # fmt: skip
    table = [
        {"language": code, "rows": counts[code], "left_out": left_out[code],
         "files": ", ".join(f"`{file.name}`" for part in found.files for file in part.get(code, []))}
        for code in counts
    ]  # fmt: skip
    notes = [f"{code}: {n:,} records left out." for code, n in left_out.items() if n]
    if recipe.reference and recipe.reference not in found.languages:
        notes.append(f"No rows in {recipe.reference!r}, which ids are taken from: they are those of the longest file.")
    if found.absent:
        notes.append(f"Not in the source: {listed(found.absent, 5)}.")
    write_card(run.folder, recipe, arguments, table, notes)
    rows = [{name: value for name, value in row.items() if name != "files"} for row in table]
    run.finish({"rows": sum(counts.values()), "per_language": rows, "features": str(recipe.features)}, notes)


def main(
    recipe: Callable[[Any], Recipe], arguments: type[BuildArguments] = BuildArguments, argv: Sequence[str] | None = None
) -> int:
    """Run a script: read the command line, build, and return the exit code (2 for an error a user can act on)."""
    from transformers import HfArgumentParser

    code = Path(recipe.__code__.co_filename)
    parser = HfArgumentParser(arguments, prog=f"python dataset_scripts/{code.name}", description=recipe.__doc__)
    (parsed,) = parser.parse_args_into_dataclasses(argv)
    try:
        build(recipe(parsed), parsed, code)
    except DataError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


class RowBuilder(datasets.GeneratorBasedBuilder):
    """Writes rows to the cache of `datasets`, checked against typed features; the same rows again are a cache hit.

    Args:
        rows: the rows of one configuration.
        features: their columns and types.
        split: what the only split is called.
        **options: of `datasets.GeneratorBasedBuilder`; `hash` must tell other rows and other code apart, or the cache
            gives the old rows.
    """

    VERSION = datasets.Version("1.0.0")

    def __init__(self, rows: Sequence[Mapping[str, Any]], features: datasets.Features, split: str, **options: Any):
        self.rows, self.row_features, self.row_split = rows, features, split
        super().__init__(**options)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=self.row_features)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=self.row_split)]

    def _generate_examples(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        yield from enumerate(self.rows)

    def build(self) -> datasets.Dataset:
        """The rows as a dataset, from the cache where they are there already."""
        self.download_and_prepare()
        return self.as_dataset(split=self.row_split)
