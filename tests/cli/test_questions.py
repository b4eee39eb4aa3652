"""The command `questions` and the folder it writes."""

import json

import pytest
from datasets import Dataset, load_dataset
from typer.testing import CliRunner

from hf_mlalign.cli.app import app
from hf_mlalign.core.errors import DataError
from hf_mlalign.hub.run_record import read_record
from hf_mlalign.spontaneous.questions.build import FAILURES, build_questions
from hf_mlalign.spontaneous.questions.translator import QuestionTranslator
from tests.servers import ChatServer


def command(*arguments):
    return CliRunner().invoke(app, ["questions", *map(str, arguments)])


@pytest.fixture
def source(tmp_path):
    asked = {"en": "How many of", "de": "Wie viele von", "sw": "Ngapi kati ya"}
    rows = {"id": list(range(20)), **{code: [f"{text} {i}?" for i in range(20)] for code, text in asked.items()}}
    Dataset.from_dict(rows).to_parquet(tmp_path / "parallel.parquet")
    return tmp_path / "parallel.parquet"


def test_a_folder_that_load_dataset_opens(tmp_path, source):
    output = tmp_path / "rows"
    arguments = (source, "-o", output, "--mix", "de=2,sw=1", "--n-per-language", 10, "--test-size", 0.2,
                 "--direction", "both", "--output-format", "conversational")  # fmt: skip
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    assert "sw" in done.output
    rows = load_dataset(str(output))
    record = read_record(output)
    assert record.state == "finished"
    assert record.results["rows"] == {name: len(part) for name, part in rows.items()}
    assert {c: record.results["per_language"][c]["rows"] for c in ("de", "sw")} == {"de": 20, "sw": 10}
    assert rows["train"][0]["prompt"][0]["role"] == "user"
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "| direction | `both` | given |" in card
    assert "| seed | `0` | authors' script |" in card
    again = command(*arguments)
    assert "Nothing to do" in again.output
    other = command(source, "-o", output, "--seed", 1)
    assert isinstance(other.exception, DataError)
    assert "other parameters" in str(other.exception)
    assert command(source, "-o", output, "--seed", 1, "--overwrite").exit_code == 0
    assert list(load_dataset(str(output))) == ["train"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mix", "de=two"), "de=2,zh=1"), (("--languages", "fr"), "no questions in fr"),
        (("--template", "poem"), "no 'poem'"), (("--base-url", "http://127.0.0.1:1/v1"), "with --translator"),
        (("--column-mapping", "a"), "column=role"),
    ],
)  # fmt: skip
def test_errors_leave_no_folder(tmp_path, source, arguments, message):
    done = command(source, "-o", tmp_path / "rows", *arguments)
    assert isinstance(done.exception, DataError)
    assert message in str(done.exception)
    assert not (tmp_path / "rows").exists()


def test_translations_are_kept_and_failures_listed(tmp_path, source, monkeypatch):
    import huggingface_hub.constants

    def translated(body):
        number = body["messages"][0]["content"].split()[-1]
        return "" if number == "3?" else f"Combien de {number}"

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with ChatServer(translated) as server:
        arguments = (source, "-o", tmp_path / "rows", "--languages", "fr", "--translator", "tiny",
                     "--base-url", server.base_url)  # fmt: skip
        done = command(*arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        assert "1 translation failed" in done.output
        assert server.requests == 20
        failures = [json.loads(line) for line in (tmp_path / "rows" / FAILURES).read_text().splitlines()]
        assert [(f["id"], f["reason"]) for f in failures] == [("3", "empty")]
        assert command(*arguments, "--overwrite").exit_code == 0
        assert server.requests == 20
    assert read_record(tmp_path / "rows").results["per_language"]["fr"] == {
        "questions": 20, "translated": 19, "not_translated": 1, "kept": 19, "rows": 19,
    }  # fmt: skip


def test_a_dataset_in_memory_and_a_translator_of_ones_own(tmp_path, source):
    class Own:
        def describe(self):
            return {"name": "upper"}

        def translate(self, ids, texts, source, target):
            return [text.upper() + " !" for text in texts]

    built = build_questions(
        Dataset.from_parquet(str(source)), tmp_path / "rows", languages=["it"], translator=Own()
    )
    assert built.result.per_language().set_index("language").loc["it", "translated"] == 20
    assert built.record.parameters["translator"] == {"name": "upper"}
    assert isinstance(built.dataset["train"][0]["prompt"], str)
    assert not isinstance(Own(), QuestionTranslator)


def test_a_changed_template_file_is_noticed_and_its_folder_is_not_told(tmp_path, source):
    own = tmp_path / "secret" / "own.yaml"
    own.parent.mkdir()
    own.write_text("{general: {prompt: '{question} {instruction}', instruction: {en: 'To {target}:'}}}")
    output = tmp_path / "rows"
    arguments = (source, "-o", output, "--templates", own)
    assert command(*arguments).exit_code == 0
    assert read_record(output).parameters["templates"]["file"] == "own.yaml"
    told = [(output / name).read_text(encoding="utf-8") for name in ("README.md", "run.json")]
    assert not any("secret" in text or str(tmp_path) in text for text in told)
    assert "Nothing to do" in command(*arguments).output
    same = tmp_path / "own.yaml"
    same.write_text("# moved\n" + own.read_text())
    assert "Nothing to do" in command(source, "-o", output, "--templates", same).output
    own.write_text(own.read_text().replace("To", "Into"))
    changed = command(*arguments)
    assert isinstance(changed.exception, DataError)
    assert "templates was" in str(changed.exception)
