"""The card of a set that was built from public files."""

from __future__ import annotations

from pathlib import Path

from hf_mlalign.core.files import write_atomic
from hf_mlalign.hub.card import data_configs, markdown_table, render_card, size_category
from hf_mlalign.hub.run_record import versions

from .recipes import BuildArguments, Recipe, Row, own_arguments

TABLE = {"language": "language", "rows": "rows", "left_out": "left out", "files": "files"}
COLUMNS = {"column": "column", "type": "type", "what": "what it holds"}


def write_card(
    folder: Path, recipe: Recipe, arguments: BuildArguments, table: list[Row], notes: list[str]
) -> None:  # fmt: skip
    """Write `README.md`: what is in the set, from which files, under which licences, how to load and rebuild it.

    Args:
        folder: of the set; `data/` is there.
        recipe, arguments: how it was built.
        table: a row for each language: language, rows, left_out, files.
        notes: what did not go as asked, one sentence each.
    """
    codes = [row["language"] for row in table]
    size = sum(row["rows"] for row in table)
    card = render_card(
        "dataset_card.md.j2", _metadata(folder, recipe, codes, size), title=recipe.title, summary=recipe.summary,
        rows=size, codes=codes, split=recipe.split, repo_id=arguments.push_to_hub, notes=notes, limits=recipe.limits,
        origins=recipe.origins, table=markdown_table(table, TABLE), columns=_columns(recipe),
        command=_command(recipe, arguments), versions=versions(),
    )  # fmt: skip
    write_atomic(folder / "README.md", card)


def _metadata(folder: Path, recipe: Recipe, codes: list[str], size: int) -> Row:
    files = {"default": "data/*.parquet", **{code: f"data/{code}.parquet" for code in codes}}
    configs = [
        {"config_name": name, "data_files": [{"split": recipe.split, "path": path}]} for name, path in files.items()
    ]
    return {
        "pretty_name": recipe.title, "language": codes, "license": recipe.licence,
        "task_categories": list(recipe.tasks), "size_categories": [size_category(size)],
        "tags": ["multilingual", "hf_mlalign", *recipe.tags], "configs": data_configs(folder, configs),
    }  # fmt: skip


def _columns(recipe: Recipe) -> str:
    rows = []
    for name, kind in recipe.features.items():
        shown = kind.dtype if hasattr(kind, "dtype") else f"list of {kind.feature.dtype}"
        rows.append({"column": f"`{name}`", "type": shown, "what": recipe.columns[name]})
    return markdown_table(rows, COLUMNS)


def _command(recipe: Recipe, arguments: BuildArguments) -> str:
    """The command line that builds the set again, with places left open."""
    sources = sorted({part.source for part in recipe.parts}, key=lambda name: (name != "source", name))
    words = [f"--{name.replace('_', '-')} …" for name in sources if getattr(arguments, name)]
    words += [f"--{name.replace('_', '-')} {value}" for name, value in own_arguments(recipe, arguments).items()]
    if arguments.languages:
        words.append(f"--languages {' '.join(arguments.languages)}")
    return f"python dataset_scripts/{recipe.name}.py {' '.join(words)} --output …"
