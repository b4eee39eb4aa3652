"""The main job: load → score → cluster → select → save a curated set with a card that tells how it came to be."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mlalign._version import versions
from hf_mlalign.columns import Schema, readable, recognise
from hf_mlalign.display import quiet
from hf_mlalign.errors import DataError, listed
from hf_mlalign.files import write_whole
from hf_mlalign.hub import markdown_table, push_folder, render_card
from hf_mlalign.languages import LanguageIdentifier, language_name
from hf_mlalign.mdaq.revisions import has_revisions, pool_revisions, revised_share
from hf_mlalign.mdaq.selector import ALL, IDENTIFIED, UNKNOWN, MDaQSelector, SelectionResult
from hf_mlalign.mdaq.shards import SHARD_ROWS, score_in_shards
from hf_mlalign.mdaq.tables import check_dataset
from hf_mlalign.mdaq.transforms import MDaQScorer
from hf_mlalign.sources import load_source

if TYPE_CHECKING:
    from datasets import Dataset

RECORD = "curation.json"
SURE = 0.5
"""Least probability of an identified language (*ours*)."""
RARE = 0.01
"""Identified languages with a smaller share of the pool are left out unless they are asked for (*ours*)."""
WORK = ".work"
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
ORIGINS = {
    "method": {"das": "paper"},
    "n_quality": {6000: "paper"},
    "n_diversity": {1000: "paper"},
    "per_language": {True: "paper"},
    "fill": {False: "paper"},
}
METHOD_TEXTS = {
    "das": "Diversity-Aware Selection (M-DaQ, arXiv 2509.15549)",
    "car": "the procedure of CaR",
    "deita": "the greedy filter of Deita",
    "mmr": "maximal marginal relevance",
    "quality": "quality score alone",
    "longest": "response length alone",
    "random": "chance (a baseline)",
}


@dataclass
class Curation:
    """A finished curation: the selected rows, the selection with its per-language table, and the folder it is in."""

    dataset: Dataset
    result: SelectionResult
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the folder as a dataset repository; returns its address. Raises `DataError` when refused."""
        return push_folder(self.folder, repo_id, private=private, token=token)


def curate(
    source: str | Path | Dataset,
    output: str | Path,
    *,
    split: str | None = None,
    config: str | None = None,
    column_mapping: Mapping[str, str] | None = None,
    languages: Sequence[str] | None = None,
    per_language: bool = True,
    n_quality: int = 6000,
    n_diversity: int = 1000,
    budgets: str | Mapping[str, Any] | None = None,
    method: str = "das",
    n_clusters: int | None = None,
    model: Any = None,
    scorer: Any = None,
    seed: int = 0,
    fill: bool = False,
    shard_rows: int = SHARD_ROWS,
    push_to_hub: str | None = None,
    private: bool = True,
    on_step: Callable[[str], None] = lambda text: None,
    progress: bool = True,
) -> Curation:
    """Curate an instruction dataset and save it.

    Args:
        source: see `hf_mlalign.sources.load_source`; or a `Dataset`.
        output: folder to be written: `data/<language>.parquet`, `README.md` (card), `scores.parquet` (every row of the
            pool with score, cluster and reason), `curation.json` (parameters, versions, counts, timings).
        split, config: which part of the source.
        column_mapping: your columns → roles, see `hf_mlalign.columns.recognise`.
        languages: keep only these (ISO 639-1 codes or English names).
        per_language, n_quality, n_diversity, budgets, method, n_clusters, seed, fill: see `MDaQSelector`.
        model: encoder for the clusters; default the bundled one.
        scorer: Quality Scoring Model; default the bundled one.
        shard_rows: a killed run loses at most so many scored rows.
        push_to_hub: repository "user/name" to upload to (private unless `private=False`).
        on_step: called with a sentence at each step.
        progress: show a progress bar while scoring.
    Raises:
        DataError: bad input or options; the output folder holds something else.
    """
    folder = Path(output)
    options = {
        "method": method, "n_quality": n_quality, "n_diversity": n_diversity, "budgets": budgets,
        "per_language": per_language, "n_clusters": n_clusters, "seed": seed, "fill": fill, "languages": languages,
    }  # fmt: skip
    selector = MDaQSelector(**options, model=scorer, encoder=model, column_mapping=column_mapping)
    run = _Run(folder, on_step, progress)
    run.check_output()
    ds = source if not isinstance(source, (str, Path)) else run.timed("load", load_source, source, split, config)
    check_dataset(ds)
    pooled = column_mapping is None and has_revisions(ds.column_names)
    if pooled:
        ds = pool_revisions(ds)
        on_step("Found raw and revised responses: pooled them, one row each.")
    schema = recognise(ds.column_names, column_mapping)
    ds = readable(ds, schema)
    with run.locked():
        on_step(f"Loaded {len(ds):,} pairs; read as {schema.layout} ({listed(schema.text_columns)}).")
        ds, identified = run.timed("identify", _with_language, ds, schema, selector, on_step)
        result = run.select(ds, schema, selector, shard_rows)
        if not len(result.selected):
            raise DataError(f"Nothing was selected. {' '.join(result.notes) or 'Both budgets are 0.'}")
        with quiet():
            curated = run.timed("save", _save, folder, ds, selector, result)
        facts = {
            "source": _source_name(source), "split": split, "config": config, "column_mapping": column_mapping,
            "columns": schema.text_columns, "identified": identified, "scorer": _shown(scorer), "model": _shown(model),
        }  # fmt: skip
        _document(folder, result, {**options, "shard_rows": shard_rows}, facts, run.seconds, push_to_hub)
        if pooled:
            share = revised_share(ds, result).set_index("language").loc["all"]
            on_step(f"Revised responses: {share['pool']:.1%} of the pool, {share['selected']:.1%} of the selected.")
        shutil.rmtree(folder / WORK, ignore_errors=True)
    curation = Curation(curated, result, folder, run.seconds)
    if push_to_hub:
        on_step(f"Uploaded to {curation.push_to_hub(push_to_hub, private=private)}.")
    return curation


