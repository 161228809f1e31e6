"""The questions of a form, read from a JSON Schema and what is there already; and their answers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from .rules import NEEDED, shown_value
from .text import escaped

FieldKind = Literal["text", "long", "number", "integer", "boolean", "choice", "date", "json"]
WHOLE = "value"
"""The name of the one field of a form without properties."""
PREFIX = "f."
"""Before the name of a property in what a page posts."""
ABSENT: Any = object()
"""In place of a value: there is none."""

_LONG = 80
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_YES_NO = {"yes": True, "no": False, "true": True, "false": False}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
}
_SIMPLE: dict[str, FieldKind] = {
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "string": "text",
}


class Misfit(ValueError):
    """What was filled in is no value of the field's kind; the text says what is."""


@dataclass(frozen=True, slots=True)
class Field:
    """One question of a form, as it is drawn.

    Attributes:
        name: of the property, or `WHOLE`.
        label: for the reader.
        kind: how it is asked.
        required: it may not be left empty.
        choices: of "choice" and "boolean", as they are shown and sent.
        value: what it is filled in with.
        help: what to know, or "".
        posted: its name in what a page posts.
    """

    name: str
    label: str
    kind: FieldKind
    required: bool = False
    choices: tuple[str, ...] = ()
    value: str = ""
    help: str = ""
    posted: str = WHOLE


@dataclass(frozen=True, slots=True)
class Question:
    """A field, and how what is filled in becomes a value.

    Attributes:
        original: what was there before, or `ABSENT`.
        nullable: it may be null.
        optional: it may be left out.
        values: of its choices.
    """

    field: Field
    original: Any
    nullable: bool
    optional: bool
    values: Mapping[str, Any]

    def read(self, text: str) -> Any:
        """Return the value of what was filled in, or `ABSENT`; untouched, it is the original.

        Raises:
            Misfit: it is none.
        """
        if self.original is not ABSENT and _sent(text) == _sent(self.field.value):
            return self.original
        if text.strip() == "" and (text == "" or self.field.kind not in ("text", "long")):
            return self._empty()
        return _READERS[self.field.kind](self, text.replace("\r\n", "\n"))

    def _empty(self) -> Any:
        if self.field.kind in ("text", "long") and isinstance(self.original, str):
            return ""
        if self.nullable and (self.original is not ABSENT or not self.optional):
            return None
        if not self.optional:
            raise Misfit(NEEDED)
        return ABSENT


def whole_question(label: str, kind: FieldKind, original: Any = ABSENT) -> Question:
    """Return the question of a form without properties."""
    asked = Field(
        name=WHOLE,
        label=label,
        kind=kind,
        required=not isinstance(original, str),
        value="" if original is ABSENT else _text(kind, original),
    )
    return Question(asked, original, nullable=False, optional=False, values={})


def questions_of(schema: Mapping[str, Any], original: Any) -> tuple[Question, ...]:
    """Return a question for each property of a schema; one for the whole if it has none.

    Args:
        original: what is there already, or `ABSENT`.
    """
    found = _resolved(schema, schema)
    properties = found.get("properties")
    if not isinstance(properties, dict) or not properties:
        whole = _question(WHOLE, {"title": "Answer"} | found, False, original)
        return (replace(whole, field=replace(whole.field, posted=WHOLE)),)
    needed = found.get("required", ())
    before = original if isinstance(original, dict) else {}
    return tuple(
        _question(
            name,
            {**_resolved(each, schema), "title": each.get("title")},
            name not in needed,
            before.get(name, ABSENT),
        )
        for name, each in properties.items()
    )


def read_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        Misfit: it is none.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Misfit(f"JSON, not {shown_value(text)} ({error.msg}, {where})") from None
    except (ValueError, RecursionError):
        raise Misfit(f"JSON, not {shown_value(text)}") from None


def _question(name: str, schema: Mapping[str, Any], optional: bool, original: Any) -> Question:
    inner, nullable = _without_null(schema)
    values = _choices(inner)
    kind: FieldKind = "choice" if values else _kind(inner, original)
    if original not in (ABSENT, None) and not _can_show(kind, values, original):
        kind, values = "json", {}
    clearable = kind in ("text", "long") and isinstance(original, str)
    asked = Field(
        name=name,
        label=str(schema.get("title") or name.replace("_", " ").capitalize()),
        kind=kind,
        required=not (optional or nullable or clearable),
        choices=("yes", "no") if kind == "boolean" else tuple(values),
        value="" if original in (ABSENT, None) else _text(kind, original),
        help=_help(schema, inner, kind),
        posted=f"{PREFIX}{name}",
    )
    return Question(asked, original, nullable, optional, values)


