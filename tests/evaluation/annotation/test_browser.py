"""The annotation page in a real headless Chromium, served as users get it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from hf_mlalign.evaluation.annotation.app import messages, serve
from hf_mlalign.evaluation.annotation.human import HumanJudge
from hf_mlalign.evaluation.annotation.items import PairItem
from hf_mlalign.evaluation.annotation.store import JUDGEMENTS, read_judgements
from tests.evaluation.annotation.human_studies import make_items, open_study

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found on the path; install the package chromium"),
]
REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Reader:
    """One person's browser: everything it asks for beyond loopback is refused and noted, as are errors."""

    def __init__(self, chromium, address: str, width: int = 1280, height: int = 900, **options):
        self.address, self.strangers, self.errors, self.bodies = address, [], [], []
        self.context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.route("**/*", self._route)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(dialog.message) or dialog.dismiss())
        self.page.on("response", self._note)

    def _route(self, route):
        if route.request.url.startswith((self.address, "data:", "blob:")):
            return route.continue_()
        self.strangers.append(route.request.url)
        return route.abort()

    def _note(self, response):
        if "/assets/" not in response.url and "/static/" not in response.url and response.status == 200:
            self.bodies.append((response.url, response))

    def enter(self, name: str, *languages: str, ui: str = "en"):
        page = self.page
        page.goto(self.address)
        page.wait_for_selector("#mla-name")
        if page.input_value("#mla-ui") != ui:
            page.select_option("#mla-ui", ui)
            page.wait_for_function("ui => document.querySelector('.mla').lang === ui", arg=ui)
        page.fill("#mla-name", name)
        for box in page.locator(".mla-check input").all():
            box.set_checked(box.get_attribute("value") in languages)
        page.click(".mla-entry button[type=submit]")
        page.wait_for_selector(".mla-answers, .mla-end")
        return self

    def answers(self) -> list[str]:
        return self.page.locator(".mla-answer .mla-text").all_text_contents()

    def prompt(self) -> str:
        return self.page.locator(".mla-prompt .mla-text").first.text_content()

    def done(self) -> int:
        return int(self.page.locator(".mla-progress progress").get_attribute("value"))

    def keys(self, text: str):
        for key in text:
            self.page.keyboard.press("Enter" if key == "\n" else key)

    def wait_done(self, n: int):
        self.page.wait_for_function("n => document.querySelector('.mla progress')?.value === n", arg=n)

    def clean(self):
        assert self.strangers == []
        assert self.errors == []
        self.context.close()


@contextmanager
def served(folder: Path, items: list[PairItem], **options):
    """The page of a study in this process: (address, study)."""
    stop, address, started = threading.Event(), [], threading.Event()

    def start(url: str):
        address.append(url.rstrip("/"))
        started.set()

    with open_study(folder, items, **options) as study:
        server = threading.Thread(target=serve, args=(study,), kwargs={"on_start": start, "stop": stop}, daemon=True)
        server.start()
        try:
            assert started.wait(60)
            yield address[0], study
        finally:
            stop.set()
            server.join(20)


@pytest.fixture
def study_of_ten(tmp_path):
    with served(tmp_path / "j", make_items(10), overlap=1.0) as (address, study):
        yield address, study, tmp_path / "j"


