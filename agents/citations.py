"""Citations in a text: `[n]` read, renumbered, checked, and missed where a claim has none.

`[1, 3]`, `[1-3]`, `[^1]` and `[1](https://…)` are citations, too, and are written as `[1][3]`; a
year such as `[2024]`, and what stands in code, are none. Nothing here knows what a number means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from .offline.facts import dates, entities
from .offline.text import sentences

MISSING = "[?]"
"""What stands in the place of a citation of nothing."""

_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
_YEAR = r"(?:19|20)\d\d"
_CITATION = re.compile(
    rf"\[\^?(?!{_YEAR}\b)(?P<numbers>\d{{1,4}}(?:\s*[,;–-]\s*\^?\d{{1,4}})*)\]"  # noqa: RUF001
    r"(?P<link>\([^()\s]*\))?"
)
_RANGE = re.compile(r"(\d+)\s*[–-]\s*(\d+)")  # noqa: RUF001
_NUMBER = re.compile(r"\d+")
_LONGEST_RANGE = 50


def cited(text: str) -> list[int]:
    """Return the numbers that a text cites, each once, in their order in it."""
    found: list[int] = []

    def read(numbers: list[int]) -> str:
        found.extend(numbers)
        return ""

    _replaced(text, read)
    return list(dict.fromkeys(found))


def renumbered(text: str, ids: Mapping[int, int]) -> tuple[str, list[int]]:
    """Return a text whose citations have other numbers, and those that have none.

    What `ids` does not know becomes `[?]`; numbers of one citation that come to one are one.
    """
    unknown: list[int] = []

    def written(numbers: list[int]) -> str:
        lost = [each for each in numbers if each not in ids]
        unknown.extend(lost)
        known = dict.fromkeys(ids[each] for each in numbers if each in ids)
        return "".join(f"[{each}]" for each in known) + (MISSING if lost else "")

    return _replaced(text, written), list(dict.fromkeys(unknown))


def marked(text: str, known: Collection[int]) -> str:
    """Return a text in which each citation of an unknown number is `[?]`."""
    return renumbered(text, {each: each for each in known})[0]


def unsupported(text: str) -> list[str]:
    """Return the sentences that claim something checkable and cite nothing.

    A claim is told by its form: a figure, a date, a name. Headings and questions claim nothing.
    """
    return [
        sentence.text
        for sentence in sentences(_CODE.sub(" ", text))
        if not sentence.heading
        and not sentence.text.rstrip("\"'”’)* ").endswith("?")  # noqa: RUF001
        and not cited(sentence.text)
        and _claims(sentence.text)
    ]


def _claims(sentence: str) -> bool:
    plain = sentence.replace(MISSING, "")
    return bool(re.search(r"\d", plain) or dates(plain) or entities(plain))


def _replaced(text: str, written: Callable[[list[int]], str]) -> str:
    """Return a text with each citation outside of code as `written` gives it for its numbers."""
    pieces = _CODE.split(text)
    pieces[::2] = [
        _CITATION.sub(lambda match: written(list(_numbers(match["numbers"]))), piece)
        for piece in pieces[::2]
    ]
    return "".join(pieces)


def _numbers(written: str) -> Iterator[int]:
    for part in re.split(r"[,;]", written):
        span = _RANGE.search(part)
        first, last = (int(span[1]), int(span[2])) if span else (0, -1)
        if first < last < first + _LONGEST_RANGE:
            yield from range(first, last + 1)
        else:
            yield from map(int, _NUMBER.findall(part))
