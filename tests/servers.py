"""A real OpenAI-compatible HTTP server on loopback for tests, which can misbehave on purpose.

with ChatServer(lambda body: "42", fault=lambda number, body: 429 if number == 1 else None) as server:
    InferenceClient(base_url=server.base_url, api_key="x").chat_completion(...)
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | tuple[str, str]
Fault = int | str | tuple[int, str] | None


class ChatServer:
    """Serves POST /v1/chat/completions (and GET /v1/models).

    Args:
        answer: from the request's body to the answer, or to (answer, finish_reason).
        fault: from the request's number (1, 2, …) and body to what goes wrong: an HTTP status, (429, Retry-After),
            "hang" (no reply until the server closes), "cut" (the connection ends inside the reply), "truncated" (half
            of the JSON), "not_json", "no_choices", "no_usage" (good, but without token counts), or `None` for a good
            reply.
        delay: seconds before each reply.
        api_key: where given, other keys get a 401.

    Attributes:
        bodies: the body of every request, in the order of arrival.
        headers: the headers likewise.
        answered: how many got a good reply.
        most_at_once: the most requests that were under way together.
    """

    def __init__(
        self,
        answer: Callable[[dict], Reply] = lambda body: "ok",
        fault: Callable[[int, dict], Fault] = lambda number, body: None,
        delay: float = 0.0,
        api_key: str | None = None,
    ):
        self.answer, self.fault, self.delay, self.api_key = answer, fault, delay, api_key
        self.bodies: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.answered, self.most_at_once, self._under_way = 0, 0, 0
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._http: ThreadingHTTPServer | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def requests(self) -> int:
        """How many requests came."""
        return len(self.bodies)

    def __enter__(self) -> ChatServer:
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def begin(self, body: dict, headers: dict[str, str]) -> int:
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            return len(self.bodies)

    def end(self, good: bool) -> None:
        with self.lock:
            self._under_way -= 1
            self.answered += good


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed cut connections: nothing to report."""


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.reply(200, {"object": "list", "data": [{"id": "tiny", "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number = server.begin(body, dict(self.headers))
            good = False
            try:
                if self.path != "/v1/chat/completions":
                    self.reply(404, {"error": {"message": f"no such path: {self.path}"}})
                elif server.api_key and self.headers.get("Authorization") != f"Bearer {server.api_key}":
                    self.reply(401, {"error": {"message": "wrong key"}})
                else:
                    time.sleep(server.delay)
                    good = self.serve(body, server.fault(number, body))
            finally:
                server.end(good)

        def serve(self, body: dict, fault: Fault) -> bool:
            if fault in (None, "no_usage"):
                good = completion(body, server.answer(body))
                self.reply(200, {k: v for k, v in good.items() if k != "usage" or fault is None})
                return True
            status, after = fault if isinstance(fault, tuple) else (fault, None)
            if isinstance(status, int):
                headers = {"Retry-After": after} if after is not None else {}
                self.reply(status, {"error": {"message": f"made-up error {status}"}}, headers)
            elif status == "hang":
                server.closing.wait()
                self.close_connection = True
            elif status == "no_choices":
                self.reply(200, {"object": "chat.completion", "choices": []})
            else:
                self.send_garbled(status, json.dumps(completion(body, "never seen")).encode())
            return False

        def send_garbled(self, kind: str, data: bytes) -> None:
            sent = {"cut": data[:20], "truncated": data[: len(data) // 2], "not_json": b"<html>busy</html>"}[kind]
            self.start(200, len(data) if kind == "cut" else len(sent))
            self.wfile.write(sent)
            self.close_connection = True

        def reply(self, status: int, content: dict, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(content, ensure_ascii=False).encode()
            with suppress(ConnectionError):
                self.start(status, len(data), headers)
                self.wfile.write(data)

        def start(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(length))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()

    return Handler


def completion(body: dict, reply: Reply) -> dict:
    """A chat completion in OpenAI's form."""
    text, reason = reply if isinstance(reply, tuple) else (reply, "stop")
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return {
        "id": "made-up", "object": "chat.completion", "created": 0, "model": body.get("model", ""),
        "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }  # fmt: skip


def model_answers(model, tokenizer) -> Callable[[dict], Reply]:
    """Answers of a causal LM, drawn as `TransformersBackend` draws them, one request at a time."""
    from hf_mlalign.generation.requests import Request, Sampling
    from hf_mlalign.generation.transformers_backend import TransformersBackend

    backend, lock = TransformersBackend(model, tokenizer), threading.Lock()

    def answer(body: dict) -> Reply:
        settings = Sampling(body.get("temperature", 1.0), body.get("top_p", 1.0), body.get("max_tokens", 16))
        request = Request("q", "en", 0, tuple(body["messages"]), body.get("seed", 0), "q")
        found: list = []
        with lock:
            backend.run([request], settings, lambda _, a: found.append(a), lambda _, reason: found.append(reason))
        return found[0].text, found[0].finish_reason

    return answer