def test_judge_by_mouse_and_keyboard_reload_resume_correct_export(chromium, study_of_ten, tmp_path):
    address, _, folder = study_of_ten
    reader = Reader(chromium, address).enter("Ana", "de")
    page = reader.page
    page.click("#mla-save")
    assert "Quality A" in page.text_content(".mla-status")
    assert read_judgements(folder) == []
    for name, value in (("quality-0", 5), ("culture-0", 4), ("quality-1", 2), ("culture-1", 1)):
        page.check(f"input[name=mla-{name}][value='{value}']")
    page.check("input[name=mla-preference][value=a]")
    first = reader.answers()
    page.click("#mla-save")
    reader.wait_done(1)
    reader.keys("1235")  # quality and culture of A, then of B
    assert page.evaluate("document.activeElement.name") == "mla-preference"
    reader.keys("b\n")
    reader.wait_done(2)
    shown, prompt = reader.answers(), reader.prompt()
    page.reload()
    page.wait_for_selector(".mla-answers")
    assert (reader.answers(), reader.prompt(), reader.done()) == (shown, prompt, 2)
    reader.keys("u")
    page.wait_for_selector(".mla-note")
    assert page.is_checked("input[name=mla-preference][value=b]")
    assert page.is_checked("input[name=mla-culture-1][value='5']")
    reader.keys("t\n")
    page.wait_for_selector(".mla-note", state="detached")
    assert (reader.answers(), reader.done()) == (shown, 2)
    page.click("text=Cannot judge")
    reader.wait_done(3)
    said = read_judgements(folder)
    assert len((folder / JUDGEMENTS).read_text().splitlines()) == 4
    assert [judgement.preference for judgement in said] == [said[0].first, "tie", None]
    liked = said[0].first
    assert first[0].startswith({"candidate": "Gut", "baseline": "Schlecht"}[liked])
    assert (getattr(said[0], f"{liked}_quality"), getattr(said[0], f"{liked}_culture")) == (5, 4)
    exported = HumanJudge(folder).export(tmp_path / "out")["judgements"]
    assert len(HumanJudge(exported).judgements) == 3
    reader.clean()


def test_to_the_end_by_keys_alone(chromium, study_of_ten):
    address, _, folder = study_of_ten
    reader = Reader(chromium, address)
    reader.page.goto(address)
    reader.page.wait_for_selector("#mla-name")
    reader.page.focus("#mla-name")
    reader.page.keyboard.type("Bo")
    reader.page.keyboard.press("Tab")
    if not reader.page.is_checked(".mla-check input"):
        reader.page.keyboard.press("Space")
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_selector(".mla-answers")
    reader.keys("?")
    reader.page.wait_for_selector("dialog[open]")
    reader.keys("3")  # nothing happens behind the dialog
    reader.page.keyboard.press("Escape")
    for done in range(10):
        reader.keys("5432n")
        assert reader.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid" or (
            reader.page.evaluate("document.activeElement.matches('input:focus-visible')")
        )
        reader.keys("\n")
        reader.wait_done(done + 1)
    reader.page.wait_for_selector(".mla-end")
    assert reader.page.text_content(".mla-end h1") == "All done. Thank you!"
    said = read_judgements(folder)
    assert {judgement.preference for judgement in said} == {"both_bad"}
    assert {sum((j.candidate_quality, j.candidate_culture)) for j in said} == {9, 5}
    reader.clean()


def test_keys_of_another_keyboard(chromium, study_of_ten):
    reader = Reader(chromium, study_of_ten[0]).enter("Vera", "de", ui="ru")
    press = """([key, code]) => document.querySelector('#mla-prompt').dispatchEvent(
        new KeyboardEvent('keydown', {key, code, bubbles: true}))"""
    for key, code in (("&", "Digit1"), ("२", "Digit2"), ("3", "Numpad3"), ("4", "Digit4"), ("и", "KeyB")):
        reader.page.evaluate(press, [key, code])
    assert reader.page.is_checked("input[name=mla-quality-0][value='1']")
    assert reader.page.is_checked("input[name=mla-culture-0][value='2']")
    assert reader.page.is_checked("input[name=mla-preference][value=b]")
    reader.clean()


def test_two_readers_at_once(chromium, tmp_path):
    with served(tmp_path / "j", make_items(12), overlap=0.0) as (address, _):
        ana, bo = Reader(chromium, address).enter("Ana", "de"), Reader(chromium, address).enter("Bo", "de")
        for done in range(6):
            assert ana.prompt() != bo.prompt()
            for reader in (ana, bo):
                reader.keys("3333t\n")
            for reader in (ana, bo):
                reader.wait_done(done + 1)
        ana.page.wait_for_selector(".mla-end")
        ana.clean()
        bo.clean()
    said = read_judgements(tmp_path / "j")
    assert len({judgement.item for judgement in said}) == len(said) == 12
    assert sorted(judgement.annotator for judgement in said) == ["Ana"] * 6 + ["Bo"] * 6


