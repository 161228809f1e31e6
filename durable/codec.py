"""Values as the text the journal keeps, and back: faithfully or not at all.

What plain JSON holds exactly is kept as exactly `json.dumps(value, ensure_ascii=False)`. The rest
is a tagged object, `{"$perdure": kind, ...}`; a dict that looks like one is escaped. A value comes
back with the type it had, at every depth; what would not is refused by type, place and cure when it
is encoded (instances of classes are read back once before they count as kept). Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from math import isfinite
from typing import Any, NoReturn, Protocol

from .classes import (
    Classes,
    cure_for,
    hidden,
    kind_of,
    name_of,
    put_together,
    same,
    take_apart,
)
from .errors import SerializationError
from .leaves import (
    Misfit,
    has_utf8,
    leaf_readers,
    leaves,
    type_name,
    words,
)

TAG = "$perdure"
MAX_DEPTH = 100  # reading back takes some stack for each level, whoever calls

_MARK = f'"{TAG}"'
_SCALARS = frozenset({type(None), bool, int, float, str})
_SEQUENCES: dict[str, type] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_UNREAD = object()

_Step = tuple[str, Any]  # how a step into a value is written, and its key

_OUTGROWN = (
    "{place} was recorded as {what} and no longer fits it: {why}. "
    "Give the class that shape back; a new field needs a default"
)
_LOSSY = (
    "{place} is {what} and does not survive a round trip: {why}. "
    "Return plain data, let the class accept what it holds, or pass serdes="
)
_DAMAGED = (
    "{place} was recorded as {what} and cannot be read: {why}. "
    "The record is damaged, or was written by another version of perdure"
)


class Serdes(Protocol):
    """A user's own way to keep a value, passed as `serdes=`: text and back."""

    def dumps(self, value: Any) -> str:
        """Return the text to keep."""

    def loads(self, text: str) -> Any:
        """Return the value of a kept text."""


class Codec:
    """Encodes and decodes the values of one handler.

    `module` is the handler's module, in which classes are looked up; `allow` names packages or
    modules, beside the handler's own package and `perdure`, from which classes may be imported.

    In each call `where` names the operation for messages ("step 'extract'"), and `returns` is a
    type whose classes are looked at first: a class, or `list[Model]`, or `Model | None`.
    """

    def __init__(self, module: str | None = None, allow: Sequence[str] = ()) -> None:
        self._classes = Classes(module, allow)

    def encode(
        self, value: Any, *, where: object, returns: Any = None, serdes: Serdes | None = None
    ) -> str:
        """Return the text that keeps `value`, or raise a `SerializationError`."""
        if serdes is not None:
            return _dump(serdes, value, where)
        return self._record(value, where, returns)[0]

    def decode(
        self, text: str, *, where: object, returns: Any = None, serdes: Serdes | None = None
    ) -> Any:
        """Return the value kept as `text`; a `SerializationError` says what no longer fits."""
        if serdes is not None:
            return _load(serdes, text, where)
        try:
            tree = _parse(text)
            return self._reader(where, returns, _OUTGROWN).read(tree) if _MARK in text else tree
        except (ValueError, TypeError, RecursionError) as error:
            raise _unreadable(text, where, error) from error

    def roundtrip(
        self, value: Any, *, where: object, returns: Any = None, serdes: Serdes | None = None
    ) -> tuple[str, Any]:
        """Return the text that keeps `value`, and the copy of it that replay will give."""
        if serdes is not None:
            text = _dump(serdes, value, where)
            return text, _load(serdes, text, where)
        text, copy = self._record(value, where, returns)
        if copy is _UNREAD:
            plain = type(value) in _SCALARS
            copy = value if plain else self.decode(text, where=where, returns=returns)
        return text, copy

    def check_class(self, cls: type, *, where: object) -> None:
        """Check that instances of a class would be found again.

        Raises:
            SerializationError: they would not; says why, and what to do.
        """
        try:
            self._classes.reference(cls, None)
        except Misfit as error:
            raise SerializationError(f"{where}: {type_name(cls)} cannot be kept: {error}") from None

    def _record(self, value: Any, where: object, returns: Any) -> tuple[str, Any]:
        """Return the text, and the copy where reading it was the only way to know that it holds."""
        text = _plain_text(value)
        if text is not None:
            return text, _UNREAD
        writer = _Writer(where, partial(self._classes.reference, returns=returns))
        try:
            text = writer.text(value)
            if not writer.has_instances:
                return text, _UNREAD
            reader = self._reader(where, returns, _LOSSY)
            for place, instance, node in writer.veiled:
                _compare_hidden(place, instance, reader.read(_parse(_ENCODER.encode(node))))
            return text, reader.read(_parse(text))
        except RecursionError as error:
            message = (
                f"{where}: a {type_name(type(value))} is nested too deeply to be kept; flatten it"
            )
            raise SerializationError(message) from error

    def _reader(self, where: object, returns: Any, misfit: str) -> _Reader:
        return _Reader(where, partial(self._classes.find, returns=returns), misfit)


