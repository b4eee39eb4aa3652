"""Real rows, written back into the layout of their source, come out of the scripts as they are in the shared files."""

import pandas as pd
import pytest

from tests.dataset_scripts.layouts import run, script, write

pytestmark = pytest.mark.real_data

CASES = [
    ("mgsm", "mgsm", {}, ("language",)),
    ("multilingual_evaluation", "snli_20_languages", {"task": "snli"}, ("language",)),
    ("multilingual_evaluation", "emotion_20_languages", {"task": "emotion"}, ("language",)),
    ("x_alpacaeval", "x_alpacaeval_responses", {"content": "responses"}, ("language", "model")),
    ("xcsqa_samples", "xcsqa_samples", {}, ("language", "model")),
    ("question_translation", "question_translation", {}, ("source_language", "task")),
]  # fmt: skip
NOT_OF_THE_SOURCE = ("gpt-4-turbo-2024-04-09", "en")
"""These answers are not among the source's files of answers."""


def shared(folder, name):
    table = pd.read_parquet(folder / f"{name}.parquet")
    if name == "x_alpacaeval_responses":
        table["subset"] = "not in the shared file"
        table = table[(table["model"] != NOT_OF_THE_SOURCE[0]) | (table["language"] != NOT_OF_THE_SOURCE[1])]
    if name == "question_translation":
        table = table[table["id"] < 1000]
    if name == "xcsqa_samples":
        table["samples"] = table["samples"].map(list)
    return table


def built(folder):
    table = pd.concat([pd.read_parquet(path) for path in sorted((folder / "data").glob("*.parquet"))])
    if "samples" in table:
        table["samples"] = table["samples"].map(list)
    return table


def in_order(table, keys, columns):
    return table.sort_values([*keys, "id"], ignore_index=True)[columns].astype(object)


@pytest.mark.parametrize(("name", "file", "layout", "keys"), CASES, ids=[case[1] for case in CASES])
def test_rows_are_those_of_the_shared_files(name, file, layout, keys, shared_data, tmp_path):
    theirs = shared(shared_data, file)
    write(name, tmp_path, theirs.to_dict("records"), **layout)
    second = ["--gsm8k-source", tmp_path / "second"] if name == "question_translation" else []
    options = [word for key, value in layout.items() for word in (f"--{key}", value)]
    assert run(name, "--source", tmp_path / "source", *second, *options, "--output", tmp_path / "out") == 0
    if name == "xcsqa_samples":  # a part of the source's rows is not in the shared file; ids are positions
        theirs = theirs.assign(id=theirs.groupby(list(keys))["id"].rank().astype(int) - 1)
    ours = built(tmp_path / "out")
    columns = [column for column in theirs.columns if column != "subset"]
    pd.testing.assert_frame_equal(in_order(ours, keys, columns), in_order(theirs, keys, columns))


def test_prompts_are_those_of_the_shared_file(shared_data, tmp_path):
    """Ids of the shared file are positions, those of the source begin at 1."""
    table = pd.read_parquet(shared_data / "prompts.parquet").query("source == 'x-alpacaeval'")
    theirs = table.drop(columns="source").assign(id=table["id"] + 1, subset="x")
    write("x_alpacaeval", tmp_path, theirs.to_dict("records"), content="prompts")
    options = ["--source", tmp_path / "source", "--content", "prompts", "--output", tmp_path / "out"]
    assert run("x_alpacaeval", *options) == 0
    columns = ["id", "language", "prompt"]
    ours = built(tmp_path / "out")
    pd.testing.assert_frame_equal(in_order(ours, ["language"], columns), in_order(theirs, ["language"], columns))


def test_revisions_are_those_of_the_shared_file(shared_data, tmp_path):
    """Czech, German and Portuguese lack a sample each. With distances that tell all samples apart, every row finds its
    own; ids are positions in the English file, which here has the shared rows only."""
    theirs = pd.read_parquet(shared_data / "expert_revisions.parquet")
    assert theirs.groupby("language").size().nunique() > 1
    write("expert_revisions", tmp_path, theirs.assign(distance=theirs["id"]).to_dict("records"))
    options = ["--source", tmp_path / "source", "--english-source", tmp_path / "second", "--output", tmp_path / "out"]
    assert run("expert_revisions", *options) == 0
    position = {sample: i for i, sample in enumerate(theirs.query("language == 'en'")["id"])}
    theirs = theirs.assign(id=[position.get(sample, -1) for sample in theirs["id"]])
    assert set(script("expert_revisions").TEXTS) < set(theirs.columns)
    columns, ours = list(theirs.columns), built(tmp_path / "out")
    pd.testing.assert_frame_equal(in_order(ours, ["language"], columns), in_order(theirs, ["language"], columns))
