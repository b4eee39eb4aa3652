"""Scores a dataset of any size: every row gets its quality score and embedding, in one process or many."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign._version import __version__
from hf_mlalign.core.errors import DataError, listed, quiet
from hf_mlalign.core.files import commit
from hf_mlalign.core.options import takes
from hf_mlalign.core.processes import Processes, check_world_size, join_processes
from hf_mlalign.data.columns import is_text, named_column, release_mapped
from hf_mlalign.data.languages import normalise
from hf_mlalign.data.layouts import Pairs, check_conversations, open_pairs
from hf_mlalign.data.sources import load_source
from hf_mlalign.hub.card import markdown_table, write_card
from hf_mlalign.hub.publish import push
from hf_mlalign.hub.run_record import Run, RunResult, describe_source, model_name
from hf_mlalign.mdaq.options import ScoreOptions
from hf_mlalign.mdaq.quality.scorer import QualityScorer
from hf_mlalign.mdaq.scorer import EMBEDDING_COLUMN, SCORE_COLUMN, MDaQScorer
from hf_mlalign.mdaq.selector import ALL
from hf_mlalign.mdaq.shards import ShardStore, in_process, mapped_files
from hf_mlalign.models.encoder import load_encoder

if TYPE_CHECKING:
    from datasets import Dataset


WORK, FILES = ".work", "files"
BATCH_ROWS = 4096
"""Rows whose texts are in memory as Python strings at a time (*ours*)."""
SHOWN_FROM = 5000
"""Fewer rows are scored without a progress bar (*ours*)."""


@takes(ScoreOptions)
def score(
    source: str | Path | Dataset,
    output: str | Path,
    *,
    options: ScoreOptions,
    on_step: Callable[[str], None] = lambda text: None,
    progress: bool = True,
) -> RunResult:
    """Score every instruction-response pair of a dataset and save all rows with their scores.

    A killed run continues when called again and ends with the same files. Under `accelerate launch` or `torchrun` each
    process scores a share of the shards, on its own GPU if there are GPUs. The files are the same for any number of
    processes. Only the current shard is held in memory.

    Args:
        source: see `hf_mlalign.data.sources.load_source`; or a `Dataset`. Raw and revised responses are pooled, see
            `hf_mlalign.data.layouts.pool_revisions`.
        output: folder to write: `data/train-<i>-of-<n>.parquet` (one file per shard), `README.md` (card) and
            `run.json`. `load_dataset` opens it, and `curate` uses its scores and embeddings. On several machines, a
            folder that all of them see.
        on_step: called with one sentence at each step, in the main process.
        progress: show a progress bar for the main process's share.
        options: of `ScoreOptions`, by name. `model` (see `QualityScorer.load`) and `encoder` may be objects; the
            model's own encoder reads each text only once. With `embeddings` the column `embedding` is written: the
            instruction's vector rounded to float16, or zeros for a row without instruction.
    Returns:
        All columns of the source with `quality_score` (float32) and `embedding` (d × float16), their folder and record.
        Outside the main process, `dataset` and `record` are `None`.
    Raises:
        DataError: bad input or options (if possible before the model is loaded), the output folder holds something
            else, or another process ended early.
    """
    processes = join_processes()
    try:
        check_world_size(options.world_size, processes.count)
        if isinstance(source, (str, Path)) and Path(source).is_dir():
            here, there = Path(source).resolve(), Path(output).resolve()
            if here == there or here in there.parents or there in here.parents:
                raise DataError(
                    f"output: {str(output)!r} and the source {str(source)!r} overlap. Name another folder."
                )
        how = {"device": processes.device, "batch_size": options.batch_size}
        model = options.model
        if model is None or isinstance(model, (str, Path)):
            model = QualityScorer.load(model, **how)
        encoder = None if options.encoder is None else load_encoder(options.encoder, **how)
        scorer = MDaQScorer(model, embeddings=options.embeddings, encoder=encoder)
        scoring = _Scoring(processes, scorer, options.shard_rows, on_step, progress)
        if not processes.is_main:
            scoring.assist(lambda: open_pairs(_loaded(source, options), options.column_mapping), Path(output))
            return RunResult(None, Path(output), None)
        described = describe_source(source, split=options.split, config=options.config_name)
        parameters = options.parameters() | {
            "model": model_name(options.model), "encoder": model_name(options.encoder),
            "model_hash": getattr(model, "content_hash", None), "encoder_hash": getattr(encoder, "content_hash", None),
        }  # fmt: skip
        run = Run(output, "score", parameters, described, overwrite=options.overwrite, own=[WORK],
                  defaults=ScoreOptions.defaults())  # fmt: skip
        if run.is_finished:
            processes.broadcast(None)
            on_step(f"Nothing to do: {str(output)!r} holds these scores. --overwrite (overwrite=True) repeats it.")
            run.drop(WORK)
        else:
            pairs = open_pairs(run.timed("load", _loaded, source, options), options.column_mapping)
            scoring.lead(run, pairs, options.push_to_hub)
    finally:
        processes.close()
    if options.push_to_hub:
        on_step(f"Uploaded to {push(run.folder, options.push_to_hub, private=options.private).address}.")
    fresh = not (run.found and run.is_finished)
    return RunResult(load_source(run.folder), run.folder, run.record if fresh else run.found, fresh=fresh)


def _loaded(source: str | Path | Dataset, options: ScoreOptions) -> Dataset:
    return load_source(source, options.split, options.config_name) if isinstance(source, (str, Path)) else source


@dataclass
class _Scoring:
    """One process's part in scoring a dataset.

    Every process writes its share of scores and vectors to a `ShardStore` in `.work`. When all are written, each
    process writes its share of the Parquet files, and the main process moves them into place.
    """

    processes: Processes
    scorer: MDaQScorer
    shard_rows: int
    on_step: Callable[[str], None]
    progress: bool

    def lead(self, run: Run, pairs: Pairs, repo_id: str | None) -> None:
        """The main process: plan, score its share, wait for the others, move the files into place."""
        check_conversations(pairs)
        written = {SCORE_COLUMN, EMBEDDING_COLUMN} if self.scorer.embeddings else {SCORE_COLUMN}
        replaced = [name for name in pairs.dataset.column_names if name in written]
        notes = [f"The source's own column {name!r} was replaced." for name in replaced]
        facts = {name: value for name, value in run.record.source.items() if name != "name"}
        key = hashlib.sha256(repr((run.record.parameters, facts, __version__)).encode()).hexdigest()[:16]
        with run.open():
            work = run.folder / WORK
            for path in work.glob("*"):  # from a run with other parameters, or incomplete files of a killed run
                if path.name != key:
                    shutil.rmtree(path)
            store = self.open_store(work / key, pairs)
            missing = store.missing()
            (work / key).mkdir(parents=True, exist_ok=True)
            self.tell(pairs, missing, len(store.shards()) - len(missing))
            plan = {"work": key, "rows": len(pairs.dataset), "missing": missing}
            self.processes.broadcast(plan)
            run.timed("score", self.share, pairs, store, missing, work)
            shutil.rmtree(run.folder / "data", ignore_errors=True)
            commit(work / FILES, run.folder / "data")
            run.record.results = {
                "columns": list(pairs.schema.text_columns), "pooled": pairs.pooled, "shards": len(store.shards()),
                "per_language": score_table(store.scores(), pairs),
            }  # fmt: skip
            self.write_card(run, notes, repo_id)
            run.finish(run.record.results, notes)
            shutil.rmtree(work, ignore_errors=True)
            self.processes.wait()

    def assist(self, opened: Callable[[], Pairs], folder: Path) -> None:
        """Another process: score a share of the shards that the main process lists as missing."""
        plan = self.processes.broadcast()
        if plan is None:
            return
        pairs, work = opened(), folder / WORK
        who = f"process {self.processes.index} of {self.processes.count}"
        if len(pairs.dataset) != plan["rows"]:
            raise DataError(f"source: {plan['rows']:,} rows in the main process, {len(pairs.dataset):,} in {who}.")
        if not (work / plan["work"]).is_dir():
            raise DataError(f"output: {who} does not see {str(work)!r}. Name a folder that every machine sees.")
        self.share(pairs, self.open_store(work / plan["work"], pairs), plan["missing"], work)
        self.processes.wait()

    def open_store(self, folder: Path, pairs: Pairs) -> ShardStore:
        self.scorer.column_mapping = pairs.schema.mapping
        dimension = self.scorer.embedding_dimension if self.scorer.embeddings else 0
        return ShardStore(folder, len(pairs.dataset), dimension, self.shard_rows)

    def tell(self, pairs: Pairs, missing: Sequence[Any], there: int) -> None:
        count = self.processes.count
        if pairs.pooled:
            self.on_step("Found raw and revised responses: pooled them as one row each.")
        columns = listed(pairs.schema.text_columns)
        self.on_step(f"Loaded {len(pairs.dataset):,} pairs; read as {pairs.schema.layout} ({columns}).")
        again = f"; {there:,} more are done already" if there else ""
        self.on_step(f"Scoring {len(missing):,} shards with {count} process{'es' if count > 1 else ''}{again} …")

    def share(self, pairs: Pairs, store: ShardStore, missing: Sequence[tuple[int, int]], work: Path) -> None:
        """Score this process's share of the missing shards, then write its share of the files."""
        from tqdm.auto import tqdm

        mine = missing[self.processes.index :: self.processes.count]
        total = sum(end - begin for begin, end in mine)
        hidden = not (self.progress and self.processes.is_main) or total < SHOWN_FROM
        which = f" (process 1 of {self.processes.count})" if self.processes.count > 1 else ""
        texts = pairs.dataset.select_columns(list(pairs.schema.text_columns))
        with tqdm(total=total, desc=f"Scoring{which}", unit="pair", disable=hidden) as bar:
            for begin, scores, vectors in in_process(texts, self.scorer, mine, BATCH_ROWS, bar.update):
                store.write(begin, scores, vectors)
                release_mapped(mapped_files(pairs.dataset))
        self.processes.wait()
        (work / FILES).mkdir(exist_ok=True)
        shards = store.shards()
        for i in range(self.processes.index, len(shards), self.processes.count):
            path = work / FILES / f"train-{i:05d}-of-{len(shards):05d}.parquet"
            write_shard(path, pairs.dataset, *shards[i], *store.read(shards[i][0]))
            release_mapped(mapped_files(pairs.dataset))
        self.processes.wait()

    def write_card(self, run: Run, notes: Sequence[str], repo_id: str | None) -> None:
        facts = run.record.results
        table = [{"language": name, **{k: "–" if v is None else v for k, v in row.items()}}
                 for name, row in facts["per_language"].items()]  # fmt: skip
        write_card(
            run.folder, "scored_card.md.j2", run.record, ScoreOptions, rows=facts["per_language"][ALL]["rows"],
            languages=[name for name in facts["per_language"] if name != ALL and normalise(name) == name],
            tags=["instruction-tuning", "quality-scores", "m-daq"],
            configs=[{"config_name": "default", "data_files": "data/*.parquet"}],
            metadata={"task_categories": ["text-generation"]}, repo_id=repo_id, notes=notes,
            table=markdown_table(table, {key: key.replace("_", " ") for key in table[0]}),
            columns=listed(facts["columns"]),
            embeddings=run.record.parameters["embeddings"], pooled=facts["pooled"],
        )  # fmt: skip


