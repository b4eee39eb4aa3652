"""Scores for a dataset of any size: every row with its quality score and embedding, in one process or many."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mlalign._version import __version__
from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import atomic_path, commit, write_atomic
from hf_mlalign.core.options import takes
from hf_mlalign.core.processes import Processes, check_world_size, join_processes
from hf_mlalign.core.quiet import quiet
from hf_mlalign.data.arrow import is_text, named_column, release_mapped
from hf_mlalign.data.languages import normalise
from hf_mlalign.data.layouts import Pairs, check_texts, open_pairs
from hf_mlalign.data.sources import load_source
from hf_mlalign.hub.card import markdown_table, write_card
from hf_mlalign.hub.publish import push
from hf_mlalign.hub.run_record import Run, RunRecord, RunResult, describe_source, model_name
from hf_mlalign.mdaq.options import ScoreOptions
from hf_mlalign.mdaq.scorer import EMBEDDING_COLUMN, SCORE_COLUMN, MDaQScorer
from hf_mlalign.mdaq.selector import ALL
from hf_mlalign.mdaq.shards import mapped_files
from hf_mlalign.models.kmeans import to_float16

if TYPE_CHECKING:
    from datasets import Dataset, Features


WORK, MOVED = ".work", "moved"
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
    process scores a share of the shards, on a GPU of its own where there are GPUs; the files are the same for any
    number of processes. Only the shard under way is held in memory.

    Args:
        source: see `hf_mlalign.data.sources.load_source`; or a `Dataset`. Raw and revised responses are pooled, see
            `hf_mlalign.data.layouts.pool_revisions`.
        output: folder to be written: `data/train-<i>-of-<n>.parquet` (one file per shard), `README.md` (card) and
            `run.json`. `load_dataset` opens it, and `curate` uses the scores and embeddings in it. With several
            machines, a folder that all of them see.
        on_step: called with a sentence at each step, in the main process.
        progress: show a progress bar of the main process's share.
        options: of `ScoreOptions`, by name. `model` (see `QualityScorer.load`) and `encoder` may be objects; the
            model's own encoder reads each text only once. With `embeddings` the column `embedding` is written: the
            instruction's vector rounded to float16, zeros for a row without instruction.
    Returns:
        All columns of the source with `quality_score` (float32) and `embedding` (d × float16), their folder and record.
        In other processes than the main one `dataset` and `record` are `None`.
    Raises:
        DataError: bad input or options (before the model is loaded, where the dataset tells), the output folder holds
            something else, or another process ended early.
    """
    processes = join_processes()
    try:
        check_world_size(options.world_size, processes.count)
        _check_apart(source, Path(output))
        scorer = Scorers(options.model, options.encoder, options.embeddings, options.batch_size, processes.device)
        scoring = _Scoring(processes, scorer, options.shard_rows, on_step if processes.is_main else _silent, progress)
        if not processes.is_main:
            scoring.assist(lambda: open_pairs(_loaded(source, options), options.column_mapping), Path(output))
            return RunResult(None, Path(output), None)
        described = describe_source(source, split=options.split, config=options.config_name)
        parameters = options.parameters() | scorer.described()
        run = Run(output, "score", parameters, described, overwrite=options.overwrite, own=[WORK])
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


def _silent(text: str) -> None:
    """What other processes than the main one say."""


def _loaded(source: str | Path | Dataset, options: ScoreOptions) -> Dataset:
    return load_source(source, options.split, options.config_name) if isinstance(source, (str, Path)) else source


def _check_apart(source: Any, output: Path) -> None:
    """A `DataError` if one of two folders holds the other."""
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return
    here, there = Path(source).resolve(), output.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise DataError(f"output: {str(output)!r} and the source {str(source)!r} hold each other. Name another folder.")


