"""The card of a curated set: what was selected, how, from what, and where each default comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign._version import versions
from hf_mlalign.cards import (
    data_configs,
    markdown_table,
    parameter_table,
    provenance,
    render_card,
    size_category,
    source_text,
)
from hf_mlalign.errors import listed
from hf_mlalign.files import write_whole
from hf_mlalign.languages import language_name
from hf_mlalign.mdaq.selector import ALL

if TYPE_CHECKING:
    from hf_mlalign.mdaq.selector import SelectionResult
    from hf_mlalign.runs import RunRecord

TABLE_COLUMNS = {
    "language": "language",
    "pool": "pool",
    "unscored": "no score",
    "selected": "selected",
    "by_quality": "by quality",
    "by_diversity": "by diversity",
    "quality_before": "quality before",
    "quality_after": "quality after",
    "clusters_covered": "clusters covered",
    "clusters": "clusters",
}
ORIGINS = dict.fromkeys(("method", "n_quality", "n_diversity", "per_language", "fill"), "paper")
METHOD_TEXTS = {
    "das": "Diversity-Aware Selection (M-DaQ, arXiv 2509.15549)",
    "car": "the procedure of CaR",
    "deita": "the greedy filter of Deita",
    "mmr": "maximal marginal relevance",
    "quality": "quality score alone",
    "longest": "response length alone",
    "random": "chance (a baseline)",
}


def write_card(
    folder: Path, result: SelectionResult, record: RunRecord, defaults: Mapping[str, Any], repo_id: str | None
) -> None:
    """Write `README.md` into the folder.

    Args:
        folder: of the curated set; the languages are those that have a file in `data/`.
        result: the selection.
        record: the run's parameters and source.
        defaults: parameter → default value, which tells given values from defaults.
        repo_id: repository the set will be uploaded to, for the card's lines on loading it.
    """
    found = [name for name in result.budgets if (folder / "data" / f"{name}.parquet").is_file()]
    source, facts = record.source, record.results
    bundled = {"scorer": "bundled", "model": "bundled"}
    card = render_card(
        "curated_card.md.j2",
        card_metadata(folder, found, len(result.selected), source),
        title=f"Curated instruction data: {', '.join(language_name(n) if n != ALL else n for n in found[:6])}"
        + (" and more" if len(found) > 6 else ""),
        selected=len(result.selected),
        pool=len(result.scores),
        languages=found,
        method_text=METHOD_TEXTS.get(result.method, f"method {result.method!r}"),
        versions=versions(),
        repo_id=repo_id,
        table=markdown_table(result.per_language().to_dict("records"), TABLE_COLUMNS),
        notes=result.notes,
        parameters=parameter_table(_shown(record.parameters), defaults | bundled, ORIGINS),
        source=source_text(source, column_mapping=record.parameters["column_mapping"]),
        columns=listed(facts["columns"]),
        identified=facts["identified"],
    )
    write_whole(folder / "README.md", card)


def _shown(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as the card shows them: models by name, the column mapping stands with the source."""
    models = {name: parameters[name] or "bundled" for name in ("scorer", "model")}
    return {name: value for name, value in {**parameters, **models}.items() if name != "column_mapping"}


def card_metadata(folder: Path, languages: list[str], size: int, source: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML block of a curated set: languages, size, tags, a configuration for each language."""
    configs = [{"config_name": "default", "data_files": "data/*.parquet"}]
    if len(languages) > 1:
        configs += [{"config_name": name, "data_files": f"data/{name}.parquet"} for name in languages]
    codes = [name for name in languages if name != ALL]
    return {
        **({"language": codes} if codes else {}),
        **provenance(source),
        "task_categories": ["text-generation"],
        "size_categories": [size_category(size)],
        "tags": ["instruction-tuning", "data-selection", "multilingual", "hf_mlalign", "m-daq"],
        "configs": data_configs(folder, configs),
    }
