"""Which column plays which role, how ids, languages and datasets are checked, and columns to arrays and back."""

import numpy as np
import pyarrow as pa
import pytest
from datasets import (
    Array2D,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    List,
    Value,
    concatenate_datasets,
)

from hf_mlalign.cmalign.samples import read_samples
from hf_mlalign.core.errors import DataError
from hf_mlalign.data.columns import (
    LANGUAGE_COLUMNS,
    ROLES,
    add_columns,
    check_dataset,
    chunked_column,
    codes_of,
    find_roles,
    language_codes,
    matrix,
    numbers,
    read_ids,
    read_languages,
    read_mapping,
)
from hf_mlalign.data.layouts import recognise_layout
from hf_mlalign.evaluation.annotation.items import read_items
from hf_mlalign.evaluation.judges.run import read_answer_pairs
from hf_mlalign.generation.requests import read_prompts
from hf_mlalign.spontaneous.lens.parallel_prompts import read_parallel


def test_the_first_name_that_is_there_is_taken():
    columns = ["text", "prompt", "lang", "language", "extra"]
    assert find_roles(columns, ["prompt", "language", "response"]) == {"prompt": "prompt", "language": "language"}
    assert find_roles(columns, ["prompt"], {"extra": "prompt"}) == {"prompt": "extra"}
    mapping = {"prompt": "language"}
    assert find_roles(columns, ["prompt", "language"], mapping) == {"prompt": "text", "language": "prompt"}
    assert find_roles(["mine"], ["own"], names={"own": ("other", "mine")}) == {"own": "mine"}


def test_every_reader_prefers_the_language_code():
    """`language="Central Kanuri", language_code="knc"`: the code is read, and is the ISO 639-1 code `kr`."""
    assert ROLES["language"] == LANGUAGE_COLUMNS
    rows = {"language": ["Central Kanuri", "English"], "language_code": ["knc", "en"], "prompt_id": ["1", "1"],
            "prompt": ["p", "q"], "response": ["a", "b"], "candidate": ["a", "b"], "baseline": ["c", "d"]}  # fmt: skip
    ds = Dataset.from_dict(rows)
    for columns in (ds.column_names, ds.column_names[::-1]):
        assert find_roles(columns, ["language"])["language"] == "language_code"
        assert recognise_layout(columns).language == "language_code"
    assert read_languages(ds, "language_code") == read_languages(ds, "language") == ["kr", "en"]
    rows["language"] = ["no language", "none either"]  # is not looked at
    ds = Dataset.from_dict(rows)
    samples = read_samples(ds)
    assert [samples.languages[code] for code in samples.language] == ["kr", "en"]
    assert read_prompts(ds).languages == read_answer_pairs(ds).languages == ["kr", "en"]
    assert [item.language for item in read_items(ds)] == ["kr", "en"]
    assert read_parallel(ds).languages == ["kr", "en"]


def test_other_names_of_a_role_may_be_mapped():
    columns = ["a", "b"]
    assert read_mapping(columns, {"a": "prompt_id", "b": "lang"}, ["id", "language"]) == {"a": "id", "b": "language"}
    assert read_mapping(columns, {"a": "question"}, ["question"]) == {"a": "question"}
    assert read_mapping(columns, None, ["id"]) == {}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"a": "answr"}, "here: column_mapping has unknown roles: answr. Roles: id, answer."),
        ({"a": "question"}, "unknown roles: question"),
        ({"c": "id"}, "names missing columns: c. Columns found: a, b."),
        ({"a": "id", "b": "prompt_id"}, "maps a, b to the role 'id'. Keep one of them."),
    ],
)
def test_mappings_that_cannot_be(mapping, message):
    with pytest.raises(DataError, match=message):
        find_roles(["a", "b"], ["id", "answer"], mapping, where="here: ")


def test_a_role_that_is_needed_and_not_there():
    with pytest.raises(DataError, match=r"No column for id, answer\. Columns found: a\. Map yours with --col"):
        find_roles(["a"], ["id", "answer", "task"], needed=["id", "answer"])
    with pytest.raises(DataError, match=r"\(column_mapping\), e\.g\. question_id=id\."):
        find_roles(["a"], ["id"], needed=["id"], remedy="e.g. question_id=id")


def test_ids_are_texts_or_whole_numbers():
    assert read_ids(Dataset.from_dict({"id": ["a", "1"]}), "id") == ["a", "1"]
    assert read_ids(Dataset.from_dict({"id": [2**53 + 1, -1]}), "id") == [2**53 + 1, -1]
    names = Features({"id": ClassLabel(names=["x", "y"])})
    assert read_ids(Dataset.from_dict({"id": [1, 0]}, features=names), "id") == ["y", "x"]
    for values, message in (([1, None], "row 1: missing"), ([0.5, 1.0], "row 0: 0.5 is not an id"),
                            ([True], "row 0: True is not an id"), ([["a"]], "is not an id")):  # fmt: skip
        with pytest.raises(DataError, match=f"Column 'id', {message}" if message[0] == "r" else message):
            read_ids(Dataset.from_dict({"id": values}), "id")


