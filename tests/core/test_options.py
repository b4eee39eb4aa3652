"""Options classes: what is accepted, converted and refused, the functions that take them, and YAML there and back."""

import inspect
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.options import Options, SourceOptions, flag_of, option, plain_type, takes, type_name
from hf_mlalign.core.yaml_values import dump_yaml, load_yaml


@dataclass(kw_only=True)
class TeaOptions(Options):
    job = "tea"

    cups: int = option(2, "How many cups.", origin="paper", panel="Data", low=1, high=9)
    warmth: float = option(0.5, "How warm.", low=0, high=1)
    kind: str = option("green", "Which tea.", choices=("green", "black"))
    milk: bool = option(False, "Whether with milk.", flag="--milk/--no-milk")
    pot: Path | None = option(None, "The pot.", shown="bundled", in_record=False)
    guests: list[str] = option([], "Who comes.")
    sizes: list[int] | None = option(None, "Sizes of the cups.", low=1)
    seats: dict[str, str] | None = option(None, "Who sits where.")
    cook: Any = option(None, "Who cooks.", on_command_line=False, in_record=False)

    def check(self):
        if self.milk and self.kind == "green":
            raise DataError("milk: not into green tea.")


@dataclass(kw_only=True)
class PartyOptions(TeaOptions, SourceOptions):
    job = "party"

    loud: bool = option(True, "Whether loud.", origin="authors' script")


def test_defaults_and_copies_of_them():
    one, other = TeaOptions(), TeaOptions()
    assert one.values() == TeaOptions.defaults()
    assert one == other
    one.guests.append("x")
    assert other.guests == TeaOptions.defaults()["guests"] == []
    assert list(one.parameters()) == ["cups", "warmth", "kind", "milk", "guests", "sizes", "seats"]
    assert {TeaOptions.origins()[name] for name in ("cups", "warmth")} == {"paper", "ours"}
    assert PartyOptions.origins()["loud"] == "authors' script"
    assert TeaOptions.shown_defaults() == {"pot": "bundled"}
    with pytest.raises(ValueError, match="origin: 'mine'"):
        option(1, "", origin="mine")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"cups": np.int64(3)}, 3),
        ({"warmth": 1}, 1.0),
        ({"warmth": np.float32(0.25)}, 0.25),
        ({"warmth": np.int8(0)}, 0.0),
        ({"milk": np.False_}, False),
        ({"pot": "a/b"}, Path("a/b")),
        ({"pot": None}, None),
        ({"guests": "Ann"}, ["Ann"]),
        ({"guests": ("Ann", "Bob")}, ["Ann", "Bob"]),
        ({"guests": (name for name in ["Ann"])}, ["Ann"]),
        ({"sizes": np.array([1, 2])}, [1, 2]),
        ({"sizes": None}, None),
        ({"seats": {"a": "b"}}, {"a": "b"}),
        ({"cook": 3.5}, 3.5),
    ],
)
def test_values_that_are_converted(given, kept):
    (found,) = (getattr(TeaOptions(**given), name) for name in given)
    assert found == kept
    assert type(found) is type(kept)
    assert not isinstance(found, list) or {type(entry) for entry in found} <= {str, int}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cups": 0}, "cups: 0 is out of range. Use a number of at least 1 and at most 9."),
        ({"cups": 10}, "cups: 10 is out of range"),
        ({"cups": 2.0}, "cups: expected a whole number, got 2.0."),
        ({"cups": True}, "cups: expected a whole number, got True."),
        ({"cups": "3"}, "cups: expected a whole number, got '3'."),
        ({"cups": None}, "cups: expected a whole number, got None."),
        ({"warmth": math.nan}, "warmth: nan is out of range. Use a number of at least 0 and at most 1."),
        ({"warmth": math.inf}, "warmth: inf is out of range."),
        ({"warmth": True}, "warmth: expected a number, got True."),
        ({"kind": "blck"}, "kind: unknown 'blck'. Did you mean 'black'? Known: green, black."),
        ({"kind": "oolong"}, "kind: unknown 'oolong'. Known: green, black."),
        ({"kind": 1}, "kind: expected a text, got 1."),
        ({"milk": 1}, "milk: expected True or False, got 1."),
        ({"guests": 3}, "guests: expected a list, got 3."),
        ({"guests": b"x"}, "guests: expected a list, got b'x'."),
        ({"guests": ["Ann", 1]}, "guests: expected a text, got 1."),
        ({"guests": None}, "guests: expected a list, got None."),
        ({"sizes": [1, 0]}, "sizes: 0 is out of range. Use a number of at least 1."),
        ({"sizes": [1, "2"]}, "sizes: expected a whole number, got '2'."),
        ({"seats": "a=b"}, "seats: expected names and values, got 'a=b'."),
        ({"milk": True}, "milk: not into green tea."),
    ],
)
def test_values_that_are_refused(given, message):
    with pytest.raises(DataError) as error:
        TeaOptions(**given)
    assert str(error.value).startswith(message)


