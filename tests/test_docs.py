"""Every Python block in README and docs runs; links lead somewhere; what the pages say of commands and rows is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from datasets import load_dataset

from hf_mlalign import load_demo_pool
from tests.hub_server import HubServer

REPO = Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"
sys.path.insert(0, str(DOCS))
import api_pages  # noqa: E402

PAGES = sorted([REPO / "README.md", *(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)])
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
IN_A_PROCESS = ("tutorial.md",)
TOKEN = "hf_" + "t" * 34


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(REPO).as_posix()


WITH_CODE = [page for page in PAGES if BLOCK.search(text_of(page))]


@pytest.mark.parametrize("page", [p for p in WITH_CODE if p.name not in IN_A_PROCESS], ids=name_of)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr(datasets.Dataset, "push_to_hub", lambda self, name, **options: pushed.append(name))
    monkeypatch.chdir(tmp_path)
    load_demo_pool(["de", "en"]).select_columns(["prompt", "response", "language"]).to_parquet("my_pairs.parquet")
    space: dict = {}
    for block in BLOCK.findall(text_of(page)):
        exec(compile(block, str(page), "exec"), space)
    if page.name == "README.md":
        assert "me/my-curated-set" in pushed


def test_tutorial_goes_from_raw_data_to_the_hub(tmp_path):
    """In a process of its own, as a reader would paste it, against a Hub on loopback."""
    code = "\n".join(BLOCK.findall(text_of(DOCS / "tutorial.md")))
    with HubServer(TOKEN) as hub:
        environment = {**os.environ, **hub.environment(), "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True,
                              text=True, timeout=400)  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        expected = {"me/my-curated-set": "dataset", "me/my-pairs": "dataset", "me/my-model": "model"}
        assert {name: kind for kind, name in hub.repos} == expected
        assert all(repo.private for repo in hub.repos.values())
        (collection,) = hub.collections.values()
        assert len(collection["items"]) == 3
    run = tmp_path / "run"
    assert {p.name for p in (run / "curated" / "data").iterdir()} == {f"{c}.parquet" for c in ("ar", "de", "en", "sw")}
    assert (run / "report" / "report.html").is_file()
    judged = load_dataset(str(run / "judged"), split="train")
    assert set(judged["language"]) == {"ar", "de", "en", "sw"}
    assert re.search(r"^all: \d+\.\d % \[\d+\.\d, \d+\.\d\], n = 32$", done.stdout, re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#{1,4} (.+)$", FENCED.sub("", text_of(page)), re.MULTILINE)
    return {slug(heading.replace("`", "")) for heading in headings}


def test_slugs_by_hand():
    assert slug("SFT settings: `a_b` & more?") == "sft-settings-a_b--more"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_and_images_lead_somewhere(page):
    text = FENCED.sub("", text_of(page))
    targets = re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text) + re.findall(r"""<img[^>]*\ssrc="(?!\w+:)([^"]+)""", text)
    for target in targets:
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert place.is_relative_to(REPO), target
        if anchor:
            assert anchor in anchors(place), target


def test_every_page_is_in_the_table_of_contents():
    listed = set()
    for page in (page for page in PAGES if page.is_relative_to(DOCS)):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", text_of(page), re.DOTALL):
            lines = [line for line in tree.split("\n") if line and not line.startswith(":")]
            listed |= {(page.parent / line).relative_to(DOCS).as_posix() for line in lines}
    found = {p.relative_to(DOCS).with_suffix("").as_posix() for p in PAGES if p.is_relative_to(DOCS)} - {"index"}
    assert listed == found


def test_api_reference_is_that_of_the_code():
    """Every module of a room has its place, and every public name its line: `python docs/api_pages.py` writes them."""
    stale = [name_of(path) for path, text in api_pages.pages().items() if not path.exists() or text_of(path) != text]
    assert stale == []
    assert set(api_pages.pages()) == {DOCS / "api.md", *(DOCS / "api").glob("*.md")}


def test_every_public_name_is_explained():
    for room in api_pages.ROOMS:
        for name, module in api_pages.public_names(room).items():
            assert re.match(r"\S.*\w", api_pages.first_sentence(name, module)), f"{module}.{name}"


def test_api_table_by_hand():
    row = f"| `winrate` | {api_pages.first_sentence('winrate', 'hf_mlalign.evaluation.metrics.winrate')} |"
    assert row.startswith("| `winrate` | How often a candidate is preferred to a baseline")
    assert row in api_pages.table()


def test_readme_is_short():
    assert len(text_of(REPO / "README.md").splitlines()) < 150


@pytest.mark.slow
def test_pages_build_without_a_warning(tmp_path):
    """Also finds links between pages and anchors that lead nowhere, and docstrings that cannot be parsed."""
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    places = ["-b", "html", "-d", str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "out")]
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", *places]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    for page in ("index", "tutorial", "api/mdaq"):
        assert (tmp_path / "out" / f"{page}.html").stat().st_size > 5000
    assert 'id="hf_mlalign.mdaq.selection.das_select"' in text_of(tmp_path / "out" / "api" / "mdaq.html")
    assert 'href="api/mdaq.html#hf_mlalign.mdaq.selection.das_select"' in text_of(tmp_path / "out" / "paper-index.html")
