"""Tables, parameters and metadata of cards."""

from dataclasses import dataclass

import yaml
from datasets import Dataset, load_dataset

from hf_mlalign.core.options import Options, option
from hf_mlalign.hub.card import data_configs, markdown_table, provenance, size_category, write_card
from hf_mlalign.hub.run_record import RunRecord


@dataclass(kw_only=True)
class JobOptions(Options):
    a: int = option(1, "First.", origin="paper")
    b: int = option(3, "Second.")
    c: str | None = option(None, "Third.")
    d: str | None = option(None, "Fourth.", shown="bundled")


def test_table_by_hand():
    rows = [{"a": "x|y", "b": 0.12345, "c": 1234}]
    assert (
        markdown_table(rows, {"a": "A", "b": "B", "c": "C"})
        == "| A | B | C |\n|---|---|---|\n| x\\|y | 0.123 | 1,234 |"
    )


def test_a_card_shows_values_where_they_come_from_and_the_source(tmp_path):
    parameters = {"a": 1, "b": 2, "c": None, "d": None, "other": "x|y", "column_mapping": {"q": "prompt"}}
    source = {"name": "user/set", "digest": "…", "config": "de"}
    record = RunRecord(command="sample", parameters=parameters, source=source)
    options = {"rows": 1200, "languages": ["de"], "tags": ["mine"], "prompts": 1}
    write_card(tmp_path, "samples_card.md.j2", record, JobOptions, **options)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    start = card.index("| parameter |")
    assert card[start:].split("\n\n")[0].splitlines()[2:] == [
        "| a | `1` | paper |", "| b | `2` | given |", "| c | `default` | ours |", "| d | `bundled` | ours |",
        "| other | `x\\|y` | given |",
    ]  # fmt: skip
    assert "Source: `user/set`, config `de`, column_mapping `{'q': 'prompt'}`." in card
    assert yaml.safe_load(card.split("---")[1]) == {
        "language": ["de"], "license": "unknown", "source_datasets": ["user/set"],
        "size_categories": ["1K<n<10K"], "tags": ["hf_mlalign", "mine"],
    }  # fmt: skip


def test_size_categories():
    assert [size_category(n) for n in (0, 999, 1000, 10**7)] == ["n<1K", "n<1K", "1K<n<10K", "n>10M"]


def test_folders_of_one_name_are_told_apart_by_the_cache(tmp_path):
    """What `load_dataset` gives is what the files hold, also for equal names and after a change of the files."""

    def write(folder, value):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        Dataset.from_dict({"a": [value]}).to_parquet(folder / "data" / "rows.parquet")
        configs = data_configs(folder, [{"config_name": "default", "data_files": "data/*.parquet"}])
        (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")

    for name, value in (("1", 1), ("2", 2), ("1", 3)):
        write(tmp_path / name / "out", value)
        assert load_dataset(str(tmp_path / name / "out"), split="train")["a"][:] == [value]


def test_sources_of_the_hub_are_named():
    assert provenance({"name": "user/set"}) == {"license": "unknown", "source_datasets": ["user/set"]}
    for name in ("rows.jsonl", "a Dataset in memory", ""):
        assert provenance({"name": name}) == {"license": "unknown"}
