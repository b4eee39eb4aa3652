"""The SFT script: recipes, row layouts, LoRA targets, packing, whole runs, resuming, merging."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import AutoModelForCausalLM
from trl import ModelConfig

from hf_mlalign.core.errors import DataError
from hf_mlalign.launch import configs, sft
from hf_mlalign.launch.lora import LoraTargets, linear_modules, lora_config, merge_adapter, query_and_value
from hf_mlalign.launch.packing import check_packing, packing_difference
from hf_mlalign.launch.recipes import accumulation
from hf_mlalign.launch.rows import to_training_rows
from tests.hub_server import HubServer
from tests.processes import REPO, run_group
from tests.tiny_models import byte_tokenizer, saved, tiny_gpt2, tiny_llama

SHARED = ("--use_cpu", "--bf16", "False", "--gradient_checkpointing", "False", "--report_to", "none",
          "--logging_steps", "1", "--disable_tqdm", "True", "--max_length", "128")  # fmt: skip
IGNORED = -100


@pytest.fixture
def model(tmp_path) -> str:
    return saved(tiny_llama(), tmp_path / "model")


@pytest.fixture
def rows(tmp_path) -> str:
    """32 rows of question translation, 16 questions in German and Swahili."""
    path = tmp_path / "rows.parquet"
    made = [
        {"prompt": f"{word} {i}?\nTranslate:\n", "completion": f"How many of {i}?", "language": code,
         "question_id": str(i), "task": "t"}
        for i in range(16) for code, word in (("de", "Wie viele von"), ("sw", "Ngapi"))
    ]  # fmt: skip
    Dataset.from_list(made).to_parquet(str(path))
    return str(path)


def arguments(rows: str, model: str, output: Path, *more: str) -> list[str]:
    return ["--dataset", rows, "--model_name_or_path", model, "--output_dir", str(output), *SHARED, *more]


def losses(output: Path, name: str = "loss") -> list[float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [row[name] for row in history if name in row]


def built(rows: str, model: str, output: Path, *more: str):
    """The trainer of these arguments, not yet trained."""
    script, training, settings = sft.parse_sft(arguments(rows, model, output, *more))
    tokenizer = sft.load_tokenizer(training, settings)
    train_set, eval_set = sft.load_rows(script, training.seed, True)
    adapter, _ = sft.lora_config(settings, script.recipe == "question_translation", False)
    return sft.build_sft_trainer(training, settings, train_set, eval_set, tokenizer, adapter)


# Recipes


def test_the_authors_settings_are_the_defaults():
    script, training, model = sft.parse_sft(["--output_dir", "x", "--use_cpu", "--bf16", "False"])
    assert script.recipe == "question_translation"
    assert (training.learning_rate, training.lr_scheduler_type, training.warmup_steps) == (5e-5, "cosine", 0.1)
    assert (training.num_train_epochs, training.max_length, training.seed) == (3, 2048, 0)
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (4, 4)
    assert training.completion_only_loss is True
    assert model.use_peft is True
    assert training.get_warmup_steps(1000) == 100


def test_mdaq_and_none():
    cpu = ["--output_dir", "x", "--use_cpu", "--bf16", "False"]
    _, training, model = sft.parse_sft([*cpu, "--recipe", "mdaq"])
    assert (training.learning_rate, training.num_train_epochs) == (5e-5, 3)
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 256
    assert model.use_peft is False
    _, plain, model = sft.parse_sft([*cpu, "--recipe=none"])
    assert (plain.learning_rate, plain.gradient_accumulation_steps, model.use_peft) == (2e-5, 1, False)


def test_flags_win_over_the_file_and_the_file_over_the_recipe(tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("recipe: mdaq\nlearning_rate: 1.0e-4\nnum_train_epochs: 7\ngradient_accumulation_steps: 5\n")
    cpu = ["--output_dir", "x", "--use_cpu", "--bf16", "False", "--config", str(settings)]
    script, training, _ = sft.parse_sft([*cpu, "--num_train_epochs", "2"])
    assert (script.recipe, training.learning_rate, training.num_train_epochs) == ("mdaq", 1e-4, 2)
    assert (training.gradient_accumulation_steps, script.total_batch_size) == (5, None)
    _, training, model = sft.parse_sft([*cpu, "--recipe", "question_translation", "--use_peft", "False"])
    assert (training.learning_rate, training.lr_scheduler_type, model.use_peft) == (1e-4, "cosine", False)
    with pytest.raises(DataError, match="give only one of them"):
        sft.parse_sft([*cpu, "--total_batch_size", "64"])


def test_total_batch_size():
    assert accumulation(256, 8, 4) == 8
    for total, device, processes in ((256, 3, 1), (16, 32, 1)):
        with pytest.raises(DataError, match=f"{total} is not a multiple of {device} rows per device × {processes}"):
            accumulation(total, device, processes)


# Rows


def texts(ds) -> list[tuple]:
    return [(r["prompt"], r["completion"]) for r in ds]


CHAT = ([{"role": "user", "content": "Hi"}], [{"role": "assistant", "content": "Hello"}])


@pytest.mark.parametrize(
    ("row", "mapping"),
    [
        ({"instruction": "Hi", "input": "", "output": "Hello"}, None),
        ({"instruction": "Hi", "response": "Hello"}, None),
        ({"prompt": "Hi", "response": "Hello"}, None),
        ({"inputs": "Hi", "targets": "Hello"}, None),
        ({"q": "Hi", "a": "Hello"}, {"q": "instruction", "a": "response"}),
        ({"messages": [*CHAT[0], *CHAT[1]]}, None),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, None),
        ({"prompt": CHAT[0], "completion": CHAT[1]}, None),
    ],
)
def test_every_layout_becomes_prompt_and_completion(row, mapping):
    ds = Dataset.from_list([{**row, "lang": "de", "id": 1, "quality_score": 0.5}])
    made = to_training_rows(ds, mapping)
    assert texts(made) == [CHAT]
    if "completion" not in row:
        assert made["language"][:] == ["de"]
        assert to_training_rows(ds, mapping, has_template=False)[0]["prompt"] == "Hi\n\n"
    assert "quality_score" not in made.column_names
    assert "id" in made.column_names


def test_plain_rows_and_long_chats():
    plain = Dataset.from_dict({"prompt": ["a\n"], "completion": ["b"]})
    assert texts(to_training_rows(plain)) == [("a\n", "b")]
    turns = [{"role": "system", "content": "S"}, *CHAT[0], *CHAT[1], {"role": "user", "content": "More"},
             {"role": "assistant", "content": "Less"}, {"role": "user", "content": "Unanswered"}]  # fmt: skip
    chat = Dataset.from_list([{"messages": turns}])
    assert texts(to_training_rows(chat)) == [(turns[:4], turns[4:5])]
    with pytest.raises(DataError, match="row 0: 4 messages before the answer cannot be plain text"):
        to_training_rows(chat, row_format="standard")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"prompt": ["a", "b"], "completion": ["c", " "]}, {}, "Column 'completion', row 1: missing or blank"),
        ({"instruction": ["a", None], "output": ["c", "d"]}, {}, "Column 'instruction', row 1: missing"),
        ({"messages": [CHAT[0]]}, {}, "row 0: needs a prompt and an assistant turn"),
        ({"text": ["a"]}, {}, "No known instruction layout"),
        ({"prompt": [CHAT[0]], "completion": [CHAT[1]]}, {"has_template": False}, "no chat template"),
        ({"prompt": ["a"], "completion": ["b"]}, {"row_format": "xml"}, "row_format: unknown"),
        ({"prompt": [], "completion": []}, {}, "The dataset is empty"),
    ],
)
def test_rows_that_cannot_be_trained_on(columns, options, message):
    with pytest.raises(DataError, match=message):
        to_training_rows(Dataset.from_dict(columns), **options)


# LoRA


def tiny(name: str):
    import transformers as t

    torch.manual_seed(0)
    sizes = {"vocab_size": 262, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.2, "pad_token_id": 0,
             "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    few = {"vocab_size": 262, "hidden_size": 32, "initializer_range": 0.2}
    builders = {
        "llama": tiny_llama, "gpt2": tiny_gpt2,
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**sizes)),
        "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(head_dim=16, **sizes)),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(sliding_window=8, **sizes)),
        "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**sizes)),
        "bloom": lambda: t.BloomForCausalLM(t.BloomConfig(n_layer=2, n_head=2, **few)),
        "mamba": lambda: t.MambaForCausalLM(t.MambaConfig(num_hidden_layers=2, state_size=4, **few)),
    }  # fmt: skip
    return builders[name]().eval()


@pytest.mark.parametrize(
    ("name", "targets"),
    [("llama", LoraTargets(("q_proj", "v_proj"))), ("qwen2", LoraTargets(("q_proj", "v_proj"))),
     ("gemma2", LoraTargets(("q_proj", "v_proj"))), ("mistral", LoraTargets(("q_proj", "v_proj"))),
     ("gpt2", LoraTargets(("c_attn",), True)), ("phi3", LoraTargets(("qkv_proj",), True)),
     ("bloom", LoraTargets(("query_key_value",), True))],
)  # fmt: skip
def test_query_and_value_projections_of_an_architecture(tmp_path, name, targets):
    tiny(name).config.save_pretrained(tmp_path)
    assert query_and_value(linear_modules(ModelConfig(model_name_or_path=str(tmp_path)))) == targets


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["q_proj"], ["q_proj"]),
        (["q_proj", "embed_tokens"], ["q_proj", "embed_tokens"]),
        (["0.self_attn.v_proj"], ["0.self_attn.v_proj"]),
        ([r".*\.[qv]_proj"], r".*\.[qv]_proj"),
        (["all-linear"], "all-linear"),
    ],
)
def test_modules_that_are_named(tmp_path, given, kept):
    name = saved(tiny_llama(), tmp_path)
    settings = ModelConfig(model_name_or_path=name, use_peft=True, lora_target_modules=given)
    config, _ = lora_config(settings, False, False)
    assert sorted(config.target_modules) == sorted(kept)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(name), config)
    assert any("lora_" in parameter for parameter, _ in adapted.named_parameters())


def test_other_towers_and_unknown_names():
    names = ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj", "vision_tower.0.q_proj"]
    assert query_and_value(names) == LoraTargets(("q_proj", "v_proj"), other_towers=True)
    with pytest.raises(DataError, match="among the linear modules dt_proj, in_proj.*--lora_target_modules"):
        query_and_value(["layers.0.mixer.in_proj", "layers.0.mixer.dt_proj"])


# Packing and the loss


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "gemma2", "mistral", "phi3"])
def test_packed_examples_do_not_see_each_other(name):
    model = tiny(name)
    assert packing_difference(model) < 1e-5
    assert check_packing(model, True, "bfd") < 1e-5
    model.set_attn_implementation("eager")
    assert packing_difference(model) < 1e-5


@pytest.mark.parametrize("name", ["bloom", "mamba"])
def test_packing_is_refused_where_examples_would_mix(name):
    model = tiny(name)
    assert packing_difference(model) > 0.05
    with pytest.raises(DataError, match="packed examples see each other"):
        check_packing(model, True, "bfd")


def test_wrapped_packing_is_refused():
    with pytest.raises(DataError, match='"wrapped" cuts examples'):
        check_packing(tiny_llama(), True, "wrapped")


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_on_the_completions_only(tmp_path, rows, model, packing):
    """Read from the labels of a collated batch: the completions and their end token, nothing else."""
    more = ("--packing",) if packing else ()
    trainer = built(rows, model, tmp_path / "out", *more, "--per_device_train_batch_size", "32")
    tokenizer = byte_tokenizer()
    batches = list(trainer.get_train_dataloader())
    learnt, ids = [], []
    for batch in batches:
        labels = batch["labels"].flatten()
        assert torch.equal(labels[labels != IGNORED], batch["input_ids"].flatten()[labels != IGNORED])
        learnt += labels[labels != IGNORED].tolist()
        ids.append(batch["input_ids"])
    taught = sorted(tokenizer.decode(learnt).split("<|end|>"))
    assert taught == ["", *sorted(f"How many of {i}?" for i in range(16) for _ in range(2))]
    if packing:
        assert all(i.shape[0] == 1 for i in ids)
        starts = sum(int((b["position_ids"] == 0).sum()) for b in batches)
        assert starts == 32
        assert len(trainer.train_dataset) < 32
    described = sft.describe_training(trainer, sft.SFTScriptArguments(), Dataset.from_parquet(rows))
    assert described["tokens_in_loss"] == len(learnt)
    assert described["rows_by_language"] == {"de": 16, "sw": 16}
    assert (described["cut"], described["dropped"]) == (0, 0)


def test_packing_does_not_change_the_gradient(tmp_path, rows, model):
    """The summed loss of one batch of all rows, packed and not."""
    found = []
    for more in ((), ("--packing",)):
        trainer = built(rows, model, tmp_path / "out", *more, "--per_device_train_batch_size", "32")
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.model.eval()
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(1))
        loss.backward()
        found.append((loss.item(), [p.grad.clone() for p in trainer.model.parameters() if p.requires_grad]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


# Runs


def test_a_whole_run_trains_q_and_v_only_and_resumes(tmp_path, rows, model):
    output = tmp_path / "out"
    more = ("--max_steps", "4", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1",
            "--learning_rate", "1e-2", "--eval_prompts", "0.2", "--eval_strategy", "steps", "--eval_steps", "2",
            "--save_steps", "2", "--world_size", "1", "--merge")  # fmt: skip
    assert sft.main(arguments(rows, model, output, *more)) == 0
    assert len(losses(output)) == 4
    assert len(losses(output, "eval_de_loss")) == len(losses(output, "eval_sw_loss")) == 3
    assert {"eval_de_loss", "eval_sw_loss"} <= json.loads((output / "eval_results.json").read_text()).keys()
    record = json.loads((output / "run.json").read_text())["results"]
    assert record["lora_target_modules"] == ["q_proj", "v_proj"]
    assert (record["rows"], record["rows_by_language"]) == (26, {"de": 13, "sw": 13})
    assert record["trained_parameters"] < record["parameters"]
    assert [row["language"] for row in record["per_language"]] == ["de", "sw"]
    assert record["per_language"][0]["loss"] == losses(output, "eval_de_loss")[-1]
    check_adapter(model, output)
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    (output / "checkpoint-2").rename(resumed / "checkpoint-2")
    state = resumed / "checkpoint-2" / "trainer_state.json"
    history = json.loads(state.read_text())
    history["log_history"][0]["loss"] = 123.0  # only a run that goes on from here knows of it
    state.write_text(json.dumps(history))
    assert sft.main(arguments(rows, model, resumed, *more, "--resume_from_checkpoint", "auto")) == 0
    assert losses(resumed) == pytest.approx([123.0, *losses(output)[1:]], abs=1e-6)


def check_adapter(model: str, output: Path) -> None:
    """Only q and v have weights of their own, these moved, and the merged model is the model with its adapter."""
    from peft import AutoPeftModelForCausalLM
    from safetensors.torch import load_file

    weights = load_file(output / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in weights} == {"q_proj", "v_proj"}
    assert all(value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name)
    base, merged = (AutoModelForCausalLM.from_pretrained(p) for p in (model, f"{output}-merged"))
    changed = {n for n, p in base.named_parameters() if not torch.equal(p, dict(merged.named_parameters())[n])}
    assert changed == {f"model.layers.{i}.self_attn.{m}.weight" for i in (0, 1) for m in ("q_proj", "v_proj")}
    adapted = AutoPeftModelForCausalLM.from_pretrained(str(output)).eval()
    ids = torch.randint(0, 262, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = [m.eval()(input_ids=ids).logits for m in (adapted, merged, base)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)
    assert (logits[0] - logits[2]).abs().max() > 1e-2
    assert (Path(f"{output}-merged") / "tokenizer.json").is_file()


def test_full_training_on_a_curated_set(tmp_path, model):
    curated = Dataset.from_dict({"instruction": [f"Sag {i}" for i in range(8)], "output": [str(i) for i in range(8)],
                                 "language": ["de"] * 8})  # fmt: skip
    curated.to_json(tmp_path / "curated.jsonl")
    output = tmp_path / "out"
    more = ("--recipe", "mdaq", "--total_batch_size", "4", "--per_device_train_batch_size", "2",
            "--num_train_epochs", "1", "--learning_rate", "1e-2", "--save_strategy", "no")  # fmt: skip
    assert sft.main(arguments(str(tmp_path / "curated.jsonl"), model, output, *more)) == 0
    assert len(losses(output)) == 2
    assert (output / "model.safetensors").is_file()
    record = json.loads((output / "run.json").read_text())["results"]
    assert record["trained_parameters"] == record["parameters"]
    assert (record["rows_per_update"], record["lora_target_modules"]) == (4, None)


def test_gpt2_adapts_its_fused_projection_and_packs(tmp_path, rows, capsys):
    name = saved(tiny_gpt2(), tmp_path / "gpt2")
    output = tmp_path / "out"
    more = ("--max_steps", "1", "--packing", "--merge", "--merged_dir", str(tmp_path / "whole"))
    assert sft.main(arguments(rows, name, output, *more)) == 0
    assert "LoRA on c_attn, which also computes the keys" in capsys.readouterr().out
    assert (tmp_path / "whole" / "model.safetensors").is_file()
    merge_adapter(output, tmp_path / "half", dtype="bfloat16")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype="auto").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--world_size", "2"), "2 processes were asked for, 1 are running"),
        (("--eval_strategy", "steps", "--eval_steps", "1"), "nothing to evaluate on"),
        (("--recipe", "poem"), "recipe: unknown 'poem'. Known: question_translation, mdaq, none"),
        (("--recipe", "none", "--merge"), "no adapter to merge"),
        (("--max_length", "8"), "no row is left"),
        (("--packing", "--packing_strategy", "wrapped"), '"wrapped" cuts examples'),
        (("--languages", "fr"), "no rows in fr. There are: de, sw"),
        (("--column_mapping", "prompt"), "'prompt' is not of the form column=role"),
        (("--total_batch_size", "6"), "6 is not a multiple of 4 rows per device"),
        (("--model_name_or_path", "./nothing"), "cannot load './nothing'"),
        (("--config", "nothing.yaml"), "config: cannot read 'nothing.yaml'"),
        (("--bogus", "1"), "--bogus"),
        (("--load_best_model_at_end",), "load_best_model_at_end requires"),
        (("--lora_target_modules", "foo"), "no foo among the modules to adapt"),
        (("--lora_target_modules", "q_proj", "foo"), "no foo among the modules to adapt"),
        (("--lora_target_modules", "self_attn"), "no self_attn among the modules to adapt"),
        (("--lora_target_modules", "(q"), "'(q' is not a regular expression"),
    ],
)
def test_errors_end_with_code_2(tmp_path, rows, model, capsys, more, message):
    assert sft.main(arguments(rows, model, tmp_path / "out", *more)) == 2
    assert message in capsys.readouterr().err


def test_cut_and_dropped_rows_are_told(tmp_path, rows, model, capsys):
    more = ("--max_length", "33", "--max_steps", "1", "--save_strategy", "no")
    assert sft.main(arguments(rows, model, tmp_path / "out", *more)) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())["results"]
    lengths = [len((r["prompt"] + r["completion"]).encode()) + 1 for r in Dataset.from_parquet(rows)]
    prompts = [len(r["prompt"].encode()) for r in Dataset.from_parquet(rows)]
    assert record["dropped"] == sum(n >= 33 for n in prompts)
    assert record["cut"] == sum(n >= 33 for n in lengths) - record["dropped"]
    assert "most of these were cut" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_give_the_loss_of_one(tmp_path, rows, model):
    more = ("--max_steps", "3", "--gradient_accumulation_steps", "1", "--save_strategy", "no", "--learning_rate",
            "1e-2", "--lora_dropout", "0")  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    assert sft.main(arguments(rows, model, one, *more)) == 0
    launch = ["--config_file", str(configs.config_path("cpu_two_processes")), "--main_process_port", "0"]
    options = arguments(rows, model, two, *more, "--per_device_train_batch_size", "2", "--world_size", "2", "--merge")
    run_group(["accelerate.commands.launch", *launch, "-m", "hf_mlalign.launch.sft", *options], tmp_path)
    assert losses(two) == pytest.approx(losses(one), abs=2e-5)
    assert (tmp_path / "two-merged" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_adapter_is_pushed(tmp_path, rows, model):
    more = ("--max_steps", "1", "--merge", "--push_to_hub", "--hub_model_id", "me/adapter", "--save_strategy", "no")
    with HubServer(token="hf_test") as hub:
        environment = {**os.environ, **hub.environment(), "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(REPO),
                       "HF_HUB_OFFLINE": "0"}  # fmt: skip
        command = [sys.executable, "-m", "hf_mlalign.launch.sft", *arguments(rows, model, tmp_path / "out", *more)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        files = hub.files("model", "me/adapter")
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"} <= set(files)
    assert "model.safetensors" not in files
