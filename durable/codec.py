"""Values as the text the journal keeps, and back: faithfully or not at all.

What plain JSON holds exactly is kept as exactly `json.dumps(value, ensure_ascii=False)`. The rest
is a tagged object, `{"$perdure": kind, ...}`; a dict that looks like one is escaped. A value comes
back with the type it had, at every depth; what would not is refused by type, place and cure when it
is encoded (instances of classes are read back once before they count as kept). Nothing is pickled;
which classes may be found again is the business of `classes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from math import isfinite
from typing import Any, NoReturn, Protocol

from .classes import (
    TAG,
    Classes,
    Misfit,
    Node,
    cure_for,
    has_utf8,
    hidden,
    kind_of,
    leaf_readers,
    leaves,
    name_of,
    put_together,
    same,
    take_apart,
    type_name,
    words,
)
from .errors import SerializationError

MAX_DEPTH = 200

_MARK = f'"{TAG}"'
_SCALARS = frozenset({type(None), bool, int, float, str})
_SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
_UNREAD = object()

_OUTGROWN = (
    "{place} was recorded as {what} and no longer fits it: {why}. "
    "Give the class that shape back; a new field needs a default"
)
_LOSSY = (
    "{place} is a {what} and does not survive a round trip: {why}. "
    "Return plain data, let the class accept what it holds, or pass serdes="
)
_DAMAGED = (
    "{place} is a {what} record that cannot be read: {why}. "
    "It was damaged, or written by another version of perdure"
)

_Step = tuple[str, Any]


class Serdes(Protocol):
    """A user's own way to keep a value, passed as `serdes=`: text and back."""

    def dumps(self, value: Any) -> str:
        """The text to keep."""

    def loads(self, text: str) -> Any:
        """The value of a kept text."""


