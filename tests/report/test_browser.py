"""The page in a real browser: at a desk and on a telephone, by day and by night, without network."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(written, tmp_path_factory) -> str:
    alone = shutil.copy(written, tmp_path_factory.mktemp("mailed") / "report.html")
    return f"file://{alone}"


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def page(request, browser, address):
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = context.new_page()
    opened.complaints, opened.requests = [], []
    opened.on("console", lambda message: opened.complaints.append(message.text))
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("request", lambda request: opened.requests.append(request.url))
    opened.goto(address)
    yield opened
    context.close()


def test_whole_page(page, address):
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for y in range(0, page.evaluate("document.documentElement.scrollHeight"), 4000):
        page.evaluate(f"scrollTo(0, {y})")
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [address]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.title() == "project – hf_mlalign report"
    assert page.evaluate("document.querySelectorAll('.text script, .text img').length") == 0
    assert "<script>" in page.locator(".text", has_text="document.title").first.inner_text()


def luminance(page, selector: str, name: str) -> float:
    """Relative luminance (WCAG 2) of a colour of the first element."""
    code = "([s, n]) => getComputedStyle(document.querySelector(s))[n].match(/[\\d.]+/g).slice(0, 3).map(Number)"
    parts = [c / 255 for c in page.evaluate(code, [selector, name])]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_contrast(page):
    """Texts, of figures too, have at least 4.5:1 on the ground of the page."""
    ground = luminance(page, "body", "backgroundColor")
    for selector, name in (("body", "color"), ("svg.chart text", "fill"), ("figcaption", "color"), ("nav a", "color")):
        light, dark = sorted((ground, luminance(page, selector, name)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, selector


def test_scripts_run_in_their_direction(page):
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for code, direction in (("ar", "rtl"), ("ja", "ltr"), ("en", "ltr")):
        found = page.evaluate(
            "c => [...document.querySelectorAll(`.text[lang=${c}]`)].map(e => getComputedStyle(e).direction)", code
        )
        assert direction in found, code


def test_tables_are_sorted_from_the_keyboard(page):
    region = page.get_by_role("region", name="Table: Pool and selection by language")
    head = region.locator("th").nth(0)
    column = "t => [...t.tBodies[0].rows].map(r => r.cells[0].dataset.v)"
    table = region.locator("table")
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert table.evaluate(column) == ["ar", "en", "ja"]
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert table.evaluate(column) == ["ja", "en", "ar"]
    quality = region.locator("th", has_text="quality after")
    quality.locator("button").focus()
    page.keyboard.press("Enter")
    place = quality.evaluate("e => e.cellIndex")
    values = table.evaluate(f"t => [...t.tBodies[0].rows].map(r => +r.cells[{place}].dataset.v)")
    assert values == sorted(values, reverse=True)
    assert quality.get_attribute("aria-sort") == "descending"
    assert head.get_attribute("aria-sort") == "none"
    assert table.locator("tfoot").inner_text().startswith("all")
