"""The annotation page as a Gradio app: what it shows, what it asks of the server, how it is served."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import is_right_to_left, language_name
from hf_mlalign.evaluation.annotation.study import ShownItem, Study, Verdict, reader_name

if TYPE_CHECKING:
    import gradio

FOLDER = Path(__file__).parent
LOOPBACK = "127.0.0.1"
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'; base-uri 'self'"
)


@lru_cache(maxsize=1)
def messages() -> dict[str, dict[str, str]]:
    """The page's own texts: language → name → text."""
    return json.loads((FOLDER / "messages.json").read_text(encoding="utf-8"))


class Page:
    """What the page asks of the server; takes and gives plain JSON values, `{"error": …}` for what goes wrong."""

    def __init__(self, study: Study):
        self.study = study

    def describe(self, request: Mapping[str, Any]) -> dict:
        """The page's texts in the reader's language and the languages of the study."""
        ui = request.get("ui")
        ui = ui if isinstance(ui, str) and ui in messages() else "en"
        languages = [
            {"code": code, "name": _name(code, ui), "own": _name(code, code), "items": n}
            for code, n in self.study.languages.items()
        ]
        return {
            "ui": ui, "direction": _direction(ui), "messages": messages()[ui], "languages": languages,
            "page_languages": [[code, _name(code, code)] for code in messages()], "points": self.study.points,
        }  # fmt: skip

    def next(self, request: Mapping[str, Any]) -> dict:
        """The item the reader has open, or the next one."""
        return self._answer(request, self.study.next)

    def previous(self, request: Mapping[str, Any]) -> dict:
        """The item the reader judged before `token`."""
        return self._answer(request, lambda reader, _: self.study.previous(reader, request.get("token")))

    def save(self, request: Mapping[str, Any]) -> dict:
        """Write a judgement down and give the next item."""

        def save(reader: str, languages: list[str]) -> ShownItem | None:
            try:
                (a, b), (c, d) = request.get("points")
            except (TypeError, ValueError):
                raise DataError("points: give two numbers for each of the two answers.") from None
            verdict = Verdict(request.get("preference"), ((a, b), (c, d)))
            self.study.save(reader, str(request.get("token")), verdict)
            return self.study.next(reader, languages)

        return self._answer(request, save)

    def _answer(self, request: Mapping[str, Any], act: Callable[[str, list[str]], ShownItem | None]) -> dict:
        try:
            reader = reader_name(str(request.get("name") or ""))
            languages = [str(code) for code in request.get("languages") or ()]
            shown = act(reader, languages)
        except DataError as error:
            return {"error": str(error)}
        except OSError:
            return {"error": "offline"}
        done, total = self.study.progress(reader, languages)
        previous = self.study.previous(reader, shown.token if shown else None)
        ui = str(request.get("ui"))
        item = None if shown is None else {
            "token": shown.token, "language": shown.language, "turns": [list(turn) for turn in shown.turns],
            "language_name": _name(shown.language, ui if ui in messages() else "en"), "answers": list(shown.answers),
            "direction": _direction(shown.language), "earlier": shown.earlier,
        }  # fmt: skip
        return {"item": item, "done": done, "total": total, "can_go_back": previous is not None}


def _direction(code: str) -> str:
    return "rtl" if is_right_to_left(code) else "ltr"


def _name(code: str, in_language: str) -> str:
    name = language_name(code, in_language)
    return name[:1].upper() + name[1:]


def build_page(study: Study) -> gradio.Blocks:
    """The page as a Gradio app; nothing of the items is in its configuration.

    Raises:
        DataError: gradio is not installed.
    """
    gr = _gradio()
    page = Page(study)

    def study_describe(request: dict):
        return page.describe(request)

    def study_next(request: dict):
        return page.next(request)

    def study_previous(request: dict):
        return page.previous(request)

    def study_save(request: dict):
        return page.save(request)

    with gr.Blocks(title=messages()["en"]["title"], analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(
            html_template=(FOLDER / "page.html").read_text(encoding="utf-8"),
            js_on_load=(FOLDER / "page.js").read_text(encoding="utf-8"), apply_default_css=False,
            server_functions=[study_describe, study_next, study_previous, study_save],
        )  # fmt: skip
    return blocks


def serve(
    study: Study, *, host: str = LOOPBACK, port: int | None = None, open_browser: bool = False,
    on_start: Callable[[str], None] | None = None, stop: threading.Event | None = None,
) -> None:  # fmt: skip
    """Serve the page until interrupted.

    Args:
        host: address to listen on; this machine alone by default (*ours*). There are no passwords: whoever reaches the
            address can judge under any name.
        port: the first free one from 7860 on by default (gradio's).
        open_browser: open it here.
        on_start: called with the page's address once it answers.
        stop: ends the server when set.
    Raises:
        DataError: gradio is not installed, the address is unknown, or the port is taken.
    """
    gr = _gradio()
    from starlette.middleware import Middleware

    blocks = build_page(study)
    style = f"<style>{(FOLDER / 'page.css').read_text(encoding='utf-8')}</style>"
    theme = gr.themes.Base(font=gr.themes.Font("system-ui"), font_mono=gr.themes.Font("ui-monospace"))
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise DataError(f"host: {host!r} is not an address of this machine: {error}. Leave --host out.") from error
    try:
        _, address, _ = blocks.launch(
            server_name=host, server_port=port, share=False, inbrowser=open_browser, prevent_thread_lock=True,
            quiet=True, footer_links=[], run_history=False, ssr_mode=False, pwa=False, mcp_server=False,
            enable_monitoring=False, max_file_size=1, head=style, theme=theme,
            app_kwargs={"middleware": [Middleware(_Headers)]}, blocked_paths=[str(study.store.folder.resolve())],
        )  # fmt: skip
    except OSError as error:
        raise DataError(f"port: cannot listen on {host}:{port or 'any'}: {error}. Choose another --port.") from error
    blocks.allowed_paths = []  # whatever GRADIO_ALLOWED_PATHS says
    try:
        if on_start:
            on_start(address)
        (stop or threading.Event()).wait()
    finally:
        blocks.close(verbose=False)


def _gradio():
    try:
        import gradio
    except ImportError as error:
        raise DataError("annotate needs gradio: pip install 'hf-mlalign[app]'.") from error
    return gradio


class _Headers:
    """Adds headers to every response (ASGI) that keep the browser from loading anything from elsewhere."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                policy = [(b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer"),
                          (b"x-content-type-options", b"nosniff")]  # fmt: skip
                message = {**message, "headers": [*message.get("headers", []), *policy]}
            await send(message)

        await self.app(scope, receive, send_with_policy)