def test_names_that_are_unknown():
    with pytest.raises(DataError, match="^tea: unknown option 'cup'. Did you mean 'cups'\\? Known: cups, warmth, "):
        TeaOptions.of({"cup": 3})
    with pytest.raises(DataError, match="^Unknown option 'cup'. Known: split, config_name, column_mapping.$"):
        SourceOptions.of({"cup": 3})
    assert TeaOptions.of({"cups": 3}) == TeaOptions(cups=3)


def test_groups_of_options():
    party = PartyOptions(cups=5, split="test")
    assert SourceOptions.part_of(party) == SourceOptions(split="test")
    assert TeaOptions.part_of(party) == TeaOptions(cups=5)
    assert "split" not in party.parameters()
    assert "column_mapping" in party.parameters()


def test_the_table_of_the_docs():
    rows = {row["name"]: row for row in TeaOptions.table()}
    assert rows["cups"] == {
        "name": "cups", "flag": "--cups", "type": "int", "default": "2", "origin": "paper", "help": "How many cups."
    }  # fmt: skip
    assert rows["pot"]["default"] == "bundled"
    assert rows["pot"]["type"] == "pathlib.Path | None"
    assert rows["milk"]["flag"] == "--milk/--no-milk"
    assert rows["cook"]["flag"] == ""
    assert PartyOptions.table()[1]["flag"] == "--config-name"
    assert flag_of(fields(SourceOptions)[2]) == "--column-mapping"
    assert (plain_type(int | None), plain_type(int | str | None), plain_type(int)) == (int, Any, int)
    assert [type_name(hint) for hint in (int, list[str], dict[str, int] | None)] == [
        "int", "list[str]", "dict[str, int] | None"
    ]  # fmt: skip


@takes(TeaOptions)
def drink(who, *, options, quickly=False):
    """Drink tea.

    Args:
        who: drinks.
    """
    return who, options, quickly


def test_a_function_takes_options():
    assert drink("Ann", cups=3, quickly=True) == ("Ann", TeaOptions(cups=3), True)
    assert drink("Ann", options=TeaOptions(kind="black")) == ("Ann", TeaOptions(kind="black"), False)
    with pytest.raises(DataError, match=r"options: give an options object or single options, not both \(cups\)"):
        drink("Ann", options=TeaOptions(), cups=3)
    with pytest.raises(DataError, match="tea: unknown option 'quick'. Known: "):
        drink("Ann", quick=True)
    with pytest.raises(TypeError):
        drink()


def test_its_signature_and_docstring_show_them():
    shown = inspect.signature(drink).parameters
    assert list(shown) == ["who", *TeaOptions.defaults(), "quickly"]
    assert {name: shown[name].default for name in TeaOptions.defaults()} == TeaOptions.defaults()
    assert {shown[name].kind for name in [*shown][1:]} == {inspect.Parameter.KEYWORD_ONLY}
    assert shown["cups"].annotation is int
    before, listed = drink.__doc__.split("\n\nOptions:\n")
    assert before == "Drink tea.\n\nArgs:\n    who: drinks."
    assert listed.startswith("    cups: How many cups. Default: 2 (paper).\n    warmth: ")
    assert "    pot: The pot. Default: bundled (ours).\n" in drink.__doc__
    assert drink.options_class is TeaOptions
    assert drink.__name__ == "drink"