def test_languages():
    ds = Dataset.from_dict({"l": ["German", "deu", "pt-BR"], "bad": ["de", "germn", "de"], "none": ["de", None, "de"]})
    assert read_languages(ds, "l") == ["de", "de", "pt"]
    with pytest.raises(DataError, match="Column 'bad', row 1: unknown language 'germn'"):
        read_languages(ds, "bad")
    with pytest.raises(DataError, match="Column 'none', row 1: missing"):
        read_languages(ds, "none")
    numbers, names = language_codes(ds.data.column("bad").combine_chunks(), "bad", unknown="germn")
    assert (numbers.tolist(), names) == ([0, 1, 0], ["de", ""])
    assert read_languages(ds.select([]), "l") == []


def test_only_one_filled_dataset_will_do():
    ds = Dataset.from_dict({"a": [1]})
    check_dataset(ds)
    check_dataset(ds.select([]), empty=None)
    for bad, message in [
        (DatasetDict({"train": ds, "test": ds}), r"got a DatasetDict with train, test. Choose one, e.g. ds\['train'\]"),
        (ds.to_iterable_dataset(), "here: All rows are needed at once, so streaming does not work"),
        (IterableDataset.from_generator(lambda: iter(())), "streaming"),
        ([1], "got list"),
        (ds.select([]), "The dataset is empty. Check the split"),
    ]:
        with pytest.raises(DataError, match=message):
            check_dataset(bad, "here: ")


def test_matrix_from_every_list_type():
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    for feature in (
        List(Value("float32")),
        List(Value("float32"), length=3),
        List(Value("float64")),
        List(Value("float16")),
    ):
        ds = Dataset.from_dict({"e": rows.tolist()}, features=Features({"e": feature}))
        np.testing.assert_array_equal(matrix(chunked_column(ds, "e"), "e"), rows)
        np.testing.assert_array_equal(matrix(chunked_column(ds.select([2, 0]), "e"), "e"), rows[[2, 0]])
        np.testing.assert_array_equal(matrix(chunked_column(ds.select(range(1, 3)), "e"), "e"), rows[1:3])
        assert matrix(chunked_column(ds, "e"), "e").dtype == np.float32


def test_matrix_errors_name_the_row():
    with pytest.raises(DataError, match="'e', row 2: a vector of length 2"):
        matrix(chunked_column(Dataset.from_dict({"e": [[1.0, 2.0], [3.0, 4.0], [5.0]]}), "e"), "e")
    with pytest.raises(DataError, match="'e', row 1"):
        matrix(chunked_column(Dataset.from_dict({"e": [[1.0, 2.0], None]}), "e"), "e")
    with pytest.raises(DataError, match="holds string, not lists"):
        matrix(chunked_column(Dataset.from_dict({"e": ["x"]}), "e"), "e")
    nested = Dataset.from_dict({"e": [[[1.0]]]}, features=Features({"e": Array2D((1, 1), "float32")}))
    with pytest.raises(DataError):
        matrix(chunked_column(nested, "e"), "e")


def test_matrix_over_chunks_counts_rows_through():
    """A dataset joined from parts has a chunk for each; rows are counted over all of them."""
    feature = Features({"e": List(Value("float32"))})
    parts = [Dataset.from_dict({"e": rows}, features=feature) for rows in ([[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]])]
    np.testing.assert_array_equal(
        matrix(chunked_column(concatenate_datasets(parts), "e"), "e"), [[1, 2], [3, 4], [5, 6]]
    )
    parts.append(Dataset.from_dict({"e": [[7.0, None]]}, features=feature))
    with pytest.raises(DataError, match="'e', row 3: a number is missing"):
        matrix(chunked_column(concatenate_datasets(parts), "e"), "e")


def test_codes_of_odd_dictionaries():
    """Equal, unused and null entries of a dictionary do not show."""
    entries = pa.array(["nobody", "b", "a", "b", None])
    numbers, distinct = codes_of(pa.DictionaryArray.from_arrays(pa.array([3, 2, 1]), entries), "c")
    assert (numbers.tolist(), distinct.to_pylist()) == ([0, 1, 0], ["b", "a"])
    with pytest.raises(DataError, match="Column 'c', row 1: missing"):
        codes_of(pa.DictionaryArray.from_arrays(pa.array([1, 4]), entries), "c")


def test_matrix_of_texts_is_refused():
    with pytest.raises(DataError, match="'e', row 0: lists of string"):
        matrix(pa.array([["1.5"], ["2"]]), "e")


def test_numbers():
    ds = Dataset.from_dict(
        {"s": [1.5, None, 2.0], "c": [1, 2, 3], "t": ["x", "y", "z"], "h": [1, None, 2], "n": [None] * 3}
    )
    np.testing.assert_array_equal(numbers(ds, "s"), [1.5, np.nan, 2.0])
    np.testing.assert_array_equal(numbers(ds.select([2, 1]), "c"), [3, 2])
    assert np.isnan(numbers(ds, "n")).all()
    with pytest.raises(DataError, match="'t' holds string, not numbers"):
        numbers(ds, "t")
    with pytest.raises(DataError, match="'h', row 1: missing"):
        numbers(ds, "h")


def test_add_columns_replaces_and_turns_nan_into_null():
    ds = Dataset.from_dict({"a": [1, 2], "s": [0.0, 0.0]})
    out = add_columns(ds, {"s": np.array([np.nan, 1.0], np.float32), "b": ["x", "y"]})
    assert out[:] == {"a": [1, 2], "s": [None, 1.0], "b": ["x", "y"]}
    assert out.features["s"] == Value("float32")
