"""Figures for the page: colours by variables, ids of their own, nothing foreign; and tables of numbers."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest

from hf_mlalign.report.drawing import BLUE, STYLE, box_rows, language_style, new_figure, save_png, to_svg
from hf_mlalign.report.tables import number, settings, shown_table, table_cell


def figure():
    with matplotlib.rc_context(STYLE):
        drawn = new_figure(2)
        axes = drawn.subplots()
        axes.plot([0, 1], [0, 1], color=BLUE, marker="o")
        box_rows(axes, [np.arange(5.0), np.empty(0)], 0, 0.5, colour=BLUE, face=BLUE, label="a")
        axes.grid()
        axes.set_title("日本 <b>")
    return drawn


def test_colours_follow_the_page():
    text = to_svg(figure(), "k")
    assert "var(--c0)" in text
    assert "currentColor" in text
    assert "var(--grid)" in text
    assert not re.search(r"#(?:000000|0072b2|ffffff)", text)


def test_svg_stands_in_a_page_with_others():
    one, two = to_svg(figure(), "a"), to_svg(figure(), "b")
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', one)) <= ids[0]
    assert one.startswith("<svg")
    assert "<metadata" not in one
    assert "width=" not in one.split(">")[0]
    assert "日本 &lt;b&gt;" in one


def test_the_same_figure_is_the_same_text():
    assert to_svg(figure(), "a") == to_svg(figure(), "a")


def test_png_is_on_white(tmp_path):
    save_png(figure(), tmp_path / "a.png")
    assert matplotlib.image.imread(tmp_path / "a.png")[0, 0].tolist() == [1, 1, 1, 1]


def test_languages_are_told_apart_by_more_than_colour():
    styles = [tuple(language_style(i).values()) for i in range(49)]
    assert len(set(styles)) == 49


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567, "1,234,567"), (-0.5, "−0.500"), (12.3456, "12.35"), (123.456, "123.5"), (0.0001234, "0.00012"), (0, "0"),
     (2.0, "2")],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def test_cells():
    assert table_cell("language", "ja").name == "Japanese"
    assert table_cell("language", "all").name == table_cell("method", "ja").name == ""
    assert table_cell("n", None).text == table_cell("n", float("nan")).text == "–"
    assert table_cell("n", None).sort == ""
    assert table_cell("n", np.float32(0.5)).sort == "0.5"
    assert not table_cell("clear", True).number


def test_totals_stand_apart_and_long_tables_are_cut():
    table = pd.DataFrame({"language": ["all", *(f"x{i}" for i in range(450))], "n_wins": range(451)})
    made = shown_table(table)
    assert made.heads == [("language", False), ("n wins", True)]
    assert [row[0].text for row in made.totals] == ["all"]
    assert len(made.rows) == 400
    assert made.left_out == 50
    alone = shown_table(table.head(1))
    assert len(alone.rows) == 1
    assert not alone.totals


def test_settings_are_short():
    assert settings({"a": None, "b": {"c": [1]}, "d": "ä" * 700}) == [
        ("a", "default"), ("b", '{"c": [1]}'), ("d", "ä" * 600 + "…")
    ]  # fmt: skip
