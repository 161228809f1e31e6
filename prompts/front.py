"""The front matter of a prompt: YAML with Dotprompt's names, and nothing it does not know.

Read as the plain part of YAML: no aliases, no tags, no key twice, dates stay text. Every value
has a known type, so a misspelt setting is an error of the file and not a silent default::

    name: summary              # else the file's name
    description: one line
    model: bedrock:...         # a model, or a role that the caller maps to one
    config: {max_tokens: 800, temperature: 0.2, top_p: 0.9, top_k: 40, stop: ["END"], seed: 7,
             extra: {...}}     # extra goes to the provider as it is
    input: {schema: {topic: "string, the topic"}, default: {topic: rivers}}
    output: {schema: {...}}    # JSON Schema
    metadata: {...}            # whatever you like
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import yaml

from .errors import Findings, PromptError
from .inputs import InputField, Misfit, declared, fitting
from .source import NAME_RULE, Source, is_name

Path = tuple[str, ...]

_KEYS = ("name", "description", "model", "config", "input", "output", "metadata")
_SCHEMA_KEYS = ("type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const")
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")
)


@dataclass(frozen=True, slots=True)
class Front:
    """What the front matter says; `lines` has the line of each input."""

    description: str = ""
    model: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, InputField] = field(default_factory=dict)
    output: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


def read_front(source: Source, findings: Findings) -> Front:
    """Return the front matter of a prompt; what breaks a rule is noted and left out.

    Raises:
        PromptError: it is no YAML mapping.
    """
    if source.front is None:
        return Front()
    return _Reader(source, findings).front()


class _Reader:
    """Reads one front matter, knowing the line of each key."""

    def __init__(self, source: Source, findings: Findings) -> None:
        self._name = source.name
        self._findings = findings
        self._lines: dict[Path, int] = {}
        self._top = self._load(source.front or "", source.place)
        self._known(self._top, (), _KEYS)

    def front(self) -> Front:
        self._check_name()
        return Front(
            description=self._text("description") or "",
            model=self._text("model"),
            config=self._config(),
            inputs=self._inputs(),
            output=self._output(),
            metadata=self._section(("metadata",)),
            lines={
                path[2].removesuffix("?"): line
                for path, line in self._lines.items()
                if len(path) == 3 and path[:2] == ("input", "schema")
            },
        )

    def _note(self, path: Path, message: str) -> None:
        line = next(
            (self._lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._lines),
            None,
        )
        self._findings.add(line, message)

    def _check_name(self) -> None:
        name = self._text("name")
        if name is not None and not is_name(name):
            self._note(("name",), f"name is {NAME_RULE}, not {name!r}")
        elif name is not None and name != self._name:
            self._note(("name",), f"name stands on a line of its own: 'name: {name}'")

    def _text(self, key: str) -> str | None:
        value = self._top.get(key)
        if value is None or isinstance(value, str):
            return value
        self._note((key,), f"{key} is a text, not {_kind(value)}; quote it")
        return None

    def _config(self) -> dict[str, Any]:
        config = self._section(("config",), tuple(_CONFIG))
        for key, value in config.items():
            what, fits = _CONFIG.get(key, ("", lambda value: True))
            if not fits(value):
                self._note(("config", key), f"config.{key} is {what}, not {value!r}")
        return config

    def _inputs(self) -> dict[str, InputField]:
        self._section(("input",), ("schema", "default"))
        inputs: dict[str, InputField] = {}
        for key, text in self._section(("input", "schema")).items():
            try:
                name, each = declared(key, text)
            except Misfit as error:
                self._note(("input", "schema", key), str(error))
                continue
            if name in inputs:
                self._note(("input", "schema", key), f"input {name!r} is declared twice")
            inputs[name] = each
        for name, value in self._section(("input", "default")).items():
            self._set_default(inputs, name, value)
        return inputs

    def _set_default(self, inputs: dict[str, InputField], name: str, value: object) -> None:
        path = ("input", "default", name)
        if name not in inputs:
            self._note(path, f"the default of {name!r}, which is no input of input.schema")
            return
        try:
            default = fitting(name, inputs[name], value)
            inputs[name] = replace(inputs[name], required=False, default=default)
        except Misfit as error:
            self._note(path, f"default: {error}")

    def _output(self) -> dict[str, Any] | None:
        if not self._section(("output",), ("schema",)):
            return None
        path = ("output", "schema")
        schema = self._section(path)
        if not any(key in schema for key in _SCHEMA_KEYS):
            self._note(path, "output.schema is a JSON Schema: it has a 'type', such as object")
        return schema

    def _section(self, path: Path, known: tuple[str, ...] | None = None) -> dict[str, Any]:
        """Return the mapping at a path, empty if there is none."""
        value: Any = self._top
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._note(path, f"{'.'.join(path)} is a mapping, not {_kind(value)}")
            return {}
        if known is not None:
            self._known(value, path, known)
        return value

    def _known(self, value: Mapping[str, Any], path: Path, known: tuple[str, ...]) -> None:
        where = ".".join(path) or "the front matter"
        for key in value:
            if key not in known:
                close = get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}"
                self._note((*path, key), f"{where} has no {key!r}; {hint}")

    def _load(self, text: str, place: str) -> dict[str, Any]:
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            value = {} if node is None else self._value(loader, node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = None if mark is None else mark.line + 2
            raise PromptError.at(place, line, _yaml_words(error, text)) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 2
            odd = f"it holds the control character U+{ord(text[error.position]):04X}"
            raise PromptError.at(place, line, f"the front matter: {odd}") from None
        except ValueError as error:
            raise PromptError.at(place, None, f"the front matter is no YAML: {error}") from None
        except RecursionError:
            raise PromptError.at(place, None, "the front matter is nested too deep") from None
        if not isinstance(value, dict):
            raise PromptError.at(place, 2, f"the front matter is a mapping, not {_kind(value)}")
        return value

    def _value(self, loader: _Loader, node: yaml.Node, path: Path) -> Any:
        if node.tag not in _PLAIN_TAGS:
            raise _refused(f"it has no tags or merge keys ({node.value!r})", node)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, path) for item in node.value]
        if not isinstance(node, yaml.MappingNode):
            return loader.construct_object(node)
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._value(loader, key_node, path)
            if not isinstance(key, str):
                raise _refused(f"a key is a text, not {_kind(key)}; quote it", key_node)
            if key in mapping:
                raise _refused(f"the key {key!r} is there twice", key_node)
            self._lines[(*path, key)] = key_node.start_mark.line + 2
            mapping[key] = self._value(loader, value_node, (*path, key))
        return mapping


class _Loader(yaml.SafeLoader):
    """YAML without aliases, whose dates stay text."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_mark()
            raise yaml.MarkedYAMLError(problem="it has no aliases", problem_mark=mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if not tag.endswith(":timestamp")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refused(message: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark)


def _yaml_words(error: yaml.MarkedYAMLError, text: str) -> str:
    said = f"the front matter: {error.problem or error.context or error}"
    mark = error.problem_mark
    lines = text.split("\n")
    if mark is not None and mark.line < len(lines) and "\t" in lines[mark.line]:
        return f"{said}; indent with spaces, not with tabs"
    if "got '?'" in (error.problem or ""):
        return f"{said}; between braces, a name with ? is put in quotes"
    if error.problem == "mapping values are not allowed here":
        return f"{said}; a text that holds ': ' is put in quotes"
    return said


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    return "nothing" if value is None else names.get(type(value), f"{value!r}")


def _number(least: float, most: float, *, whole: bool = False) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        kinds = (int,) if whole else (int, float)
        return (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and least <= value <= most
        )

    return fits


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


_CONFIG: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "max_tokens": ("a whole number from 1 on", _number(1, 10_000_000, whole=True)),
    "temperature": ("a number from 0 to 2", _number(0, 2)),
    "top_p": ("a number from 0 to 1", _number(0, 1)),
    "top_k": ("a whole number from 1 on", _number(1, 1_000_000, whole=True)),
    "stop": ("a list of texts", _texts),
    "seed": ("a whole number", _number(-(2**63), 2**63, whole=True)),
    "extra": ("a mapping", lambda value: isinstance(value, dict)),
}
