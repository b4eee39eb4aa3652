"""The options of `judge`, `annotate` and `annotate-export`."""

from __future__ import annotations

from dataclasses import dataclass

from hf_mlalign.core.options import Options, SourceOptions, TrackerOptions, option
from hf_mlalign.generation.options import ServerOptions


@dataclass(kw_only=True)
class JudgeOptions(ServerOptions, TrackerOptions, SourceOptions):
    """Which judge compares the answers, how it is set up, and which rows it gets.

    Each judge takes some of the options in the panels Judge and Model; the help of an option names them.
    """

    job = "judge"

    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. question=prompt,ours=candidate,theirs=baseline.", panel="Data"
    )
    baseline: str | None = option(None, "The baseline's answers, if SOURCE holds only the candidate's.", panel="Data")
    limit: int | None = option(None, "Judge at most this many rows, from the first on.", panel="Data", low=1)
    judge: str = option(
        "similarity", "llm, reward_model, similarity, length, language, human, or module:name.", panel="Judge"
    )
    judgements: str | None = option(
        None, "Human judgements (human): a folder or an export of annotate.", panel="Judge", in_record=False
    )
    template: str | None = option(
        None, "Prompt of the judge (llm): general, multilingual, culture, or a file.", panel="Judge",
        shown="general", in_record=False,
    )  # fmt: skip
    both_orders: bool = option(
        True, "Show each pair in both orders, or only with the candidate first (llm).", panel="Judge",
        flag="--both-orders/--one-order", in_record=False,
    )  # fmt: skip
    attempts: int = option(
        2, "Ask at most this often until a verdict can be read (llm).", panel="Judge", low=1, in_record=False
    )
    structured: bool = option(
        True, "Ask for JSON by schema where the server supports it (llm).", panel="Judge", in_record=False
    )
    hard: bool = option(
        False, "Give only 1, 0.5 or 0, no grades in between (judges that score).", panel="Judge", flag="--hard",
        in_record=False,
    )  # fmt: skip
    self_test: bool = option(
        False, "Test the judge instead of using it; the exit code is 1 if it fails.", panel="Judge",
        flag="--self-test", in_record=False,
    )  # fmt: skip
    model: str | None = option(
        None, "Model of llm (with --base-url, its name on the server), reward_model or similarity.", panel="Model",
        in_record=False,
    )  # fmt: skip
    temperature: float = option(0.0, "Sampling temperature (llm).", panel="Model", low=0, in_record=False)
    max_tokens: int = option(1024, "Longest reply in tokens (llm).", panel="Model", low=1, in_record=False)
    seed: int = option(0, "Seed of the judge (llm).", panel="Model", in_record=False)
    batch_size: int = option(8, "Texts per batch of a local model.", panel="Model", low=1, in_record=False)
    overwrite: bool = option(
        False, "Judge again where the folder already holds judgements.", panel="Output", in_record=False
    )


@dataclass(kw_only=True)
class AnnotateOptions(SourceOptions):
    """Which pairs people judge, how many readers each gets, and where the page is served."""

    job = "annotate"

    column_mapping: dict[str, str] | None = option(
        None, "Your columns and their roles, e.g. question=prompt,tuned=candidate,untuned=baseline.", panel="Data"
    )
    language: str | None = option(None, "Language of all rows, if there is no language column.", panel="Data")
    languages: list[str] | None = option(None, "Keep only these languages, e.g. de,ja,sw.", panel="Data")
    limit: int | None = option(None, "Show at most this many pairs per language.", panel="Data", low=1)
    per_item: int = option(1, "Number of readers for an item outside the overlap.", panel="Judge", low=1)
    overlap: float = option(0.2, "Share of the items that every reader sees.", panel="Judge", low=0, high=1)
    points: bool = option(True, "Ask for quality and culture points.", panel="Judge")
    seed: int = option(0, "Seed of the order of items and answers.", panel="Judge")
    host: str = option("127.0.0.1", "Address to listen on. There are no passwords.", panel="Run", in_record=False)
    port: int | None = option(
        None, "Port of the page.", panel="Run", low=1, high=65535, shown="the first free one from 7860",
        in_record=False,
    )  # fmt: skip
    open_browser: bool = option(
        False, "Open the page in a browser on this machine.", panel="Run", flag="--open", in_record=False
    )


@dataclass(kw_only=True)
class AnnotateExportOptions(Options):
    """`annotate-export` takes only its source and its output."""

    job = "annotate-export"
