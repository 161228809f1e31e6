"""Says whether a value fits a JSON schema, and lays a schema out as its plain alternatives.

It knows what schemas of tools and of pydantic models use. A keyword it does not know allows all; a
pattern that Python cannot read allows all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product
from typing import Any

Schema = Mapping[str, Any] | bool

MOST_ALTERNATIVES = 24
_TIGHTER = {
    "minimum": max,
    "exclusiveMinimum": max,
    "minLength": max,
    "minItems": max,
    "minProperties": max,
    "maximum": min,
    "exclusiveMaximum": min,
    "maxLength": min,
    "maxItems": min,
    "maxProperties": min,
}
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_TELLTALE = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "minProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "uniqueItems": "array",
    "minLength": "string",
    "maxLength": "string",
    "pattern": "string",
    "format": "string",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
}


def alternatives(schema: Schema, root: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return schemas without `$ref`, `allOf`, `anyOf`, `oneOf` or several types; any may be met."""
    return list(islice(_laid_out(schema, root, 0), MOST_ALTERNATIVES))


def type_of(schema: Mapping[str, Any]) -> str | None:
    """Return the type that a plain schema asks for, by its keywords where it does not say."""
    stated = schema.get("type")
    if isinstance(stated, str):
        return stated
    return next((kind for keyword, kind in _TELLTALE.items() if keyword in schema), None)


def fits(value: Any, schema: Schema, root: Mapping[str, Any]) -> bool:
    """Return whether a JSON value is allowed by a schema whose `$ref`s point into `root`."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema and not fits(value, resolved(schema["$ref"], root), root):
        return False
    if "enum" in schema and not any(same(value, each) for each in schema["enum"]):
        return False
    if "const" in schema and not same(value, schema["const"]):
        return False
    return (
        _of_type(value, schema.get("type"))
        and all(fits(value, each, root) for each in schema.get("allOf", ()))
        and ("anyOf" not in schema or any(fits(value, each, root) for each in schema["anyOf"]))
        and ("oneOf" not in schema or sum(fits(value, e, root) for e in schema["oneOf"]) == 1)
        and ("not" not in schema or not fits(value, schema["not"], root))
        and _within(value, schema, root)
    )


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal; `true` is not 1."""
    return canonical(one) == canonical(other)


def canonical(value: Any) -> str:
    """Return the JSON text by which equal values are told: sorted keys, 1.0 as 1."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def matches(pattern: Any, text: str) -> bool:
    """Return whether a pattern is found in a text."""
    try:
        return re.search(pattern, text) is not None
    except (re.error, TypeError, OverflowError):
        return True


def resolved(reference: Any, root: Mapping[str, Any]) -> Schema:
    """Return the part of a schema that a `$ref` such as `#/$defs/Task` names; True if none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    found: Any = root
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            return True
        found = found[name]
    return found if isinstance(found, (Mapping, bool)) else True


def _laid_out(schema: Schema, root: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    if isinstance(schema, bool) or depth > 12:
        if schema is True:
            yield {}
        return
    plain = {key: each for key, each in schema.items() if key not in _COMBINING}
    choices: list[list[Schema]] = [[each] for each in schema.get("allOf", ())]
    choices += [list(schema[key]) for key in ("anyOf", "oneOf") if key in schema]
    if "$ref" in schema:
        choices.append([resolved(schema["$ref"], root)])
    if isinstance(plain.get("type"), list):
        choices.append([{"type": kind} for kind in plain.pop("type")])
    options = [
        list(islice((laid for each in some for laid in _laid_out(each, root, depth + 1)), 24))
        for some in choices
    ]
    for chosen in product(*options):
        merged: dict[str, Any] | None = {}
        for part in (*chosen, plain):
            merged = None if merged is None else _merged(merged, part)
        if merged is not None:
            yield merged


_COMBINING = ("$ref", "allOf", "anyOf", "oneOf", "$defs", "definitions")


def _merged(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schema that asks for both, or None if their types exclude each other."""
    both = dict(one)
    for key, value in other.items():
        if key not in both:
            both[key] = value
        elif key in _TIGHTER:
            both[key] = _TIGHTER[key](both[key], value)
        elif key == "properties":
            both[key] = {**both[key], **value}
            for name in both[key].keys() & one[key].keys() & value.keys():
                both[key][name] = {"allOf": [one[key][name], value[name]]}
        elif key == "required":
            both[key] = list(dict.fromkeys([*both[key], *value]))
        elif key == "enum":
            both[key] = [each for each in both[key] if any(same(each, v) for v in value)]
        elif key == "type" and both[key] != value:
            if {both[key], value} != {"integer", "number"}:
                return None
            both[key] = "integer"
        elif key in ("title", "description", "default"):
            both[key] = value
    return both


def _of_type(value: Any, stated: Any) -> bool:
    if stated is None:
        return True
    for kind in [stated] if isinstance(stated, str) else stated:
        if kind not in _TYPES:
            return True
        if isinstance(value, bool):
            if kind == "boolean":
                return True
        elif isinstance(value, _TYPES[kind]):
            return True
        elif kind == "integer":
            return isinstance(value, float) and value.is_integer()
    return False


def _within(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    if isinstance(value, str):
        return _length(len(value), schema, "Length") and (
            "pattern" not in schema or matches(schema["pattern"], value)
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return in_bounds(value, schema)
    if isinstance(value, list):
        return _length(len(value), schema, "Items") and _items_fit(value, schema, root)
    if isinstance(value, dict):
        return _length(len(value), schema, "Properties") and _members_fit(value, schema, root)
    return True


def in_bounds(value: float, schema: Mapping[str, Any]) -> bool:
    """Return whether a number keeps to a schema's bounds and is a multiple as it asks."""
    step = schema.get("multipleOf")
    if step:
        off = abs(value - round(value / step) * step)
        if off > abs(value) * 1e-9:
            return False
    return (
        value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
    )


def _length(length: int, schema: Mapping[str, Any], of: str) -> bool:
    return bool(schema.get(f"min{of}", 0) <= length <= schema.get(f"max{of}", length))


def _items_fit(value: list[Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    leading = schema.get("prefixItems", ())
    rest = schema.get("items", True)
    if schema.get("uniqueItems") and len(set(map(canonical, value))) < len(value):
        return False
    wanted: Iterable[Schema] = [*leading, *[rest] * (len(value) - len(leading))]
    return all(fits(each, item, root) for each, item in zip(value, wanted, strict=False))


def _members_fit(value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    if any(name not in value for name in schema.get("required", ())):
        return False
    for name, each in value.items():
        if not fits(name, schema.get("propertyNames", True), root):
            return False
        wanted = [known[name]] if name in known else []
        wanted += [part for pattern, part in patterns.items() if matches(pattern, name)]
        if not all(
            fits(each, part, root) for part in wanted or [schema.get("additionalProperties", True)]
        ):
            return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