class _Run:
    """Steps of one curation, timed, on a folder that no other run may use at the same time."""

    def __init__(self, folder: Path, on_step: Callable[[str], None], progress: bool):
        self.folder, self.on_step, self.progress, self.seconds = folder, on_step, progress, {}

    def check_output(self) -> None:
        known = (self.folder / RECORD).is_file() or (self.folder / WORK).is_dir()
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"output: {str(self.folder)!r} is a file. Name a folder.")
        if self.folder.is_dir() and any(self.folder.iterdir()) and not known:
            raise DataError(f"output: {str(self.folder)!r} is not empty and holds no curation. Name another folder.")

    def locked(self):
        from filelock import FileLock, Timeout

        try:
            (self.folder / WORK).mkdir(parents=True, exist_ok=True)
            return FileLock(self.folder / ".lock", timeout=0).acquire()
        except Timeout:
            raise DataError(f"output: another process is writing to {str(self.folder)!r}. Wait for it.") from None
        except OSError as error:
            raise DataError(f"output: cannot write to {str(self.folder)!r}: {error.strerror}.") from error

    def timed(self, name: str, function: Callable, *args):
        start = time.perf_counter()
        value = function(*args)
        self.seconds[name] = round(time.perf_counter() - start, 3)
        return value

    def select(self, ds, schema: Schema, selector: MDaQSelector, shard_rows: int) -> SelectionResult:
        languages = selector.read_languages(ds)
        scorer = MDaQScorer(selector.model, schema.mapping, embeddings=True, encoder=selector.encoder)
        self.on_step(f"Scoring with {_shown(selector.model) or 'the bundled Quality Scoring Model'} …")
        scores, vectors = self.timed("score", self._score, ds, schema, scorer, shard_rows)
        seconds = self.seconds["score"]
        self.on_step(
            f"Scored {int((~np.isnan(scores)).sum()):,} of {len(ds):,} pairs in {seconds:.1f} s "
            f"({len(ds) / max(seconds, 1e-9):,.0f} pairs/s, the model's loading included)."
        )
        lengths = selector.read_lengths(ds, schema)
        result = self.timed("select", selector.select_from, scores, languages, vectors, None, lengths)
        self.on_step(
            f"Clustered the instructions and selected {len(result.selected):,} pairs "
            f"({selector.method}) in {self.seconds['select']:.1f} s."
        )
        return result

    def _score(self, ds, schema, scorer, shard_rows):
        from tqdm.auto import tqdm

        with tqdm(total=len(ds), desc="Scoring", unit="pair", disable=not self.progress or len(ds) < 5000) as bar:
            return score_in_shards(ds, schema, scorer, self.folder / WORK, shard_rows=shard_rows, progress=bar.update)


def _with_language(ds: Dataset, schema: Schema, selector: MDaQSelector, on_step) -> tuple[Dataset, bool]:
    """`ds`, with a `language` column identified from the texts where it has none."""
    if schema.language or not selector.per_language:
        return ds, False
    identifier = LanguageIdentifier(sorted({*(selector.languages or ()), *LanguageIdentifier.DEFAULT}))
    ds = ds.map(_Identify(schema, identifier), batched=True, with_indices=True, desc="Identifying languages")
    counts = Counter(ds[IDENTIFIED])
    if not selector.languages:
        least = max(2, len(ds) * RARE)
        selector.languages = sorted(code for code, n in counts.items() if code != UNKNOWN and n >= least)
    if not selector.languages:
        raise DataError("No language column, and no language could be identified. Map a column to the role language.")
    found = ", ".join(f"{code} {n:,}" for code, n in counts.most_common())
    on_step(f"No language column: identified languages of the pairs: {found}.")
    on_step(f"Keeping {listed(selector.languages)}; --languages chooses others (identified among 24 by default).")
    return ds, True


