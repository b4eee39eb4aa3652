"""Tables and parameters of cards."""

from hf_mlalign.cards import markdown_table, parameter_table, size_category


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
