"""What is wrong with a value, by a JSON Schema (Draft 2020-12), in words for whoever filled it in.

Nothing is fetched: a schema that refers to another document cannot be met. What a value costs to
judge is bounded: a pattern is matched as pydantic matches it, and so many references are followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .text import visible

if TYPE_CHECKING:
    from jsonschema import FormatChecker
    from jsonschema.exceptions import ValidationError

NEEDED = "needed"
_REFERENCES = 30_000
"""So many references of a schema are followed for one value."""
SORTS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "yes or no",
    "object": "an object",
    "array": "a list",
    "null": "nothing",
}
_FORMATS = {
    "date": "a date like 2026-11-26",
    "date-time": "a date and time like 2026-11-26T14:02:00Z",
    "time": "a time like 14:02:00",
    "email": "an address like alice@example.org",
}
_BOUNDS = {
    "minimum": "at least {0}",
    "maximum": "at most {0}",
    "exclusiveMinimum": "more than {0}",
    "exclusiveMaximum": "less than {0}",
    "multipleOf": "a multiple of {0}",
    "pattern": "text that fits {0}",
}
_SIZES = {
    "minLength": "at least {0} characters",
    "maxLength": "at most {0} characters",
    "minItems": "at least {0} items",
    "maxItems": "at most {0} items",
}


def errors_of(schema: Mapping[str, Any], value: Any) -> dict[str, str]:
    """Return what is wrong with a value, by the name of its property; "" is for the whole."""
    from jsonschema.exceptions import SchemaError
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = _validator()(schema, registry=Registry(), format_checker=_formats())
    errors: dict[str, str] = {}
    try:
        for error in sorted(validator.iter_errors(value), key=lambda each: str(each.json_path)):
            for field, text in _told(_telling(error)):
                errors.setdefault(field, text)
    except (SchemaError, Unresolvable, RecursionError, ArithmeticError, re.error) as error:
        errors[""] = f"nothing that this form's schema can judge ({type(error).__name__})"
    return errors


def shown_value(value: Any) -> str:
    """Return a value as it stands in an error text: short, and as JSON unless it is text."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(text if len(text) <= 60 else f"{text[:57]}...")


def _telling(error: ValidationError) -> ValidationError:
    """Return the error that says most: of alternatives, that of the first that is not null."""
    while error.context:
        error = next(
            (each for each in error.context if each.validator_value != "null"), error.context[0]
        )
    return error


def _told(error: ValidationError) -> Iterable[tuple[str, str]]:
    path = list(error.absolute_path)
    if error.validator == "required":
        listed: Any = error.validator_value
        found: Any = error.instance
        missing = [name for name in listed if name not in found]
        return [_placed([*path, name], NEEDED) for name in missing]
    return [_placed(path, _words(error))]


def _placed(path: list[str | int], text: str) -> tuple[str, str]:
    field, *rest = path or [""]
    if isinstance(field, int):
        field, rest = "", path
    within = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in rest)
    return field, f"{text} (at {within.lstrip('.')})" if within else text


def _words(error: ValidationError) -> str:
    rule, bound = str(error.validator), error.validator_value
    found: Any = error.instance
    if rule in _SIZES:
        if bound == 1 and len(found) == 0:
            return NEEDED
        return f"{_SIZES[rule].format(bound)}, not {len(found)}"
    expected = _expected(rule, bound)
    return f"{expected}, not {shown_value(found)}" if expected else visible(error.message[:200])


def _expected(rule: str, bound: Any) -> str | None:
    if rule == "type":
        listed = [bound] if isinstance(bound, str) else bound
        return " or ".join(SORTS.get(each, each) for each in listed)
    if rule == "enum":
        return f"one of {', '.join(shown_value(each) for each in bound)}"
    if rule == "const":
        return shown_value(bound)
    if rule == "format":
        return _FORMATS.get(bound, f"text in the format {bound!r}")
    return _BOUNDS[rule].format(bound) if rule in _BOUNDS else None


def _validator() -> Any:
    """Return the validator of jsonschema for one value, which a short value cannot keep busy."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    made: Any = extend
    references = _counted(Draft202012Validator.VALIDATORS["$ref"])
    return made(
        Draft202012Validator,
        {
            "$ref": references,
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "uniqueItems": _unique,
        },
    )


def _counted(follow: Any) -> Any:
    """Return a rule for references: alternatives that refer to themselves try all combinations."""
    left = iter(range(_REFERENCES))

    def reference(validator: Any, to: str, found: Any, schema: Any) -> Iterator[ValidationError]:
        if next(left, None) is None:
            raise RecursionError
        yield from follow(validator, to, found, schema) or ()

    return reference


def _pattern(validator: Any, pattern: str, found: Any, schema: Any) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if isinstance(found, str) and not _finder(pattern)(found):
        yield ValidationError(f"does not fit {pattern}")


def _pattern_properties(
    validator: Any, rules: Mapping[str, Any], found: Any, schema: Any
) -> Iterator[ValidationError]:
    for pattern, rule in rules.items() if isinstance(found, dict) else ():
        for name in filter(_finder(pattern), found):
            yield from validator.descend(found[name], rule, path=name, schema_path=pattern)


def _unique(validator: Any, wanted: bool, found: Any, schema: Any) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if wanted and isinstance(found, list) and len({_alike(each) for each in found}) < len(found):
        yield ValidationError("has an item twice")


def _alike(value: Any) -> str:
    """Return a text that is the same for values that JSON Schema takes as equal."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


@lru_cache(maxsize=256)
def _finder(pattern: str) -> Callable[[str], bool]:
    """Return what looks for a pattern: in linear time, unless the pattern looks around itself.

    Such a pattern is one that pydantic refuses, too, but where a model has `regex_engine` so.
    """
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        fits = SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python
    except SchemaError:
        compiled = re.compile(pattern)
        return lambda text: compiled.search(text) is not None
    return fits


@lru_cache(maxsize=1)
def _formats() -> FormatChecker:
    """Return checks of the formats that need no other library."""
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    for name, shape, read in (
        ("date", r"\d{4}-\d\d-\d\d", date.fromisoformat),
        ("date-time", r"\d{4}-\d\d-\d\d[Tt ].+", datetime.fromisoformat),
        ("time", r"\d\d:\d\d.*", time.fromisoformat),
        ("email", r"[^@\s]+@[^@\s]+", str),
    ):
        checker.checks(name, raises=ValueError)(_check(re.compile(shape), read))
    return checker


def _check(shape: re.Pattern[str], read: Any) -> Any:
    def fits(value: object) -> bool:
        if isinstance(value, str):
            return bool(shape.fullmatch(value)) and read(value) is not None
        return True

    return fits