class _Identify:
    """Adds `identified_language`, from response and instruction; "und" where there is no text or it is not clear."""

    def __init__(self, schema: Schema, identifier: LanguageIdentifier):
        self.schema, self.identifier = schema, identifier

    def __call__(self, batch: Mapping[str, Sequence], indices: Sequence[int]) -> dict[str, list[str]]:
        instructions, responses = self.schema.read(batch, indices)
        texts = [
            r if r and len(r) > 20 else f"{i or ''} {r or ''}" for i, r in zip(instructions, responses, strict=True)
        ]
        found = self.identifier.identify(texts)
        return {IDENTIFIED: [code if code and sure >= SURE else UNKNOWN for code, sure in found]}


def _save(folder: Path, ds: Dataset, selector: MDaQSelector, result: SelectionResult) -> Dataset:
    import pyarrow as pa
    import pyarrow.parquet as pq

    selector.result_ = result
    curated = selector.select(ds)
    if IDENTIFIED in curated.column_names:
        curated = curated.rename_column(IDENTIFIED, "language")
    data = folder / "data"
    partial = folder / WORK / "data"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    chosen = result.languages[result.selected]
    for name in [n for n in result.budgets if (chosen == n).any()]:
        curated.select(np.flatnonzero(chosen == name)).to_parquet(str(partial / f"{name}.parquet"))
    shutil.rmtree(data, ignore_errors=True)
    os.replace(partial, data)
    scores = pa.table(
        {
            "row": np.arange(len(ds)), "language": result.languages.astype(object),
            "quality_score": pa.array(result.scores, from_pandas=True), "cluster": result.clusters,
            "selected": result.reasons != "", "selection_reason": result.reasons.astype(object),
        }
    )  # fmt: skip
    pq.write_table(scores, folder / WORK / "scores.parquet")
    os.replace(folder / WORK / "scores.parquet", folder / "scores.parquet")
    return curated


def _document(folder, result: SelectionResult, options, facts, seconds, repo_id) -> None:
    table = result.per_language().to_dict("records")
    found = [name for name in result.budgets if (folder / "data" / f"{name}.parquet").is_file()]
    card = render_card(
        "curated_card.md.j2",
        _metadata(found, len(result.selected)),
        title=f"Curated instruction data: {', '.join(language_name(n) if n != ALL else n for n in found[:6])}"
        + (" and more" if len(found) > 6 else ""),
        selected=len(result.selected),
        pool=len(result.scores),
        languages=found,
        method_text=METHOD_TEXTS.get(result.method, f"method {result.method!r}"),
        versions=versions(),
        repo_id=repo_id,
        table=markdown_table(table, TABLE_COLUMNS),
        notes=result.notes,
        parameters=_parameters({**options, "scorer": facts["scorer"], "model": facts["model"]}),
        source=f"`{facts['source']}`"
        + "".join(f", {k} `{facts[k]}`" for k in ("config", "split", "column_mapping") if facts[k]),
        columns=listed(facts["columns"]),
        identified=facts["identified"],
    )
    write_whole(folder / "README.md", card)
    record = {"parameters": options, **facts, "versions": versions(), "seconds": seconds, "per_language": table,
              "notes": result.notes}  # fmt: skip
    write_whole(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False, default=_plain))


def _parameters(options: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows name, value, origin: where a default comes from, or "given" for a value that is not the default."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(curate).parameters.items()}
    rows = []
    for name, value in options.items():
        shown = "bundled" if value is None and name in ("scorer", "model") else "default" if value is None else value
        is_default = name in defaults and value == defaults[name]
        origin = ORIGINS.get(name, {}).get(value, "ours") if is_default else "given"
        rows.append({"name": name, "value": f"`{shown}`", "origin": origin})
    return rows


def _metadata(languages: list[str], size: int) -> dict[str, Any]:
    bounds = (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6), ("1M<n<10M", 1e7))
    configs = [{"config_name": "default", "data_files": "data/*.parquet"}]
    if len(languages) > 1:
        configs += [{"config_name": name, "data_files": f"data/{name}.parquet"} for name in languages]
    codes = [name for name in languages if name != ALL]
    return {
        **({"language": codes} if codes else {}),
        "task_categories": ["text-generation"],
        "size_categories": [next((name for name, bound in bounds if size < bound), "n>10M")],
        "tags": ["instruction-tuning", "data-selection", "multilingual", "hf_mlalign", "m-daq"],
        "configs": configs,
    }


def _shown(value: Any) -> str | None:
    if value is None or isinstance(value, (str, Path)):
        return None if value is None else str(value)
    return str(getattr(value, "name", None) or type(value).__name__)


def _source_name(source: Any) -> str:
    """What card and record call the source; of a local path only the last part, since they may be published."""
    if not isinstance(source, (str, Path)):
        return "a Dataset in memory"
    local = Path(source).exists() or "*" in str(source)
    return Path(source).name if local else str(source)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
