"""Leaves: values that plain JSON lacks and that are kept as a text, a datetime or a path say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

Leaf = tuple[str, Callable[[Any], Any], Callable[[Any], Any]]


class Misfit(Exception):
    """A class would not be found again, or a value does not fit it; the text says why."""


@cache
def leaves() -> dict[type, Leaf]:
    """Return, by type, the kind of each leaf, how it is written, and how it is read.

    The modules of these types are loaded when the first such value is met.
    """
    import pathlib
    from base64 import b64decode, b64encode
    from datetime import date, datetime, time, timedelta
    from decimal import Decimal
    from uuid import UUID

    def days(value: timedelta) -> list[int]:
        return [value.days, value.seconds, value.microseconds]

    def paths(kind: type) -> tuple[type, Leaf]:
        return kind, (kind.__name__, _path_text, lambda kept: kind(read_text(kept)))

    return {
        str: ("str", write_text, read_text),
        float: ("float", repr, float),
        bytes: (
            "bytes",
            lambda value: b64encode(value).decode(),
            partial(b64decode, validate=True),
        ),
        date: ("date", date.isoformat, date.fromisoformat),
        datetime: ("datetime", _write_moment, partial(_read_moment, datetime)),
        time: ("time", _write_moment, partial(_read_moment, time)),
        timedelta: ("timedelta", days, lambda kept: timedelta(*kept)),
        Decimal: ("Decimal", str, Decimal),
        UUID: ("UUID", str, UUID),
        **dict(map(paths, (pathlib.PurePosixPath, pathlib.PureWindowsPath))),
        **dict(map(paths, (pathlib.PosixPath, pathlib.WindowsPath))),
    }


@cache
def leaf_readers() -> dict[str, Callable[[Any], Any]]:
    """Return how the leaves are read, by kind."""
    return {kind: read for kind, _, read in leaves().values()}


def has_utf8(text: str) -> bool:
    """Tell whether `text` is free of lone surrogates, which no file can hold."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_text(text: str) -> str | list[str]:
    """Return a str as it is, or escaped, in a list, if no file can hold it."""
    return text if has_utf8(text) else [text.encode("unicode_escape").decode("ascii")]


def read_text(kept: Any) -> str:
    """Return the str that was written so."""
    return kept if type(kept) is str else kept[0].encode("ascii").decode("unicode_escape")


def _path_text(path: Any) -> str | list[str]:
    if type(path)(str(path)) != path:
        raise Misfit("it reads back from its text as another path")
    return write_text(str(path))


def _write_moment(moment: Any) -> str | list[Any]:
    """Return the ISO text of a datetime or time, and beside it what that does not say."""
    from datetime import timezone

    zone, text = moment.tzinfo, moment.isoformat()
    rest: dict[str, Any] = {"fold": 1} if moment.fold else {}
    if zone is None:
        pass
    elif type(zone) is timezone:
        if type(moment).fromisoformat(text).utcoffset() != moment.utcoffset():
            raise Misfit(f"its time zone {zone!r} is not read back from ISO 8601")
        if zone.tzname(None) != timezone(zone.utcoffset(None)).tzname(None):
            rest["name"] = write_text(zone.tzname(None))
    elif type(zone) is loaded("zoneinfo", "ZoneInfo"):
        found = type(zone)(zone.key) if zone.key else None
        if moment.replace(tzinfo=found).utcoffset() != moment.utcoffset():
            raise Misfit(f"its time zone {zone!r} is not found again by its key")
        text, rest["zone"] = moment.replace(tzinfo=None).isoformat(), zone.key
    elif type(zone) is loaded("pydantic_core", "TzInfo"):
        rest["zone"] = None
    else:
        raise Misfit(
            f"its time zone is a {type_name(type(zone))}; use zoneinfo or datetime.timezone"
        )
    return [text, rest] if rest else text


def _read_moment(kind: Any, kept: Any) -> Any:
    from datetime import timezone

    if type(kept) is str:
        return kind.fromisoformat(kept)
    moment, rest = kind.fromisoformat(kept[0]), kept[1]
    zone = moment.tzinfo
    if "name" in rest:
        zone = timezone(moment.utcoffset(), read_text(rest["name"]))
    elif rest.get("zone"):
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(rest["zone"])
    elif "zone" in rest:
        from pydantic_core import TzInfo

        zone = TzInfo(int(moment.utcoffset().total_seconds()))
    return moment.replace(tzinfo=zone, fold=rest.get("fold", 0))


def loaded(module: str, name: str) -> Any:
    """Return a class of a module, or None as long as nobody has imported it."""
    return getattr(sys.modules.get(module), name, None)


def type_name(cls: type) -> str:
    """Return a type's name for messages."""
    return f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")


def words(error: Exception) -> str:
    """Return what an error says: our own as it is, another's with its type."""
    return str(error) if isinstance(error, Misfit) else f"{type(error).__name__}: {error}"
