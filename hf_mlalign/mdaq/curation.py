"""Curation: load → score → cluster → select → save the selected rows, with a card that says how they were chosen."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_mlalign.core.errors import DataError, listed, quiet
from hf_mlalign.core.files import commit
from hf_mlalign.core.options import takes
from hf_mlalign.data.columns import arrow_column, available_bytes, codes_of, release_mapped
from hf_mlalign.data.languages import LanguageIdentifier, language_name
from hf_mlalign.data.layouts import REVISION, Layout, open_pairs
from hf_mlalign.data.sources import load_source
from hf_mlalign.hub.card import markdown_table, write_card
from hf_mlalign.hub.run_record import Run, RunResult, describe_source, model_name, to_json
from hf_mlalign.mdaq.options import CurateOptions, SelectionOptions
from hf_mlalign.mdaq.scorer import MDaQScorer
from hf_mlalign.mdaq.selector import ALL, IDENTIFIED, UNKNOWN, MDaQSelector, SelectionResult
from hf_mlalign.mdaq.shards import (
    Engine,
    ShardStore,
    copy_in_shards,
    has_scores,
    mapped_files,
    score_in_shards,
    vector_length,
)
from hf_mlalign.models.clustering import text_codes

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from datasets import Dataset

SURE = 0.5
"""Least probability of an identified language (*ours*)."""
RARE = 0.01
"""Identified languages with a smaller share of the pool are left out, unless they are named (*ours*)."""
WORK = ".work"
SCORES = "scores.parquet"
SCORES_ROWS = 2**20
TABLE_COLUMNS = {
    "language": "language", "pool": "pool", "unscored": "no score", "selected": "selected", "by_quality": "by quality",
    "by_diversity": "by diversity", "quality_before": "quality before", "quality_after": "quality after",
    "clusters_covered": "clusters covered", "clusters": "clusters",
}  # fmt: skip
METHOD_TEXTS = {
    "das": "Diversity-Aware Selection (M-DaQ, arXiv 2509.15549)",
    "car": "the procedure of CaR",
    "deita": "the greedy filter of Deita",
    "mmr": "maximal marginal relevance",
    "quality": "quality score alone",
    "longest": "response length alone",
    "random": "chance (a baseline)",
}


@takes(CurateOptions)
def curate(
    source: str | Path | Dataset,
    output: str | Path,
    *,
    options: CurateOptions,
    on_step: Callable[[str], None] = lambda text: None,
    progress: bool = True,
) -> RunResult:
    """Curate an instruction dataset and save it.

    Args:
        source: see `hf_mlalign.data.sources.load_source`; or a `Dataset`. If it has the columns `quality_score` and
            `embedding` (as `hf-mlalign score` writes them) and neither `model` nor `scorer` is given, nothing is scored
            again.
        output: folder to write: `data/<language>.parquet`, `README.md` (card), `scores.parquet` (every row of the pool
            with score, cluster and reason), `run.json` (parameters, versions, counts, timings). If the same call was
            made before, its result is read from there.
        on_step: called with one sentence at each step.
        progress: show a progress bar while scoring.
        options: of `CurateOptions`, by name. `model` and `scorer` may be objects. The files are the same to the byte
            for either `engine` and for any `shard_rows`.
    Returns:
        The selected rows, their folder and record; `result` is the `SelectionResult`.
    Raises:
        DataError: bad input or options; the output folder holds something else, or a curation with other parameters.
    """
    selection = SelectionOptions.part_of(options)
    selector = MDaQSelector(
        options=selection, model=options.scorer, encoder=options.model, column_mapping=options.column_mapping
    )
    if options.report_to:
        from hf_mlalign.hub.trackers import check_trackers, report_run

        check_trackers(options.report_to)
    engine = None
    if options.engine == "ray":
        from hf_mlalign.mdaq.ray.engine import RayEngine

        engine = RayEngine(options.address)
    names = {"scorer": model_name(options.scorer), "model": model_name(options.model)}
    origin = describe_source(source, split=options.split, config=options.config_name)
    run = Run(
        output, "curate", options.parameters() | names, origin, overwrite=options.overwrite, own=[WORK],
        defaults=CurateOptions.defaults(),
    )  # fmt: skip
    if run.is_finished:
        on_step(f"Nothing to do: {str(output)!r} already holds this curation. --overwrite (overwrite=True) repeats it.")
        run.drop(WORK)
        curation = _read_curation(run)
    else:
        ds = source
        if isinstance(source, (str, Path)):
            ds = run.timed("load", load_source, source, options.split, options.config_name)
        curation = _Curating(run, selector, options, engine, on_step, progress).curate(ds)
        if options.report_to:
            report_run(run.record, options.report_to, run.folder)
    if options.push_to_hub:
        pushed = curation.push_to_hub(options.push_to_hub, private=options.private)
        on_step(f"Uploaded to {pushed.address}.")
    return curation


@dataclass
class _Curating:
    """The steps of one curation, in the folder of its run."""

    run: Run
    selector: MDaQSelector
    options: CurateOptions
    engine: Engine | None
    on_step: Callable[[str], None]
    progress: bool

    def curate(self, ds: Dataset) -> RunResult:
        run, selector, folder = self.run, self.selector, self.run.folder
        pairs = open_pairs(ds, selector.column_mapping)
        ds, schema, pooled = pairs.dataset, pairs.schema, pairs.pooled
        if pooled:
            self.on_step("Found raw and revised responses: pooled them as one row each.")
        with run.open():
            self.on_step(f"Loaded {len(ds):,} pairs; read as {schema.layout} ({listed(schema.text_columns)}).")
            ds, identified = run.timed("identify", self.identify, ds, schema)
            languages = selector.read_languages(ds)
            given = not pooled and selector.model is None and selector.encoder is None and has_scores(ds.column_names)
            store = run.timed("score", self.score, ds, schema, languages, given)
            result = run.timed("select", self.select, ds, schema, languages, store)
            self.on_step(
                f"Clustered the instructions and selected {len(result.selected):,} pairs "
                f"({selector.method}) in {run.record.seconds['select']:.1f} s."
            )
            if not len(result.selected):
                raise DataError(f"Nothing was selected. {' '.join(result.notes) or 'Both budgets are 0.'}")
            release_mapped(mapped_files(ds))
            with quiet():
                curated = run.timed("save", self.save, ds, result)
            table = result.per_language().to_dict("records")
            found = {"columns": schema.text_columns, "identified": identified, "scores": "source" if given else "model",
                     "method": result.method, "budgets": result.budgets, "per_language": table,
                     "engine": getattr(self.engine, "record", {"name": "local"})}  # fmt: skip
            if pooled:
                share = revised_share(ds, result).set_index("language").loc["all"]
                found["revised_share"] = {"pool": share["pool"], "selected": share["selected"]}
                shares = f"{share['pool']:.1%} of the pool, {share['selected']:.1%} of the selected"
                self.on_step(f"Revised responses: {shares}.")
            run.record.results = to_json(found)
            self.write_card(result)
            run.finish(found, result.notes)
            shutil.rmtree(folder / WORK, ignore_errors=True)
        return RunResult(curated, folder, run.record, result)

    def identify(self, ds: Dataset, schema: Layout) -> tuple[Dataset, bool]:
        """`ds`, with a `language` column identified from the texts where it has none."""
        selector = self.selector
        if schema.language or not selector.per_language:
            return ds, False
        import datasets

        identifier = LanguageIdentifier(sorted({*(selector.languages or ()), *LanguageIdentifier.DEFAULT}))
        texts = ds.select_columns(list(schema.text_columns))
        found = texts.map(_Identify(schema, identifier), batched=True, with_indices=True, desc="Identifying languages",
                          remove_columns=texts.column_names)  # fmt: skip
        ds = datasets.concatenate_datasets([ds, found], axis=1)
        numbers, names = codes_of(arrow_column(found, IDENTIFIED), IDENTIFIED)
        counts = Counter(dict(zip(names.to_pylist(), np.bincount(numbers).tolist(), strict=True)))
        if not selector.languages:
            least = max(2, len(ds) * RARE)
            selector.languages = sorted(code for code, n in counts.items() if code != UNKNOWN and n >= least)
        if not selector.languages:
            raise DataError(
                "No language column, and no language was identified. Name one with --column-mapping COLUMN=language."
            )
        shown = ", ".join(f"{code} {n:,}" for code, n in counts.most_common())
        self.on_step(f"No language column: identified languages of the pairs: {shown}.")
        kept = listed(selector.languages)
        self.on_step(f"Keeping {kept}; --languages chooses others (identified among 24 by default).")
        return ds, True

    def score(self, ds: Dataset, schema: Layout, languages: np.ndarray, given: bool) -> ShardStore:
        """Put scores and vectors into the store on disk: computed, or those that the rows have (`given`)."""
        from tqdm.auto import tqdm

        selector, folder = self.selector, self.run.folder / WORK
        scorer = MDaQScorer(selector.model, schema.mapping, embeddings=True, encoder=selector.encoder)
        dimension = vector_length(ds) if given else scorer.embedding_dimension
        selector.check_memory(languages, dimension, available_bytes())
        model = model_name(selector.model) or "the bundled Quality Scoring Model"
        self.on_step("Reading quality_score and embedding from the source …" if given else f"Scoring with {model} …")
        start = time.perf_counter()
        with tqdm(total=len(ds), desc="Scoring", unit="pair", disable=not self.progress or len(ds) < 5000) as bar:
            options = {"shard_rows": self.options.shard_rows, "progress": bar.update}
            if given:
                store = copy_in_shards(ds, folder, **options)
            else:
                store = score_in_shards(ds, schema, scorer, folder, engine=self.engine, **options)
        seconds, known = time.perf_counter() - start, int(np.count_nonzero(~np.isnan(store.scores())))
        self.on_step(
            f"{'Read' if given else 'Scored'} {known:,} of {len(ds):,} pairs in {seconds:.1f} s "
            f"({len(ds) / max(seconds, 1e-9):,.0f} pairs/s{'' if given else ', with the loading of the model'})."
        )
        return store

    def select(self, ds: Dataset, schema: Layout, languages: np.ndarray, store: ShardStore) -> SelectionResult:
        """Select from the store, which is read block by block."""
        lengths = self.selector.read_lengths(ds, schema)
        return self.selector.select_from(store.scores(), languages, store.vectors(), lengths=lengths)

    def save(self, ds: Dataset, result: SelectionResult) -> Dataset:
        """Write the selected rows, one file per language, and the scores of all rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder, selector = self.run.folder, self.selector
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
        commit(partial, data)

        def texts(values: np.ndarray) -> pa.Array:
            codes, names = text_codes(values)
            return pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string())).cast(pa.string())

        schema = pa.schema({"row": pa.int64(), "language": pa.string(), "quality_score": pa.float32(), "cluster":
                            pa.int32(), "selected": pa.bool_(), "selection_reason": pa.string()})  # fmt: skip
        with pq.ParquetWriter(folder / WORK / SCORES, schema) as writer:
            for begin in range(0, len(ds), SCORES_ROWS):
                rows = slice(begin, min(begin + SCORES_ROWS, len(ds)))
                scores, reasons = pa.array(result.scores[rows], from_pandas=True), result.reasons[rows]
                columns = (
                    np.arange(rows.start, rows.stop), texts(result.languages[rows]), scores, result.clusters[rows],
                    reasons != "", texts(reasons),
                )  # fmt: skip
                writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema))
        commit(folder / WORK / SCORES, folder / SCORES)
        return curated

    def write_card(self, result: SelectionResult) -> None:
        """Write the card: what was selected, how, and from what."""
        record, data = self.run.record, self.run.folder / "data"
        found = [name for name in result.budgets if (data / f"{name}.parquet").is_file()]
        shown = ", ".join(language_name(name) if name != ALL else name for name in found[:6])
        configs = [{"config_name": "default", "data_files": "data/*.parquet"}]
        if len(found) > 1:
            configs += [{"config_name": name, "data_files": f"data/{name}.parquet"} for name in found]
        write_card(
            self.run.folder, "curated_card.md.j2", record, CurateOptions, rows=len(result.selected),
            languages=[name for name in found if name != ALL], tags=["instruction-tuning", "data-selection",
            "multilingual", "m-daq"], configs=configs, metadata={"task_categories": ["text-generation"]},
            title=f"Curated instruction data: {shown}{' and more' if len(found) > 6 else ''}", parts=found,
            pool=len(result.scores), repo_id=self.options.push_to_hub, notes=result.notes,
            method_text=METHOD_TEXTS.get(result.method, f"method {result.method!r}"),
            table=markdown_table(result.per_language().to_dict("records"), TABLE_COLUMNS),
            columns=listed(record.results["columns"]), identified=record.results["identified"],
        )  # fmt: skip