class Codec:
    """Encodes and decodes the values of one handler.

    Args:
        module: the name of the handler's module, in which classes are looked up.
        allow: further packages or modules whose classes may be imported when they are met in a
            record; the handler's own top-level package and `perdure` always may.

    In each call `where` names the operation for messages ("step 'extract'"), and `returns` is a
    type whose classes are looked at first: a class, or `list[Model]`, `Model | None`.
    """

    def __init__(self, module: str | None = None, allow: Sequence[str] = ()) -> None:
        self._classes = Classes(module, allow)

    def encode(
        self, value: Any, *, where: str, returns: Any = None, serdes: Serdes | None = None
    ) -> str:
        """The text that keeps `value`; raises `SerializationError` if nothing keeps it faithfully."""
        if serdes is not None:
            return _dump(serdes, value, where)
        return self._record(value, where, returns)[0]

    def decode(
        self, text: str, *, where: str, returns: Any = None, serdes: Serdes | None = None
    ) -> Any:
        """The value kept as `text`; raises `SerializationError` if it no longer fits its class."""
        if serdes is not None:
            return _load(serdes, text, where)
        try:
            tree = _DECODER.decode(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise _malformed(where, text, error) from error
        if _MARK not in text:
            return tree
        return _Reader(where, partial(self._classes.find, returns=returns), _OUTGROWN).read(tree)

    def roundtrip(
        self, value: Any, *, where: str, returns: Any = None, serdes: Serdes | None = None
    ) -> tuple[str, Any]:
        """The text that keeps `value`, and the copy that replay will give for it."""
        if serdes is not None:
            text = _dump(serdes, value, where)
            return text, _load(serdes, text, where)
        text, copy = self._record(value, where, returns)
        if copy is not _UNREAD:
            return text, copy
        if type(value) in _SCALARS:
            return text, value
        return text, self.decode(text, where=where, returns=returns)

    def _record(self, value: Any, where: str, returns: Any) -> tuple[str, Any]:
        """The text, and the copy where reading it back was the only way to know that it holds."""
        text = _plain_text(value)
        if text is not None:
            return text, _UNREAD
        writer = _Writer(where, partial(self._classes.reference, returns=returns))
        text = writer.text(value)
        if not writer.has_instances:
            return text, _UNREAD
        reader = _Reader(where, partial(self._classes.find, returns=returns), _LOSSY)
        for place, instance, node in writer.veiled:
            _compare_hidden(f"{where}: {place}", instance, reader.read(_reparsed(node)))
        return text, reader.read(_DECODER.decode(text))


def arguments_digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """A digest of a call's arguments; None if there are none, or they have no faithful text."""
    if not args and not kwargs:
        return None
    from hashlib import sha256

    try:
        value = [list(args), dict(sorted(kwargs.items()))]
        text = _plain_text(value) or _Writer("arguments", name_of).text(value)
        return sha256(text.encode()).digest()[:16].hex()
    except Exception:
        return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# The depth check has excluded cycles.
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _plain_text(value: Any) -> str | None:
    """The JSON of a value that plain JSON holds exactly, else None."""
    try:
        if _is_plain(value, MAX_DEPTH):
            text = _ENCODER.encode(value)
            return text if has_utf8(text) else None
    except Exception:  # NaN, an endless int, a value another thread changes: the writer names it
        return None
    return None


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                return False
            if type(item) not in _SCALARS and not (depth and _is_plain(item, depth - 1)):
                return False
        return TAG not in value
    if kind is list:
        for item in value:
            if type(item) not in _SCALARS and not (depth and _is_plain(item, depth - 1)):
                return False
        return True
    return kind in _SCALARS


class _Writer:
    """Turns a value into the plain JSON tree that stands for it, and knows the place it is at."""

    def __init__(self, where: str, reference: Callable[[type], str]) -> None:
        self._where = where
        self._reference = cache(reference)
        self._path: list[_Step] = []
        self.has_instances = False
        self.veiled: list[tuple[str, Any, Node]] = []

    def text(self, value: Any) -> str:
        """The text of a value that is not plain JSON."""
        return _ENCODER.encode(self._write(value))

    def _write(self, value: Any) -> Any:
        try:
            return self._tree(value)
        except SerializationError:
            raise
        except RecursionError as error:
            raise self._refusal(value, "it is nested too deeply; flatten it") from error
        except Exception as error:
            raise self._refusal(value, f"{words(error)}; {cure_for(type(value))}") from error

    def _tree(self, value: Any) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            return self._scalar(value)
        if kind is list:
            return self._items(value)
        if kind is dict:
            return self._dict(value, "[{!r:.60}]")
        if kind is tuple:
            return {TAG: "tuple", "value": self._items(value)}
        if kind is set or kind is frozenset:
            items = [self._at("{{{!r:.60}}}", item, item) for item in value]
            return {TAG: kind.__name__, "value": sorted(items, key=_ENCODER.encode)}
        if kind in leaves():
            return self._leaf(value)
        instance = kind_of(kind)
        if instance is None:
            raise Misfit("it is no plain data, dataclass, enum or pydantic model")
        return self._instance(instance, value)

    def _scalar(self, value: Any) -> Any:
        kind = type(value)
        if (kind is str and not has_utf8(value)) or (kind is float and not isfinite(value)):
            return self._leaf(value)
        if kind is int:
            str(value)  # raises for one with more digits than Python turns into text
        return value

    def _leaf(self, value: Any) -> Node:
        name, write, _ = leaves()[type(value)]
        return {TAG: name, "value": write(value)}

    def _at(self, form: str, key: Any, value: Any) -> Any:
        """The tree of a value one step further in."""
        self._path.append((form, key))
        if len(self._path) > MAX_DEPTH:
            raise self._refusal(value, f"it is nested deeper than {MAX_DEPTH} levels")
        tree = self._write(value)
        self._path.pop()
        return tree

    def _items(self, value: Iterable[Any]) -> list[Any]:
        return [self._at("[{}]", index, item) for index, item in enumerate(value)]

    def _dict(self, value: dict[Any, Any], form: str) -> Any:
        if all(type(key) is str and key != TAG and has_utf8(key) for key in value):
            return {key: self._at(form, key, item) for key, item in value.items()}
        pairs = [
            [self._at("<key {!r:.60}>", key, key), self._at(form, key, item)]
            for key, item in value.items()
        ]
        return {TAG: "dict", "value": pairs}

    def _instance(self, kind: str, value: Any) -> Node:
        reference = self._reference(type(value))
        fields, details = take_apart(kind, value)
        node = {TAG: kind, "class": reference, **details}
        if fields:
            node["fields"] = self._dict(fields, ".{}")
        self.has_instances = True
        if hidden(value):
            self.veiled.append((_place(self._path), value, node))
        return node

    def _refusal(self, value: Any, why: str) -> SerializationError:
        return SerializationError(
            f"{self._where}: {_place(self._path)} is of type {type_name(type(value))} and "
            f"cannot be kept: {why}"
        )


class _Reader:
    """Turns a parsed tree back into the value, and knows the place it is at.

    `misfit` words the error for an instance that does not come together.
    """

    def __init__(self, where: str, find: Callable[[str], type], misfit: str) -> None:
        self._where = where
        self._find = cache(find)
        self._misfit = misfit
        self._path: list[_Step] = []

    def read(self, tree: Any) -> Any:
        """The value of `tree`, which is used up."""
        if type(tree) is list:
            for index, item in enumerate(tree):
                if type(item) not in _SCALARS:
                    tree[index] = self._at("[{}]", index, item)
        elif type(tree) is dict:
            return self._tagged(tree) if TAG in tree else self._values(tree, "[{!r:.60}]")
        return tree

    def _at(self, form: str, key: Any, tree: Any) -> Any:
        self._path.append((form, key))
        value = self.read(tree)
        self._path.pop()
        return value

    def _values(self, tree: Node, form: str) -> Node:
        for key, item in tree.items():
            if type(item) not in _SCALARS:
                tree[key] = self._at(form, key, item)
        return tree

    def _tagged(self, node: Node) -> Any:
        kind = node[TAG]
        try:
            if kind in _SEQUENCES:
                return self._sequence(_SEQUENCES[kind], node["value"])
            if kind == "dict":
                return self._dict(node["value"])
            if "class" in node:
                return self._instance(kind, node)
            return leaf_readers()[kind](node["value"])
        except SerializationError:
            raise
        except Exception as error:
            text = self._misfit if "class" in node else _DAMAGED
            what = f"{kind} {node.get('class', '')}".rstrip()
            place = f"{self._where}: {_place(self._path)}"
            raise SerializationError(
                text.format(place=place, what=what, why=words(error))
            ) from error

    def _sequence(self, kind: Callable[[list[Any]], Any], items: list[Any]) -> Any:
        value = kind(self.read(items))
        if len(value) != len(items):
            raise Misfit("two of its elements are equal now")
        return value

    def _dict(self, pairs: list[Any]) -> dict[Any, Any]:
        value = {
            self._at("<key {}>", index, key): self._at("<value {}>", index, item)
            for index, (key, item) in enumerate(pairs)
        }
        if len(value) != len(pairs):
            raise Misfit("two of its keys are equal now")
        return value

    def _instance(self, kind: str, node: Node) -> Any:
        cls = self._find(node["class"])
        fields = node.get("fields", {})
        fields = self.read(fields) if TAG in fields else self._values(fields, ".{}")
        return put_together(kind, cls, fields, node)


def _place(path: Sequence[_Step]) -> str:
    steps = [_step(form, key) for form, key in path]
    if len(steps) > 12:
        steps[8:-2] = ["..."]
    return "result" + "".join(steps)


def _step(form: str, key: Any) -> str:
    try:
        return form.format(key)
    except Exception:  # a key whose repr raises
        return f"[{type_name(type(key))}]"


def _compare_hidden(place: str, value: Any, copy: Any) -> None:
    if not same(hidden(value), hidden(copy)):
        names = ", ".join(hidden(value))
        why = f"excluded fields and private attributes ({names}) are not kept, and differ"
        what = f"model {name_of(type(value))}"
        raise SerializationError(_LOSSY.format(place=place, what=what, why=why))


def _reparsed(node: Node) -> Any:
    return _DECODER.decode(_ENCODER.encode(node))


def _malformed(where: str, text: Any, error: Exception) -> SerializationError:
    return SerializationError(
        f"{where}: the recorded text is not JSON ({words(error)}): {text[:60]!r}. "
        "It was damaged, or written with a serdes= that is no longer given"
    )


def _dump(serdes: Serdes, value: Any, where: str) -> str:
    who = f"{where}: {type_name(type(serdes))}.dumps"
    try:
        text = serdes.dumps(value)
    except Exception as error:
        of = type_name(type(value))
        raise SerializationError(
            f"{who} raised for a result of type {of}: {words(error)}"
        ) from error
    if type(text) is not str or not has_utf8(text):
        of = type_name(type(text))
        raise SerializationError(f"{who} gave {of}, expected a str of valid Unicode; encode it so")
    return text


def _load(serdes: Serdes, text: str, where: str) -> Any:
    try:
        return serdes.loads(text)
    except Exception as error:
        who = f"{where}: {type_name(type(serdes))}.loads"
        raise SerializationError(f"{who} raised for the recorded text: {words(error)}") from error
