"""No pickle is loaded and no code of a model's or dataset's maker is run, whichever way a model is loaded."""

import ast
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from hf_mlalign.core.errors import DataError
from hf_mlalign.models.loading import (
    VARIABLE,
    from_pretrained,
    load_causal_lm,
    load_model,
    peft_adapter,
    refuse_pickles,
    sentence_transformer,
)
from tests.tiny_models import byte_tokenizer, saved, tiny_llama

REPO = Path(__file__).resolve().parents[2]


class Touch:
    """Unpickled, it touches a file."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return Path(saved(tiny_llama(), tmp_path_factory.mktemp("good") / "model"))


@pytest.fixture
def evil(good, tmp_path) -> Path:
    """The model with weights that are a pickle which touches `touched`."""
    folder = shutil.copytree(good, tmp_path / "evil")
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Touch(tmp_path / "touched")}, folder / "pytorch_model.bin")
    return folder


def _local(folder):
    from hf_mlalign.generation.transformers_backend import TransformersBackend

    TransformersBackend(str(folder))._load()


def _seq2seq(folder):
    from hf_mlalign.generation.seq2seq_backend import Seq2SeqBackend

    Seq2SeqBackend(str(folder), source="en")._load()


def _judge(folder):
    from hf_mlalign.evaluation.judges.reward_model import RewardModelJudge

    RewardModelJudge(str(folder))(["q"], ["a"], ["b"])


def _kind(kind):
    return lambda folder: load_model(str(folder), kind)


def _causal(folder):
    load_causal_lm(folder)


def _encoder(folder):
    from hf_mlalign.models.encoder import load_encoder

    load_encoder(folder).encode(["x"])


def _finetuned(folder):
    from hf_mlalign.mdaq.quality.finetuning import finetune

    finetune(str(folder), ["a"], ["b"], ["c"], folder.parent / "finetuned", device="cpu")


def _training(folder):
    from trl import ModelConfig, SFTConfig

    from hf_mlalign.launch.common import load_tokenizer

    training = SFTConfig(output_dir=str(folder.parent / "out"), use_cpu=True, bf16=False)
    load_tokenizer(training, ModelConfig(model_name_or_path=str(folder)))


def _checkpoint(folder):
    from trl import SFTConfig

    from hf_mlalign.launch.common import checkpoint_of

    for name in ("optimizer.pt", "scheduler.pt"):
        (folder / name).write_bytes(b"")
    (folder / "trainer_state.json").write_text("{}")
    resumed = {"output_dir": str(folder.parent / "out"), "resume_from_checkpoint": str(folder)}
    checkpoint_of(SFTConfig(**resumed, use_cpu=True, bf16=False))


LOADERS = (_local, _seq2seq, _judge, _kind("seq2seq"), _kind("reward"), _causal, _encoder, _finetuned, _training,
           _checkpoint)  # fmt: skip


@pytest.mark.parametrize("load", LOADERS)
def test_pickled_weights_are_refused(load, evil, tmp_path):
    with pytest.raises(DataError, match=r"has its weights as pickles \(pytorch_model.bin\)"):
        load(evil)
    assert not (tmp_path / "touched").exists()


def test_the_pickle_is_a_real_one(evil, tmp_path):
    torch.load(evil / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "touched").exists()


def test_allowed_pickles_load_and_still_run_no_code(good, evil, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(DataError, match="cannot load"):
        _causal(evil)  # tensors alone are read from it
    assert not (tmp_path / "touched").exists()
    torch.save(load_file(good / "model.safetensors"), evil / "pytorch_model.bin")
    _causal(evil)
    _local(evil)
    monkeypatch.setenv(VARIABLE, "0")
    with pytest.raises(DataError, match=VARIABLE):
        _causal(evil)


def test_an_index_of_shards_cannot_name_pickles_or_other_folders(good, evil, tmp_path):
    for shard in ("pytorch_model.bin", "../good/model.safetensors"):
        index = {"metadata": {}, "weight_map": {"model.norm.weight": shard}}
        (evil / "model.safetensors.index.json").write_text(json.dumps(index))
        (evil / "other.safetensors").write_bytes(b"")
        with pytest.raises(DataError, match="not a safetensors file beside it"):
            _causal(evil)
    (evil / "model.safetensors.index.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not an index of weights"):
        _causal(evil)
    assert not (tmp_path / "touched").exists()


def test_adapters(good, tmp_path):
    from peft import LoraConfig, get_peft_model

    from hf_mlalign.launch.lora import merge_adapter

    adapter = tmp_path / "adapter"
    get_peft_model(tiny_llama(), LoraConfig(target_modules=["q_proj"], r=2)).save_pretrained(adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(good)}))
    byte_tokenizer().save_pretrained(adapter)
    load_causal_lm(good, adapter)
    merge_adapter(adapter, tmp_path / "merged")
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"x": Touch(tmp_path / "touched")}, adapter / "adapter_model.bin")
    for load in (lambda: peft_adapter(tiny_llama(), adapter), lambda: merge_adapter(adapter, tmp_path / "m"),
                 lambda: _causal(adapter)):  # fmt: skip
        with pytest.raises(DataError, match=r"weights as pickles \(adapter_model.bin\)"):
            load()
    assert not (tmp_path / "touched").exists()


def test_parts_of_sentence_encoders(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    folder = tmp_path / "encoder"
    SentenceTransformer(modules=[StaticEmbedding(byte_tokenizer()._tokenizer, embedding_dim=4)]).save(str(folder))
    assert sentence_transformer(folder).encode(["x"]).shape == (1, 4)
    part = next(path.parent for path in folder.rglob("model.safetensors"))
    (part / "model.safetensors").unlink()
    torch.save({"embedding.weight": Touch(tmp_path / "touched")}, part / "pytorch_model.bin")
    with pytest.raises(DataError, match="weights as pickles"):
        _encoder(folder)
    next(part.glob("*.bin")).unlink()
    (folder / "own.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\nclass Own: pass\n")
    for module, message in (({"type": "own.Own", "path": ""}, "class 'own.Own'"),
                            ({"type": "sentence_transformers.models.Normalize", "path": "../.."}, "outside itself")):
        (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", **module}]))
        with pytest.raises(DataError, match=message):
            _encoder(folder)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("load", [_local, _causal, _judge, _kind("causal"), _training])
def test_code_of_a_model_is_not_run_and_nobody_is_asked(load, good, tmp_path, monkeypatch):
    folder = shutil.copytree(good, tmp_path / "coded")
    config = json.loads((folder / "config.json").read_text())
    loaders = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    config |= {"model_type": "made_up", "architectures": ["Own"], "auto_map": dict.fromkeys(loaders, "own.Own")}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["own.Own", None]}}))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\nclass Own: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    with pytest.raises(DataError, match="code that comes with it, and such code is not run"):
        load(folder)
    assert not (tmp_path / "touched").exists()


def test_broken_models_are_named(good, tmp_path):
    from transformers import AutoModelForCausalLM

    for name, content in (("config.json", b"{"), ("config.json", b"[" * 100_000), ("config.json", b"[]"),
                          ("model.safetensors", b"\0" * 100), ("model.safetensors", b""),
                          ("tokenizer.json", b"\xff"), ("tokenizer_config.json", b'{"a":' * 5000)):  # fmt: skip
        folder = shutil.copytree(good, tmp_path / "broken", dirs_exist_ok=True)
        (folder / name).write_bytes(content)
        with pytest.raises(DataError, match="model: cannot load '.*broken'"):
            _causal(folder)
        shutil.rmtree(folder)
    with pytest.raises(DataError, match="which: cannot load 'no-such-model' as a thing"):
        from_pretrained(AutoModelForCausalLM, "no-such-model", "a thing", role="which")


def test_a_model_by_name_and_a_loaded_pair(good):
    model, tokenizer = load_model(str(good), device="cpu")
    assert not model.training
    assert model.device.type == "cpu"
    assert tokenizer("ab")["input_ids"] == byte_tokenizer()("ab")["input_ids"]
    own = byte_tokenizer()
    assert load_model(good, tokenizer=own)[1] is own
    loaded = tiny_llama().train()
    assert load_model((loaded, own)) == (loaded, own)
    assert not loaded.training


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (3, {}, "model: expected a name, a folder or .model, tokenizer., got int"),
        ((1, 2, 3), {}, "model: expected .model, tokenizer., got 3 objects"),
        ("nowhere", {"dtype": "int3"}, "dtype: 'int3' is not one of auto, float32"),
        ("nowhere", {}, "model: cannot load 'nowhere' as a causal LM"),
    ],
)
def test_bad_models(model, options, message):
    with pytest.raises(DataError, match=message):
        load_model(model, **options)


def test_a_device_that_is_not_there(good):
    with pytest.raises(DataError, match="device: cannot use 'cuda:99'"):
        load_model(good, device="cuda:99")


def test_files_of_trainings_are_no_weights(good, tmp_path):
    folder = shutil.copytree(good, tmp_path / "trained")
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth", "consolidated.00.pth"):
        (folder / name).write_bytes(b"")
    refuse_pickles(folder)
    refuse_pickles("user/name")


def test_an_optimizer_that_is_a_pickle_runs_no_code(tmp_path):
    """Checkpoints are read by the trainer, tensors only."""
    from transformers import Trainer, TrainingArguments

    model = tiny_llama()
    rows = Dataset.from_dict({"input_ids": [[6, 7, 8]] * 4, "labels": [[6, 7, 8]] * 4})
    arguments = {"output_dir": str(tmp_path / "out"), "save_steps": 1, "per_device_train_batch_size": 1,
                 "report_to": [], "use_cpu": True, "disable_tqdm": True}  # fmt: skip
    Trainer(model, TrainingArguments(**arguments, max_steps=1), train_dataset=rows).train()
    checkpoint = tmp_path / "out" / "checkpoint-1"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        kept = (checkpoint / name).read_bytes()
        torch.save({"state": Touch(tmp_path / "touched")}, checkpoint / name)
        with pytest.raises(Exception, match="[Ww]eights.only"):
            Trainer(model, TrainingArguments(**arguments, max_steps=2), train_dataset=rows).train(
                resume_from_checkpoint=str(checkpoint)
            )
        assert not (tmp_path / "touched").exists()
        (checkpoint / name).write_bytes(kept)


def test_arrow_types_are_not_unpickled(tmp_path):
    """Old versions of Arrow unpickled the metadata of an extension type."""
    import pickle

    import pyarrow as pa

    from hf_mlalign.data.sources import load_source

    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type",
                b"ARROW:extension:metadata": pickle.dumps(Touch(tmp_path / "touched"))}  # fmt: skip
    schema = pa.schema([pa.field("prompt", pa.string(), metadata=metadata)])
    with pa.ipc.new_stream(str(tmp_path / "x.arrow"), schema) as writer:
        writer.write_table(pa.table({"prompt": ["a"]}, schema=schema))
    load_source(tmp_path / "x.arrow")
    assert not (tmp_path / "touched").exists()


def test_code_of_a_dataset_is_not_run(tmp_path):
    from hf_mlalign.data.sources import load_source

    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    with pytest.raises(DataError, match="scripts are no longer supported"):
        load_source(folder)
    Dataset.from_dict({"prompt": ["a"]}).to_parquet(folder / "rows.parquet")
    with pytest.raises(DataError, match="scripts are no longer supported"):
        load_source(folder)
    assert not (tmp_path / "touched").exists()


FORBIDDEN = {"eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads",
             "cloudpickle.load", "cloudpickle.loads", "joblib.load", "pandas.read_pickle", "pd.read_pickle",
             "os.system", "os.popen", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "marshal.loads",
             "shelve.open", "torch.hub.load", "torch.jit.load"}  # fmt: skip
NEEDED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False),
          "numpy.load": ("allow_pickle", False)}  # fmt: skip
NEVER = {"trust_remote_code": True, "shell": True, "allow_pickle": True, "weights_only": False}
LOADS = ("SentenceTransformer", "CrossEncoder", "PeftModel")


def _name(node: ast.AST) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts, node = [node.attr, *parts], node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "?", *parts])


def unsafe_calls(source: str, is_helper: bool = False) -> list[str]:
    """Calls that unpickle, run text as code, or load a model otherwise than by `hf_mlalign.models.loading`."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name, given = _name(call.func), {word.arg: word.value for word in call.keywords}
        constant = {key: value.value for key, value in given.items() if isinstance(value, ast.Constant)}
        bad = name in FORBIDDEN or any(constant.get(key) is value for key, value in NEVER.items())
        if name in NEEDED:
            key, value = NEEDED[name]
            bad |= constant.get(key, "not given") is not value
        if name == "yaml.load":
            bad |= not _name(given.get("Loader", call)).endswith(("SafeLoader", "BaseLoader"))
        if not is_helper:
            bad |= name.endswith(".from_pretrained") or (name in LOADS and "modules" not in given)
        if bad:
            found.append(f"{name}, line {call.lineno}")
    return found