def arguments_digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return a digest of a call's arguments; None if there are none, or no text keeps them."""
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


# No check for cycles: the limit of depth has excluded them.
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False)
_parse = json.JSONDecoder(parse_constant=_no_constant).decode


def _plain_text(value: Any) -> str | None:
    """Return the JSON of a value that plain JSON holds exactly, else None."""
    try:
        text = _ENCODER.encode(value) if _is_plain(value, MAX_DEPTH) else None
    except Exception:  # NaN, an endless int, a dict that another thread changes: the writer says
        return None
    return text if text is not None and has_utf8(text) else None


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                return False
            if type(item) not in _SCALARS and not (depth > 1 and _is_plain(item, depth - 1)):
                return False
        return TAG not in value
    if kind is list:
        for item in value:
            if type(item) not in _SCALARS and not (depth > 1 and _is_plain(item, depth - 1)):
                return False
        return True
    return kind in _SCALARS


def _place(where: object, path: Sequence[_Step]) -> str:
    steps = [_step(form, key) for form, key in path]
    if len(steps) > 12:
        steps[8:-2] = ["..."]
    return f"{where}: result{''.join(steps)}"


def _step(form: str, key: Any) -> str:
    try:
        return form.format(key)
    except Exception:  # a key whose repr raises
        return f"[{type_name(type(key))}]"


class _Writer:
    """Turns a value into the tree of plain JSON that stands for it."""

    def __init__(self, where: object, reference: Callable[[Any], str]) -> None:
        self._reference = cache(reference)
        self._where = where
        self._path: list[_Step] = []
        self.has_instances = False
        self.veiled: list[tuple[str, Any, Any]] = []

    def text(self, value: Any) -> str:
        """Return the text of a value that is not plain JSON."""
        text = _ENCODER.encode(self._write(value))
        if not has_utf8(text):
            raise self._refusal(value, "a name in it has a lone surrogate")
        return text

    def _write(self, value: Any) -> Any:
        kind = type(value)
        try:
            if kind in _SCALARS:
                return self._scalar(value)
            if kind in _CONTAINERS:
                return _CONTAINERS[kind](self, value)
            return self._leaf(value) if kind in leaves() else self._instance(value)
        except (SerializationError, RecursionError):
            raise
        except Exception as error:
            raise self._refusal(value, f"{words(error)}; {cure_for(kind)}") from error

    def _refusal(self, value: Any, why: str) -> SerializationError:
        place, kind = _place(self._where, self._path), type_name(type(value))
        return SerializationError(f"{place} is of type {kind} and cannot be kept: {why}")

    def _at(self, form: str, key: Any, value: Any) -> Any:
        self._path.append((form, key))
        if len(self._path) > MAX_DEPTH:
            why = f"it is nested deeper than {MAX_DEPTH} levels, or contains itself; flatten it"
            raise self._refusal(value, why)
        tree = self._write(value)
        self._path.pop()
        return tree

    def _scalar(self, value: Any) -> Any:
        kind = type(value)
        if (kind is str and not has_utf8(value)) or (kind is float and not isfinite(value)):
            return self._leaf(value)
        if kind is int:
            str(value)  # raises if it has more digits than Python turns into text
        return value

    def _leaf(self, value: Any) -> Any:
        kind, write, _ = leaves()[type(value)]
        return {TAG: kind, "value": write(value)}

    def _list(self, value: Iterable[Any]) -> Any:
        return [self._at("[{}]", index, item) for index, item in enumerate(value)]

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        return {TAG: "tuple", "value": self._list(value)}

    def _set(self, value: set[Any] | frozenset[Any]) -> Any:
        items = [self._at("{{{!r:.60}}}", item, item) for item in value]
        return {TAG: type(value).__name__, "value": sorted(items, key=_ENCODER.encode)}

    def _dict(self, value: dict[Any, Any], form: str = "[{!r:.60}]") -> Any:
        if all(type(key) is str and key != TAG and has_utf8(key) for key in value):
            return {key: self._at(form, key, item) for key, item in value.items()}
        pairs = [
            [self._at("<key {!r:.60}>", key, key), self._at(form, key, item)]
            for key, item in value.items()
        ]
        return {TAG: "dict", "value": pairs}

    def _instance(self, value: Any) -> Any:
        cls: Any = type(value)
        kind = kind_of(cls)
        if kind is None:
            raise Misfit("it is no plain data, dataclass, enum or pydantic model")
        reference = self._reference(cls)
        fields, details = take_apart(kind, value)
        node = {TAG: kind, "class": reference, **details}
        if fields:
            node["fields"] = self._dict(fields, ".{}")
        self.has_instances = True
        if hidden(value):
            self.veiled.append((_place(self._where, self._path), value, node))
        return node


