r"""The inputs a prompt declares, and the check of the values it is given.

A field is declared in one line of the front matter, as in Picoschema::

    input:
      schema:
        topic: string, what to write about
        length?: integer, in words
        tags?: array
        document: untrusted, the text to work on

`?` makes an input optional: it is None when it is not given. So does a value under
`input.default`, which then takes its place. The types:

| type | takes |
|---|---|
| string | a str |
| integer, number, boolean | an int; an int or float; a bool |
| array | a list or tuple |
| object | a dict, dataclass or pydantic model |
| any | any of these, or None |
| untrusted | a str from outside: only `{{ document \| untrusted }}` prints it |
| untrusted[] | a list that holds texts from outside: only through the filter, too |

A template sees plain data (dicts, lists, scalars, dates), never the caller's own objects: it
cannot call their methods, and what it prints is the same at each replay.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum, StrEnum
from pathlib import PurePath
from typing import Any
from uuid import UUID

DEEPEST = 50
RESERVED = frozenset(
    {"true", "false", "none", "self", "loop", "caller", "varargs", "kwargs", "super"}
    | {"range", "dict", "namespace"}
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class InputType(StrEnum):
    """What an input takes."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    ARRAY = "array"
    OBJECT = "object"
    ANY = "any"
    UNTRUSTED = "untrusted"
    UNTRUSTED_LIST = "untrusted[]"

    @property
    def is_untrusted(self) -> bool:
        """Whether only the filter `untrusted` may print it."""
        return self in (InputType.UNTRUSTED, InputType.UNTRUSTED_LIST)


@dataclass(frozen=True, slots=True)
class InputField:
    """A declared input; `default` is what an optional one is when it is not given."""

    type: InputType
    required: bool = True
    description: str = ""
    default: Any = None

    def __str__(self) -> str:
        return f"{self.type}, {self.description}" if self.description else str(self.type)


class Misfit(Exception):
    """A declaration or a value is wrong; the text says how, and the caller knows where."""


def declared(key: str, text: object) -> tuple[str, InputField]:
    """Return the name and field of one line of `input.schema`, such as `n?: integer, how many`.

    Raises:
        Misfit: the line cannot be meant.
    """
    name = key.removesuffix("?")
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name.lower() in RESERVED:
        raise Misfit(f"input {name!r} is no name that a template can use")
    if not isinstance(text, str):
        raise Misfit(f"input {name!r}: its type is text such as 'string, the topic'")
    word, _, description = text.partition(",")
    try:
        kind = InputType(word.strip())
    except ValueError:
        known = ", ".join(InputType)
        raise Misfit(f"input {name!r} has no known type: {word.strip()!r} ({known})") from None
    return name, InputField(kind, not key.endswith("?"), description.strip())


def checked(fields: Mapping[str, InputField], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for each declared input.

    Raises:
        Misfit: an input is missing, unknown, or has the wrong type; no value is shown.
    """
    for name in given:
        if name not in fields:
            raise Misfit(_unknown(name, fields))
    values = {}
    for name, field in fields.items():
        if name in given:
            values[name] = fitting(name, field, given[name])
        elif field.required:
            raise Misfit(f"input {name!r} is missing: {field}")
        else:
            values[name] = plain(field.default)
    return values


def fitting(name: str, field: InputField, value: object) -> Any:
    """Return a value as plain data, if the input takes it.

    Raises:
        Misfit: it does not.
    """
    if value is None and not field.required:
        return None
    try:
        data = plain(value)
    except Misfit as error:
        raise Misfit(f"input {name!r} ({field}): {error}") from None
    if not _FITS[field.type](data):
        was = "None" if value is None else type(value).__name__
        raise Misfit(f"input {name!r} is {field.type}, not {was}: {field}")
    return data


def plain(value: object, depth: int = 0) -> Any:
    """Return a value as dicts, lists, scalars and dates.

    Raises:
        Misfit: it is, or holds, something else.
    """
    if depth > DEEPEST:
        raise Misfit(f"it is nested more than {DEEPEST} deep")
    if isinstance(value, Enum):
        return plain(value.value, depth + 1)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, Mapping):
        return _plain_items(value.items(), depth)
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    return _plain_object(value, depth)


def _plain_object(value: object, depth: int) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        parts = ((field.name, getattr(value, field.name)) for field in fields(value))
        return _plain_items(parts, depth)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return plain(dump(), depth + 1)
    hint = ""
    if isinstance(value, set | frozenset):
        hint = "; its order is not stable: sort it into a list"
    elif isinstance(value, bytes):
        hint = "; decode it first"
    raise Misfit(f"a template takes plain data, not {type(value).__name__}{hint}")


def _plain_items(items: Iterable[tuple[Any, Any]], depth: int) -> dict[Any, Any]:
    data = {}
    for key, value in items:
        if not isinstance(key, str | int):
            raise Misfit(f"the keys of a dict are texts or whole numbers, not {type(key).__name__}")
        data[plain(key, depth + 1)] = plain(value, depth + 1)
    return data


def _unknown(name: object, fields: Mapping[str, InputField]) -> str:
    close = get_close_matches(name, fields, 1) if isinstance(name, str) else []
    hint = f"; did you mean {close[0]!r}?" if close else ""
    takes = ", ".join(fields) or "no inputs"
    return f"there is no input {name!r}{hint} (it takes {takes})"


_SCALARS = (date, time, timedelta, Decimal, UUID, PurePath)


def _is(*types: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, types) and (bool in types or not isinstance(value, bool))


_FITS: Mapping[InputType, Callable[[object], bool]] = {
    InputType.STRING: _is(str),
    InputType.INTEGER: _is(int),
    InputType.NUMBER: _is(int, float),
    InputType.BOOLEAN: _is(bool),
    InputType.ARRAY: _is(list),
    InputType.OBJECT: _is(dict),
    InputType.ANY: lambda value: True,
    InputType.UNTRUSTED: _is(str),
    InputType.UNTRUSTED_LIST: _is(list),
}