def _resolved(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with its own references within the document followed, a few deep."""
    found = dict(schema) if isinstance(schema, dict) else {}
    for _ in range(8):
        if len(found.get("allOf", ())) == 1:
            found = {**found.pop("allOf")[0], **found}
        reference = found.pop("$ref", None)
        if reference is None:
            break
        found = {**_at(root, str(reference)), **found}
    if "anyOf" in found:
        found["anyOf"] = [
            _resolved(each, root) if each != schema else each for each in found["anyOf"]
        ]
    return found


def _at(root: Mapping[str, Any], reference: str) -> dict[str, Any]:
    place: Any = root
    for part in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ["?"]:
        place = place.get(part, {}) if isinstance(place, dict) else {}
    return place if isinstance(place, dict) else {}


def _without_null(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a schema without its null, and whether it had one."""
    inner = dict(schema)
    kinds = inner.get("type")
    if isinstance(kinds, list):
        rest = [each for each in kinds if each != "null"]
        inner["type"] = rest[0] if len(rest) == 1 else rest
        return inner, "null" in kinds
    options = [each for each in inner.get("anyOf", ()) if each.get("type") != "null"]
    nullable = len(options) < len(inner.get("anyOf", ()))
    if options and all(each.get("type") in ("number", "string") for each in options):
        numbers = [each for each in options if each["type"] == "number"]
        options = numbers if len(numbers) == 1 and len(options) == 2 else options
    if len(options) == 1:
        del inner["anyOf"]
        inner = {**options[0], **inner}
    return inner, nullable


def _choices(schema: Mapping[str, Any]) -> dict[str, Any]:
    listed = [schema["const"]] if "const" in schema else schema.get("enum", ())
    return {each if isinstance(each, str) else json.dumps(each): each for each in listed}


def _kind(schema: Mapping[str, Any], original: Any) -> FieldKind:
    named = schema.get("type")
    kind = _SIMPLE.get(named, "json") if isinstance(named, str) else "json"
    if kind == "text" and schema.get("format") == "date":
        return "date"
    if kind != "text":
        return kind
    text = original if isinstance(original, str) else ""
    most = schema.get("maxLength", 0)
    return "long" if len(text) > _LONG or "\n" in text or "\r" in text or most > 200 else "text"


def _can_show(kind: FieldKind, values: Mapping[str, Any], original: Any) -> bool:
    """Whether a field of a kind shows this value as it is, and a browser sends it back so."""
    if kind == "choice":
        return any(type(each) is type(original) and each == original for each in values.values())
    if kind == "date":
        return isinstance(original, str) and _is_date(original)
    if kind == "boolean":
        return isinstance(original, bool)
    if kind in ("integer", "number"):
        text = original if isinstance(original, str) else json.dumps(original)
        return _NUMBER.fullmatch(text) is not None
    return kind == "json" or isinstance(original, str)


def _text(kind: FieldKind, value: Any) -> str:
    if kind == "json":
        return escaped(json.dumps(value, indent=2, ensure_ascii=False))
    if kind == "boolean" and isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)


def _help(schema: Mapping[str, Any], inner: Mapping[str, Any], kind: FieldKind) -> str:
    rules = [text.format(inner[rule]) for rule, text in _BOUNDS.items() if rule in inner]
    if kind == "json":
        rules.insert(0, "as JSON")
    if schema.get("default") not in (None, ""):
        rules.append(f"{_text(kind, schema['default'])} if left empty")
    about = str(schema.get("description") or "").strip()
    told = ", ".join(rules)
    return " ".join(filter(None, [about, f"{told[:1].upper()}{told[1:]}." if told else ""]))


def _sent(text: str) -> str:
    """Return a text as a browser sends it back."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _integer(question: Question, text: str) -> Any:
    if not _INTEGER.fullmatch(text.strip()):
        raise Misfit(f"a whole number, not {shown_value(text)}")
    return int(text)


def _number(question: Question, text: str) -> Any:
    found = _NUMBER.fullmatch(text.strip())
    value = (float(text) if found[1] or found[2] else int(text)) if found else math.inf
    if math.isinf(value):
        raise Misfit(f"a number, not {shown_value(text)}")
    return value


def _boolean(question: Question, text: str) -> Any:
    if text.strip().lower() not in _YES_NO:
        raise Misfit(f"yes or no, not {shown_value(text)}")
    return _YES_NO[text.strip().lower()]


def _choice(question: Question, text: str) -> Any:
    if text not in question.values:
        listed = ", ".join(shown_value(each) for each in question.field.choices)
        raise Misfit(f"one of {listed}, not {shown_value(text)}")
    return question.values[text]


def _date(question: Question, text: str) -> Any:
    if not _is_date(text.strip()):
        raise Misfit(f"a date like 2026-11-26, not {shown_value(text)}")
    return text.strip()


def _is_date(text: str) -> bool:
    try:
        return bool(_DATE.fullmatch(text)) and date.fromisoformat(text) is not None
    except ValueError:
        return False


_READERS: Mapping[FieldKind, Any] = {
    "text": lambda question, text: text,
    "long": lambda question, text: text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "choice": _choice,
    "date": _date,
    "json": lambda question, text: read_json(text),
}