_CONTAINERS: dict[type, Callable[[_Writer, Any], Any]] = {
    list: _Writer._list,
    dict: _Writer._dict,
    tuple: _Writer._tuple,
    set: _Writer._set,
    frozenset: _Writer._set,
}


class _Reader:
    """Turns a parsed tree back into its value; `misfit` words the error for an instance."""

    def __init__(self, where: object, find: Callable[[Any], type], misfit: str) -> None:
        self._find = cache(find)
        self._where = where
        self._path: list[_Step] = []
        self._misfit = misfit

    def read(self, tree: Any) -> Any:
        """Return the value of `tree`, which is used up."""
        if type(tree) is list:
            for index, item in enumerate(tree):
                if type(item) not in _SCALARS:
                    tree[index] = self._at("[{}]", index, item)
        elif type(tree) is dict:
            return self._tagged(tree) if TAG in tree else self._dict(tree)
        return tree

    def _at(self, form: str, key: Any, tree: Any) -> Any:
        self._path.append((form, key))
        value = self.read(tree)
        self._path.pop()
        return value

    def _dict(self, tree: dict[str, Any], form: str = "[{!r:.60}]") -> dict[str, Any]:
        for key, item in tree.items():
            if type(item) not in _SCALARS:
                tree[key] = self._at(form, key, item)
        return tree

    def _tagged(self, node: dict[str, Any]) -> Any:
        kind = node[TAG]
        try:
            if "class" in node:
                return self._instance(kind, node)
            if kind in _SEQUENCES:
                return self._sequence(_SEQUENCES[kind], node["value"])
            return (
                self._pairs(node["value"])
                if kind == "dict"
                else leaf_readers()[kind](node["value"])
            )
        except (SerializationError, RecursionError):
            raise
        except Exception as error:
            form = self._misfit if "class" in node else _DAMAGED
            what = f"{kind!s:.60} {node.get('class', '')!s:.300}".rstrip()
            place = _place(self._where, self._path)
            message = form.format(place=place, what=what, why=words(error))
            raise SerializationError(message) from error

    def _sequence(self, kind: type, items: list[Any]) -> Any:
        value = kind(self.read(items))
        if len(value) != len(items):
            raise Misfit("two of its elements are equal")
        return value

    def _pairs(self, pairs: list[Any]) -> dict[Any, Any]:
        value = {}
        for index, (kept, item) in enumerate(pairs):
            key = self._at("<key {}>", index, kept)
            value[key] = self._at("[{!r:.60}]", key, item)
        if len(value) != len(pairs):
            raise Misfit("two of its keys are equal")
        return value

    def _instance(self, kind: str, node: dict[str, Any]) -> Any:
        cls, fields = self._find(node["class"]), node.get("fields", {})
        fields = self.read(fields) if TAG in fields else self._dict(fields, ".{}")
        return put_together(kind, cls, fields, node)


def _compare_hidden(place: str, value: Any, copy: Any) -> None:
    held, found = hidden(value), hidden(copy)
    lost = [name for name in held if not same(held[name], found.get(name))]
    if lost:
        what = f"model {name_of(type(value))}"
        why = f"excluded fields and private attributes are not kept ({', '.join(lost)})"
        raise SerializationError(_LOSSY.format(place=place, what=what, why=why))


def _unreadable(text: str, where: object, error: Exception) -> SerializationError:
    return SerializationError(
        f"{where}: the recorded text cannot be read as JSON ({words(error)}): {str(text)[:80]!r}. "
        "It is damaged, or was written with a serdes= that is not given any more"
    )


def _dump(serdes: Serdes, value: Any, where: object) -> str:
    who = f"{where}: {type_name(type(serdes))}.dumps"
    try:
        text = serdes.dumps(value)
    except Exception as error:
        what = f"a result of type {type_name(type(value))}"
        raise SerializationError(f"{who} raised for {what}: {words(error)}") from error
    if type(text) is not str or not has_utf8(text):
        what = f"{type_name(type(text))}, expected a str without lone surrogates"
        raise SerializationError(f"{who} gave {what}; let it decode its bytes, or escape")
    return text


def _load(serdes: Serdes, text: str, where: object) -> Any:
    try:
        return serdes.loads(text)
    except Exception as error:
        who = f"{where}: {type_name(type(serdes))}.loads"
        raise SerializationError(f"{who} raised for the recorded text: {words(error)}") from error