def test_nothing_sent_tells_the_candidate(chromium, study_of_ten):
    address, study, _ = study_of_ten
    reader = Reader(chromium, address).enter("Ana", "de")
    firsts = []
    for done in range(10):
        firsts.append(reader.answers()[0].split()[0])
        reader.keys("3333t\n")
        reader.wait_done(done + 1)
    assert set(firsts) == {"Gut", "Schlecht"}
    texts = {url: response.text() for url, response in reader.bodies}
    for response in (response for url, response in reader.bodies if "component_server" in url):
        texts[response] = response.text()
    texts["config"] = urllib.request.urlopen(f"{address}/config").read().decode()
    assert sum("Frage" in text for text in texts.values()) >= 10
    secrets = ["candidate", "baseline", "secret-id", str(study.store.folder), *(item.key for item in study.items)]
    page = reader.page.locator(".mla").evaluate("node => node.outerHTML")
    for secret in secrets:
        assert secret not in page
        assert not [url for url, text in texts.items() if secret in text], secret
    reader.clean()


BIDI = "safe \u202eevil\u202c \u2066x\u2069 \x1b[31m nul\x00."
HOSTILE = {
    "script": "<script>window.pwned = 1</script>",
    "image": "<img src=x onerror='window.pwned = 1'><svg onload='window.pwned=1'>",
    "markdown": "[click](javascript:window.pwned=1) ![i](http://example.com/x.png) **bold** `${window.pwned=1}`",
    "latex": "$\\href{javascript:window.pwned=1}{x}$ $$\\frac{1}{2}$$ {{constructor.constructor('window.pwned=1')()}}",
    "close": "</div></textarea></script><iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "bidi": BIDI,
    "template": "${window.pwned = 1} @children {{value}} __proto__",
}


def test_texts_never_run(chromium, tmp_path):
    turns = {name: (("system<b>", text), ("user", text)) for name, text in HOSTILE.items()}
    items = [PairItem(name, "en", turns[name], text, f"{text} ") for name, text in HOSTILE.items()]
    with served(tmp_path / "j", items, overlap=1.0) as (address, _):
        reader = Reader(chromium, address).enter("<img src=x onerror=window.pwned=1>", "en")
        seen = set()
        for done in range(len(items)):
            texts = {text.strip() for text in reader.page.locator(".mla-text").all_text_contents()}
            assert len(texts) == 1
            seen |= texts
            inside = "document.querySelectorAll('.mla :is(a, img, svg, script, iframe, b, strong, code, math)').length"
            assert reader.page.evaluate(inside) == 0
            reader.keys("3333t\n")
            reader.wait_done(done + 1)
        assert reader.page.evaluate("window.pwned") is None
        reader.clean()
    plain = {text for name, text in HOSTILE.items() if name != "bidi"}
    assert plain <= seen
    assert seen - plain == {"safe U+202EevilU+202C U+2066xU+2069 U+001B[31m nulU+0000."}


def test_very_long_text_stays_usable(chromium, tmp_path):
    item = PairItem("p", "en", (("user", "x" * 1_000_000),), "word " * 200_000, "😀" * 100_000)
    with served(tmp_path / "j", [item]) as (address, _):
        reader = Reader(chromium, address).enter("Ana", "en")
        assert max(map(len, reader.answers())) <= 20_001
        assert reader.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        while reader.page.locator(".mla-text + button").count():
            reader.page.locator(".mla-text + button").first.click()
        assert sorted(reader.answers()) == sorted([item.candidate, item.baseline])
        assert "\ufffd" not in "".join(reader.answers())
        assert reader.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        reader.keys("3333t\n")
        reader.wait_done(1)
        reader.clean()


def test_right_to_left_and_small_screens(chromium, tmp_path):
    items = [PairItem("p", "ar", (("user", "كيف الحال؟"),), "بخير.", "سيئ."), *make_items(1, "en")]
    with served(tmp_path / "j", items, overlap=1.0) as (address, _):
        reader = Reader(chromium, address, color_scheme="dark").enter("سارة", "ar", ui="ar")
        page = reader.page
        box = [page.locator(".mla-answer").nth(i).bounding_box() for i in (0, 1)]
        assert page.get_attribute(".mla", "dir") == "rtl"
        assert page.evaluate("document.documentElement.lang") == "ar"
        assert box[0]["x"] > box[1]["x"]
        assert box[0]["y"] == box[1]["y"]
        text = page.locator(".mla-prompt .mla-text")
        assert (text.get_attribute("dir"), text.get_attribute("lang")) == ("rtl", "ar")
        assert page.text_content("#mla-save") == messages()["ar"]["save"]
        reader.clean()
        reader = Reader(chromium, address, width=390, height=844, has_touch=True).enter("Mona", "en", ui="ar")
        text = reader.page.locator(".mla-prompt .mla-text")
        assert (text.get_attribute("dir"), text.evaluate("e => getComputedStyle(e).unicodeBidi")) == ("ltr", "isolate")
        box = [reader.page.locator(".mla-answer").nth(i).bounding_box() for i in (0, 1)]
        assert box[0]["x"] == box[1]["x"]
        assert box[0]["y"] + box[0]["height"] < box[1]["y"]
        assert reader.page.evaluate("document.documentElement.scrollWidth") == 390
        reader.clean()