def write_shard(path: Path, ds: Dataset, begin: int, end: int, scores: np.ndarray, vectors: np.ndarray) -> None:
    """Write rows `begin` to `end` of a dataset with their scores and vectors as Parquet. The same rows give the same
    bytes.

    Args:
        scores: (end − begin,) float32, NaN if a row cannot be scored.
        vectors: (end − begin, d) float16; with d = 0, no column `embedding` is written.
    """
    from datasets import Dataset, Features, List, Value

    parts = [slice(b, min(b + BATCH_ROWS, end - begin)) for b in range(0, end - begin, BATCH_ROWS)]
    new = {SCORE_COLUMN: (Value("float32"), [pa.array(scores[part], from_pandas=True) for part in parts])}
    if d := vectors.shape[1]:
        lists = [pa.FixedSizeListArray.from_arrays(pa.array(vectors[part].reshape(-1)), d) for part in parts]
        new[EMBEDDING_COLUMN] = (List(Value("float16"), length=d), lists)
    table = ds.with_format("arrow")[begin:end]
    table = table.drop_columns([name for name in new if name in table.column_names])
    for name, (_, arrays) in new.items():
        table = table.append_column(name, pa.chunked_array(arrays))
    features = Features({name: new[name][0] if name in new else ds.features[name] for name in table.column_names})
    shard = Dataset(table.cast(features.arrow_schema), fingerprint=path.name)
    with quiet():
        shard.to_parquet(str(path))


