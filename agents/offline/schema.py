"""Fills a JSON schema with text taken from what was given.

What it returns always fits the schema; names and descriptions of fields choose the sentences, and
the items of a list are made from different places of the text. A field that may be null or left out
is, where the text has nothing for it. A schema that nothing can fit is an `InvalidRequest`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidRequest
from . import values
from .fits import Schema, alternatives, canonical, fits, type_of
from .hints import Hint, Kind, hint_of, seeds, spare_seeds
from .material import Material, Seed
from .text import slug
from .values import Filled, Unfillable

USUAL_ITEMS = 5
"""How many items a list gets at most, unless its schema asks for more."""
_DEEP = 5
_RICH = 600
_MOST = 20_000
_CITES = re.compile(r"\[n\]|\[\d\]|\bcit(?:e|es|ed|ation|ations)\b", re.IGNORECASE)


def fill(schema: Schema, material: Material, *, name: str = "", cite: bool = False) -> Any:
    """Return a JSON value that fits the schema, made from the material.

    Args:
        schema: a JSON schema; `$ref`s point into it.
        material: the request and the passages.
        name: what the value is called, as a hint.
        cite: follow sentences in running text by `[n]`, the number of their document; it is done
            anyway where the schema speaks of citations.

    Raises:
        InvalidRequest: no value fits the schema.
    """
    root = schema if isinstance(schema, Mapping) else {}
    cite = cite or _CITES.search(json.dumps(schema, default=str)) is not None
    filler = _Filler(root)
    try:
        return filler.fill(schema, _Spot(hint_of(name, schema, cite), material)).value
    except Unfillable as problem:
        raise InvalidRequest(f"output schema {name or '(unnamed)'}: {problem}") from None


def speaks_of_citing(text: str) -> bool:
    """Return whether an instruction asks for `[n]` after what is taken from a document."""
    return _CITES.search(text) is not None


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where in the schema a value stands, and what it is to be made from.

    `salt` counts the values made here before, where they have to differ.
    """

    hint: Hint
    material: Material
    depth: int = 0
    salt: int = 0

    def below(self, **changes: Any) -> _Spot:
        return replace(self, depth=self.depth + 1, **changes)


