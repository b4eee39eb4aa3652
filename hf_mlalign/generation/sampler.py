"""N answers to every prompt in every language, from a transformers model or an OpenAI-compatible server."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import atomic_path, check_writable
from hf_mlalign.core.options import takes
from hf_mlalign.data.languages import check_languages
from hf_mlalign.data.sources import load_source
from hf_mlalign.generation.options import BackendOptions, SampleOptions, SamplerOptions
from hf_mlalign.generation.requests import Backend, PromptTable, Request, Sampling, build_requests, read_prompts
from hf_mlalign.generation.store import ANSWERS, SAMPLING, AnswerStore
from hf_mlalign.hub.card import write_card
from hf_mlalign.hub.run_record import Run, RunResult, describe_source, read_record

if TYPE_CHECKING:
    from datasets import Dataset


class ResponseSampler:
    """Draws N answers to each prompt in each language."""

    @takes(SamplerOptions)
    def __init__(
        self,
        backend: str | Path | tuple[Any, Any] | Backend,
        *,
        progress: bool = True,
        options: SamplerOptions,
    ):
        """A sampler.

        Args:
            backend: name or folder of a causal LM, a pair (model, tokenizer), or a `Backend` (`TransformersBackend`,
                `ServerBackend`, or your own).
            progress: show a progress bar.
        Raises:
            DataError: an option out of range.
        """
        self.backend, self.options, self.progress = load_backend(backend), options, progress
        self.settings = Sampling(options.temperature, options.top_p, options.max_tokens)

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides an answer to a request: answers are never mixed with those of other values.

        `n` is not one of them: a folder with 5 answers per prompt can be filled up to 10.
        """
        options = self.options
        return {
            **self.backend.describe(), **vars(self.settings), "seed": options.seed,
            "system_prompt": options.system_prompt, "answer_in_language": options.answer_in_language,
        }  # fmt: skip

    def sample(
        self,
        ds: Dataset,
        output: str | Path | None = None,
        *,
        column_mapping: Mapping[str, str] | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Draw what is missing and return all answers.

        Args:
            ds: one row per prompt and language: id, language, prompt (a text or role/content messages that end with
                the user's); the same id in every language.
            output: folder in which every answer is kept as soon as it arrives (`answers.jsonl`), with the parameters
                (`sampling.json`), and at the end the table (`data/samples.parquet`), a card and `run.json`. After a
                kill, the same call asks only for what is missing. `None`: nothing is written.
            column_mapping: your column → id, language or prompt.
            source: where `ds` comes from, for the record, see `hf_mlalign.hub.run_record.describe_source`.
        Returns:
            One row per answer, in the order of `ds`: prompt_id, language (ISO 639-1), prompt (as given), sample
            (0 … n−1, int32), response, finish_reason ("stop", "length", …), model.
        Raises:
            DataError: bad prompts, a folder with other parameters, a server that cannot be used, or answers that
                failed for good (the others are kept).
        """
        table, n, begun = read_prompts(ds, column_mapping), self.options.n, time.perf_counter()
        requests = build_requests(table, n, self.options.seed, self.options.system_prompt,
                                  self.options.answer_in_language)  # fmt: skip
        store = AnswerStore(output, self.parameters)
        with store.open():
            missing = sum(not store.has(request) for request in requests)
            failures = run_missing(
                self.backend, self.settings, store, requests, "Sampling", "answer", progress=self.progress
            )
        if failures and not self.options.allow_missing:
            request, reason = failures[0]
            kept = f" The others are in {str(output)!r}; run the same command again to ask for these." if output else ""
            raise DataError(
                f"{len(failures)} of {len(requests)} answers failed, first sample {request.sample} of prompt "
                f"{request.prompt_id!r} in {request.language!r}: {reason} ({len({why for _, why in failures})} "
                f"reasons).{kept} Leave them out with --allow-missing (allow_missing=True)."
            )
        samples = _to_dataset(table, requests, store, n)
        if output is not None:
            run = Run(
                output, "sample", {**self.parameters, "n": n}, source or describe_source(ds),
                grows=("n", "source"), own=(SAMPLING, ANSWERS, "data", "README.md"),
            )  # fmt: skip
            run.record.seconds["sample"] = round(time.perf_counter() - begun, 3)
            _save(run, samples, missing - len(failures), failures)
        return samples


def run_missing(
    backend: Backend,
    settings: Sampling,
    store: AnswerStore,
    requests: Sequence[Request],
    label: str,
    unit: str,
    *,
    progress: bool = True,
) -> list[tuple[Request, str]]:
    """Ask the backend for what the open store lacks, keep every answer at once, and return what failed with reasons.

    Args:
        label, unit: shown on the progress bar.
    """
    from tqdm.auto import tqdm

    missing = [request for request in requests if not store.has(request)]
    failures: list[tuple[Request, str]] = []
    lock = threading.Lock()
    with tqdm(total=len(requests), initial=len(requests) - len(missing), desc=label, unit=unit,
              disable=not progress) as bar:  # fmt: skip

        def on_answer(request, answer):
            store.add(request, answer)
            with lock:
                bar.update(1)

        def on_failure(request, reason):
            with lock:
                failures.append((request, reason))
                bar.set_postfix(failed=len(failures))

        if missing:
            backend.run(missing, settings, on_answer, on_failure)
    return failures


@takes(SampleOptions)
def sample(
    source: str | Path | Dataset,
    output: str | Path = "samples",
    *,
    api_key: str | None = None,
    progress: bool = True,
    options: SampleOptions,
) -> RunResult:
    """Sample N answers to every prompt in every language; a rerun asks only for what is missing.

    Args:
        source: see `hf_mlalign.data.sources.load_source`; or a `Dataset`.
        output: see `ResponseSampler.sample`.
        api_key: key of the server (default: the environment variable MLALIGN_API_KEY).
        progress: show a progress bar.
    Returns:
        The answers as `dataset`; `fresh` is `False` if every answer was in the folder already.
    Raises:
        DataError: see `ResponseSampler.sample`.
    """
    backend = load_backend(api_key=api_key, **BackendOptions.part_of(options).values())
    sampler = ResponseSampler(backend, progress=progress, options=SamplerOptions.part_of(options))
    check_writable(Path(output))
    split, config, mapping = options.split, options.config_name, options.column_mapping
    ds = load_source(source, split, config) if isinstance(source, (str, Path)) else source
    if options.languages is not None or options.limit is not None:
        table = read_prompts(ds, mapping)
        there = set(table.languages)
        wanted = there if options.languages is None else set(check_languages(options.languages))
        if absent := sorted(wanted - there):
            raise DataError(f"languages: no prompts in {listed(absent)}. There are: {listed(sorted(there))}.")
        ids = set(list(dict.fromkeys(table.ids))[: options.limit])
        rows = enumerate(zip(table.ids, table.languages, strict=True))
        ds = ds.select([i for i, (prompt_id, code) in rows if prompt_id in ids and code in wanted])
    described = describe_source(source, split=split, config=config)
    samples = sampler.sample(ds, output, column_mapping=mapping, source=described)
    record = read_record(output)
    return RunResult(samples, Path(output), record, fresh=record.results["drawn"] > 0)


def load_backend(
    model: str | Path | tuple[Any, Any] | Backend | None,
    base_url: str | None = None,
    *,
    api_key: str | None = None,
    concurrency: int = 8,
    timeout: float = 300.0,
    **local: Any,
) -> Backend:
    """Load what draws answers: a server if `base_url` is given, else a causal LM in this process.

    Args:
        model: the name the server knows the model by; or name or folder of a causal LM, or (model, tokenizer). A
            `Backend` is returned as it is.
        base_url: OpenAI-compatible server, up to and with "/v1".
        api_key: key of the server (default: the environment variable MLALIGN_API_KEY).
        concurrency, timeout: see `ServerBackend`.
        **local: options of `TransformersBackend`.
    """
    from hf_mlalign.generation.server_backend import ServerBackend
    from hf_mlalign.generation.transformers_backend import TransformersBackend

    if model is None or model == "":
        raise DataError("model: name a causal LM, or, with --base-url (base_url), the model that the server serves.")
    if base_url and isinstance(model, str):
        key = api_key or os.environ.get("MLALIGN_API_KEY")
        return ServerBackend(base_url, model, api_key=key, concurrency=concurrency, timeout=timeout)
    if isinstance(model, (str, Path)):
        return TransformersBackend(model, **local)
    if isinstance(model, (tuple, list)) and len(model) == 2:
        return TransformersBackend(*model, **local)
    if not isinstance(model, Backend):
        raise DataError(
            f"backend: {type(model).__name__} has no model, describe() and run(). Pass a model name, "
            "(model, tokenizer), TransformersBackend or ServerBackend."
        )
    return model


def _to_dataset(table: PromptTable, requests: Sequence[Request], store: AnswerStore, n: int) -> Dataset:
    """One row per answer, in the order of the requests."""
    import numpy as np
    from datasets import Dataset

    found = [(i // n, request, store.answers[request.key]) for i, request in enumerate(requests) if store.has(request)]
    if not found:
        raise DataError("No answers: every request failed." if requests else "The dataset has no prompts.")
    columns = {
        "prompt_id": [request.prompt_id for _, request, _ in found],
        "language": [request.language for _, request, _ in found],
        "prompt": [table.prompts[row] for row, _, _ in found],
        "sample": np.array([request.sample for _, request, _ in found], np.int32),
        "response": [answer.text for _, _, answer in found],
        "finish_reason": [answer.finish_reason for _, _, answer in found],
        "model": [answer.model for _, _, answer in found],
    }
    return Dataset.from_dict(columns)


def _save(run: Run, samples: Dataset, drawn: int, failures: Sequence[tuple[Request, str]]) -> None:
    """Write the table, the card and the record."""
    groups = samples.select_columns(["prompt_id", "language", "finish_reason"]).to_pandas().groupby("language")
    failed = Counter(request.language for request, _ in failures)
    table = {
        language: {"answers": len(rows), "prompts": rows["prompt_id"].nunique(), "failed": failed[language],
                   "truncated": int((rows["finish_reason"] == "length").sum())}
        for language, rows in groups
    }  # fmt: skip
    with run.open():
        (run.folder / "data").mkdir(exist_ok=True)
        with atomic_path(run.folder / ".samples.parquet.partial", run.folder / "data" / "samples.parquet") as partial:
            samples.to_parquet(str(partial))
        write_card(
            run.folder, "samples_card.md.j2", run.record, SampleOptions, rows=len(samples), languages=list(table),
            tags=("cm-align", "sampled-responses", "multilingual"), prompts=len(set(samples["prompt_id"])),
            configs=[{"config_name": "default", "data_files": "data/*.parquet"}],
            metadata={"task_categories": ["text-generation"]},
        )  # fmt: skip
        run.finish({"per_language": table, "drawn": drawn})
