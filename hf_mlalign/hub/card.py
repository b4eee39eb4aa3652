"""Dataset cards that document how the rows were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.files import content_digest, write_atomic

if TYPE_CHECKING:
    from hf_mlalign.core.options import Options
    from hf_mlalign.hub.run_record import RunRecord

LINE_BREAKS = set("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")


def write_card(
    folder: Path,
    template: str,
    record: RunRecord,
    options: type[Options] | None = None,
    *,
    rows: int,
    languages: Sequence[str] = (),
    tags: Sequence[str] = (),
    configs: Sequence[Mapping[str, Any]] = (),
    metadata: Mapping[str, Any] | None = None,
    **values: Any,
) -> None:
    """Write the card of a folder of results (`README.md`): metadata with licence, size, languages and configurations,
    and the text of a template.

    Args:
        folder: must hold the data files already, because their content is part of the configurations.
        template: file name in `hf_mlalign/hub/templates`. It gets `record`, `rows`, `languages`, `versions`,
            `source` (a text), `parameters` (a Markdown table) and `values`.
        record: the record of the run: parameters, source, results.
        options: the options class of the job, for defaults and their origins.
        rows: number of rows, for the size category.
        languages: codes for the metadata.
        tags: in addition to "hf_mlalign".
        configs: configurations of the dataset, see `data_configs`.
        metadata: further keys of the YAML block, or values that replace those above.
    """
    block = {
        **({"language": list(languages)} if languages else {}), **provenance(record.source),
        "size_categories": [size_category(rows)], "tags": ["hf_mlalign", *tags],
        **({"configs": data_configs(folder, configs)} if configs else {}), **(metadata or {}),
    }  # fmt: skip
    shown = options.shown_defaults() if options else {}
    defaults, origins = ({**options.defaults(), **shown}, options.origins()) if options else ({}, {})
    parameters = []
    for name, value in record.parameters.items():
        value = shown[name] if value is None and name in shown else value
        origin = origins.get(name, "ours") if name in defaults and value == defaults[name] else "given"
        parameters.append({"name": name, "value": f"`{'default' if value is None else value}`", "origin": origin})
    parameters = [row for row in parameters if row["name"] != "column_mapping"]  # the source's line shows it
    given = {
        "rows": rows, "languages": list(languages), "record": record, "versions": record.versions,
        "parameters": markdown_table(parameters, {"name": "parameter", "value": "value", "origin": "origin"}),
        "source": source_text(record.source, column_mapping=record.parameters.get("column_mapping")),
    }  # fmt: skip
    write_atomic(folder / "README.md", render_card(template, block, **{**given, **values}))


def render_card(template: str, metadata: Mapping[str, Any], **values: Any) -> str:
    """The text of a card: a template of `hf_mlalign/hub/templates` with its YAML block and `values` filled in."""
    import jinja2

    text = (Path(__file__).parent / "templates" / template).read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    return environment.from_string(text).render(metadata=metadata_block(metadata), **values) + "\n"


def metadata_block(metadata: Mapping[str, Any]) -> str:
    """The metadata of a card as YAML, to be put between two lines of `---`."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes texts with line breaks other than \n, which YAML would turn into spaces."""

    def text(dumper: Dumper, value: str) -> yaml.ScalarNode:
        style = '"' if LINE_BREAKS & set(value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return yaml.dump(dict(metadata), Dumper=Dumper, sort_keys=False, allow_unicode=True).strip()


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """A Markdown table of `rows`; `columns` maps keys to headings; floats get three digits."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}"
        return f"{value:,}" if isinstance(value, int) else " ".join(str(value).replace("|", "\\|").splitlines())

    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row[key]) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def data_configs(folder: str | Path, configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The configurations of a card, each with a digest of the folder's Parquet files as its description.

    `load_dataset` caches by folder name and configurations, and would return the rows of another folder with the same
    name. The digest makes the configurations differ.
    """
    content = f"content {content_digest(folder, '*.parquet')}"
    return [{**config, "description": content} for config in configs]


def provenance(source: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata on the origin of the rows: licence (unknown, since only the user can tell) and source datasets.

    Args:
        source: as in the record of a run; only a Hub dataset is named, not a file or a `Dataset` in memory.
    """
    name = str(source.get("name", ""))
    known = name.count("/") == 1 and not name.endswith((".parquet", ".json", ".jsonl", ".csv", ".tsv"))
    return {"license": "unknown", **({"source_datasets": [name]} if known else {})}


def source_text(source: Mapping[str, Any], **more: Any) -> str:
    """The source of a run as text for a card: name, configuration, split, and the values in `more`."""
    part = {name: source[name] for name in ("config", "split") if name in source}
    given = {name: value for name, value in more.items() if value}
    return f"`{source['name']}`" + "".join(f", {name} `{value}`" for name, value in {**part, **given}.items())


SIZES = (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6), ("1M<n<10M", 1e7))


def size_category(rows: int) -> str:
    """The size category of the Hub for a number of rows."""
    return next((name for name, bound in SIZES if rows < bound), "n>10M")