def test_options_without_a_name():
    @takes(TeaOptions, positional=2)
    def drink(who, *, options):
        """Drink."""
        return who, options

    assert drink("Ann", 3, 0.25) == ("Ann", TeaOptions(cups=3, warmth=0.25))
    assert drink("Ann", 3, warmth=0.25) == ("Ann", TeaOptions(cups=3, warmth=0.25))
    kinds = [parameter.kind for parameter in inspect.signature(drink).parameters.values()]
    assert kinds[:4] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 3 + [inspect.Parameter.KEYWORD_ONLY]
    for arguments, named in ((("Ann", 3, 0.5, "black"), {}), (("Ann", 3), {"cups": 3})):
        with pytest.raises(TypeError, match="only cups, warmth go without a name"):
            drink(*arguments, **named)


def test_a_parameter_of_the_function_stands_for_an_option():
    @takes(TeaOptions)
    def drink(*, kind=None, options, **more):
        """Drink."""
        return kind, options, more

    assert drink(kind=object, cups=3, spoon=1) == (object, TeaOptions(cups=3), {"spoon": 1})
    assert list(inspect.signature(drink).parameters).count("kind") == 1
    assert [*inspect.signature(drink).parameters][-1] == "more"


def test_yaml_there_and_back(tmp_path):
    options = PartyOptions(cups=3, warmth=1e-5, kind="black", milk=True, pot=Path("a b/c"),
                           guests=["no", "yes", "日本"], sizes=[1], seats={"on": "off"}, split="train[:10]",
                           column_mapping={"q": "instruction"}, cook=object())  # fmt: skip
    text = options.to_yaml({"source": "pool: 1.csv", "output": None})
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    found = PartyOptions.from_yaml(tmp_path / "run.yaml", ["source", "output"])
    assert (found.pop("source"), found.pop("output")) == ("pool: 1.csv", None)
    again = PartyOptions.of(found)
    assert {**again.values(), "cook": None} == {**options.values(), "cook": None}
    assert "cook" not in text
    assert "cups: 3  # How many cups.\n" in text
    assert len(text.splitlines()) == 2 + len(PartyOptions.defaults()) - 1


def test_languages_stay_languages(tmp_path):
    """YAML 1.1 would read Norwegian as False, a learning rate as a text, and a time as a number."""
    (tmp_path / "run.yaml").write_text("guests: [no, yes, on, y]\nkind: black\nwarmth: 1e-4\nseats: {no: 12:30}\n")
    assert PartyOptions.from_yaml(tmp_path / "run.yaml") == {
        "guests": ["no", "yes", "on", "y"], "kind": "black", "warmth": 0.0001, "seats": {"no": "12:30"}
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text("milk: true\npot:\ncups: 007\nkind: 2020-01-01\n")
    assert PartyOptions.from_yaml(tmp_path / "run.yaml") == {
        "milk": True, "pot": None, "cups": "007", "kind": "2020-01-01"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cups: [1", "is not valid YAML: "),
        ("- cups", "holds list. Write one `name: value` per line."),
        ("cups", "holds str."),
        ("cup: 1", "has an unknown option 'cup'. Did you mean 'cups'\\? Known: source, cups"),
        ("cook: 1", "has an unknown option 'cook'"),
        ("1: 1", "has an unknown option 1."),
        ("!!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("[" * 5000, "is not valid YAML"),
    ],
)
def test_yaml_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(DataError, match=f"^--config: .*run.yaml' {message}"):
        TeaOptions.from_yaml(tmp_path / "run.yaml", ["source"])


def test_yaml_that_is_not_there(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert TeaOptions.from_yaml(tmp_path / "empty.yaml") == {}
    with pytest.raises(DataError, match="--config: cannot read '.*none.yaml': No such file"):
        TeaOptions.from_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"kind: gr\xfcn")
    with pytest.raises(DataError, match="--config: .*UTF-8"):
        TeaOptions.from_yaml(tmp_path / "latin.yaml")


ODD = ("no", "Yes", "on", "null", "~", "1e5", "1e-4", "0x1f", "0o7", "007", "1_000", "12:30", "2020-01-01", "=", "<<",
       "", " ", "- a", "a: b", "#", "\x85", "\n", "\u2028", ".inf", ".5", "5.", "+1", "1:2")  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS, st.sampled_from(ODD)
)  # fmt: skip
NAMES = st.text("abno", min_size=1)


@given(st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(NAMES, SCALARS, max_size=3)))
def test_every_value_comes_back(value):
    text = dump_yaml(value)
    assert "\n" not in text
    found = load_yaml(text)
    assert found == value
    assert repr(found) == repr(value)
