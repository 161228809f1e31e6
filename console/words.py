"""The small words of the console: durations, moments, values, all safe to print.

Names, results and error texts come from outside; what could steer a terminal is shown, not sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Any

_TAG = "$perdure"
_LONGEST = 4_000


def safe(text: str) -> str:
    """Return a text with whatever is not printable escaped; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def first_line(text: str) -> str:
    """Return the first line of a text that says anything, safe to print."""
    return safe(next((line.strip() for line in text.splitlines() if line.strip()), ""))


def cut(text: str, most: int) -> str:
    """Return a text, cut where it is longer than this."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def ending(text: str, most: int) -> str:
    """Return the end of a text in one line, safe to print."""
    line = " ".join(text.split())
    return safe(line if len(line) <= most else f"…{line[1 - most :]}")


def length(seconds: float) -> str:
    """Return a length of time in its two largest units: `4 ms`, `3.0 s`, `2 h 5 min`, `7 d`."""
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, part, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return _two(whole // size, unit, whole % size // part, small)
    return _two(whole // 60, "min", whole % 60, "s")


def until(due: datetime, now: datetime) -> str:
    """Return how long it is until a moment, in words."""
    seconds = (due - now).total_seconds()
    if seconds <= 0:
        return "now"
    return f"in {ceil(seconds)} s" if seconds <= 60 else f"in {length(seconds)}"


def moment(when: datetime) -> str:
    """Return a moment in this machine's time."""
    return f"{when.astimezone():%Y-%m-%d %H:%M}"


def from_ms(milliseconds: int) -> datetime:
    """Return a time of the journal as an aware `datetime`."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def one_error(kind: str | None, message: str) -> str:
    """Return an error in one line, its type first."""
    said = first_line(message)
    return f"{safe(kind)}: {said}" if kind and said else safe(kind or "") or said


def parsed(payload: str | None) -> Any:
    """Return a recorded payload as data; one that a `serdes=` wrote, as its text."""
    if payload is None:
        return None
    try:
        return json.loads(payload)
    except ValueError:
        return payload


def bare(value: Any) -> Any:
    """Return a recorded value without the marks of its classes, which only the codec needs."""
    if isinstance(value, list):
        return [bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {key: bare(item) for key, item in value.items()}
    return _untagged(value)


def shown(value: Any, width: int = 80) -> str:
    """Return a recorded value for a reader: one line if it fits, else an indented block."""
    plain = bare(value)
    text = json.dumps(plain, ensure_ascii=False)
    if len(text) > width:
        text = json.dumps(plain, ensure_ascii=False, indent=2)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}\n… {len(text) - _LONGEST:,} more characters; --json has all"
    return safe(text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _two(many: int, unit: str, few: int, small: str) -> str:
    return f"{many} {unit} {few} {small}" if few else f"{many} {unit}"


def _untagged(node: Mapping[str, Any]) -> Any:
    if "class" in node:
        return bare(node.get("fields", node.get("name", node.get("value", {}))))
    value = node.get("value")
    if node[_TAG] == "dict" and isinstance(value, list):
        return {str(bare(key)): bare(item) for key, item in value}
    return bare(value)
