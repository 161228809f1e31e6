"""The classes of kept values: found again by name, their instances taken apart and put together.

A class is recorded as `module:qualname` and searched in `returns=`, then in the handler's module,
then by import within the handler's top-level package, `perdure` and the allow-list. The search that
reads is the one that was tried when the value was recorded; it imports nothing outside those
packages, whatever a damaged record says. What does not work out is a `Misfit`; the codec, which
knows the place in the value, makes it the user's error.
"""

from __future__ import annotations

import sys
import typing
from array import array
from collections import deque
from collections.abc import (
    Awaitable,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from contextlib import suppress
from dataclasses import MISSING, is_dataclass
from dataclasses import fields as fields_of
from enum import Enum, Flag
from functools import cache, cached_property, partial
from importlib import import_module
from types import ModuleType
from typing import Any

TAG = "$perdure"
Node = dict[str, Any]

_EXACT = frozenset({type(None), bool, int, str, bytes})


class Misfit(Exception):  # noqa: N818
    """A class would not be found again, or an instance does not fit it; the text says why."""


class Classes:
    """Where the classes of one handler's values are found."""

    def __init__(self, module: str | None, allow: Sequence[str]) -> None:
        self._module = module
        packages = [module.partition(".")[0] if module else "", "perdure"]
        packages += [allow] if isinstance(allow, str) else allow
        self._packages = [name for name in packages if name and name != "__main__"]

    def reference(self, cls: type, returns: Any) -> str:
        """The name under which `cls` will be found again; a `Misfit` says why it would not."""
        reference = name_of(cls)
        if self._search(reference, returns) is not cls:
            raise Misfit(self._why_lost(cls))
        return reference

    def find(self, reference: str, returns: Any) -> type:
        """The class recorded under `reference`."""
        found = self._search(reference, returns)
        if found is None:
            raise Misfit(
                f"the class is not in returns=, nor in the handler's module {self._module!r}, "
                f"nor importable from {', '.join(self._packages)}"
            )
        return found

    def _search(self, reference: str, returns: Any) -> type | None:
        for cls in mentioned(returns):
            if _answers_to(cls, reference):
                return cls
        module, _, qualname = reference.partition(":")
        # A parametrised generic stands in its module only if somebody happened to ask for it.
        if module.endswith("__main__") or "[" in qualname:
            return None
        if self._module:
            found = _within(self._load(self._module), qualname)
            if found is not None and name_of(found) == reference:
                return found
        if not self._allows(module):
            return None
        found = _within(self._load(module), qualname)
        return found if found is not None and name_of(found) == reference else None

    def _allows(self, module: str) -> bool:
        return any(module == name or module.startswith(name + ".") for name in self._packages)

    def _load(self, module: str) -> ModuleType | None:
        loaded = sys.modules.get(module)
        if loaded is not None or not self._allows(module):
            return loaded
        try:
            return import_module(module)
        except Exception as error:
            raise Misfit(f"import of {module!r} failed: {words(error)}") from error

    def _why_lost(self, cls: type) -> str:
        module, name = cls.__module__, cls.__qualname__
        hint = cls.__name__.partition("[")[0]
        if "<locals>" in name:
            return f"it is local to a function; move it to a module, or pass returns={hint}"
        if "[" in name:
            return f"it is a parametrised generic; pass returns={name}, or subclass it by a name"
        if module == "__main__":
            return (
                "it is in __main__, which has another name in another process; move it to a "
                f"module, run the file with `perdure run`, or pass returns={hint}"
            )
        if not self._allows(module):
            return (
                f"its module {module!r} is outside {', '.join(self._packages)}; import {hint} in "
                f"the handler's module, pass returns={hint}, or allow {module.partition('.')[0]!r}"
            )
        return f"{module} holds no such class, or another one, under {name!r}; pass returns={hint}"


def name_of(cls: type) -> str:
    """The recorded name of a class; a parametrised pydantic model is named by its generic's module.

    (Its own `__module__` is that of whoever asked for it first.)
    """
    generic = getattr(cls, "__pydantic_generic_metadata__", None) or {}
    return f"{(generic.get('origin') or cls).__module__}:{cls.__qualname__}"


def mentioned(hint: Any) -> Iterator[type]:
    """The classes a type names: itself, those in its arguments, those of its fields, and on."""
    queue, seen = [hint], {id(hint): hint}
    for each in queue:
        if isinstance(each, type) and typing.get_origin(each) is None:
            yield each
        for inner in _inside(each):
            if id(inner) not in seen:
                seen[id(inner)] = inner
                queue.append(inner)


def _inside(hint: Any) -> Iterable[Any]:
    yield from typing.get_args(hint)
    yield typing.get_origin(hint)
    # A forward reference that does not resolve hides its class, and nothing more.
    with suppress(Exception):
        yield from (getattr(hint, name, None) for name in ("__value__", "__supertype__"))
        if is_model(hint):
            yield from [field.annotation for field in hint.model_fields.values()]
        elif isinstance(hint, type) and (is_dataclass(hint) or typing.is_typeddict(hint)):
            yield from typing.get_type_hints(hint).values()


def _answers_to(cls: type, reference: str) -> bool:
    if name_of(cls) == reference:
        return True
    # A file run as a script is __main__ there and has its own name where it is served.
    module, _, qualname = reference.partition(":")
    return "__main__" in (module, cls.__module__) and cls.__qualname__ == qualname


def _within(module: ModuleType | None, qualname: str) -> type | None:
    found: Any = module
    for part in qualname.split("."):
        found = vars(found).get(part) if found is not None else None
        if not isinstance(found, type):
            return None
    return typing.cast("type", found)


def is_model(cls: Any) -> bool:
    """Whether `cls` is a pydantic model class; pydantic is not imported to know it."""
    base = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return base is not None and isinstance(cls, type) and issubclass(cls, base)


def kind_of(cls: type) -> str | None:
    """How instances of `cls` are kept: as an enum's member, a model, a dataclass, or not at all."""
    if issubclass(cls, Enum):
        return "enum"
    if is_model(cls):
        return "model"
    return "dataclass" if is_dataclass(cls) else None


def take_apart(kind: str, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of an instance, to be kept in turn, and the plain details of its record."""
    take = {"enum": _take_member, "model": _take_model, "dataclass": _take_dataclass}
    return take[kind](value)


def put_together(kind: str, cls: type, fields: dict[str, Any], details: dict[str, Any]) -> Any:
    """The instance that was taken apart so, or an error that says what does not fit."""
    if kind_of(cls) != kind:
        raise Misfit(f"the class is not a {kind} any more")
    put = {"enum": _put_member, "model": _put_model, "dataclass": _put_dataclass}
    return put[kind](cls, fields, details)


def hidden(value: Any) -> dict[str, Any]:
    """What a model holds and its record does not: excluded fields and private attributes."""
    cls: Any = type(value)
    if not is_model(cls):
        return {}
    excluded = [name for name, field in cls.model_fields.items() if field.exclude]
    private = getattr(value, "__pydantic_private__", None) or {}
    return {name: value.__dict__.get(name) for name in excluded} | private


def same(one: Any, two: Any) -> bool:
    """Whether two values are equal, type included, at every depth; NaN is equal to NaN."""
    if one is two:
        return True
    kind = type(one)
    if kind is not type(two):
        return False
    if kind in (list, tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if kind is dict:
        return same(list(one), list(two)) and all(map(same, one.values(), two.values()))
    if kind in (set, frozenset):
        twins = {each: each for each in two}
        return len(one) == len(two) and all(same(each, twins.get(each, one)) for each in one)
    if kind in _EXACT:
        return bool(one == two)
    return bool(one == two or (one != one and two != two)) and repr(one) == repr(two)


def _take_member(value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    cls = type(value)
    if issubclass(cls, Flag):
        if type(value.value) is not int or cls(value.value) is not value:
            raise Misfit(f"the flag {value!r} is not known by its value")
        return {}, {"value": value.value}
    if cls.__members__.get(value.name) is not value:
        raise Misfit(f"{value!r} is not a member by name")
    return {}, {"name": value.name}


def _put_member(cls: Any, fields: dict[str, Any], details: dict[str, Any]) -> Any:
    if not issubclass(cls, Flag):
        if details["name"] not in cls.__members__:
            raise Misfit(f"the enum has no member {details['name']!r}")
        return cls.__members__[details["name"]]
    member = cls(details["value"])
    if member.value != details["value"]:
        raise Misfit(f"the flag has no value {details['value']!r}")
    return member


def _take_dataclass(value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    names = [field.name for field in fields_of(value)]
    object.__new__(type(value))  # refuses a class whose base keeps state of its own, as Exception
    _refuse_strays(value, object.__getstate__(value), names)
    return {name: getattr(value, name) for name in names}, {}


def _put_dataclass(cls: Any, fields: dict[str, Any], details: dict[str, Any]) -> Any:
    declared = {field.name: field for field in fields_of(cls)}
    _refuse_unknown(fields.keys() - declared.keys())
    copy = object.__new__(cls)  # not __init__: an InitVar is gone, and __post_init__ has run
    for name, field in declared.items():
        if name in fields:
            value = fields[name]
        elif field.default is not MISSING:
            value = field.default
        elif field.default_factory is not MISSING:
            value = field.default_factory()
        else:
            raise Misfit(f"its field {name!r} has no default and was not recorded")
        object.__setattr__(copy, name, value)
        _refuse_change(name, value, getattr(copy, name))
    return copy


def _take_model(value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    declared = type(value).model_fields
    extra = value.__pydantic_extra__ or {}
    _refuse_strays(value, value.__dict__, declared)
    if clash := declared.keys() & extra:
        raise Misfit(f"a field and an extra value of it are both named {min(clash)!r}")
    fields = {name: getattr(value, name) for name in declared if not declared[name].exclude}
    details = {"unset": sorted(fields.keys() - value.model_fields_set), "extra": sorted(extra)}
    return fields | extra, {name: names for name, names in details.items() if names}


def _put_model(cls: Any, fields: dict[str, Any], details: dict[str, Any]) -> Any:
    unset = {name: fields[name] for name in details.get("unset", ())}
    _refuse_unknown(fields.keys() - set(details.get("extra", ())) - cls.model_fields.keys())
    # Defaults are not validated when a model is made, so not here either; they are put back below.
    given = {name: value for name, value in fields.items() if name not in unset}
    if getattr(cls, "__pydantic_root_model__", False):
        given = fields["root"]
    copy = cls.model_validate(given, by_alias=False, by_name=True)
    if type(copy) is not cls:
        raise Misfit(f"it validates to a {type(copy).__name__}")
    copy.__dict__.update(unset)
    copy.model_fields_set.difference_update(unset)
    held = {**copy.__dict__, **(copy.__pydantic_extra__ or {})}
    for name, value in fields.items():
        _refuse_change(name, value, held.get(name))
    return copy


def _refuse_strays(value: Any, state: Any, names: Iterable[str]) -> None:
    """Refuse attributes that are no fields; caches and typing's own mark are made again."""
    parts = state if isinstance(state, tuple) else (state,)
    held = {name for part in parts if part for name in part}
    for name in sorted(held.difference(names, ("__orig_class__",))):
        if not isinstance(getattr(type(value), name, None), cached_property):
            raise Misfit(f"its attribute {name!r} is not a field and would be lost")


def _refuse_unknown(names: Iterable[str]) -> None:
    for name in sorted(names):
        raise Misfit(f"the class has no field {name!r}")


def _refuse_change(name: str, value: Any, held: Any) -> None:
    if not same(value, held):
        raise Misfit(f"its field {name!r} comes back changed by the class, as {held!r:.80}")


def words(error: Exception) -> str:
    """What an error says: our own as it is, another's with its type."""
    return str(error) if isinstance(error, Misfit) else f"{type(error).__name__}: {error}"


def type_name(cls: type) -> str:
    """A type's name for messages."""
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def has_utf8(text: str) -> bool:
    """Whether `text` is free of lone surrogates, which no file can hold."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def cure_for(kind: type) -> str:
    """What the author of a step can do about a value of this type."""
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return "convert it with ._asdict(), or make it a dataclass"
    if kind is int:
        return "keep it as hex(...)"
    for plain in (str, int, float, list, dict, tuple, set, frozenset, bytes):
        if issubclass(kind, plain) and kind is not plain:
            return f"convert it with {plain.__name__}(...)"
    for kinds, cure in _CURES:
        if issubclass(kind, kinds):
            return cure
    if hasattr(kind, "tolist"):
        return "convert it with .tolist()"
    return "return plain data, a dataclass or a pydantic model, or pass serdes="


_CURES: tuple[tuple[tuple[type, ...], str], ...] = (
    ((complex,), "keep its .real and .imag"),
    ((bytearray, memoryview), "convert it with bytes(...)"),
    ((Mapping,), "convert it with dict(...)"),
    ((Awaitable,), "await it, or give the async function itself to the step"),
    ((BaseException,), "raise it, or return str(...) of it"),
    ((deque, range, array, Iterator, KeysView, ValuesView, ItemsView), "convert it with list(...)"),
)


@cache
def leaves() -> dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]]:
    """Values without parts: kind, how it is written, how it is read; loaded when first met."""
    import pathlib
    from base64 import b64decode, b64encode
    from datetime import date, datetime, time, timedelta
    from decimal import Decimal
    from uuid import UUID

    table: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
        str: ("str", _text, _untext),
        float: ("float", repr, float),
        bytes: (
            "bytes",
            lambda value: b64encode(value).decode(),
            partial(b64decode, validate=True),
        ),
        date: ("date", date.isoformat, date.fromisoformat),
        datetime: ("datetime", _moment_parts, partial(_moment, datetime)),
        time: ("time", _moment_parts, partial(_moment, time)),
        timedelta: (
            "timedelta",
            lambda value: [value.days, value.seconds, value.microseconds],
            lambda parts: timedelta(*parts),
        ),
        Decimal: ("decimal", str, Decimal),
        UUID: ("uuid", str, UUID),
    }
    for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        path = getattr(pathlib, kind)
        table[path] = (kind, _path_text, lambda text, path=path: path(_untext(text)))
    return table


@cache
def leaf_readers() -> dict[str, Callable[[Any], Any]]:
    """How the records of such values are read, by kind."""
    return {kind: read for kind, _, read in leaves().values()}


def _text(text: str) -> str | list[str]:
    """A str as it is, or escaped, in a list, where no file could hold it."""
    return text if has_utf8(text) else [text.encode("unicode_escape").decode("ascii")]


def _untext(kept: Any) -> str:
    return kept if type(kept) is str else kept[0].encode("ascii").decode("unicode_escape")


def _path_text(path: Any) -> str | list[str]:
    if type(path)(str(path)) != path:
        raise Misfit("it reads back from its text as another path")
    return _text(str(path))


def _moment_parts(moment: Any) -> Any:
    """The text of a datetime or time; what ISO 8601 does not say stands beside it."""
    from datetime import timezone

    zone, parts = moment.tzinfo, {}
    if moment.fold:
        parts["fold"] = 1
    if type(zone) is _loaded("zoneinfo", "ZoneInfo"):
        if not zone.key or type(zone)(zone.key).utcoffset(moment) != zone.utcoffset(moment):
            raise Misfit(f"its time zone {zone!r} is not found again by its key")
        parts["zone"] = zone.key
        moment = moment.replace(tzinfo=None)
    elif type(zone) is _loaded("pydantic_core", "TzInfo"):
        parts["tzinfo"] = "pydantic"
    elif type(zone) is timezone:
        if zone.tzname(None) != timezone(zone.utcoffset(None)).tzname(None):
            parts["name"] = _text(zone.tzname(None))
    elif zone is not None:
        raise Misfit(
            f"its time zone is a {type_name(type(zone))}; use zoneinfo, or .astimezone(timezone.utc)"
        )
    return [moment.isoformat(), parts] if parts else moment.isoformat()


def _moment(kind: Any, kept: Any) -> Any:
    from datetime import timezone

    if type(kept) is str:
        return kind.fromisoformat(kept)
    moment, parts = kind.fromisoformat(kept[0]), kept[1]
    zone = moment.tzinfo
    if "zone" in parts:
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(parts["zone"])
    elif "tzinfo" in parts:
        from pydantic_core import TzInfo

        zone = TzInfo(int(moment.utcoffset().total_seconds()))
    elif "name" in parts:
        zone = timezone(moment.utcoffset(), _untext(parts["name"]))
    return moment.replace(tzinfo=zone, fold=parts.get("fold", 0))


def _loaded(module: str, name: str) -> Any:
    """A class of a module, if anybody has imported it: else nothing can be an instance of it."""
    return getattr(sys.modules.get(module), name, _loaded)
