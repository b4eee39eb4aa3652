"""The package as a whole: light import, clean layers, a wheel that holds everything."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hf_mlalign

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "hf_mlalign"
METHODS = ("mdaq", "cmalign", "spontaneous", "evaluation")
GROUND = (
    "_version", "answers", "arrays", "arrow", "cards", "clustering", "columns", "encoders", "errors", "faults",
    "file_checks", "files", "generation", "half", "kept", "kmeans", "languages", "memory", "private_parts", "runs",
    "sequences", "sources", "trackers", "uploads", "weights",
)  # fmt: skip


def run(code: str, **kwargs) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **kwargs)
    return done.stdout.strip()


def test_import_is_light():
    heavy = ("torch", "transformers", "sentence_transformers", "datasets", "faiss", "pandas", "trl", "numpy")
    code = f"import sys, hf_mlalign; print([m for m in {heavy} if m in sys.modules])"
    assert run(code) == "[]"


def test_import_takes_few_steps():
    """Fewer modules than a third of a second could load on any machine; a bound that no clock can break."""
    code = "import sys; n = len(sys.modules); import hf_mlalign; print(len(sys.modules) - n)"
    assert int(run(code)) < 60


def test_root_names():
    for name in hf_mlalign.__all__:
        assert getattr(hf_mlalign, name) is not None
    assert {"MDaQScorer", "mdaq_score", "curate", "score", "CMAlignPreferenceBuilder", "build_pairs", "sample", "judge",
            "QuestionTranslationBuilder", "build_questions", "classify", "logit_lens", "winrate", "load_metric",
            "push", "write_report", "load_encoder", "load_demo_pool", "DataError"} <= set(dir(hf_mlalign))  # fmt: skip
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hf_mlalign.nothing


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.startswith("hf_mlalign.")}


def room(name: str) -> str:
    return name.split(".")[1]


def test_layers():
    """Ground knows nothing above it, method packages not each other, and nothing imports the command line."""
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        used = {room(name) for name in imported_modules(path)} - {inside}
        assert inside.startswith(("cli", "__main__")) or not {u for u in used if u.startswith("cli")}, path
        if inside in GROUND:
            assert used <= set(GROUND), path
        if inside in METHODS:
            assert not used & {"hub", "report", "distributed", "launch", "curate", "demo", *METHODS}, path


def test_no_cycles():
    graph: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = ".".join(("hf_mlalign", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        top = {n.module for n in tree.body if isinstance(n, ast.ImportFrom) and n.module}
        graph[name] = {m for m in top if m.startswith("hf_mlalign.")}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import cycle: {' → '.join((*trail, name))}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.slow
def test_wheel_in_an_empty_folder(tmp_path):
    """The built wheel, unpacked alone and used from another folder, curates, loads its models and finds its files."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(REPO)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    assert not [n for n in names if n.startswith(("tests/", "benchmarks/", "docs/", "metrics/")) or "__pycache__" in n]
    for path in (REPO / "metrics").glob("*/*.*"):
        assert f"hf_mlalign/{path.relative_to(REPO).as_posix()}" in names
    for needed in ("bundled/encoder/model.safetensors", "bundled/qsm/config.json", "launch/train_qsm.py",
                   "launch/configs/fsdp2.yaml", "evaluation/annotation/page.js", "evaluation/annotation/messages.json",
                   "evaluation/judges/templates/general.j2", "evaluation/judges/self_test.json",
                   "generation/answer_in_language.json", "demo/pool/en.jsonl",
                   "models/bundled/encoder/1_Normalize/config.json", "hub/templates/curated_card.md.j2"):  # fmt: skip
        assert f"hf_mlalign/{needed}" in names
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    code = """
import hf_mlalign; print(hf_mlalign.__file__)
from hf_mlalign import load_demo_pool
from hf_mlalign.launch.configs import config_path
assert config_path("multi_gpu").is_file()
load_demo_pool(["en", "de"]).to_json("pool.jsonl")
assert hf_mlalign.CMAlignPreferenceBuilder().build(load_demo_pool(["en", "de"]))
from hf_mlalign.cli.app import main; main()
"""
    arguments = ["curate", "pool.jsonl", "--column-mapping", "prompt=instruction,response=response", "-o", "out"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert (tmp_path / "out" / "README.md").is_file()
    code = """
import evaluate, hf_mlalign
from hf_mlalign.evaluation.metrics.loading import install_metrics, metric_names, metrics_folder
assert str(metrics_folder()).startswith(hf_mlalign.__file__.removesuffix("__init__.py"))
install_metrics()
for name in metric_names():
    assert hf_mlalign.load_metric(name).name == evaluate.load(f"hf_mlalign/{name}").name == name
print(len(metric_names()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**environment, "HF_EVALUATE_OFFLINE": "1"},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len([p for p in (REPO / "metrics").iterdir() if p.is_dir()])