def test_turns_of_a_conversation(chromium, tmp_path):
    turns = (("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "And now?"))
    with served(tmp_path / "j", [PairItem("p", "en", turns, "One.", "")]) as (address, _):
        reader = Reader(chromium, address).enter("Ana", "en")
        assert reader.page.locator(".mla-turn h3").all_text_contents() == ["System", "User", "Assistant", "User"]
        assert sorted(reader.answers()) == ["(empty answer)", "One."]
        reader.clean()


def test_no_file_is_served_and_none_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", str(tmp_path))
    (tmp_path / "pairs.jsonl").write_text("secret")
    with served(tmp_path / "j", make_items(1)) as (address, _):
        for path in (tmp_path / "j" / JUDGEMENTS, tmp_path / "pairs.jsonl", "/etc/passwd"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{address}/gradio_api/file={path}")
            assert refused.value.code in (403, 404)
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nmany bytes\r\n--x--\r\n'
        upload = urllib.request.Request(
            f"{address}/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(upload)
        assert refused.value.code == 413
        headers = urllib.request.urlopen(address).headers
        assert "connect-src 'self'" in headers["content-security-policy"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def command(folder: Path, port: int, **environment):
    """`hf-mlalign annotate` as a process of its own, killed without warning at the end."""
    code = "from hf_mlalign.cli.app import main; main()"
    arguments = ["annotate", "pairs.jsonl", "-o", "judgements", "--port", str(port), "--overlap", "1"]
    log = folder / "log"
    with open(log, "w") as out:
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=folder, stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]),
                 **environment},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while "Judge at" not in log.read_text():
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield child
    finally:
        child.kill()
        child.wait()


def test_killed_and_started_again(chromium, tmp_path):
    """kill -9 between judgements and before one: nothing is lost, what was chosen stays on the page."""
    with open(tmp_path / "pairs.jsonl", "w") as file:
        for i in range(4):
            row = {"prompt": f"Frage {i}?", "language": "de", "chosen": f"Gut {i}", "rejected": f"Schlecht {i}"}
            file.write(json.dumps(row) + "\n")
    port = free_port()
    proxy = socket.create_server(("127.0.0.1", 0))  # whoever calls home through it is heard
    proxy.settimeout(0)
    listening = f"http://127.0.0.1:{proxy.getsockname()[1]}"
    with command(tmp_path, port, HTTPS_PROXY=listening, HTTP_PROXY=listening, NO_PROXY="127.0.0.1,localhost") as server:
        reader = Reader(chromium, f"http://127.0.0.1:{port}").enter("Ana", "de")
        for done in (1, 2):
            reader.keys("5544a\n")
            reader.wait_done(done)
        server.send_signal(signal.SIGKILL)
        server.wait()
        assert len(read_judgements(tmp_path / "judgements")) == 2
        shown = reader.answers()
        reader.keys("1122b\n")
        reader.page.wait_for_selector(".mla-status[data-kind=problem]:not(:empty)")
        assert "Not saved" in reader.page.text_content(".mla-status")
    with command(tmp_path, port):
        assert (reader.answers(), reader.page.is_checked("input[name=mla-quality-0][value='1']")) == (shown, True)
        reader.page.click("#mla-save")
        reader.wait_done(3)
        reader.page.reload()
        reader.page.wait_for_selector(".mla-answers")
        assert reader.done() == 3
    with pytest.raises(BlockingIOError):
        proxy.accept()
    proxy.close()
    assert reader.strangers == []
    assert len(read_judgements(tmp_path / "judgements")) == 3
    reader.context.close()