class _Filler:
    """Fills the parts of one schema, within bounds on depth and on their number."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._count = 0

    def fill(self, schema: Schema, spot: _Spot) -> Filled:
        """Return a value that fits, found in the text if any alternative allows."""
        self._count += 1
        if spot.depth > 40 or self._count > _MOST:
            raise Unfillable("it refers to itself without an end")
        lean = self._lean(spot)
        laid_out = alternatives(schema, self._root)
        if lean:
            laid_out.sort(key=_weight)
        if spot.salt and len(laid_out) > 1:
            turn = spot.salt % len(laid_out)
            laid_out = laid_out[turn:] + laid_out[:turn]
            spot = replace(spot, salt=spot.salt // len(laid_out))
            lean = True
        best: Filled | None = None
        problem = "no value fits"
        for plain in laid_out:
            try:
                filled = self._plain(plain, spot)
            except Unfillable as reason:
                problem = str(reason)
                continue
            if not fits(filled.value, schema, self._root):
                continue
            if filled.found or lean:
                return filled
            if best is None or filled.value is None:
                best = filled
        if best is None:
            best = next((each for each in _ANYTHING if fits(each.value, schema, self._root)), None)
        if best is None:
            raise Unfillable(problem)
        return best

    def _lean(self, spot: _Spot) -> bool:
        return spot.depth > _DEEP or self._count > _RICH

    def _plain(self, schema: dict[str, Any], spot: _Spot) -> Filled:
        if "const" in schema:
            return Filled(schema["const"])
        filled = self._typed(schema, spot)
        default = schema.get("default")
        if filled.found or spot.salt or default is None or not fits(default, schema, self._root):
            return filled
        return Filled(default)

    def _typed(self, schema: dict[str, Any], spot: _Spot) -> Filled:
        if "enum" in schema:
            allowed = [each for each in schema["enum"] if fits(each, schema, self._root)]
            return values.choice(allowed, spot.hint, spot.material, spot.salt)
        kind = type_of(schema)
        if kind == "object":
            return self._object(schema, spot)
        if kind == "array":
            return self._array(schema, spot)
        if kind == "null":
            return Filled(None)
        make = _PLAIN.get(kind or "string", values.string)
        return make(schema, spot.hint, spot.material, spot.salt)

    def _object(self, schema: dict[str, Any], spot: _Spot) -> Filled:
        members = dict(schema.get("properties", {}))
        required = schema.get("required", ())
        cite = spot.hint.cite and not any(_is_source(name) for name in members)
        made: dict[str, Any] = {}
        spare: dict[str, Any] = {}
        found = False
        for name, part in {**dict.fromkeys(required, _others(schema)), **members}.items():
            if name not in required and self._lean(spot):
                continue
            try:
                filled = self.fill(part, spot.below(hint=hint_of(name, part, cite)))
            except Unfillable as problem:
                if name in required:
                    raise Unfillable(f"{name}: {problem}") from None
                continue
            (made if name in required or filled.found or spot.salt else spare)[name] = filled.value
            found = found or filled.found
        if not members and schema.get("additionalProperties"):
            found = self._named(schema, made, spot) or found
        self._top_up(schema, made, spare, spot)
        return Filled(made, found)

    def _named(self, schema: dict[str, Any], made: dict[str, Any], spot: _Spot) -> bool:
        """Fill an object whose names are free: one member for each seed."""
        part = _others(schema)
        if isinstance(part, bool) or not part or self._lean(spot):
            return False
        most = min(schema.get("maxProperties", USUAL_ITEMS), USUAL_ITEMS)
        for at, seed in enumerate(seeds(spot.hint, spot.material, most)):
            name = slug(seed.phrase).replace("-", "_")
            if name and fits(name, schema.get("propertyNames", True), self._root):
                filled = self.fill(part, self._item_spot(spot, seed, at))
                if filled.found:
                    made.setdefault(name, filled.value)
        return bool(made)

    def _top_up(
        self, schema: dict[str, Any], made: dict[str, Any], spare: dict[str, Any], spot: _Spot
    ) -> None:
        """Add members until there are as many as the schema asks for."""
        least = schema.get("minProperties", 0)
        if spot.salt and not made and _others(schema):
            least = max(least, 1)
        for name in list(spare)[: max(0, least - len(made))]:
            made[name] = spare[name]
        names, part = schema.get("propertyNames", True), _others(schema)
        for salt in range(4 * least):
            if len(made) >= least:
                return
            key = spot.below(hint=hint_of("key", names), salt=salt)
            name = self.fill({"type": "string", "minLength": 1, "allOf": [names]}, key).value
            if name not in made:
                about = hint_of(name, part)
                made[name] = self.fill(part, spot.below(hint=about, salt=spot.salt)).value

    def _array(self, schema: dict[str, Any], spot: _Spot) -> Filled:
        least = schema.get("minItems", 0)
        usual = max(USUAL_ITEMS, least)
        most = min(schema.get("maxItems", usual), usual)
        items: Schema = schema.get("items", True)
        made = self._leading(schema, spot)[:most]
        options = self._options(items)
        if options is not None:
            spoken = [each for each in options if values.spoken_of(each, spot.material)]
            made = _joined(made, [Filled(each, True) for each in spoken], schema)
        elif items is not False and not self._lean(spot):
            made = _joined(made, self._from_seeds(items, spot, most - len(made)), schema)
        listed = [each.value for each in made[:most]]
        self._lengthen(listed, schema, spot)
        return Filled(listed, any(each.found for each in made))

    def _leading(self, schema: dict[str, Any], spot: _Spot) -> list[Filled]:
        """Return the items that have a schema each: those of a tuple."""
        made: list[Filled] = []
        for part in schema.get("prefixItems", ()):
            tried = (self.fill(part, spot.below(salt=salt)) for salt in range(spot.salt, 60))
            new = (each for each in tried if len(_joined(made, [each], schema)) > len(made))
            filled = next(new, None)
            if filled is None:
                raise Unfillable("no items that differ")
            made.append(filled)
        return made

    def _from_seeds(self, items: Schema, spot: _Spot, most: int) -> list[Filled]:
        made: dict[str, Filled] = {}
        for at, seed in enumerate(seeds(spot.hint, spot.material, most)):
            try:
                filled = self.fill(items, self._item_spot(spot, seed, at))
            except Unfillable:
                continue
            if filled.found or isinstance(filled.value, dict):
                made.setdefault(canonical(filled.value), filled)
        return list(made.values())

    def _item_spot(self, spot: _Spot, seed: Seed, at: int) -> _Spot:
        hint = replace(spot.hint, item=True)
        return spot.below(hint=hint, material=spot.material.narrow(seed, at))

    def _lengthen(self, listed: list[Any], schema: dict[str, Any], spot: _Spot) -> None:
        """Add items until there are as many as the schema asks for, distinct if it says so."""
        least, items = schema.get("minItems", 0), schema.get("items", True)
        if len(listed) >= least:
            return
        seen = {canonical(each) for each in listed}
        spare = spare_seeds(spot.material)
        for extra in range(len(spare) + 60 * least):
            if extra < len(spare):
                inside = self._item_spot(spot, spare[extra], extra)
            else:
                inside = spot.below(salt=spot.salt + extra - len(spare))
            value = self.fill(items, inside).value
            repeats = canonical(value) in seen
            if not repeats or (extra >= len(spare) and not schema.get("uniqueItems")):
                seen.add(canonical(value))
                listed.append(value)
            if len(listed) >= least:
                return
        raise Unfillable(f"no {least} items that differ")

    def _options(self, items: Schema) -> list[Any] | None:
        laid_out = alternatives(items, self._root)
        if len(laid_out) == 1 and "enum" in laid_out[0]:
            return list(laid_out[0]["enum"])
        return None


_ANYTHING = tuple(map(Filled, (None, False, 0, "", [], {}, True, 1)))
_PLAIN = {"number": values.number, "integer": values.number, "boolean": values.boolean}


def _joined(made: list[Filled], more: list[Filled], schema: Mapping[str, Any]) -> list[Filled]:
    """Return items with more behind them, without those they would repeat where none may."""
    if not schema.get("uniqueItems"):
        return [*made, *more]
    seen = {canonical(each.value) for each in made}
    return [*made, *(each for each in more if canonical(each.value) not in seen)]


def _others(schema: Mapping[str, Any]) -> Schema:
    allowed: Schema = schema.get("additionalProperties", True)
    return allowed


def _is_source(name: str) -> bool:
    return hint_of(name, None).kind is Kind.SOURCE


def _weight(schema: Mapping[str, Any]) -> int:
    order = {"null": 0, "boolean": 1, "integer": 1, "number": 1, "string": 1, "array": 2}
    return order.get(type_of(schema) or "string", 3)
