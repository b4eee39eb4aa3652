"""Sphinx settings: the pages are Markdown (MyST), the API reference is read from the docstrings."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

sys.path.insert(0, str(DOCS))

import api_pages  # noqa: E402

from hf_mlalign import __version__  # noqa: E402

project = "hf_mlalign"
author = "the hf_mlalign authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"hf_mlalign {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
pygments_style = "friendly"
pygments_dark_style = "monokai"
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
myst_url_schemes = ["http", "https", "mailto"]
autodoc_typehints = "signature"
suppress_warnings = ["ref.python"]  # a type name in a signature that several modules define is shown without a link
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost)"]
linkcheck_timeout = 10

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\.?/[^)#\s]+)(#[^)\s]*)?\)")
CELL = re.compile(r"(?<=\| )`(([a-z_]+\.)+\w+)([\[(][^`]*)?`(?= \|)")
NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*(\(\))?")
LONGEST_SIGNATURE = 2500


def _outside(app, docname: str, source: list[str]) -> None:
    """Links to files of the repository that are not pages become downloads, links to its folders plain text."""
    here = (DOCS / docname).parent

    def link(match: re.Match) -> str:
        text, target, _ = match.groups()
        path = (here / target).resolve()
        if path.is_relative_to(DOCS):
            return match[0]
        return text if path.is_dir() else f"[{text}](path:{target})"

    source[0] = LINK.sub(link, source[0])


def _functions(app, docname: str, source: list[str]) -> None:
    """Functions named in the paper index lead to the API reference, by the module that defines them."""

    def link(match: re.Match) -> str:
        room, _, name = match[1].rpartition(".")
        module = api_pages.public_names(room).get(name) if room in api_pages.ROOMS else None
        return f"{{py:obj}}`{match[1]}{match[3] or ''} <{module or f'hf_mlalign.{room}'}.{name}>`"

    if docname == "paper-index":
        source[0] = CELL.sub(link, source[0])


def _code(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are written with single backticks: show them as code, with a link where they name an object."""

    def shown(match: re.Match) -> str:
        return f":py:obj:`{match[1]}`" if NAME.fullmatch(match[1]) else f"``{match[1]}``"

    for number, line in enumerate(lines):
        lines[number] = re.sub(r"(?<![`:\w\\])`([^`\n]+)`(?![`_\w])", shown, line)


def _signature(app, what, name, obj, options, signature, returns):
    """Settings that inherit a hundred fields are shown without them; defaults that are objects as "..."."""
    if not signature:
        return signature, returns
    if len(signature) > LONGEST_SIGNATURE:
        return "(**options)", returns
    signature = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", signature)
    return re.sub(r"<factory>|<function (?:<lambda>|[^>])*>|PosixPath\('[^']*'\)", "...", signature), returns


def setup(app) -> None:
    """Connect the filters."""
    app.connect("source-read", _outside)
    app.connect("source-read", _functions)
    app.connect("autodoc-process-docstring", _code)
    app.connect("autodoc-process-signature", _signature)
