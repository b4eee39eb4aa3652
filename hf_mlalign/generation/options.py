"""The options of `sample`."""

from __future__ import annotations

from dataclasses import dataclass

from hf_mlalign.core.options import Options, SourceOptions, option


@dataclass(kw_only=True)
class SamplerOptions(Options):
    """How answers are drawn: the options of `ResponseSampler`."""

    n: int = option(10, "Answers per prompt and language (MAPO takes 20).", origin="authors' script",
                    panel="Sampling", low=1)  # fmt: skip
    temperature: float = option(0.9, "Sampling temperature; 0 takes the likeliest token (MAPO takes 0.8).",
                                origin="authors' script", panel="Sampling", low=0)  # fmt: skip
    top_p: float = option(1.0, "Draw only from the likeliest tokens with this total probability, in (0, 1].",
                          panel="Sampling", high=1)  # fmt: skip
    max_tokens: int = option(1024, "Longest answer in tokens.", panel="Sampling", low=1)
    seed: int = option(0, "Every answer gets its own seed, made from this one.", panel="Sampling")
    system_prompt: str | None = option(None, "First message of every chat.", panel="Sampling")
    answer_in_language: bool = option(
        True, 'End each prompt with "Answer in <language>", in that language.', panel="Sampling"
    )
    allow_missing: bool = option(
        False, "Leave out answers that failed, instead of stopping with an error at the end.", panel="Sampling",
        in_record=False,
    )  # fmt: skip


@dataclass(kw_only=True)
class ServerOptions(Options):
    """Where a language model is reached: a server, or a device of this machine."""

    base_url: str | None = option(
        None, "OpenAI-compatible server, up to /v1. Its key is read from MLALIGN_API_KEY.", panel="Model",
        in_record=False,
    )  # fmt: skip
    concurrency: int = option(8, "Requests to the server at a time.", panel="Model", low=1, in_record=False)
    timeout: float = option(300.0, "Seconds to wait for the server.", panel="Model", in_record=False)
    device: str | None = option(
        None, "Device of a local model.", panel="Model", shown="a GPU if there is one", in_record=False
    )


@dataclass(kw_only=True)
class BackendOptions(ServerOptions):
    """Which model draws the answers, and where it runs: the options of `load_backend`."""

    model: str | None = option(
        None, "Causal LM: a folder or Hub name; with --base-url, the name the server knows it by.", panel="Model",
        shown="required",
    )  # fmt: skip
    batch_size: int = option(16, "Answers per batch of a local model.", panel="Model", low=1, in_record=False)
    continuous_batching: bool = option(
        False, "Let transformers schedule the answers of a local model; faster only on a GPU.", panel="Model"
    )


@dataclass(kw_only=True)
class SampleOptions(SamplerOptions, BackendOptions, SourceOptions):
    """Which prompts get answers, from which model, and how they are drawn."""

    job = "sample"

    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. question=prompt,lang=language.", panel="Data", in_record=False
    )
    languages: list[str] | None = option(None, "Keep only these languages, e.g. en,de,sw.", panel="Data",
                                         in_record=False)  # fmt: skip
    limit: int | None = option(None, "Use at most this many prompts, from the first on.", panel="Data", low=1,
                               in_record=False)  # fmt: skip
