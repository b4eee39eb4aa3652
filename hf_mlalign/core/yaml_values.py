"""YAML without surprises: `no` is a text (Norwegian), `1e-4` is a number, `12:30` and `2020-01-01` are texts.

YAML 1.1, which the library follows, reads them as False, a text, 750 and a date; YAML 1.2 does not.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_KINDS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))"
        r"|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}


class _PlainSafeLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Quotes texts that YAML 1.1 or 1.2 would read as something else."""

    def represent_str(self, value: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)

for _name, (_pattern, _first) in _KINDS.items():
    for _class in (_PlainSafeLoader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_pattern})$"), _first)


def load_yaml(text: str) -> Any:
    """The value of a YAML document; `yaml.YAMLError` where it is not valid."""
    return yaml.load(text, Loader=_PlainSafeLoader)


def dump_yaml(value: Any) -> str:
    """A value as YAML in one line, which `load_yaml` reads as the same value."""
    text = yaml.dump(
        value, Dumper=_Dumper, allow_unicode=True, default_flow_style=True, sort_keys=False, width=float("inf")
    )
    return text.removesuffix("\n").removesuffix("...").rstrip()
