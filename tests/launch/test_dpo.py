"""The DPO script: its data, its checks, a whole run, resuming, and two processes."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from hf_mlalign.cmalign.trainer_config import check_preferences
from hf_mlalign.core.errors import DataError
from hf_mlalign.launch import common, configs, dpo
from tests.cmalign.preference_rows import preference_rows
from tests.processes import run_group
from tests.tiny_models import byte_tokenizer, saved, tiny_llama

SHARED = (
    "--use_cpu", "--bf16", "False", "--gradient_checkpointing", "False", "--report_to", "none", "--learning_rate",
    "1e-3", "--logging_steps", "1", "--max_length", "128", "--disable_tqdm", "True", "--lr_scheduler_type", "constant",
)  # fmt: skip


@pytest.fixture
def model(tmp_path) -> str:
    return saved(tiny_llama(), tmp_path / "model")


@pytest.fixture
def pairs(tmp_path) -> str:
    path = tmp_path / "pairs.parquet"
    preference_rows(18, without_reference=(4,)).to_parquet(str(path))
    return str(path)


def arguments(pairs: str, model: str, output: Path, *more: str) -> list[str]:
    return ["--dataset", pairs, "--model_name_or_path", model, "--output_dir", str(output), *SHARED, *more]


def losses(output: Path, name: str = "loss") -> list[float]:
    rows = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [row[name] for row in rows if name in row]


# Data


def test_held_out_prompts_stay_together():
    ds = preference_rows(30)
    rest, held = common.hold_out_prompts(ds, 0.2, seed=3)
    assert len(set(held["prompt_id"])) == 2
    assert set(rest["prompt_id"]).isdisjoint(held["prompt_id"])
    assert len(rest) + len(held) == 30
    assert common.hold_out_prompts(ds, 0.2, seed=3)[1]["prompt_id"][:] == held["prompt_id"][:]
    by_text = common.hold_out_prompts(ds.remove_columns("prompt_id"), 0.001)
    assert len(by_text[1]) == 1
    with pytest.raises(DataError, match="a single prompt"):
        common.hold_out_prompts(ds.select([0]), 0.5)


def test_languages():
    ds = preference_rows(9)
    assert {name: len(part) for name, part in common.split_by_language(ds).items()} == {"de": 3, "en": 3, "ja": 3}
    assert set(common.only_languages(ds, ["German", "ja"])["language"]) == {"de", "ja"}
    with pytest.raises(DataError, match="no rows in fr. There are: de, en, ja"):
        common.only_languages(ds, ["fr"])


def test_test_split_of_a_folder(tmp_path):
    ds = preference_rows(12)
    DatasetDict(train=ds.select(range(9)), test=ds.select(range(9, 12))).save_to_disk(str(tmp_path / "both"))
    script = dpo.DPOScriptArguments(dataset=str(tmp_path / "both"), dataset_test_split="test")
    train, held = common.load_data(script, seed=0)
    assert len(train) == 9
    assert list(held) == ["de", "en", "ja"]
    script.eval_per_language = False
    assert len(common.load_data(script, seed=0)[1]) == 3


@pytest.mark.parametrize(
    "options", [{"eval_prompts": 1.0}, {"eval_prompts": -0.1}, {"eval_prompts": 0.1, "dataset_test_split": "test"}]
)
def test_script_options_out_of_range(options):
    with pytest.raises(DataError, match="eval_prompts"):
        dpo.DPOScriptArguments(dataset="x", **options)


def test_find_checkpoint(tmp_path):
    assert common.find_checkpoint(None, str(tmp_path)) is None
    assert common.find_checkpoint("auto", str(tmp_path / "none")) is None
    for step in (2, 10):
        whole_checkpoint(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-99").write_text("no folder")
    (tmp_path / "checkpoint-best").mkdir()
    assert common.find_checkpoint("auto", str(tmp_path)) == str(tmp_path / "checkpoint-10")
    assert common.find_checkpoint(str(tmp_path / "checkpoint-2"), "") == str(tmp_path / "checkpoint-2")
    with pytest.raises(DataError, match="no folder"):
        common.find_checkpoint("nowhere", str(tmp_path))


def whole_checkpoint(folder: Path) -> None:
    folder.mkdir()
    for name in ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt"):
        (folder / name).write_bytes(b"x")
    (folder / "trainer_state.json").write_text("{}")


@pytest.mark.parametrize(
    ("file", "missing"),
    [
        ("adapter_model.safetensors", "weights"), ("optimizer.pt", "optimizer"), ("scheduler.pt", "scheduler"),
        ("trainer_state.json", "trainer_state.json"),
    ],
)  # fmt: skip
def test_checkpoints_that_are_not_whole(tmp_path, file, missing):
    for step in (9, 10):
        whole_checkpoint(tmp_path / f"checkpoint-{step}")
    newest, said = tmp_path / "checkpoint-10", []
    (newest / file).unlink()
    assert common.find_checkpoint("auto", str(tmp_path), said.append) == str(tmp_path / "checkpoint-9")
    assert said == [f"resume_from_checkpoint: skipped checkpoint-10, which has no {missing}."]
    with pytest.raises(DataError, match=f"checkpoint-10' has no {missing}"):
        common.find_checkpoint(str(newest), str(tmp_path))
    (tmp_path / "checkpoint-9" / file).unlink()
    assert common.find_checkpoint("auto", str(tmp_path), said.append) is None
    assert said[-1] == "resume_from_checkpoint: there is no complete checkpoint; training starts from the beginning."


def test_a_state_cut_off_while_it_was_written(tmp_path):
    whole_checkpoint(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text('{"epoch": 1.')
    assert common.missing_parts(tmp_path / "checkpoint-1") == ["trainer_state.json"]


def test_checkpoints_of_fsdp_and_deepspeed(tmp_path):
    for i, names in enumerate((("pytorch_model_fsdp_0", "optimizer_0", "scheduler.pt"), ("global_step4",))):
        folder = tmp_path / f"checkpoint-{i}"
        for name in names:
            (folder / name).mkdir(parents=True)
        (folder / "trainer_state.json").write_text("{}")
        assert common.missing_parts(folder) == []


# Runs


def test_a_whole_run_with_evaluation_by_language(tmp_path, pairs, model, capsys):
    output = tmp_path / "out"
    more = ("--max_steps", "4", "--per_device_train_batch_size", "2", "--consistency_weight", "0.5", "--eval_prompts",
            "0.3", "--eval_strategy", "steps", "--eval_steps", "2", "--loss_type", "sigmoid", "sft",
            "--world_size", "1", "--save_steps", "2")  # fmt: skip
    assert dpo.main(arguments(pairs, model, output, *more)) == 0
    assert len(losses(output)) == 4
    assert len(losses(output, "consistency/loss")) == 4
    results = json.loads((output / "eval_results.json").read_text())
    assert {"eval_de_loss", "eval_ja_loss", "eval_en_loss"} <= results.keys()
    assert (output / "model.safetensors").is_file()
    assert (output / "README.md").is_file()
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    (output / "checkpoint-2").rename(resumed / "checkpoint-2")
    (resumed / "checkpoint-3").mkdir()
    state = resumed / "checkpoint-2" / "trainer_state.json"
    history = json.loads(state.read_text())
    next(row for row in history["log_history"] if "loss" in row)["loss"] = 123.0  # only a run from here knows of it
    state.write_text(json.dumps(history))
    capsys.readouterr()
    assert dpo.main(arguments(pairs, model, resumed, *more, "--resume_from_checkpoint", "auto")) == 0
    assert "skipped checkpoint-3, which has no weights, optimizer" in capsys.readouterr().out
    assert losses(resumed) == pytest.approx([123.0, *losses(output)[1:]], abs=1e-6)


def test_lora_settings_from_a_file(tmp_path, pairs, model):
    settings = tmp_path / "settings.yaml"
    settings.write_text("use_peft: true\nlora_target_modules: [q_proj, v_proj]\nmax_steps: 1\n")
    output = tmp_path / "out"
    assert dpo.main(["--config", str(settings), *arguments(pairs, model, output, "--languages", "de", "ja")]) == 0
    assert (output / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--world_size", "2"), "2 processes were asked for, 1 are running"),
        (("--eval_strategy", "steps", "--eval_steps", "1"), "nothing to evaluate on"),
        (("--consistency_weight", "-1"), "consistency_weight: -1.0"),
        (("--dataset", "nothing.parquet"), "no file or folder"),
        (("--model_name_or_path", "./nothing"), "cannot load './nothing'"),
        (("--bogus", "1"), "--bogus"),
        (("--config", "nothing.yaml"), "nothing.yaml"),
        (("--load_best_model_at_end",), "load_best_model_at_end requires"),
        (("--resume_from_checkpoint", "nowhere"), "no folder 'nowhere'"),
        (("--use_peft", "--lora_target_modules", "foo"), "no foo among the modules to adapt"),
        (("--use_peft", "--lora_target_modules", "q_proj", "foo"), "no foo among the modules to adapt"),
    ],
)
def test_errors_end_with_code_2(tmp_path, pairs, model, capsys, more, message):
    assert dpo.main(arguments(pairs, model, tmp_path / "out", *more)) == 2
    assert message in capsys.readouterr().err


def test_missing_names_and_templates(tmp_path, pairs, model, capsys):
    assert dpo.main(["--output_dir", str(tmp_path), *SHARED, "--model_name_or_path", model]) == 2
    assert dpo.main(["--output_dir", str(tmp_path), *SHARED, "--dataset", pairs]) == 2
    errors = capsys.readouterr().err
    assert "dataset: name a file" in errors
    assert "model_name_or_path: name the model" in errors
    (Path(model) / "chat_template.jinja").unlink()
    byte_tokenizer(template=None).save_pretrained(model)
    assert dpo.main(arguments(pairs, model, tmp_path / "out")) == 2
    assert "has no chat template" in capsys.readouterr().err


def test_two_processes_give_the_loss_of_one(tmp_path, pairs, model):
    more = ("--max_steps", "3", "--consistency_weight", "0.5", "--weight_by_margin", "True", "--save_strategy", "no")
    one, two = tmp_path / "one", tmp_path / "two"
    assert dpo.main(arguments(pairs, model, one, *more, "--per_device_train_batch_size", "4")) == 0
    launch = ["--config_file", str(configs.config_path("cpu_two_processes")), "--main_process_port", "0"]
    options = arguments(pairs, model, two, *more, "--per_device_train_batch_size", "2", "--world_size", "2")
    run_group(["accelerate.commands.launch", *launch, "-m", "hf_mlalign.launch.dpo", *options], tmp_path)
    for name in ("loss", "consistency/loss", "consistency/cosine_de", "rewards/margins"):
        assert len(losses(one, name)) == 3
        assert losses(two, name) == pytest.approx(losses(one, name), abs=2e-5)


# Launch settings


def test_settings_are_found_by_name(capsys):
    from hf_mlalign.launch.configs.__main__ import main

    expected = ["cpu_two_processes", "deepspeed_zero3", "fsdp2", "multi_gpu", "multi_node", "single_gpu"]
    assert configs.config_names() == expected
    assert main([]) == 0
    assert capsys.readouterr().out.split() == expected
    assert main(["fsdp2"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert main(["tpu"]) == 2
    assert "no launch settings 'tpu'. Known: cpu_two_processes" in capsys.readouterr().err


@pytest.mark.parametrize("name", configs.config_names())
def test_accelerate_reads_the_settings(name):
    from accelerate.commands.config.config_args import load_config_from_file

    settings = load_config_from_file(str(configs.config_path(name)))
    kind = str(settings.distributed_type).rpartition(".")[2]
    expected = {
        "single_gpu": ("NO", 1), "multi_gpu": ("MULTI_GPU", 8), "fsdp2": ("FSDP", 8), "multi_node": ("FSDP", 16),
        "deepspeed_zero3": ("DEEPSPEED", 8), "cpu_two_processes": ("MULTI_GPU", 2),
    }  # fmt: skip
    assert (kind, settings.num_processes) == expected[name]
    assert settings.use_cpu == (name == "cpu_two_processes")
    assert settings.num_machines == (2 if name == "multi_node" else 1)


def test_datasets_of_one_row_type_only():
    with pytest.raises(DataError, match="no column language"):
        common.only_languages(Dataset.from_dict({"prompt": ["x"]}), ["de"])


def test_missing_languages_and_references(tmp_path):
    ds = preference_rows(6)
    missing = Dataset.from_list([{**row, "language": None if i == 2 else row["language"]} for i, row in enumerate(ds)])
    for call in (common.split_by_language, lambda d: common.only_languages(d, ["de"])):
        with pytest.raises(DataError, match="Column 'language', row 2: missing"):
            call(missing)
    without = preference_rows(6, without_reference=tuple(range(6)))
    with pytest.raises(DataError, match="'reference' is missing in every row"):
        check_preferences(without, "train", reference=True)
    check_preferences(without, "train")
    check_preferences(without, "de", reference=True)


def test_only_hub_datasets_are_named_on_the_card(tmp_path, pairs):
    assert common.hub_name("user/pairs") == "user/pairs"
    assert [common.hub_name(name) for name in (pairs, str(tmp_path), "pairs/*.parquet")] == [None] * 3
