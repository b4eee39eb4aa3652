"""Commands made from options classes: precedence, `--print-config`, help pages at 80 columns, errors by flag."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from hf_mlalign.cli.app import app as whole
from hf_mlalign.cli.exit import exit_code_of
from hf_mlalign.cli.options import Output, Source, command, say
from hf_mlalign.core.errors import DataError
from hf_mlalign.core.options import SourceOptions, flag_of, option
from hf_mlalign.mdaq.options import CurateOptions

COMMANDS = [
    "curate", "score", "sample", "build-pairs", "lint", "questions", "judge", "annotate", "annotate-export", "classify",
    "lens", "report", "push",
]  # fmt: skip


@dataclass(kw_only=True)
class BrewOptions(SourceOptions):
    job = "brew"

    cups: int = option(4, "Cups.", panel="Selection", low=1)
    strength: float = option(0.5, "Strength.", panel="Selection", low=0, high=1)
    kind: str = option("tea", "What is brewed.", choices=("tea", "cold-brew"))
    languages: list[str] | None = option(None, "Keep only these.")
    milk: bool = option(True, "With milk.", flag="--milk/--black")
    trackers: str | list[str] | None = option(None, "Trackers.")
    secret: object = option(None, "An object.", on_command_line=False)


@pytest.fixture
def brew():
    app, seen = typer.Typer(), []

    @command("brew", BrewOptions, panel="Start here", examples=["brew water"], app=app)
    def made(source: Source, output: Output = Path("pot"), *, options: BrewOptions) -> None:
        """Brew something."""
        seen.append((source, output, options))
        say("brewed")

    @app.command()
    def other() -> None:
        """A second command, so that the first one keeps its name."""

    def run(*arguments):
        return CliRunner().invoke(app, ["brew", *map(str, arguments)], catch_exceptions=True)

    return run, seen


def test_defaults_and_values_of_the_command_line(brew):
    run, seen = brew
    assert run("water").output == "brewed\n"
    assert seen.pop() == ("water", Path("pot"), BrewOptions())
    run("water", "-o", "mug", "--cups", 2, "--kind", "cold-brew", "--languages", "de, sw", "--black",
        "--column-mapping", "frage=prompt,antwort=response", "--trackers", "trackio,tensorboard")  # fmt: skip
    assert seen.pop() == ("water", Path("mug"), BrewOptions(
        cups=2, kind="cold-brew", languages=["de", "sw"], milk=False,
        column_mapping={"frage": "prompt", "antwort": "response"}, trackers=["trackio", "tensorboard"],
    ))  # fmt: skip
    run("water", "--trackers", "all")
    assert seen.pop()[2].trackers == "all"


def test_a_file_gives_options_and_the_command_line_wins(brew, tmp_path):
    run, seen = brew
    path = tmp_path / "run.yaml"
    path.write_text("source: water\noutput: mug\ncups: 7\nmilk: false\nlanguages: [no, de]\ncolumn_mapping: {a: b}\n")
    run("--config", path, "--cups", 1)
    expected = BrewOptions(cups=1, milk=False, languages=["no", "de"], column_mapping={"a": "b"})
    assert seen.pop() == ("water", Path("mug"), expected)
    run("milk", "--config", path, "--milk")
    source, _, options = seen.pop()
    assert (source, options.cups, options.milk) == ("milk", 7, True)


def test_the_printed_config_runs_the_same(brew, tmp_path):
    run, seen = brew
    printed = run("water", "--cups", 3, "--languages", "de,sw", "--column-mapping", "a=b", "--print-config")
    assert seen == []
    assert "# Cups." in printed.output
    assert "secret" not in printed.output
    path = tmp_path / "run.yaml"
    path.write_text(printed.output)
    run("--config", path)
    assert seen == [("water", Path("pot"), BrewOptions(cups=3, languages=["de", "sw"], column_mapping={"a": "b"}))]


@pytest.mark.parametrize(("written", "arguments", "message"), [
    ("cupss: 3", [], r"--config: .*run.yaml' has an unknown option 'cupss'. Did you mean 'cups'\?"),
    ("secret: 3", [], "has an unknown option 'secret'"),
    ("cups: many", [], "--cups: expected a whole number, got 'many'."),
    ("cups: 0", [], "--cups: 0 is out of range. Use a number of at least 1."),
    ("kind: coffee", [], "--kind: unknown 'coffee'. Known: tea, cold-brew."),
    ("- a", [], "holds list. Write one `name: value`"),
    ("a: [", [], "is not valid YAML"),
    ("{}", ["--column-mapping", "a"], "--column-mapping: 'a' is not of the form column=role"),
])  # fmt: skip
def test_errors_name_the_flag_or_the_file(brew, tmp_path, written, arguments, message):
    run, seen = brew
    path = tmp_path / "run.yaml"
    path.write_text(written)
    failed = run("water", "--config", path, *arguments)
    assert isinstance(failed.exception, DataError)
    assert re.search(message, str(failed.exception)), str(failed.exception)
    assert seen == []


def test_a_missing_argument_is_named(brew):
    run, _ = brew
    assert str(run().exception) == "SOURCE: missing. Give it on the command line or in the --config file."


def test_quiet_prints_nothing(brew, capsys):
    from hf_mlalign.cli.tables import print_winrates

    rates = {"per_language": {}, "n": 1, "win_rate": 50.0, "ci_low": 10.0, "ci_high": 90.0, "n_unjudged": 0,
             "length_controlled_win_rate": float("nan")}  # fmt: skip
    run, _ = brew
    assert run("water", "--quiet").output == ""
    print_winrates(rates)
    assert capsys.readouterr().out == ""
    assert run("water").output == "brewed\n"
    print_winrates(rates)
    assert "50.0 %" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_pages_show_every_option_whole_at_80_columns(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = CliRunner().invoke(whole, [name, "-h"])
    assert page.exit_code == 0, page.output
    assert max(map(len, page.output.splitlines())) <= 80
    found = set(page.output.replace("/", " ").replace(",", " ").split())
    main = typer.main.get_command(whole).commands[name]
    for parameter in main.params:
        names = [n for n in parameter.opts if n.startswith("--")]
        assert set(names) <= found, names
    assert {"--config", "--print-config", "--quiet", "--verbose", "--help"} <= found
    assert "Example" in page.output


def test_help_groups_options_and_commands(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = CliRunner().invoke(whole, ["curate", "--help"]).output
    places = [page.index(f"─ {panel} ─") for panel in ("Arguments", "Data", "Selection", "Model", "Output", "Run")]
    assert places == sorted(places)
    page = CliRunner().invoke(whole, ["-h"]).output
    panels = ("Start here", "Choose data", "Build pairs", "Train", "Evaluate", "Share")
    places = [page.index(f"─ {panel} ─") for panel in panels]
    assert places == sorted(places)
    assert "--install-completion" in page


def test_every_option_of_curate_is_a_flag():
    flags = {flag for p in typer.main.get_command(whole).commands["curate"].params for flag in p.opts}
    fields = [f for f in dataclasses.fields(CurateOptions) if f.metadata.get("on_command_line", True)]
    assert {flag_of(field).split("/")[0] for field in fields} <= flags


def test_print_config_of_curate_is_what_would_run(capsys):
    assert exit_code_of(lambda: whole(["curate", "pool.jsonl", "--n-quality", "5", "--print-config"],
                                      standalone_mode=False)) == 0  # fmt: skip
    written = yaml.safe_load(capsys.readouterr().out)
    assert written["source"] == "pool.jsonl"
    assert written["n_quality"] == 5
    assert written["n_diversity"] == 1000


def test_train_prints_the_accelerate_line():
    done = CliRunner().invoke(whole, ["train", "dpo", "--setup", "fsdp2", "--print", "--dataset", "my pairs", "--x=1"])
    line = done.output.strip()
    assert line.startswith("accelerate launch --config_file ")
    assert line.endswith("fsdp2.yaml -m hf_mlalign.launch.dpo --dataset 'my pairs' --x=1")
    assert CliRunner().invoke(whole, ["train", "qsm", "--print"]).output == (
        "accelerate launch -m hf_mlalign.launch.train_qsm\n"
    )
    unknown = CliRunner().invoke(whole, ["train", "sft", "--setup", "nine_gpus", "--print"])
    assert "no launch settings 'nine_gpus'" in str(unknown.exception)
