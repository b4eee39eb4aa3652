"""Uploads with the real client to a Hub on loopback: cards, secrets, faults, and what comes back."""

import json
import os
import subprocess
import sys

import pytest
from datasets import Dataset

from hf_mlalign import load_demo_pool
from hf_mlalign.cmalign.build import build_pairs
from hf_mlalign.core.errors import DataError
from hf_mlalign.core.secrets import redacted
from hf_mlalign.hub.publish import content_hash, kind_of
from hf_mlalign.hub.repository import BEGIN, END, merged_card
from hf_mlalign.mdaq.curation import curate
from tests.hub_server import HubServer

PUSH = "import sys; from hf_mlalign.cli.app import main; sys.argv[0] = 'hf-mlalign'; main()"
TOKEN = "hf_" + "t" * 34


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("push") / "curated"
    return curate(load_demo_pool(["de", "sw"]), folder, n_quality=6, n_diversity=1).folder


def hf_mlalign(hub, home, *arguments, code=PUSH, token=True):
    environment = {**os.environ, **hub.environment(token), "HF_HOME": str(home / "home")}
    if not token:
        environment.pop("HF_TOKEN", None)
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, cwd=home, text=True,
                          capture_output=True, timeout=240)  # fmt: skip


def test_a_curated_set_goes_there_and_comes_back_in_a_fresh_process(curated, tmp_path):
    with HubServer(TOKEN) as hub:
        done = hf_mlalign(hub, tmp_path, "push", curated, "me/set", "--collection", "My run", "--license", "mit")
        assert done.returncode == 0, done.stderr
        assert "the same content" in done.stdout
        assert hub.repos["dataset", "me/set"].private
        files = hub.files("dataset", "me/set")
        assert set(files) == {"README.md", "run.json", "data/de.parquet", "data/sw.parquet"}
        card = files["README.md"].decode()
        assert "\nlicense: mit\n" in card
        assert "hf-mlalign train sft --recipe mdaq" in card
        (collection,) = hub.collections.values()
        assert [item["id"] for item in collection["items"]] == ["me/set"]
        load = "import datasets; print(datasets.load_dataset('me/set', 'de', split='train')['response'])"
        shown = hf_mlalign(hub, tmp_path, code=load)
        ours = Dataset.from_parquet(str(curated / "data" / "de.parquet"))
        assert shown.stdout.strip() == str(ours["response"]), shown.stderr
        for text in (done.stdout, done.stderr, *(str(data) for data in files.values())):
            assert TOKEN not in text


def test_pairs_are_pushed_with_their_splits(tmp_path):
    built = build_pairs(load_demo_pool(["de", "en", "sw"]), tmp_path / "pairs", test_size=0.25)
    with HubServer(TOKEN) as hub:
        done = hf_mlalign(hub, tmp_path, "push", "pairs", "me/pairs", "--public")
        assert done.returncode == 0, done.stderr
        assert not hub.repos["dataset", "me/pairs"].private
        load = "import datasets; print({k: len(v) for k, v in datasets.load_dataset('me/pairs', 'sw').items()})"
        shown = hf_mlalign(hub, tmp_path, code=load)
    counts = {name: part["language"].count("sw") for name, part in built.dataset.items()}
    assert shown.stdout.strip() == str(dict(sorted(counts.items(), reverse=True))), shown.stderr


def test_a_card_of_somebody_else_keeps_its_text(curated, tmp_path):
    theirs = b"---\nlicense: cc-by-4.0\ntags: [mine]\nlanguage: [fr]\n---\n# My set\n\nWritten by hand.\n"
    with HubServer(TOKEN) as hub:
        hub.create("dataset", "me/set", {"README.md": theirs, "data/old.parquet": b"old", "notes.txt": b"keep"})
        for _ in range(2):  # the second time the marked section is replaced
            done = hf_mlalign(hub, tmp_path, "push", curated, "me/set")
            assert done.returncode == 0, done.stderr
        files = hub.files("dataset", "me/set")
        card = files["README.md"].decode()
        assert not hub.repos["dataset", "me/set"].private
    assert "# My set\n\nWritten by hand.\n" in card
    assert card.count(BEGIN) == card.count(END) == card.count("## What was selected") == 1
    assert "license: cc-by-4.0" in card
    assert card.index("- mine") < card.index("- m-daq")
    assert card.index("- fr") < card.index("- sw")
    assert "data/old.parquet" not in files
    assert files["notes.txt"] == b"keep"


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "hf auth login"), (403, "write access"), ((429, "0"), "slow down"), (503, "Run the same again")],
)
def test_refusals_say_what_to_do(curated, tmp_path, status, message):
    with HubServer(TOKEN, fault=lambda number, method, path: status if method == "POST" else None) as hub:
        done = hf_mlalign(hub, tmp_path, "push", curated, "me/set")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_wrong_token_is_refused_and_not_shown(curated, tmp_path):
    with HubServer("hf_" + "x" * 34) as hub:
        hub_token = {**os.environ, **hub.environment(), "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", PUSH, "push", str(curated), "me/set"], env=hub_token, text=True,
                              capture_output=True, timeout=240)  # fmt: skip
    assert done.returncode == 2
    assert "hf auth login" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_broken_upload_goes_on_and_sends_nothing_twice(curated, tmp_path):
    """Every file is a large one here. All connections but the first break in mid-file; later the line holds."""
    tries = []

    def fault(number, method, path):
        if method != "PUT" or hub.mended:
            return None
        tries.append(path)
        return None if path == tries[0] else "cut"

    impatient = "import functools, huggingface_hub.lfs as lfs; lfs.http_backoff = functools.partial(lfs.http_backoff, "
    impatient += f"max_retries=1, base_wait_time=0.01); {PUSH}"
    with HubServer(TOKEN, fault=fault, lfs_from=1000) as hub:
        hub.mended = False
        first = hf_mlalign(hub, tmp_path, "push", curated, "me/set", code=impatient)
        arrived = set(hub.objects)
        assert first.returncode == 2, first.stderr
        assert "was not uploaded" in first.stderr
        assert len(arrived) == 1
        assert hub.files("dataset", "me/set") == {}
        hub.mended, begin = True, len(hub.log)
        second = hf_mlalign(hub, tmp_path, "push", curated, "me/set")
        assert second.returncode == 0, second.stderr
        sent = {path.removeprefix("/lfs/") for method, path in hub.log[begin:] if method == "PUT"}
    assert sent
    assert not sent & arrived


