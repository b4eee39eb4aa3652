"""Answers from an OpenAI-compatible server: bounded concurrency, retries with back-off, a stop if they are useless."""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hf_mlalign.core.errors import DataError
from hf_mlalign.generation.requests import COUNTS, Answer, OnAnswer, OnFailure, Request, Sampling

if TYPE_CHECKING:
    from huggingface_hub import InferenceClient

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""HTTP statuses after which the same request is sent again."""
REFUSED_FORMAT = frozenset({400, 415, 422, 501})
"""HTTP statuses by which a server may say that it does not know `response_format`."""
HOPELESS = frozenset({401, 402, 403, 404, 405})
"""HTTP statuses that every other request would get, too: the run stops."""


class ServerBackend:
    """Draws answers from an OpenAI-compatible server (vLLM, TGI, llama.cpp, `transformers serve`, …).

    It uses `huggingface_hub.InferenceClient`: one request per answer, each with its own seed.

    Args:
        base_url: address up to and with "/v1", e.g. "http://127.0.0.1:8000/v1".
        model: name the server knows the model by.
        api_key: key of the server. Without one, no saved Hugging Face token is sent to the address either.
        concurrency: requests at a time (8, *ours*).
        timeout: seconds to wait for a connection and for the next bytes of an answer (300, *ours*).
        retries: further attempts after 408, 429, 5xx, time-outs, broken connections and unreadable bodies (6, *ours*).
        backoff: seconds before the first of them; doubled each time and varied by ±50 % (1, *ours*).
        max_wait: longest pause in seconds; a server's Retry-After is honoured up to it (120, *ours*).
        give_up_after: consecutive requests that failed for good after which the run stops (10, *ours*).
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        timeout: float = 300.0,
        retries: int = 6,
        backoff: float = 1.0,
        max_wait: float = 120.0,
        give_up_after: int = 10,
    ):
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).netloc:
            raise DataError(f"base_url: {base_url!r} is not a web address. Use e.g. http://127.0.0.1:8000/v1.")
        if concurrency < 1 or retries < 0 or timeout <= 0 or give_up_after < 1:
            raise DataError("concurrency and give_up_after must be 1 or more, retries 0 or more, timeout positive.")
        self.base_url, self.model, self._api_key = base_url.rstrip("/"), model, api_key
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries
        self.backoff, self.max_wait, self.give_up_after = backoff, max_wait, give_up_after

    def describe(self) -> dict[str, Any]:
        """Backend and model name; not the address, which may change between two runs."""
        return {"backend": "server", "model": self.model}

    def run(self, requests: Sequence[Request], settings: Sampling, on_answer: OnAnswer, on_failure: OnFailure) -> None:
        """See `Backend.run`.

        Raises:
            DataError: the key is refused, the model or address is unknown, `give_up_after` requests in a row failed, or
                the Hub library is in offline mode.
        """
        work = _Work(self, requests, settings, on_answer, on_failure)
        threads = [threading.Thread(target=work.loop, daemon=True) for _ in range(min(self.concurrency, len(requests)))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        finally:
            work.stop.set()
        if work.error is not None:
            raise work.error

    def client(self) -> InferenceClient:
        """A client that sends the given key, or a made-up one, but never a saved Hugging Face token."""
        from huggingface_hub import InferenceClient

        return InferenceClient(base_url=self.base_url, api_key=self._api_key or "none", timeout=self.timeout)


class _AsGiven(dict):
    """A dict whose `get` hides "type": huggingface_hub turns {"type": "json_schema", …} into a form of its own that
    only Text Generation Inference knows, whatever server `base_url` names."""

    def get(self, key: str, default: Any = None) -> Any:
        return default if key == "type" else super().get(key, default)


@dataclass(frozen=True)
class _Trouble:
    """Why an attempt failed; `fatal`: all requests would; `again`: another attempt may help."""

    reason: str
    again: bool = True
    fatal: bool = False
    wait: float | None = None
    status: int | None = None


class _Work:
    """Requests shared by the threads of one run."""

    def __init__(self, backend: ServerBackend, requests, settings: Sampling, on_answer, on_failure):
        self.backend, self.settings = backend, settings
        self.on_answer, self.on_failure = on_answer, on_failure
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self._requests = iter(requests)
        self._lock = threading.Lock()
        self._failures, self._not_before = 0, 0.0
        self._format = getattr(settings, "response_format", None)

    def loop(self) -> None:
        """Answer requests until there are none left or the run stops."""
        try:
            client = self.backend.client()
            while True:
                with self._lock:
                    request = None if self.stop.is_set() else next(self._requests, None)
                if request is None:
                    return
                found = self._attempts(client, request)
                if isinstance(found, Answer):
                    self._failures = 0
                    self.on_answer(request, found)
                elif found is not None and found.fatal:
                    raise DataError(f"base_url: {self.backend.base_url} answers: {found.reason}")
                elif found is not None:
                    self.on_failure(request, found.reason)
                    with self._lock:
                        self._failures += 1
                        hopeless = self._failures >= self.backend.give_up_after
                    if hopeless:
                        raise DataError(
                            f"base_url: {self._failures} requests in a row failed at {self.backend.base_url}, the last "
                            f"with: {found.reason}. Finished answers are kept; run the same command again to continue."
                        )
        except BaseException as error:
            with self._lock:
                self.error = self.error or error
                self.stop.set()

    def _attempts(self, client: InferenceClient, request: Request) -> Answer | _Trouble | None:
        """Ask until there is an answer or no use in asking again, with pauses; `None` where the run was stopped."""
        backend = self.backend
        for attempt in range(backend.retries + 1):
            self.stop.wait(max(0.0, self._not_before - time.monotonic()))
            if self.stop.is_set():
                return None
            wanted = self._format
            found = self._ask(client, request, wanted)
            if wanted is not None and isinstance(found, _Trouble) and found.status in REFUSED_FORMAT:
                found = self._ask(client, request, None)
                if isinstance(found, Answer):  # the server refused the format: do without it from now on
                    self._format = None
            if isinstance(found, Answer) or found.fatal or not found.again or attempt == backend.retries:
                return found
            varied = 0.5 + random.Random(request.seed * 1000 + attempt).random()
            wait = min(backend.backoff * 2**attempt * varied, backend.max_wait)
            if found.wait is not None:
                wait = max(wait, min(found.wait, backend.max_wait))
                with self._lock:  # the server asked all of us to wait
                    self._not_before = max(self._not_before, time.monotonic() + wait)
            self.stop.wait(wait)
        return None

    def _ask(self, client: InferenceClient, request: Request, response_format: Any) -> Answer | _Trouble:
        try:
            reply = client.chat_completion(
                list(request.messages), model=self.backend.model, seed=request.seed, n=1,
                max_tokens=self.settings.max_tokens, temperature=self.settings.temperature, top_p=self.settings.top_p,
                response_format=None if response_format is None else _AsGiven(response_format),
            )  # fmt: skip
        except Exception as error:
            return _trouble(error)
        try:
            choice = reply.choices[0]
            text, reason = choice.message.content, choice.finish_reason
        except (AttributeError, IndexError, KeyError, TypeError):
            return _Trouble("the server's reply holds no answer")
        if text is not None and not isinstance(text, str):
            return _Trouble("the server's answer is not a text")
        usage = getattr(reply, "usage", None)
        usage = usage if isinstance(usage, Mapping) else {name: getattr(usage, name, None) for name in COUNTS}
        counts = (usage.get(name) for name in COUNTS)
        counts = (count if isinstance(count, int) and count >= 0 else None for count in counts)
        return Answer(text or "", reason or "stop", self.backend.model, *counts)


def _trouble(error: Exception) -> _Trouble:
    from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, OfflineModeIsEnabled

    reason = " ".join(str(error).split())[:300]
    if isinstance(error, OfflineModeIsEnabled):
        hint = "HF_HUB_OFFLINE=1 keeps huggingface_hub from every server, a local one included. Unset it."
        return _Trouble(hint, again=False, fatal=True)
    if isinstance(error, InferenceTimeoutError):
        return _Trouble("no reply in time")
    response = getattr(error, "response", None)
    if isinstance(error, HfHubHTTPError) and response is not None:
        status = response.status_code
        again = status in RETRIED or status >= 500
        wait = retry_after(response.headers.get("Retry-After"))
        return _Trouble(f"HTTP {status}: {reason}", again, fatal=status in HOPELESS, wait=wait, status=status)
    if isinstance(error, ValueError):
        return _Trouble("the server's reply is not JSON")
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2") or isinstance(
        error, OSError
    ):
        return _Trouble(f"{type(error).__name__}: {reason}")
    raise error


def retry_after(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds asked for by a Retry-After header (a number or an HTTP date); `None` when there is none to read."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now())
    except (TypeError, ValueError):
        return None
