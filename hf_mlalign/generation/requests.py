"""The requests for a set of prompts, with the language instruction, and the protocol of the backend."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import clean_text
from hf_mlalign.data.columns import check_dataset, find_roles, read_ids, read_languages
from hf_mlalign.data.languages import language_name

if TYPE_CHECKING:
    from datasets import Dataset

INSTRUCTIONS = Path(__file__).with_name("answer_in_language.json")

COUNTS = ("prompt_tokens", "completion_tokens")
"""Fields of an `Answer` that count tokens."""

Message = dict[str, str]
Key = tuple[str | int, str, int]


@dataclass(frozen=True)
class Sampling:
    """How an answer is sampled.

    Args:
        temperature: of the softmax; 0 takes the likeliest token.
        top_p: smallest set of tokens with at least this probability, in (0, 1].
        max_tokens: longest answer in tokens.
    """

    temperature: float = 0.9
    top_p: float = 1.0
    max_tokens: int = 1024

    def __post_init__(self):
        if not self.temperature >= 0:
            raise DataError(f"temperature: {self.temperature} is negative. Use 0 (greedy) or more.")
        if not 0 < self.top_p <= 1:
            raise DataError(f"top_p: {self.top_p} is outside (0, 1].")
        if self.max_tokens < 1:
            raise DataError(f"max_tokens: {self.max_tokens} leaves no room for an answer. Use 1 or more.")


@dataclass(frozen=True)
class StructuredSampling(Sampling):
    """Sampling that also asks for a form of the answer.

    Args:
        response_format: OpenAI's field of that name, e.g. {"type": "json_schema", "json_schema": {…}}. A server that
            refuses it is asked without it; a local model is not held to it.
    """

    response_format: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Request:
    """One answer to be drawn: the chat messages, the seed, and a digest of the messages."""

    prompt_id: str | int
    language: str
    sample: int
    messages: tuple[Message, ...]
    seed: int
    digest: str

    @property
    def key(self) -> Key:
        return self.prompt_id, self.language, self.sample


@dataclass(frozen=True)
class Answer:
    """A finished answer; `finish_reason` is "stop", or "length" when `max_tokens` cut it.

    The token counts are `None` where the server did not report them.
    """

    text: str
    finish_reason: str
    model: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


OnAnswer = Callable[[Request, Answer], None]
OnFailure = Callable[[Request, str], None]


@runtime_checkable
class Backend(Protocol):
    """Protocol of everything that can answer requests.

    `run` calls `on_answer` once for each request as soon as it is answered (from any thread, in any order), or
    `on_failure` with a reason when that request cannot be answered; it raises `DataError` when none can.
    """

    model: str

    def describe(self) -> Mapping[str, Any]:
        """What identifies the answers of this backend: answers of two descriptions are never mixed."""

    def run(
        self, requests: Sequence[Request], settings: Sampling, on_answer: OnAnswer, on_failure: OnFailure
    ) -> None: ...


@dataclass(frozen=True)
class PromptTable:
    """The n rows of a prompt set: ids, ISO 639-1 codes, and prompts as they were given (texts or message lists)."""

    ids: list[str | int]
    languages: list[str]
    prompts: list[str | list[Message]]

    def __len__(self) -> int:
        return len(self.ids)


def read_prompts(ds: Dataset, column_mapping: Mapping[str, str] | None = None) -> PromptTable:
    """Read id, language and prompt; `hf_mlalign.data.columns.ROLES` lists the column names that are recognised.

    Raises:
        DataError: missing columns or values, unknown languages, or a prompt id that occurs twice in one language.
    """
    check_dataset(ds, empty=None)
    wanted = ("id", "language", "prompt")
    remedy = "e.g. question_id=id. The same prompt needs the same id in every language"
    columns = find_roles(ds.column_names, wanted, column_mapping, needed=wanted, remedy=remedy)
    ids, languages = read_ids(ds, columns["id"]), read_languages(ds, columns["language"])
    prompts: list[str | list[Message]] = []
    for row, value in enumerate(ds[columns["prompt"]]):
        where, turns = f"Column {columns['prompt']!r}, row {row}", []
        if isinstance(value, list) and all(isinstance(turn, Mapping) for turn in value):
            turns = [{"role": turn.get("role"), "content": turn.get("content")} for turn in value]
        are_messages = bool(turns) and all(isinstance(text, str) for turn in turns for text in turn.values())
        if not are_messages and not (isinstance(value, str) and value.strip()):
            raise DataError(f"{where}: expected a text or role/content messages, found {str(value)[:60]!r}. Drop empty "
                            "prompts.")  # fmt: skip
        if are_messages and turns[-1]["role"] != "user":
            raise DataError(f"{where}: the last message must be the user's. Cut the rest off.")
        prompts.append(turns or value)
    first: dict[tuple, int] = {}
    for row, key in enumerate(zip(ids, languages, strict=True)):
        if first.setdefault(key, row) != row:
            raise DataError(
                f"Column {columns['id']!r}, row {row}: prompt {key[0]!r} in {key[1]!r} is already in row {first[key]}. "
                "Drop duplicates or give every prompt its own id."
            )
    return PromptTable(ids, languages, prompts)


def build_requests(
    table: PromptTable, n: int, seed: int, system_prompt: str | None, answer_in_language: bool
) -> list[Request]:
    """The n requests of each prompt, in the order of the table; each has its own seed."""
    requests = []
    for prompt_id, language, prompt in zip(table.ids, table.languages, table.prompts, strict=True):
        messages = to_messages(prompt, language, system_prompt, answer_in_language)
        digest = hashlib.sha256(json.dumps(messages, ensure_ascii=False).encode()).hexdigest()[:16]
        requests += [
            Request(prompt_id, language, k, messages, request_seed(seed, prompt_id, language, k), digest)
            for k in range(n)
        ]
    return requests


def to_messages(
    prompt: str | list[Message], language: str, system_prompt: str | None = None, answer_in_language: bool = True
) -> tuple[Message, ...]:
    """Chat messages of a prompt: the system prompt first, the language instruction at the end of the last turn."""
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
    if answer_in_language:
        turns[-1]["content"] = f"{turns[-1]['content']}\n\n{language_instruction(language)}"
    if system_prompt:
        turns.insert(0, {"role": "system", "content": system_prompt})
    return tuple({"role": t["role"], "content": clean_text(t["content"])} for t in turns)


@cache
def language_instruction(language: str) -> str:
    """ "Answer in <language>" in that language itself; in English for a language without a translation."""
    translated = json.loads(INSTRUCTIONS.read_text(encoding="utf-8"))
    return translated.get(language) or f"Answer in {language_name(language)}."


def request_seed(seed: int, prompt_id: str | int, language: str, sample: int) -> int:
    """Seed in [0, 2³¹) of one answer; it depends only on these four values."""
    text = json.dumps([seed, prompt_id, language, sample], ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") >> 1