def test_content_that_comes_back_different_is_told(curated, tmp_path):
    """The server swaps the rows of one language after the commit."""
    other = Dataset.from_parquet(str(curated / "data" / "de.parquet"))
    other.select(range(len(other) - 1)).to_parquet(str(tmp_path / "other.parquet"))

    class Swapping(HubServer):
        def commit(self, repo, title, tree):
            if "data/de.parquet" in tree:
                tree = {**tree, "data/de.parquet": type(tree["README.md"])((tmp_path / "other.parquet").read_bytes())}
            return super().commit(repo, title, tree)

    with Swapping(TOKEN) as hub:
        done = hf_mlalign(hub, tmp_path, "push", curated, "me/set")
    assert done.returncode == 2
    assert "content differs" in done.stderr
    assert "de/train" in done.stderr
    assert "sw/train" not in done.stderr


def test_models_adapters_and_scorers(tmp_path):
    from hf_mlalign.models.encoder import BUNDLED
    from tests.tiny_models import saved, tiny_llama

    saved(tiny_llama(), tmp_path / "model")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter" / "training_args.bin").write_bytes(b"pickle")
    assert kind_of(BUNDLED / "encoder") == "encoder"
    with HubServer(TOKEN) as hub:
        for folder in (tmp_path / "model", tmp_path / "adapter", BUNDLED / "qsm"):
            kind = folder.name
            assert kind_of(folder) == kind
            done = hf_mlalign(hub, tmp_path, "push", folder, f"me/{kind}")
            assert done.returncode == 0, done.stderr
        assert set(hub.files("model", "me/adapter")) == {"adapter_config.json"}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(hub.files("model", "me/model"))
        load = "from transformers import LlamaForCausalLM as A; print(A.from_pretrained('me/model').num_parameters())"
        assert hf_mlalign(hub, tmp_path, code=load).stdout.strip() == str(tiny_llama().num_parameters())


def test_secrets_are_not_uploaded(tmp_path, curated):
    import shutil

    shutil.copytree(curated, tmp_path / "set")
    record = json.loads((tmp_path / "set" / "run.json").read_text())
    record["notes"].append(f"asked with {TOKEN}")
    (tmp_path / "set" / "run.json").write_text(json.dumps(record, indent=1))
    with HubServer("hf_" + "z" * 34) as hub:
        done = hf_mlalign(hub, tmp_path, "push", "set", "me/set")
        assert not hub.repos
    assert done.returncode == 2
    assert "run.json, line" in done.stderr
    assert TOKEN not in done.stderr


def test_what_cannot_be_pushed_says_why(tmp_path, curated):
    with pytest.raises(DataError, match="neither a run with data/.* nor a model"):
        kind_of(tmp_path)
    record = json.loads((curated / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "state": "running"}))
    with pytest.raises(DataError, match="holds an unfinished 'curate' run"):
        kind_of(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="neither a run with data/.* nor a model"):
        kind_of(tmp_path)


def test_cards_are_merged_by_hand():
    ours = "---\ntags:\n- a\nconfigs:\n- config_name: de\n---\n\nOurs.\n"
    first = merged_card(ours, None)
    assert first == f"---\ntags:\n- a\nconfigs:\n- config_name: de\n---\n\n{BEGIN}\nOurs.\n{END}\n"
    assert merged_card(ours, first) == first
    theirs = first.replace("- a", "- b").replace(BEGIN, f"Before.\n\n{BEGIN}").replace(END, f"{END}\n\nAfter.")
    again = merged_card(ours.replace("Ours.", "New."), theirs)
    assert again == theirs.replace("- b", "- b\n- a").replace("Ours.", "New.")
    assert merged_card(ours, "No metadata here.").endswith(f"No metadata here.\n\n{BEGIN}\nOurs.\n{END}\n")
    assert "license: mit" in merged_card(ours, theirs.replace("tags:", "license: other\ntags:"), "mit")
    assert "license: other" in merged_card(ours.replace("tags:", "license: unknown\ntags:"),
                                           theirs.replace("tags:", "license: other\ntags:"))  # fmt: skip
    with pytest.raises(DataError, match="metadata cannot be read"):
        merged_card(ours, "---\n: [\n---\n")


def test_content_hash_sees_rows_not_files():
    rows = {"b": [1, 2, 3], "a": [["x"], None, ["é", "\ud800" if False else "y"]]}
    ds = Dataset.from_dict(rows)
    assert content_hash(ds) == content_hash(Dataset.from_dict(dict(reversed(rows.items()))))
    assert content_hash(ds) == content_hash(ds.select([0, 1, 2]))
    assert content_hash(ds) != content_hash(ds.select([0, 2, 1]))
    assert content_hash(ds) != content_hash(ds.select([0, 1]))
    assert content_hash(ds) != content_hash(ds.rename_column("b", "c"))


def test_redacted():
    assert redacted(f"asked with {TOKEN} and mysecret", "mysecret") == "asked with *** and ***"