def test_the_check_of_calls_finds_what_it_should():
    for code in ("eval('1')", "torch.load('x')", "torch.load('x', weights_only=False)", "np.load('x')",
                 "yaml.load('x')", "pickle.loads(b'')", "AutoModel.from_pretrained('x')", "SentenceTransformer('x')",
                 "f(trust_remote_code=True)", "subprocess.run('x', shell=True)",
                 "yaml.load('x', Loader=yaml.Loader)"):  # fmt: skip
        assert unsafe_calls(code), code
    for code in ("torch.load('x', weights_only=True)", "yaml.safe_load('x')", "model.eval()",
                 "np.load('x', allow_pickle=False)", "yaml.load('x', Loader=yaml.BaseLoader)", "re.compile('x')",
                 "from_pretrained(AutoModel, 'x', 'y')", "SentenceTransformer(modules=[m])"):  # fmt: skip
        assert not unsafe_calls(code), code


def test_no_unsafe_call_in_the_code():
    for place in ("hf_mlalign", "metrics", "dataset_scripts"):
        for path in sorted((REPO / place).rglob("*.py")):
            found = unsafe_calls(path.read_text(encoding="utf-8"), path == REPO / "hf_mlalign/models/loading.py")
            assert not found, f"{path.relative_to(REPO)}: {found}"


def test_no_bundled_pickles():
    pickles = (".bin", ".pt", ".pth", ".pkl", ".pickle")
    assert not [path for path in (REPO / "hf_mlalign").rglob("*") if path.suffix in pickles]
    assert os.environ.get(VARIABLE) is None


def test_broken_quality_models_are_named(tmp_path):
    from hf_mlalign.hub.publish import kind_of
    from hf_mlalign.mdaq.quality.scorer import QualityScorer
    from hf_mlalign.models.encoder import BUNDLED

    for name in ("config.json", "quality.safetensors"):
        whole = (BUNDLED / "qsm" / name).read_bytes()
        for content in (b"", b"{", b"[]", b"5", b"[" * 100_000, b"\xff\xfe", whole[:-5], None):
            folder = shutil.copytree(BUNDLED / "qsm", tmp_path / "broken")
            (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
            with pytest.raises(DataError, match="cannot load '.*broken'"):
                QualityScorer.load(folder).score(["a"], ["b"])
            if name == "config.json" and content is not None:
                with pytest.raises(DataError, match=r"config.json' is not the config of a model"):
                    kind_of(folder)
            shutil.rmtree(folder)
