"""Dataset cards that tell how a set came to be, and uploads to the Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_mlalign.uploads import upload


def render_card(template: str, metadata: Mapping[str, Any], **values: Any) -> str:
    """A dataset card from a template of this package.

    Args:
        template: file name below `hf_mlalign/templates`.
        metadata: the YAML block (languages, tags, configs, …).
        **values: what the template shows.
    """
    import jinja2
    import yaml

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=False)
    block = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True).strip()
    return environment.get_template(template).render(metadata=block, **values) + "\n"


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """A Markdown table of `rows`; `columns` maps keys to headings; floats get three digits."""
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row[key]) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|").replace("\n", " ")


def push_folder(folder: str | Path, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload a curated folder (its card and data) as a dataset repository; returns its address. See `upload`."""
    return upload(folder, repo_id, "dataset", private=private, token=token, ignore_patterns=[".*", "scores.parquet"],
                  delete_patterns="data/*.parquet")  # fmt: skip
