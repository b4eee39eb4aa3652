"""Every command line in README and docs is one that the commands and scripts take."""

import dataclasses
import re
import shlex
from functools import cache

import pytest
import typer

from hf_mlalign.cli.app import app
from hf_mlalign.cli.train import MODULES
from tests.test_docs import PAGES, name_of, text_of

BLOCKS = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shell_lines(text: str) -> list[list[str]]:
    """The words of each command in shell blocks, continued lines joined, no comments and redirections."""
    found = []
    for kind, block in BLOCKS.findall(text):
        if kind not in ("bash", "sh", ""):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\$\([^)]*\)", "substituted", line)
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # prose or a drawing
                continue
            if words:
                found.append(words[: words.index(">")] if ">" in words else words)
    return found


def commands(text: str) -> list[list[str]]:
    return [words[1:] for words in shell_lines(text) if words[0] == "hf-mlalign"]


def inline(text: str) -> list[list[str]]:
    """Commands named within a sentence: only their names and options can be checked."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [found.split()[1:] for found in re.findall(r"`(hf-mlalign [^`]+)`", plain)]


def resolve(words: list[str]):
    """The command that is named and the words after it."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        _, command, words = command.resolve_command(typer.Context(command), words)
    return command, words


def usage_error(words: list[str]) -> str | None:
    """What the command line finds wrong with these words, without running the command."""
    try:
        command, rest = resolve(words)
        command.make_context(command.name, list(rest))
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return error.format_message()
    return None


def test_lines_are_found_between_other_blocks():
    text = "```python\nx = 1\n```\nText\n\n```bash\nhf-mlalign lint a \\\n --split $(b c) > e  # d\n```\n```\nit's\n```"
    assert commands(text) == [["lint", "a", "--split", "substituted"]]


WITH_COMMANDS = [page for page in PAGES if commands(text_of(page))]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_command_lines_are_understood(page):
    for words in commands(text_of(page)):
        assert usage_error(words) is None, " ".join(words)


@pytest.mark.parametrize("page", [page for page in PAGES if inline(text_of(page))], ids=name_of)
def test_commands_named_in_a_sentence_exist(page):
    for words in inline(text_of(page)):
        if words[0].isupper() or words[0].startswith("-"):
            continue
        command, rest = resolve(words)
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        options = {word.split("=")[0] for word in rest if re.match(r"--\w", word)} - {"--help"}
        assert options <= known, " ".join(words)


@pytest.mark.parametrize(
    "line",
    ["curate x y", "curate x --no-such-option", "curate x --n-quality many", "no-such-command x", "push a b c"],
)
def test_wrong_lines_are_noticed(line):
    assert usage_error(line.split())


@cache
def script_options(script: str) -> set[str]:
    from trl import ModelConfig, SFTConfig

    from hf_mlalign.cmalign.trainer_config import CMAlignConfig
    from hf_mlalign.launch.dpo import DPOScriptArguments
    from hf_mlalign.launch.sft import SFTScriptArguments
    from hf_mlalign.launch.train_qsm import QSMConfig

    kinds = {
        "sft": (SFTScriptArguments, SFTConfig, ModelConfig), "dpo": (DPOScriptArguments, CMAlignConfig, ModelConfig),
        "train_qsm": (QSMConfig,),
    }  # fmt: skip
    names = {field.name for kind in kinds[script] for field in dataclasses.fields(kind)}
    return names | {"config", "help", "setup", "print"}


def scripts(text: str) -> list[tuple[str, list[str]]]:
    found = []
    for words in shell_lines(text):
        if words[:2] == ["hf-mlalign", "train"]:
            found.append((MODULES[words[2]].rsplit(".", 1)[1], words[3:]))
        modules = [word for word in words if re.fullmatch(r"hf_mlalign\.launch\.(sft|dpo|train_qsm)", word)]
        if modules:
            found.append((modules[0].rsplit(".", 1)[1], words[words.index(modules[0]) + 1 :]))
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if scripts(text_of(page))], ids=name_of)
def test_options_of_training_scripts_exist(page):
    for script, words in scripts(text_of(page)):
        options = {word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")}
        assert options <= script_options(script), (script, words)
