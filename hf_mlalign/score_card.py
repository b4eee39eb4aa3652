"""The card of scored pairs, and the figures by language that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from hf_mlalign._version import versions
from hf_mlalign.arrow import is_text, named_column
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
from hf_mlalign.languages import normalise
from hf_mlalign.mdaq.opening import Pairs
from hf_mlalign.mdaq.transforms import SCORE_COLUMN
from hf_mlalign.runs import RunRecord

ALL = "all"
MOST_LANGUAGES = 300
"""A column with more different values is not taken for languages (*ours*)."""
Figures = dict[str, dict[str, float | None]]


def figures(paths: Sequence[Path], pairs: Pairs) -> Figures:
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


def write_card(
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
    write_whole(folder / "README.md", card)
