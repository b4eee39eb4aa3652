"""Writes the API reference from the code: one page per room (docs/api/), and the table of public names in docs/api.md.

    python docs/api_pages.py

Run it after a module or a public name has come, gone or moved; a test compares the pages with the code.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "hf_mlalign"
ROOMS = {
    "mdaq": ("Curation (M-DaQ)", "Score, cluster and select; see [the method](../mdaq.md) and [the Quality Scoring "
             "Model](../qsm.md)."),
    "cmalign": ("Preference pairs (CM-Align)", "From samples to pairs to DPO; see [the method](../cmalign.md)."),
    "spontaneous": ("Spontaneous alignment", "Translate questions, classify in many languages, look inside models; see "
                    "[training](../spontaneous-training.md), [evaluation](../spontaneous-evaluation.md) and "
                    "[lenses](../spontaneous-lenses.md)."),
    "evaluation": ("Evaluation", "Judge answers and compute win rates and metrics; see [win rates](../winrate.md), "
                   "[judges](../judges.md) and [metrics](../metrics.md)."),
    "generation": ("Sampling", "Sample answers from local models and servers; see [CM-Align](../cmalign.md)."),
    "data": ("Data", "Read any source: layouts, roles of columns, languages, final answers; see "
             "[formats](../formats.md)."),
    "models": ("Models", "Load encoders and models, and cluster embeddings; see [the encoder](../encoder.md)."),
    "hub": ("Runs and the Hub", "Run records, cards, uploads and trackers."),
    "report": ("Report", "Write a report of runs on one page; see [the report](../report.md)."),
    "launch": ("Training", "Scripts for `hf-mlalign train` and `accelerate launch -m`."),
    "distributed": ("Ray", "The same steps on a Ray cluster; see [Ray](../distributed.md)."),
    "core": ("Core", "Shared by all rooms: errors, files, checks, options, processes."),
}  # fmt: skip
"""Pages of the reference, in the order of the table of contents: title and first sentence."""
WITHOUT_PAGE = ("cli", "metrics", "_version", "__main__", "launch.configs.__main__")
TABLE = re.compile(r"(?<=<!-- names -->\n).*?(?=<!-- end of names -->)", re.DOTALL)


def modules() -> dict[str, list[str]]:
    """Room → its modules by full name, packages that define nothing left out."""
    found: dict[str, list[str]] = {room: [] for room in ROOMS}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        left_out = not name or any(name == each or name.startswith(f"{each}.") for each in WITHOUT_PAGE)
        if not left_out and (path.name != "__init__.py" or defines(path)):
            found[name.split(".")[0]].append(f"hf_mlalign.{name}")
    return found


def defines(path: Path) -> bool:
    """Whether a module has a public function or class of its own."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, kinds) and not node.name.startswith("_") for node in body)


def public_names(room: str) -> dict[str, str]:
    """Public name → module that defines it, as a room declares them in its `__init__`."""
    path = PACKAGE / room / "__init__.py" if (PACKAGE / room).is_dir() else PACKAGE / f"{room}.py"
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    lazy = {
        key.value: value.value
        for node in nodes if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values)
        if isinstance(value, ast.Constant) and str(value.value).startswith("hf_mlalign.")
    }  # fmt: skip
    if lazy:
        return lazy
    imported = {alias.name: node.module for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    lists = [node.value for node in nodes if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    here = f"hf_mlalign.{room}"
    return {name: imported.get(name, here) for listed in lists for name in ast.literal_eval(listed)}


def first_sentence(name: str, module: str) -> str:
    """What the docstring of a name says first, as one line for a table."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(path.read_text(encoding="utf-8")).body
    text = ""
    for node, after in zip(body, [*body[1:], None]):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            text = ast.get_docstring(node) or ""
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(after, ast.Expr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if name in [getattr(target, "id", "") for target in targets]:
                text = getattr(after.value, "value", "")
    words = " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")
    return re.split(r"(?<=[.:;])\s(?=[A-Z`(])", words)[0].rstrip(".:;")


def table() -> Iterator[str]:
    """The lines of the table of public names."""
    for room, (title, _) in ROOMS.items():
        if names := public_names(room):
            yield from ("", f"### {title}: hf_mlalign.{room}", "", "| name | what it is |", "|---|---|")
            for name, module in sorted(names.items(), key=lambda item: item[0].lower()):
                yield f"| `{name}` | {first_sentence(name, module)} |"
    yield ""


def page(room: str, inside: list[str]) -> str:
    """The page of a room: first the modules that define public names, then the inner ones."""
    title, intro = ROOMS[room]
    public = [name for name in inside if name in public_names(room).values()]
    lines = [f"# {title}", "", intro, ""]
    for name in public:
        lines += [f"## {name}", "", "```{eval-rst}", f".. automodule:: {name}", "```", ""]
    if inner := [name for name in inside if name not in public]:
        lines += ["## Inner modules", "", "Names here may change between minor versions.", ""]
    for name in inner:
        lines += [f"### {name}", "", "```{eval-rst}", f".. automodule:: {name}", "```", ""]
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """Path → text of every page that this script writes."""
    found = {DOCS / "api" / f"{room}.md": page(room, inside) for room, inside in modules().items() if inside}
    overview = DOCS / "api.md"
    rows = "\n".join(table())
    found[overview] = TABLE.sub(lambda _: rows, overview.read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Write the pages that differ from the code; pages of rooms that are gone are deleted."""
    wanted = pages()
    for path in set((DOCS / "api").glob("*.md")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(DOCS.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
