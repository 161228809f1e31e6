"""The kinds of value the journal keeps beside plain JSON: leaves, and instances of classes.

A leaf (a datetime, a path) is a text. An instance of an enum, dataclass or pydantic model is its
fields and the name of its class, `module:qualname`, which is searched in `returns=`, then in the
handler's module, then by import within the handler's top-level package, `perdure` and the
allow-list. The search that reads is the one that was tried when the value was recorded; it imports
nothing outside those packages, whatever a damaged record says. What does not work out is a
`Misfit`; the codec, which knows the place in the value, makes it the user's error.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, is_dataclass
from dataclasses import fields as fields_of
from enum import Enum, Flag
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

from .leaves import Misfit, leaves, loaded, type_name, words

Parts = tuple[dict[str, Any], dict[str, Any]]


class Classes:
    """Where the classes of one handler's values are found."""

    def __init__(self, module: str | None, allow: Sequence[str]) -> None:
        self._module = module
        packages = [module.partition(".")[0] if module else "", "perdure"]
        packages += [allow] if isinstance(allow, str) else allow
        self._packages = [name for name in packages if name and name != "__main__"]

    def reference(self, cls: type, returns: Any) -> str:
        """Return the name under which `cls` will be found again, having tried it."""
        reference = name_of(cls)
        if self._search(reference, returns) is not cls:
            raise Misfit(f"its class would not be found again: {self._why_lost(cls)}")
        return reference

    def find(self, reference: str, returns: Any) -> type:
        """Return the class recorded under `reference`."""
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
        for home in (sys.modules.get(self._module or ""), self._import(module)):
            found = _within(home, qualname)
            if found is not None and name_of(found) == reference:
                return found
        return None

    def _import(self, module: str) -> ModuleType | None:
        try:
            return import_module(module) if self._allows(module) else None
        except Exception as error:
            raise Misfit(f"import of {module!r} failed: {words(error)}") from error

    def _allows(self, module: str) -> bool:
        return any(module == name or module.startswith(name + ".") for name in self._packages)

    def _why_lost(self, cls: type) -> str:
        module, name = cls.__module__, cls.__qualname__
        given = f"pass returns={cls.__name__}"
        if "<locals>" in name:
            return f"it is local to a function; move it to a module, or {given}"
        if "[" in name:
            return f"it is a parametrised generic; make a named subclass of it, or {given}"
        if module == "__main__":
            return (
                "it stands in __main__, which has another name in another process; move it to a "
                f"module, run the file with `perdure run`, or {given}"
            )
        if not self._allows(module):
            return (
                f"its module {module!r} is outside {', '.join(self._packages)}; import the class "
                f"by its name in the handler's module, {given}, or allow its package"
            )
        return f"{module} holds none, or another one, under {name!r}; {given}"


def name_of(cls: type) -> str:
    """Return the name a class is recorded under.

    The `__module__` of a parametrised pydantic model is whoever asked for it first, so it is named
    by the module of its generic.
    """
    generic = getattr(cls, "__pydantic_generic_metadata__", None) or {}
    return f"{(generic.get('origin') or cls).__module__}:{cls.__qualname__}"


def mentioned(hint: Any) -> Iterator[type]:
    """Yield the classes in a type: itself, those of its arguments, of its fields, and so on."""
    queue, seen = [hint], {id(hint): hint}
    for each in queue:
        if isinstance(each, type) and typing.get_origin(each) is None:
            yield each
        for inner in _inside(each):
            if id(inner) not in seen:
                seen[id(inner)] = inner
                queue.append(inner)


def _inside(hint: Any) -> Iterator[Any]:
    yield from typing.get_args(hint)
    yield typing.get_origin(hint)
    # A forward reference that does not resolve hides its class, and nothing more.
    with suppress(Exception):
        yield from [getattr(hint, name, None) for name in ("__value__", "__supertype__")]
        if is_model(hint):
            yield from [field.annotation for field in hint.model_fields.values()]
        elif isinstance(hint, type) and (is_dataclass(hint) or typing.is_typeddict(hint)):
            yield from typing.get_type_hints(hint).values()


def _answers_to(cls: type, reference: str) -> bool:
    if name_of(cls) == reference:
        return True
    # A file is __main__ where it runs as a script, and has its own name where it is served.
    module, _, qualname = reference.partition(":")
    return "__main__" in (module, cls.__module__) and cls.__qualname__ == qualname


def _within(module: ModuleType | None, qualname: str) -> type | None:
    found: Any = module
    for part in qualname.split("."):
        found = None if found is None else vars(found).get(part)
        if not isinstance(found, type):
            return None
    return typing.cast("type", found)


def is_model(cls: Any) -> bool:
    """Tell whether `cls` is a pydantic model class, without importing pydantic to know it."""
    base = loaded("pydantic.main", "BaseModel")
    return base is not None and isinstance(cls, type) and issubclass(cls, base)


def kind_of(cls: type) -> str | None:
    """Return how instances of `cls` are kept: `enum`, `model`, `dataclass`, or None: not at all."""
    if issubclass(cls, Enum):
        return "enum"
    if is_model(cls):
        return "model"
    return "dataclass" if is_dataclass(cls) else None


def take_apart(kind: str, value: Any) -> Parts:
    """Return the fields of an instance, each to be kept in turn, and further plain details."""
    take = {"enum": _take_member, "model": _take_model, "dataclass": _take_dataclass}
    return take[kind](value)