class _Identify:
    """Adds `identified_language`, from response and instruction; "und" without text or if the language is unclear."""

    def __init__(self, schema: Layout, identifier: LanguageIdentifier):
        self.schema, self.identifier = schema, identifier

    def __call__(self, batch: Mapping[str, Sequence], indices: Sequence[int]) -> dict[str, list[str]]:
        instructions, responses = self.schema.read(batch, indices)
        texts = [
            r if r and len(r) > 20 else f"{i or ''} {r or ''}" for i, r in zip(instructions, responses, strict=True)
        ]
        found = self.identifier.identify(texts)
        return {IDENTIFIED: [code if code and sure >= SURE else UNKNOWN for code, sure in found]}


def _read_curation(run: Run) -> RunResult:
    """A finished curation, read from its folder: rows in the pool's order, and the selection."""
    import datasets
    import pyarrow.parquet as pq

    found, table = run.found.results, pq.read_table(run.folder / SCORES)
    numbers = {name: table[name].to_numpy() for name in ("quality_score", "cluster", "selected")}
    texts = {}
    for name in ("selection_reason", "language"):
        codes, values = codes_of(table[name].combine_chunks(), name)
        texts[name] = np.array(values.to_pylist())[codes]
    chosen = np.flatnonzero(numbers["selected"])
    budgets = {name: tuple(pair) for name, pair in found["budgets"].items()}
    names = [name for name in budgets if (texts["language"][chosen] == name).any()]
    with quiet():
        parts = [datasets.Dataset.from_parquet(str(run.folder / "data" / f"{name}.parquet")) for name in names]
    order = np.concatenate([np.flatnonzero(texts["language"][chosen] == name) for name in names])
    rows = datasets.concatenate_datasets(parts).select(np.argsort(order))
    result = SelectionResult(
        found["method"], chosen, numbers["quality_score"].astype(np.float32), numbers["cluster"].astype(np.int32),
        texts["selection_reason"], texts["language"], budgets, list(run.found.notes),
    )  # fmt: skip
    return RunResult(rows, run.folder, run.found, result, fresh=False)


def revised_share(pool: Dataset, result: SelectionResult) -> pd.DataFrame:
    """Share of revised responses, in [0, 1], in the pool and in the selection, per language and for "all"."""
    import pandas as pd

    frame = pd.DataFrame({"language": result.languages, "revised": [kind == "revised" for kind in pool[REVISION]],
                          "selected": result.reasons != ""})  # fmt: skip
    frame = frame[frame["language"] != ""]
    both = pd.concat([frame, frame.assign(language="all")])
    pooled = both.groupby("language")["revised"].mean()
    chosen = both[both["selected"]].groupby("language")["revised"].mean()
    return pd.DataFrame({"pool": pooled, "selected": chosen}).reset_index()
