"""The card of a curated set: what was selected, how, from what, and where each default comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from hf_mlalign._version import versions
from hf_mlalign.core.errors import listed
from hf_mlalign.core.files import write_atomic
from hf_mlalign.data.arrow import is_text, named_column
from hf_mlalign.data.languages import language_name, normalise
from hf_mlalign.hub.card import (
    data_configs,
    markdown_table,
    parameter_table,
    provenance,
    render_card,
    size_category,
    source_text,
)
from hf_mlalign.hub.run_record import RunRecord
from hf_mlalign.mdaq.pairs import Pairs
from hf_mlalign.mdaq.scorer import SCORE_COLUMN
from hf_mlalign.mdaq.selector import ALL

if TYPE_CHECKING:
    from hf_mlalign.hub.run_record import RunRecord
    from hf_mlalign.mdaq.selector import SelectionResult


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


def write_curated_card(
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
    write_atomic(folder / "README.md", card)


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


MOST_LANGUAGES = 300
"""A column with more different values is not taken for languages (*ours*)."""
Figures = dict[str, dict[str, float | None]]


def score_table(paths: Sequence[Path], pairs: Pairs) -> Figures:
    """Language → rows, unscored rows, and mean, lowest and highest score, and the same for "all".

    Args:
        paths: the Parquet files, rows in the order of `pairs`.
        pairs: where the languages are read from, if there is such a column.
    """
    import pyarrow.parquet as pq

    read = [pq.read_table(path, columns=[SCORE_COLUMN])[SCORE_COLUMN].to_numpy() for path in paths]
    scores = np.concatenate(read).astype(np.float64)
    codes, names = _languages(pairs)
    groups = {name: scores[codes == i] for i, name in enumerate(names)} if len(names) > 1 else {}
    return {name: _of(values) for name, values in sorted(groups.items())} | {ALL: _of(scores)}


def _of(scores: np.ndarray) -> dict[str, float | None]:
    found = scores[~np.isnan(scores)]
    kinds = {"mean_quality": np.mean, "lowest": np.min, "highest": np.max}
    shown = {name: float(kind(found)) + 0.0 if len(found) else None for name, kind in kinds.items()}
    return {"rows": len(scores), "unscored": len(scores) - len(found), **shown}


def _languages(pairs: Pairs) -> tuple[np.ndarray, list[str]]:
    """(n,) numbers and the names they stand for: ISO 639-1 codes where they are known; no names without a column."""
    if pairs.schema.language is None:
        return np.zeros(0, np.int64), []
    values = named_column(pairs.dataset, pairs.schema.language)
    if not is_text(values.type):
        return np.zeros(0, np.int64), []
    encoded = values.dictionary_encode()
    if len(encoded.dictionary) > MOST_LANGUAGES:
        return np.zeros(0, np.int64), []
    distinct = [normalise(value) or value for value in encoded.dictionary.to_pylist()] + ["none"]
    names = sorted(set(distinct))
    numbers = pc.fill_null(encoded.indices, len(distinct) - 1).to_numpy(zero_copy_only=False)
    codes = np.array([names.index(name) for name in distinct])[numbers]
    there = np.unique(codes)
    return np.searchsorted(there, codes), [names[i] for i in there]


def write_scored_card(
    folder: Path, record: RunRecord, notes: Sequence[str], defaults: Mapping[str, Any], repo_id: str | None
) -> None:
    """Write `README.md` into the folder.

    Args:
        folder: of the scored pairs.
        record: the run's parameters, source and figures.
        notes: what did not go as asked.
        defaults: parameter → default value, which tells given values from defaults.
        repo_id: repository the set will be uploaded to, for the card's lines on loading it.
    """
    facts, options = record.results, record.parameters
    rows = [{"language": name, **{k: "–" if v is None else v for k, v in row.items()}}
            for name, row in facts["per_language"].items()]  # fmt: skip
    codes = [name for name in facts["per_language"] if normalise(name) == name]
    metadata = {
        **({"language": codes} if codes else {}), **provenance(record.source),
        "task_categories": ["text-generation"], "size_categories": [size_category(facts["per_language"][ALL]["rows"])],
        "tags": ["instruction-tuning", "quality-scores", "hf_mlalign", "m-daq"],
        "configs": data_configs(folder / "data", [{"config_name": "default", "data_files": "data/*.parquet"}]),
    }  # fmt: skip
    shown = {name: value for name, value in options.items() if name != "column_mapping"}
    models = {name: shown[name] or ("bundled" if name == "model" else "the model's") for name in ("model", "encoder")}
    card = render_card(
        "scored_card.md.j2", metadata, rows=facts["per_language"][ALL]["rows"], repo_id=repo_id, versions=versions(),
        table=markdown_table(rows, {key: key.replace("_", " ") for key in rows[0]}), notes=notes,
        parameters=parameter_table({**shown, **models}, {**defaults, "model": "bundled", "encoder": "the model's"}, {}),
        source=source_text(record.source, column_mapping=options["column_mapping"]), columns=listed(facts["columns"]),
        embeddings=options["embeddings"], pooled=facts["pooled"],
    )  # fmt: skip
    write_atomic(folder / "README.md", card)
