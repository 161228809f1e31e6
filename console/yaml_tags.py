"""CloudFormation's short forms, like `!Ref`, in YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import yaml


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value that CloudFormation works out, from a text."""

    text: str
    tag: ClassVar[str]


class Ref(Tagged):
    """The value of a parameter, or the name of a resource."""

    tag = "!Ref"


class Sub(Tagged):
    """A text with `${names}` in it."""

    tag = "!Sub"


class GetAtt(Tagged):
    """An attribute of a resource."""

    tag = "!GetAtt"


@dataclass(frozen=True, slots=True)
class If:
    """One of two values, by a condition."""

    condition: str
    then: Any
    otherwise: Any


@dataclass(frozen=True, slots=True)
class Join:
    """Values, with a text between them."""

    between: str
    values: tuple[Any, ...]


class _Dumper(yaml.SafeDumper):
    """Writes plain values and the short forms; nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def dump(value: Any) -> str:
    """Return a document as YAML, in the order it was made in."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=4096, allow_unicode=True)


def _tagged(dumper: _Dumper, value: Tagged) -> yaml.Node:
    return dumper.represent_scalar(value.tag, value.text)


def _if(dumper: _Dumper, value: If) -> yaml.Node:
    return dumper.represent_sequence("!If", [value.condition, value.then, value.otherwise])


def _join(dumper: _Dumper, value: Join) -> yaml.Node:
    return dumper.represent_sequence("!Join", [value.between, list(value.values)])


_Dumper.add_multi_representer(Tagged, _tagged)
_Dumper.add_representer(If, _if)
_Dumper.add_representer(Join, _join)