MOST_LANGUAGES = 300
"""A column with more distinct values is not read as languages (*ours*)."""
Figures = dict[str, dict[str, float | None]]


def score_table(scores: np.ndarray, pairs: Pairs) -> Figures:
    """Language → rows, unscored rows, and mean, lowest and highest score, and the same for "all".

    Args:
        scores: (n,) numbers, rows in the order of `pairs`; NaN if a row cannot be scored.
        pairs: the rows whose languages are read, if there is such a column.
    """
    scores = scores.astype(np.float64)
    codes, names = _languages(pairs)
    groups = {name: scores[codes == i] for i, name in enumerate(names)} if len(names) > 1 else {}
    return {name: _of(values) for name, values in sorted(groups.items())} | {ALL: _of(scores)}


def _of(scores: np.ndarray) -> dict[str, float | None]:
    found = scores[~np.isnan(scores)]
    kinds = {"mean_quality": np.mean, "lowest": np.min, "highest": np.max}
    shown = {name: float(kind(found)) + 0.0 if len(found) else None for name, kind in kinds.items()}
    return {"rows": len(scores), "unscored": len(scores) - len(found), **shown}


def _languages(pairs: Pairs) -> tuple[np.ndarray, list[str]]:
    """(n,) codes and their names: ISO 639-1 codes of known languages; no names if there is no language column."""
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
