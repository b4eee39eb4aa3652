"""A language model as judge: both orders, verdicts that answers cannot forge, each reply on disk at once."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.judges.base import AnswerPairs, Judgements, Prompt, check_answer_pairs, trivial_preferences
from hf_mlalign.evaluation.judges.prompts import (
    RESPONSE_FORMAT,
    JudgeTemplate,
    judge_messages,
    preference,
    read_verdict,
)
from hf_mlalign.generation.requests import Backend, Key, Request, StructuredSampling, request_seed
from hf_mlalign.generation.sampler import load_backend, run_missing
from hf_mlalign.generation.store import AnswerStore

CACHE = {"kind": "replies of judges", "version": 1}


@dataclass(frozen=True)
class JudgeRequest:
    """One comparison in one order, as it is put to the model."""

    row: int
    swapped: bool
    code: str
    request: Request


class LLMJudge:
    """Lets a language model compare answers on a scale of five grades.

    Replies are kept under a digest of everything that decides them (the backend's description, settings, the whole
    rendered prompt and thereby the template), so nothing is asked twice, neither within a run nor after a kill.

    Args:
        model: the name a server knows the model by (with `base_url`); name or folder of a causal LM,
            (model, tokenizer), or any `hf_mlalign.generation.requests.Backend`.
        base_url: OpenAI-compatible server, up to and with "/v1".
        template: "general", "multilingual", "culture", or the path of a Jinja2 file (see `JudgeTemplate`).
        both_orders: show each pair in both orders (*ours*: on); off halves the cost and leaves position bias in.
        temperature: (0, *ours*).
        top_p: (1, *ours*).
        max_tokens: longest reply (1,024, *ours*); judges that think aloud need more.
        structured: ask the server for JSON by schema; a server that refuses is asked without it (*ours*: on).
        attempts: how often a run asks, each time with a new code, while the verdict cannot be read (2, *ours*); a
            later run asks again, as often.
        seed: of the codes and of the model's sampling (0, *ours*).
        cache: folder that keeps every reply; `None` keeps them in this object.
        shortcuts: count identical answers as a tie and a blank one as a loss without asking (*ours*: on).
        progress: show a progress bar.
        **backend: api_key (default: the environment variable MLALIGN_API_KEY), concurrency and timeout of a server;
            batch_size and device of a local model.
    Raises:
        DataError: an option out of range, or a template that cannot be used.
    """

    def __init__(
        self,
        model: str | Path | tuple[Any, Any] | Backend,
        base_url: str | None = None,
        *,
        template: str | Path = "general",
        both_orders: bool = True,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_tokens: int = 1024,
        structured: bool = True,
        attempts: int = 2,
        seed: int = 0,
        cache: str | Path | None = None,
        shortcuts: bool = True,
        progress: bool = True,
        **backend: Any,
    ):
        if attempts < 1:
            raise DataError(f"attempts: {attempts} would ask nothing. Use 1 or more.")
        self.backend = load_backend(model, base_url, **backend)
        self.settings = StructuredSampling(temperature, top_p, max_tokens, RESPONSE_FORMAT if structured else None)
        self.template, self.both_orders = JudgeTemplate(template), both_orders
        self.attempts, self.seed, self.shortcuts, self.progress = attempts, seed, shortcuts, progress
        self._store, self._most = AnswerStore(cache, CACHE), None

    def start_round(self, rounds: int) -> None:
        """Say that `rounds` runs (0, 1, …) were finished before this one, which may have been killed and restarted.

        A run asks `attempts` times at most. Stored replies without a verdict count as asked in this run unless they
        belong to the earlier ones. Without this call, all belong to earlier runs, and what has no verdict is asked
        again.
        """
        self._most = (rounds + 1) * self.attempts

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str], languages=None) -> np.ndarray:
        """(n,) preferences; see `compare`."""
        return self.compare(prompts, a, b, languages).preferences

    def describe(self) -> dict[str, Any]:
        """What decides the verdicts: model, settings, template (name and digest), seed."""
        return {
            "judge": "llm", **self.backend.describe(), "temperature": self.settings.temperature,
            "top_p": self.settings.top_p, "max_tokens": self.settings.max_tokens,
            "structured": self.settings.response_format is not None, "template": self.template.name,
            "template_digest": self.template.digest, "both_orders": self.both_orders, "attempts": self.attempts,
            "seed": self.seed, "shortcuts": self.shortcuts,
        }  # fmt: skip

    def with_seed(self, seed: int) -> LLMJudge:
        """An equal judge with other codes and another sampling seed."""
        return self._changed(seed=seed)

    def unaided(self) -> LLMJudge:
        """The same judge without shortcuts."""
        return self._changed(shortcuts=False)

    def compare(
        self,
        prompts: Sequence[Prompt],
        a: Sequence[str],
        b: Sequence[str],
        languages: Sequence[str | None] | None = None,
        references: Sequence[str | None] | None = None,
    ) -> Judgements:
        """Compare n pairs of answers.

        Args:
            prompts, a, b: see `hf_mlalign.evaluation.judges.base.Judge`.
            languages: n language codes or names, shown to the model.
            references: n reference answers, shown to the model.
        Returns:
            `Judgements` with both orders, reasons, token counts and the model's replies.
        Raises:
            DataError: bad arguments, a cache folder that cannot be used, or a server that cannot be (its replies so far
                are kept).
        """
        comparisons = check_answer_pairs(prompts, a, b, languages, references)
        orders = (False, True) if self.both_orders else (False,)
        given = (
            trivial_preferences(comparisons.a, comparisons.b) if self.shortcuts else np.full(len(comparisons), np.nan)
        )
        verdicts = _Verdicts(given, len(orders))
        rows = np.flatnonzero(np.isnan(given)).tolist()
        identity = json.dumps([dict(self.backend.describe()), vars(self.settings)])
        waiting = [self._question(comparisons, row, swapped, 0, identity) for row in rows for swapped in orders]

        def again(question: JudgeRequest) -> JudgeRequest:
            attempt = question.request.sample + 1
            return self._question(comparisons, question.row, question.swapped, attempt, identity)

        with self._store.open() as store:
            known = set(store.answers)
            for i, question in enumerate(waiting):  # past stored replies without a verdict, the next attempt
                while (reply := store.answers.get(question.request.key)) is not None:
                    grade, reason = read_verdict(reply.text, question.code, reply.finish_reason)
                    if grade is not None or question.request.sample + 1 == self._most:
                        break
                    verdicts.enter(question, None, reason, reply.text)
                    waiting[i] = question = again(question)
            while waiting:
                unread = self._round(store, waiting, verdicts)
                waiting = [again(question) for question in unread if (question.request.sample + 1) % self.attempts]
            return verdicts.judgements(store, known)

    def _round(self, store: AnswerStore, questions: list[JudgeRequest], verdicts: _Verdicts) -> list[JudgeRequest]:
        """Ask what the store lacks, enter all verdicts, and return the questions whose reply holds none."""
        if not questions:
            return []
        distinct = list({question.request.key: question.request for question in questions}.values())
        failed = {
            request.key: reason
            for request, reason in run_missing(
                self.backend, self.settings, store, distinct, "Judging", "verdict", progress=self.progress
            )
        }
        unread = []
        for question in questions:
            key = question.request.key
            if key in failed or key not in store.answers:
                verdicts.enter(question, None, failed.get(key, "the model gave no reply"), "")
                continue
            reply = store.answers[key]
            grade, reason = read_verdict(reply.text, question.code, reply.finish_reason)
            verdicts.enter(question, grade, reason, reply.text)
            if grade is None:
                unread.append(question)
        return unread

    def _question(self, comparisons: AnswerPairs, row: int, swapped: bool, attempt: int, identity: str) -> JudgeRequest:
        answers = comparisons.a[row], comparisons.b[row]
        first, second = answers[::-1] if swapped else answers
        language = comparisons.languages[row]
        messages, code = judge_messages(
            self.template, comparisons.prompts[row], first, second, language, comparisons.references[row],
            salt=f"{self.seed}/{attempt}",
        )  # fmt: skip
        key = hashlib.sha256((identity + json.dumps(messages)).encode("utf-8", "surrogatepass")).hexdigest()
        seed = request_seed(self.seed, key, language, attempt)
        return JudgeRequest(row, swapped, code, Request(key, language, attempt, messages, seed, key[:16]))

    def _changed(self, **values: Any) -> LLMJudge:
        other = copy.copy(self)
        vars(other).update(values)
        return other


class _Verdicts:
    """Preferences, reasons and replies of n comparisons in one or two orders."""

    def __init__(self, given: np.ndarray, orders: int):
        self.values = np.repeat(given[None], orders, 0)
        self.reasons = [[""] * len(given) for _ in range(orders)]
        self.replies = [[""] * len(given) for _ in range(orders)]
        self.asked: dict[Key, None] = {}

    def enter(self, question: JudgeRequest, grade: int | None, reason: str, reply: str) -> None:
        order = int(question.swapped)
        self.values[order, question.row] = np.nan if grade is None else preference(grade, question.swapped)
        self.reasons[order][question.row], self.replies[order][question.row] = reason, reply
        self.asked[question.request.key] = None

    def judgements(self, store: AnswerStore, known: set[Key]) -> Judgements:
        """All of it, with the token counts of what was asked; replies to `known` requests were there before."""
        usage = dict.fromkeys(("requests", "cached", "prompt_tokens", "completion_tokens", "cached_prompt_tokens",
                               "cached_completion_tokens", "without_token_counts"), 0)  # fmt: skip
        for key in self.asked:
            if (reply := store.answers.get(key)) is None:
                continue
            usage["cached" if key in known else "requests"] += 1
            for name in ("prompt_tokens", "completion_tokens"):
                usage[f"cached_{name}" if key in known else name] += getattr(reply, name) or 0
            usage["without_token_counts"] += reply.prompt_tokens is None or reply.completion_tokens is None
        names = ("candidate first: ", "candidate second: ")
        reasons = [
            "; ".join(name + reason for name, reason in zip(names, row, strict=False) if reason)
            for row in zip(*self.reasons, strict=True)
        ]
        swapped = self.values[1] if len(self.values) == 2 else None
        second = self.replies[1] if swapped is not None else [""] * len(reasons)
        return Judgements(self.values[0], swapped, reasons, usage, (self.replies[0], second))