def put_together(kind: str, cls: type, fields: dict[str, Any], details: dict[str, Any]) -> Any:
    """Return the instance that was taken apart so."""
    if kind_of(cls) != kind:
        raise Misfit(f"the class is no {kind} any more")
    put = {"enum": _put_member, "model": _put_model, "dataclass": _put_dataclass}
    return put[kind](cls, fields, details)


def hidden(value: Any) -> dict[str, Any]:
    """Return what a model holds and its record does not: excluded fields, private attributes."""
    cls: Any = type(value)
    if not is_model(cls):
        return {}
    private = getattr(value, "__pydantic_private__", None) or {}
    excluded = [name for name, field in cls.model_fields.items() if field.exclude]
    return {name: value.__dict__.get(name) for name in excluded} | private


def same(one: Any, two: Any) -> bool:
    """Tell whether two values are equal, type included, at every depth; NaN is equal to NaN."""
    kind = type(one)
    if one is two or kind is not type(two):
        return one is two
    if kind in (list, tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if kind is dict:
        return same(list(one), list(two)) and all(map(same, one.values(), two.values()))
    if kind in (set, frozenset):
        twins = {each: each for each in two}
        return len(one) == len(two) and all(
            each in twins and same(each, twins[each]) for each in one
        )
    # A leaf's repr says more than ==: NaN, 1.0 or 1.00, the fold.
    return repr(one) == repr(two) if kind in leaves() else bool(one == two)


def _take_member(value: Any) -> Parts:
    cls = type(value)
    if issubclass(cls, Flag):
        if type(value.value) is not int or cls(value.value) is not value:
            raise Misfit(f"the flag {value!r} is not found by its value")
        return {}, {"value": value.value}
    if cls.__members__.get(value.name) is not value:
        raise Misfit(f"{value!r} is not found by its name among the members")
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


def _take_dataclass(value: Any) -> Parts:
    names = [field.name for field in fields_of(value)]
    object.__new__(type(value))  # refuses a class whose base keeps state of its own, as Exception
    _refuse_strays(value, object.__getstate__(value), names)
    return {name: getattr(value, name) for name in names}, {}


def _put_dataclass(cls: Any, fields: dict[str, Any], details: dict[str, Any]) -> Any:
    declared = {field.name: field for field in fields_of(cls)}
    _refuse_unknown(fields.keys() - declared.keys())
    copy = object.__new__(cls)  # without __init__: an InitVar is gone, and __post_init__ has run
    for name, field in declared.items():
        if name in fields:
            value = fields[name]
        elif field.default is not MISSING:
            value = field.default
        elif field.default_factory is not MISSING:
            value = field.default_factory()
        else:
            raise Misfit(f"its field {name!r} was not recorded and has no default")
        object.__setattr__(copy, name, value)
        _refuse_change(name, value, getattr(copy, name))
    return copy


def _take_model(value: Any) -> Parts:
    declared = type(value).model_fields
    extra = value.__pydantic_extra__ or {}
    _refuse_strays(value, value.__dict__, declared)
    if clash := declared.keys() & extra:
        raise Misfit(f"a field and an extra value of it are both named {min(clash)!r}")
    fields = {name: getattr(value, name) for name in declared if not declared[name].exclude}
    details = {"unset": sorted(fields.keys() - value.model_fields_set), "extra": sorted(extra)}
    return fields | extra, {name: names for name, names in details.items() if names}


def _put_model(cls: Any, fields: dict[str, Any], details: dict[str, Any]) -> Any:
    _refuse_unknown(fields.keys() - set(details.get("extra", ())) - cls.model_fields.keys())
    # Pydantic does not validate defaults, so they are not given to it, but put back afterwards.
    unset = {name: fields[name] for name in details.get("unset", ())}
    given: Any = {name: value for name, value in fields.items() if name not in unset}
    if getattr(cls, "__pydantic_root_model__", False):
        given = fields["root"]
    copy = cls.model_validate(given, by_alias=False, by_name=True)
    if type(copy) is not cls:
        raise Misfit(f"it validates to a {type_name(type(copy))}")
    copy.__dict__.update(unset)
    copy.model_fields_set.difference_update(unset)
    held = {**copy.__dict__, **(copy.__pydantic_extra__ or {})}
    for name, value in fields.items():
        _refuse_change(name, value, held.get(name))
    return copy


def _refuse_strays(value: Any, state: Any, names: Iterable[str]) -> None:
    """Refuse attributes that are no fields; caches and typing's own mark are made anew."""
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


def cure_for(kind: type) -> str:
    """Return what the author of a step can do about a value of this type."""
    if kind_of(kind):
        return "or return plain data, or pass serdes="
    if kind is int:
        return "keep it as hex(...)"
    for plain in (str, int, float, list, dict, tuple, set, frozenset, bytes):
        if issubclass(kind, plain) and kind is not plain:
            or_dict = " or ._asdict()" if hasattr(kind, "_asdict") else ""
            return f"convert it with {plain.__name__}(...){or_dict}"
    cures = [cure for mark, cure in _CURES.items() if hasattr(kind, mark)]
    return (*cures, "return plain data, a dataclass or a pydantic model, or pass serdes=")[0]


_CURES = {
    "hex": "convert it with bytes(...)",
    "tolist": "convert it with .tolist()",
    "imag": "convert it with str(...), or keep its .real and .imag",
    "keys": "convert it with dict(...)",
    "__await__": "await it, or give the async function itself to the step",
    "__traceback__": "raise it, or return str(...) of it",
    "__next__": "convert it with list(...)",
    "__reversed__": "convert it with list(...)",
    "unicode_string": "convert it with str(...), a field of it by declaring str",
}