@dataclass
class _Scoring:
    """One process's part in scoring a dataset."""

    processes: Processes
    scorer: Scorers
    shard_rows: int
    on_step: Callable[[str], None]
    progress: bool

    def lead(self, run: Run, pairs: Pairs, repo_id: str | None) -> None:
        """The main process: plan, score its share, wait for the others, put the files in place."""
        check_texts(pairs)
        written = {SCORE_COLUMN, EMBEDDING_COLUMN} if self.scorer.embeddings else {SCORE_COLUMN}
        replaced = [name for name in pairs.dataset.column_names if name in written]
        notes = [f"The source's own column {name!r} was replaced." for name in replaced]
        with run.open():
            work = run.folder / WORK / _key(run.record)
            names = self.names(len(pairs.dataset))
            done = _moved(run.folder) == work.name and all((run.folder / "data" / name).is_file() for name in names)
            missing = [] if done else self.prepare(work, pairs)
            self.tell(pairs, missing)
            plan = {"work": work.name, "rows": len(pairs.dataset), "missing": missing}
            run.timed("score", self.share, pairs, plan, work)
            if not done:
                _put_in_place(run.folder, work)
            paths = [run.folder / "data" / name for name in names]
            run.record.results = {
                "columns": list(pairs.schema.text_columns), "pooled": pairs.pooled, "shards": len(names),
                "per_language": score_table(paths, pairs),
            }  # fmt: skip
            _write_card(run, notes, repo_id)
            run.finish(run.record.results, notes)
            shutil.rmtree(run.folder / WORK, ignore_errors=True)
            self.processes.wait()

    def assist(self, opened: Callable[[], Pairs], folder: Path) -> None:
        """Another process: score a share of what the main one says is missing."""
        plan = self.processes.broadcast()
        if plan is None:
            return
        pairs, work = opened(), folder / WORK / plan["work"]
        who = f"process {self.processes.index} of {self.processes.count}"
        if len(pairs.dataset) != plan["rows"]:
            raise DataError(f"source: {plan['rows']:,} rows in the main process, {len(pairs.dataset):,} in {who}.")
        if plan["missing"] and not work.is_dir():
            raise DataError(f"output: {who} does not see {str(work)!r}. Name a folder that every machine sees.")
        self.score_shards(pairs, plan["missing"], work)
        self.processes.wait()
        self.processes.wait()

    def share(self, pairs: Pairs, plan: dict[str, Any], work: Path) -> None:
        self.processes.broadcast(plan)
        self.score_shards(pairs, plan["missing"], work)
        self.processes.wait()

    def names(self, rows: int) -> list[str]:
        """File names of the shards."""
        count = -(-rows // self.shard_rows)
        return [f"train-{i:05d}-of-{count:05d}.parquet" for i in range(count)]

    def prepare(self, work: Path, pairs: Pairs) -> list[int]:
        """Numbers of the shards that are not there; what a killed or another run left half done is removed."""
        work.mkdir(parents=True, exist_ok=True)
        for path in work.parent.iterdir():
            if path.is_dir() and path != work:
                shutil.rmtree(path, ignore_errors=True)
        for path in work.glob(".*.partial"):
            path.unlink()
        rows = len(pairs.dataset)
        return [i for i, name in enumerate(self.names(rows)) if not is_whole(work / name, self.rows_of(i, rows))]

    def rows_of(self, shard: int, rows: int) -> range:
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, rows))

    def tell(self, pairs: Pairs, missing: list[int]) -> None:
        rows, count = len(pairs.dataset), self.processes.count
        if pairs.pooled:
            self.on_step("Found raw and revised responses: pooled them, one row each.")
        self.on_step(f"Loaded {rows:,} pairs; read as {pairs.schema.layout} ({listed(pairs.schema.text_columns)}).")
        there = len(self.names(rows)) - len(missing)
        again = f"; {there:,} more are there already" if there else ""
        self.on_step(f"Scoring {len(missing):,} shards with {count} process{'es' if count > 1 else ''}{again} …")

    def score_shards(self, pairs: Pairs, missing: list[int], work: Path) -> None:
        """Score this process's share of the missing shards, a file each."""
        from tqdm.auto import tqdm

        rows = len(pairs.dataset)
        mine = [self.rows_of(i, rows) for i in missing[self.processes.index :: self.processes.count]]
        names, total = self.names(rows), sum(map(len, mine))
        hidden = not (self.progress and self.processes.is_main) or total < SHOWN_FROM
        which = f" (process 1 of {self.processes.count})" if self.processes.count > 1 else ""
        with tqdm(total=total, desc=f"Scoring{which}", unit="pair", disable=hidden) as bar:
            for part in mine:
                table, features = self.scorer.score(pairs, part, bar.update)
                write_shard(work / names[part.start // self.shard_rows], table, features)
                release_mapped(mapped_files(pairs.dataset))


def _key(record: RunRecord) -> str:
    """Names what the shards of a run depend on."""
    part = {name: value for name, value in record.source.items() if name != "name"}
    return hashlib.sha256(repr((record.parameters, part, __version__)).encode()).hexdigest()[:16]


def _moved(folder: Path) -> str | None:
    path = folder / WORK / MOVED
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _put_in_place(folder: Path, work: Path) -> None:
    """All shards at once under their final name, noted so that a kill right after it is understood."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    write_atomic(folder / WORK / MOVED, work.name)
    commit(work, folder / "data")


BATCH_ROWS = 4096
"""Rows whose texts are held as Python strings at a time (*ours*)."""


class Scorers:
    """The models of a run, and the columns they give a shard.

    Every shard begins with nothing remembered, so that no bit of it depends on what was scored before. Arguments: see
    `hf_mlalign.mdaq.scoring.score`.

    Args:
        device: of the models that are given by name.
    Raises:
        DataError: an encoder without embeddings, or a model that is damaged.
    """

    def __init__(self, model: Any, encoder: Any, embeddings: bool, batch_size: int | None, device: str | None):
        from hf_mlalign.mdaq.quality.scorer import QualityScorer
        from hf_mlalign.models.encoder import load_encoder

        options = {"device": device, "batch_size": batch_size}
        self.shown = {"model": model, "encoder": encoder}
        self.embeddings = embeddings
        self.model = QualityScorer.load(model, **options) if model is None or isinstance(model, (str, Path)) else model
        self.encoder = encoder if encoder is None else load_encoder(encoder, **options)

    def described(self) -> dict[str, Any]:
        """Names and content hashes of the models."""
        hashes = {"model_hash": self.model, "encoder_hash": self.encoder}
        shown = {name: model_name(value) for name, value in self.shown.items()}
        return shown | {name: getattr(value, "content_hash", None) for name, value in hashes.items()}

    def score(self, pairs: Pairs, rows: range, done: Callable[[int], Any]) -> tuple[pa.Table, Features]:
        """The rows of a shard with all columns of the source and the new ones, and the features of all.

        Args:
            done: called with the number of rows scored since the last call.
        Raises:
            DataError: a value is not text, or a number of a vector does not fit float16 (the row is named).
        """
        scorer = MDaQScorer(self.model, pairs.schema.mapping, embeddings=self.embeddings, encoder=self.encoder)
        texts = pairs.dataset.select_columns(list(pairs.schema.text_columns))
        found: dict[str, list[pa.Array]] = {}
        for begin in range(rows.start, rows.stop, BATCH_ROWS):
            part = range(begin, min(begin + BATCH_ROWS, rows.stop))
            for name, values in scorer(texts[part.start : part.stop], part).items():
                found.setdefault(name, []).append(_as_arrow(name, values, part))
            done(len(part))
        scorer.forget()
        table = pairs.dataset.with_format("arrow")[rows.start : rows.stop]
        table = table.drop_columns([name for name in found if name in table.column_names])
        for name, arrays in found.items():
            table = table.append_column(name, pa.chunked_array(arrays))
        return table, _features(pairs.dataset.features, table)


def _as_arrow(name: str, values: Any, rows: range) -> pa.Array:
    if name == SCORE_COLUMN:
        return pa.array(values, pa.float32())
    half = to_float16(values)
    if len(bad := np.flatnonzero(~np.isfinite(half).all(axis=1))):
        raise DataError(f"embedding, row {rows.start + bad[0]}: a number does not fit float16. Use another encoder.")
    return pa.FixedSizeListArray.from_arrays(pa.array(half.reshape(-1)), half.shape[1])


def _features(old: Features, table: pa.Table) -> Features:
    from datasets import Features, List, Value

    new = {SCORE_COLUMN: Value("float32")}
    if pa.types.is_fixed_size_list(table.schema.types[-1]) and table.column_names[-1] == EMBEDDING_COLUMN:
        new[EMBEDDING_COLUMN] = List(Value("float16"), length=table.schema.types[-1].list_size)
    return Features({name: new.get(name) or old[name] for name in table.column_names})


def write_shard(path: Path, table: pa.Table, features: Features) -> None:
    """Write a shard as Parquet; a reader sees all of it or nothing, and the same rows give the same bytes."""
    from datasets import Dataset

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shard = Dataset(table.cast(features.arrow_schema), fingerprint=path.name)
    with atomic_path(partial, path), quiet():
        shard.to_parquet(str(partial))


def is_whole(path: Path, rows: range) -> bool:
    """Whether the file of these rows is there and can be read."""
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows == len(rows)
    except (OSError, pa.ArrowInvalid):
        return False


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


def _write_card(run: Run, notes: Sequence[str], repo_id: str | None) -> None:
    facts = run.record.results
    table = [{"language": name, **{k: "–" if v is None else v for k, v in row.items()}}
             for name, row in facts["per_language"].items()]  # fmt: skip
    write_card(
        run.folder, "scored_card.md.j2", run.record, ScoreOptions, rows=facts["per_language"][ALL]["rows"],
        languages=[name for name in facts["per_language"] if name != ALL and normalise(name) == name],
        tags=["instruction-tuning", "quality-scores", "m-daq"],
        configs=[{"config_name": "default", "data_files": "data/*.parquet"}],
        metadata={"task_categories": ["text-generation"]}, repo_id=repo_id, notes=notes,
        table=markdown_table(table, {key: key.replace("_", " ") for key in table[0]}), columns=listed(facts["columns"]),
        embeddings=run.record.parameters["embeddings"], pooled=facts["pooled"],
    )  # fmt: skip
