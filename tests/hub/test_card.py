"""Tables and parameters of cards."""

import yaml
from datasets import Dataset, load_dataset

from hf_mlalign.hub.card import data_configs, markdown_table, parameter_table, provenance, size_category


def test_table_by_hand():
    rows = [{"a": "x|y", "b": 0.12345, "c": 1234}]
    assert (
        markdown_table(rows, {"a": "A", "b": "B", "c": "C"})
        == "| A | B | C |\n|---|---|---|\n| x\\|y | 0.123 | 1,234 |"
    )


def test_parameters_tell_where_their_values_come_from():
    table = parameter_table({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "c": None}, {"a": "paper"})
    assert table.splitlines()[2:] == ["| a | `1` | paper |", "| b | `2` | given |", "| c | `default` | ours |"]


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
