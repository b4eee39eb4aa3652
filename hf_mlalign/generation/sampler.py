"""N answers to every prompt in every language, through a transformers model or an OpenAI-compatible server."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import check_writable, commit, write_atomic
from hf_mlalign.generation.requests import Backend, PromptTable, Request, Settings, build_requests, read_prompts
from hf_mlalign.generation.store import AnswerStore
from hf_mlalign.hub.card import data_configs, front_matter
from hf_mlalign.hub.run_record import RunRecord, describe_source, to_json, write_record

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("prompt_id", "language", "prompt", "sample", "response", "finish_reason", "model")


class ResponseSampler:
    """Draws N answers to each prompt in each language.

    Args:
        backend: name or folder of a causal LM, a pair (model, tokenizer), or a `Backend` (`TransformersBackend`,
            `ServerBackend`, or your own).
        n: answers per prompt and language (10, *authors' script* of ICR and LaCoMSA; MAPO takes 20).
        temperature: (0.9, *authors' script* of ICR and LaCoMSA; MAPO takes 0.8).
        top_p: nucleus in (0, 1] (1.0: no cut, *ours*).
        max_tokens: longest answer in tokens (1024, *ours*).
        seed: every answer has a seed of its own, made from this one, prompt_id, language and sample (0, *ours*).
        system_prompt: first message of every chat.
        answer_in_language: end every prompt with "Answer in <language>" in that language (*ours*).
        allow_missing: leave out answers that failed for good instead of raising at the end (*ours*: off).
        progress: show a progress bar.
    Raises:
        DataError: an option out of range.
    """

    def __init__(
        self,
        backend: str | Path | tuple[Any, Any] | Backend,
        *,
        n: int = 10,
        temperature: float = 0.9,
        top_p: float = 1.0,
        max_tokens: int = 1024,
        seed: int = 0,
        system_prompt: str | None = None,
        answer_in_language: bool = True,
        allow_missing: bool = False,
        progress: bool = True,
    ):
        if n < 1:
            raise DataError(f"n: {n} answers a prompt. Use 1 or more (2 or more for preference pairs).")
        self.backend = load_backend(backend)
        self.settings = Settings(temperature, top_p, max_tokens)
        self.n, self.seed, self.system_prompt = n, seed, system_prompt
        self.answer_in_language, self.allow_missing, self.progress = answer_in_language, allow_missing, progress

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides an answer to a request: answers are never mixed with those of other values.

        `n` is not among them: a folder with 5 answers a prompt can be filled up to 10.
        """
        return {
            **self.backend.describe(), **vars(self.settings), "seed": self.seed, "system_prompt": self.system_prompt,
            "answer_in_language": self.answer_in_language,
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
            ds: one row a prompt and language: prompt_id, language, prompt (a text or role/content messages that end
                with the user's); the same prompt_id in every language.
            output: folder in which every answer is kept as soon as it is there (`answers.jsonl`), with the parameters
                (`sampling.json`), and at the end the table (`data/samples.parquet`), a card and `run.json`. After a
                kill, the same call asks only for what is missing. `None`: nothing is written.
            column_mapping: your column → prompt_id, language or prompt.
            source: where `ds` comes from, for the record, see `hf_mlalign.hub.run_record.describe_source`.
        Returns:
            One row an answer, in the order of `ds`: prompt_id, language (ISO 639-1), prompt (as given), sample
            (0 … n−1, int32), response, finish_reason ("stop", "length", …), model.
        Raises:
            DataError: bad prompts, a folder with other parameters, a server that cannot be used, or answers that
                failed for good (the others are kept).
        """
        table = read_prompts(ds, column_mapping)
        requests = build_requests(table, self.n, self.seed, self.system_prompt, self.answer_in_language)
        store = AnswerStore(output, self.parameters)
        record = RunRecord(command="sample", parameters=to_json({**self.parameters, "n": self.n}))
        record.source = to_json(source or describe_source(ds))
        with store.open():
            missing = sum(not store.has(request) for request in requests)
            failures = run_missing(
                self.backend, self.settings, store, requests, "Sampling", "answer", progress=self.progress
            )
            if failures and not self.allow_missing:
                raise DataError(_failure_message(failures, len(requests), output))
            samples = _samples(table, requests, store, self.n)
            if output is not None:
                write_record(output, record)  # what stands there is not whole until the end
                _save(Path(output), samples, self.parameters)
                _record(Path(output), samples, record, missing, failures)
        return samples


def run_missing(
    backend: Backend,
    settings: Settings,
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


def sample(
    source: str | Path,
    output: str | Path,
    *,
    model: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    split: str | None = None,
    config: str | None = None,
    column_mapping: Mapping[str, str] | None = None,
    languages: Sequence[str] | None = None,
    limit: int | None = None,
    concurrency: int = 8,
    timeout: float = 300.0,
    batch_size: int = 16,
    device: str | None = None,
    continuous_batching: bool = False,
    **options: Any,
) -> Dataset:
    """Sample answers to the prompts of a file, folder or Hub dataset (the command `hf-mlalign sample`).

    Args:
        source, split, config: see `hf_mlalign.data.sources.load_source`.
        output: see `ResponseSampler.sample`.
        model: causal LM to load, or, with `base_url`, the name the server knows the model by.
        base_url: OpenAI-compatible server, up to and with "/v1".
        api_key: key of the server (default: the environment variable MLALIGN_API_KEY).
        languages: keep only these (ISO 639-1 codes or English names).
        limit: only the first so many prompt ids.
        concurrency, timeout: see `ServerBackend`.
        batch_size, device, continuous_batching: see `TransformersBackend`.
        **options: see `ResponseSampler`.
    """
    from hf_mlalign.data.sources import load_source

    backend = load_backend(
        model, base_url, api_key=api_key, concurrency=concurrency, timeout=timeout, batch_size=batch_size,
        device=device, continuous_batching=continuous_batching,
    )  # fmt: skip
    sampler = ResponseSampler(backend, **options)
    check_writable(Path(output))
    ds = _chosen(load_source(source, split, config), column_mapping, languages, limit)
    return sampler.sample(
        ds, output, column_mapping=column_mapping, source=describe_source(source, split=split, config=config)
    )


def _chosen(ds: Dataset, column_mapping, languages: Sequence[str] | None, limit: int | None) -> Dataset:
    from hf_mlalign.data.languages import check_languages

    if languages is None and limit is None:
        return ds
    table = read_prompts(ds, column_mapping)
    wanted = set(check_languages(languages)) if languages is not None else set(table.languages)
    absent = wanted - set(table.languages)
    if absent:
        there = listed(sorted(set(table.languages)))
        raise DataError(f"languages: no prompts in {listed(sorted(absent))}. There are: {there}.")
    ids = set(list(dict.fromkeys(table.ids))[:limit])
    rows = enumerate(zip(table.ids, table.languages, strict=True))
    keep = [i for i, (prompt_id, language) in rows if prompt_id in ids and language in wanted]
    return ds.select(keep)


def load_backend(
    model: str | Path | tuple[Any, Any] | Backend | None,
    base_url: str | None = None,
    *,
    api_key: str | None = None,
    concurrency: int = 8,
    timeout: float = 300.0,
    **local: Any,
) -> Backend:
    """What draws answers: a server where `base_url` is given, else a causal LM in this process.

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
        raise DataError("model: name a causal LM, or with base_url the model the server serves.")
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


def _failure_message(failures: list[tuple[Request, str]], total: int, output) -> str:
    reasons = Counter(reason for _, reason in failures)
    request, reason = failures[0]
    kept = f" The others are kept in {str(output)!r}; run the same again to ask for these." if output else ""
    return (
        f"{len(failures)} of {total} answers failed, first sample {request.sample} of prompt {request.prompt_id!r} in "
        f"{request.language!r}: {reason} ({len(reasons)} reasons).{kept} allow_missing=True leaves them out."
    )


def _samples(table: PromptTable, requests: Sequence[Request], store: AnswerStore, n: int) -> Dataset:
    import numpy as np
    from datasets import Dataset

    found = [(i // n, request, store.answers[request.key]) for i, request in enumerate(requests) if store.has(request)]
    if not found:
        raise DataError("There are no answers: every request failed." if requests else "The dataset has no prompts.")
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


def _save(folder: Path, samples: Dataset, parameters: Mapping[str, Any]) -> None:
    (folder / "data").mkdir(exist_ok=True)
    partial = folder / ".samples.parquet.partial"
    samples.to_parquet(str(partial))
    commit(partial, folder / "data" / "samples.parquet")
    write_atomic(folder / "README.md", _card(folder, samples, parameters))


def _record(
    folder: Path, samples: Dataset, record: RunRecord, missing: int, failures: list[tuple[Request, str]]
) -> None:
    found = samples.select_columns(["prompt_id", "language", "finish_reason"]).to_pandas().groupby("language")
    failed = Counter(request.language for request, _ in failures)
    table = {
        language: {"answers": len(rows), "prompts": rows["prompt_id"].nunique(), "failed": failed[language],
                   "truncated": int((rows["finish_reason"] == "length").sum())}
        for language, rows in found
    }  # fmt: skip
    record.state, record.finished = "finished", datetime.now(UTC)
    record.seconds = {"sample": round((record.finished - record.started).total_seconds(), 3)}
    record.results = to_json({"per_language": table, "drawn": missing - len(failures)})
    write_record(folder, record)


def _card(folder: Path, samples: Dataset, parameters: Mapping[str, Any]) -> str:
    languages = sorted(set(samples["language"]))
    metadata = {
        "language": languages,
        "task_categories": ["text-generation"],
        "tags": ["hf_mlalign", "cm-align", "sampled-responses", "multilingual"],
        "configs": data_configs(folder, [{"config_name": "default", "data_files": "data/*.parquet"}]),
    }
    rows = "\n".join(f"| {name} | `{str(value).replace('|', chr(92) + '|')}` |" for name, value in parameters.items())
    return (
        f"{front_matter(metadata)}\n# Sampled responses\n\n"
        f"{len(samples):,} answers to {len(set(samples['prompt_id'])):,} prompts in {len(languages)} languages, drawn "
        f"with `hf_mlalign.generation.sampler.ResponseSampler`.\n\n| parameter | value |\n|---|---|\n{rows}\n"
    )
