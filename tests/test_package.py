"""The package as a whole: a light import, a wheel that holds everything; its layers are in test_layers.py."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


def run(code: str, **kwargs) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **kwargs)
    return done.stdout.strip()


def test_import_takes_few_steps():
    """Fewer modules than a third of a second could load on any machine; a bound that no clock can break."""
    code = "import sys; n = len(sys.modules); import hf_mlalign; print(len(sys.modules) - n)"
    assert int(run(code)) < 60


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
    for needed in ("py.typed", "models/bundled/encoder/model.safetensors", "models/bundled/qsm/config.json",
                   "launch/train_qsm.py",
                   "launch/configs/fsdp2.yaml", "evaluation/annotation/page.js", "evaluation/annotation/messages.json",
                   "evaluation/judges/templates/general.j2", "evaluation/judges/self_test.json",
                   "generation/answer_in_language.json", "data/pool/en.jsonl",
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
