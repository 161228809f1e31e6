"""Makes the plain values of a JSON schema from a text: strings, numbers, choices.

What the text has of the kind that a field asks for is taken as it stands; what it lacks is filled
with the least value that the schema allows, and `Filled.found` says which of the two it was.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import facts
from .fits import in_bounds, matches
from .hints import FACTS, WIDE, Hint, Kind, find_facts, kind_of_word
from .material import Material, Passage
from .text import QUESTION_MARKS, parts, shorten, slug, stems
from .words import UNDECIDED_WORDS

NOTHING = "The offline stand-in found nothing to extract."
_PROBES = ("0", "1", "a", "A", "aa", "AA", "aaa", "AAA", "000", "0000", "a1", "A1", "x-1", "0.0")
_PRESENCE = re.compile(r"(?:has|have|contains?|mentions?|includes?)_?(?=[A-Z_a-z])(\w+)")
_YEAR = re.compile(r"\b(?:1[89]|20)\d\d\b")


class Unfillable(Exception):
    """No value fits this part of the schema."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A value, and whether it was found in the text or is only the least that is allowed."""

    value: Any
    found: bool = False


def string(schema: Mapping[str, Any], hint: Hint, material: Material, salt: int) -> Filled:
    """Return a string that keeps to the schema's lengths, format and pattern."""
    form = schema.get("format")
    if form in _FORMATS:
        return _formatted(form, material, hint, salt)
    text = _text(hint, material)
    found = text is not None
    text = text or _any_text(hint, material)
    if "pattern" in schema:
        return _matching(schema, text, material, salt)
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    return Filled(_of_length(text, least, most, salt, material), found)


def number(schema: Mapping[str, Any], hint: Hint, material: Material, salt: int) -> Filled:
    """Return a number found in the text that keeps to the schema's bounds, or the least one."""
    whole = schema.get("type") == "integer"
    fitting = [
        int(value) if whole else value
        for value in dict.fromkeys(_numbers(hint, material))
        if (not whole or value == int(value)) and in_bounds(value, schema)
    ]
    if salt < len(fitting):
        return Filled(fitting[salt], True)
    return Filled(_least(schema, whole, salt - len(fitting)))


def boolean(schema: Mapping[str, Any], hint: Hint, material: Material, salt: int) -> Filled:
    """Return True where a field such as `has_penalty` asks for a word that the text has.

    Any other judgement is not made: False, as not found.
    """
    asked = _PRESENCE.match(hint.name)
    said = asked is not None and material.mentions(stems(asked[1].replace("_", " ")))
    return Filled(said != (salt % 2 == 1), asked is not None)


def choice(options: Sequence[Any], hint: Hint, material: Material, salt: int) -> Filled:
    """Return the option that the text speaks of most, else one that decides nothing."""
    if not options:
        raise Unfillable("an enum without values")
    if salt:
        return Filled(options[salt % len(options)])
    named = [option for option in options if _names(option, material)]
    if named:
        return Filled(named[0], True)
    counts = [(spoken_of(option, material), -at) for at, option in enumerate(options)]
    most, at = max(counts)
    if most:
        return Filled(options[-at], True)
    neutral = [option for option in options if str(option).casefold() in UNDECIDED_WORDS]
    return Filled((neutral or list(options))[0])


def _names(option: Any, material: Material) -> bool:
    """Return whether an option is the kind of name that an item is made from: `person`."""
    if material.phrase is None or not isinstance(option, str):
        return False
    found = find_facts(kind_of_word(option), material.phrase)
    return material.phrase in found


def spoken_of(option: Any, material: Material) -> int:
    """Return how often a text has the words of an option."""
    if not isinstance(option, str):
        return 0
    words = stems(re.sub(r"[_\-/]+|(?<=[a-z])(?=[A-Z])", " ", option))
    return material.count(words) or int(set(words) <= set(stems(material.request)) and bool(words))


def _text(hint: Hint, material: Material) -> str | None:
    """Return the text that a field of this kind asks for, or None if the material has none."""
    kind = hint.kind
    if kind in FACTS:
        return next(iter(_facts(hint, material)), None)
    if kind is Kind.DEPENDS:
        return None
    if kind is Kind.SOURCE:
        return next((str(each.number) for each in material.passages if each.number), None)
    if kind in (Kind.TITLE, Kind.TOPIC, Kind.IDENTIFIER):
        title = _title(material)
        return (slug(title) or None) if kind is Kind.IDENTIFIER else title or None
    if kind in (Kind.QUESTION, Kind.TASK):
        return _asked(material) or None
    if kind is Kind.RISK:
        risky = material.best(2, hint.words, keep=lambda each: facts.is_risk(stems(each.text)))
        return _joined(risky, hint.cite)
    if kind is Kind.SUMMARY:
        return _joined(material.answer(3), hint.cite)
    return _joined(material.best(1, hint.words, strict=not hint.item), hint.cite)


def _facts(hint: Hint, material: Material) -> Iterator[str]:
    if material.phrase and material.phrase in find_facts(hint.kind, material.phrase):
        yield material.phrase
    for passage in material.best(WIDE, hint.words):
        yield from find_facts(hint.kind, passage.text)


def _title(material: Material) -> str:
    if material.phrase:
        return material.phrase
    heading = next((each.text for each in material.passages if each.heading), None)
    if heading:
        return shorten(heading, 80)
    asked = parts(material.request)
    return asked[0].phrase if asked else ""


def _asked(material: Material) -> str:
    asked = [part.text for part in parts(material.request)]
    question = next((text for text in asked if text.endswith(QUESTION_MARKS)), None)
    return question or _on_one_line(material.request)


def _on_one_line(request: str) -> str:
    """Return a request on one line, or its first sentences where it is long."""
    whole = " ".join(request.split())
    return whole if len(whole) <= 400 else shorten(whole, 400)


def _joined(passages: Sequence[Passage], cite: bool) -> str | None:
    if not passages:
        return None
    return " ".join(cited(passage) if cite else passage.text for passage in passages)


def cited(passage: Passage) -> str:
    """Return a passage followed by the number of its document, if it has one."""
    return passage.text if passage.number is None else f"{passage.text} [{passage.number}]"


def _any_text(hint: Hint, material: Material) -> str:
    if hint.kind in (Kind.DEPENDS, Kind.SOURCE):
        return ""
    best = _joined(material.best(1, hint.words), hint.cite)
    return best or _on_one_line(material.request)


def _of_length(text: str, least: int, most: int | None, salt: int, material: Material) -> str:
    """Return a text of a length in bounds; `salt` sets it apart from others."""
    if len(text) < least and material.passages:
        text = " ".join([text, *(each.text for each in material.best(8))]).strip()
    text = text or (NOTHING if least else "")
    if most is not None and len(text) > most:
        short = shorten(text, most)
        text = short if len(short) >= least else text[:most].rstrip()
    if salt:
        mark = f" {salt}" if most is None or most > 8 else _mark(salt, most)
        kept = text if most is None else text[: max(0, most - len(mark))]
        text = (kept.rstrip() + mark).strip()
    return text.ljust(least, ".")


def _mark(salt: int, most: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    made = ""
    while salt and len(made) < most:
        salt, at = divmod(salt - 1, len(letters))
        made += letters[at]
    return made


def _matching(schema: Mapping[str, Any], text: str, material: Material, salt: int) -> Filled:
    """Return a piece of the text that matches a pattern; some plain probes where none does."""
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    pieces: list[str] = [text, slug(text), slug(text).replace("-", "_")]
    for passage in [*material.best(20), Passage(material.request)]:
        pieces += [passage.text, *passage.text.split(), *re.findall(r"[\w.-]+", passage.text)]
    for tried, found in ((pieces, True), (_PROBES, False)):
        fitting = [
            each
            for each in dict.fromkeys(tried)
            if least <= len(each) <= most and matches(schema["pattern"], each)
        ]
        if salt < len(fitting):
            return Filled(fitting[salt], found)
        salt -= len(fitting)
    raise Unfillable(f"nothing in the text matches the pattern {schema['pattern']!r}")


def _formatted(form: str, material: Material, hint: Hint, salt: int) -> Filled:
    finder, placeholder = _FORMATS[form]
    texts = [passage.text for passage in material.best(WIDE, hint.words)]
    if material.phrase:
        texts.insert(0, material.phrase)
    found = list(
        dict.fromkeys(each for text in [*texts, material.request] for each in finder(text))
    )
    if salt < len(found):
        return Filled(found[salt], True)
    return Filled(placeholder(salt - len(found)))


def _iso_dates(text: str) -> list[str]:
    return [iso for written in facts.dates(text) if (iso := facts.iso_date(written))]


def _moments(text: str) -> list[str]:
    return [f"{day}T00:00:00Z" for day in _iso_dates(text)]


def _none(_: str) -> list[str]:
    return []


_FORMATS: dict[str, tuple[Callable[[str], list[str]], Callable[[int], str]]] = {
    "date": (_iso_dates, lambda salt: f"{1970 + salt}-01-01"),
    "date-time": (_moments, lambda salt: f"{1970 + salt}-01-01T00:00:00Z"),
    "time": (_none, lambda salt: f"{salt // 60 % 24:02}:{salt % 60:02}:00Z"),
    "duration": (_none, lambda salt: f"PT{salt}S"),
    "email": (facts.emails, lambda salt: f"nobody{salt or ''}@example.com"),
    "idn-email": (facts.emails, lambda salt: f"nobody{salt or ''}@example.com"),
    "uri": (facts.urls, lambda salt: f"https://example.com/{salt or ''}"),
    "url": (facts.urls, lambda salt: f"https://example.com/{salt or ''}"),
    "iri": (facts.urls, lambda salt: f"https://example.com/{salt or ''}"),
    "uuid": (_none, lambda salt: str(uuid.UUID(int=salt))),
    "ipv4": (_none, lambda salt: f"0.0.{salt // 256 % 256}.{salt % 256}"),
    "ipv6": (_none, lambda salt: f"::{salt:x}"),
    "hostname": (_none, lambda salt: f"host{salt or ''}.example.com"),
}


def _numbers(hint: Hint, material: Material) -> Iterator[float]:
    """Yield the numbers that may be meant by a field, the likeliest first."""
    if hint.kind is Kind.SOURCE:
        yield from (each.number for each in material.passages if each.number is not None)
        return
    if hint.kind is Kind.IDENTIFIER:
        yield material.index + 1
        return
    speaking = [each.text for each in material.best(WIDE, hint.words, strict=True)]
    if "year" in hint.words:
        speaking += [each.text for each in material.best(WIDE)]
        yield from (int(year) for text in speaking for year in _YEAR.findall(text))
        return
    if hint.kind is Kind.AMOUNT:
        money = [*speaking, *(each.text for each in material.best(WIDE))]
        yield from _in_amounts(money)
    yield from (value for text in speaking for value in facts.numbers(text))
    if hint.kind is not Kind.JUDGEMENT:
        rest = (each.text for each in material.best(WIDE))
        yield from (value for text in rest for value in facts.numbers(text))


def _in_amounts(texts: Iterable[str]) -> Iterator[float]:
    for text in texts:
        for amount in facts.amounts(text):
            yield from facts.numbers(re.sub(r"[^\d.,'\u2019\-+]", " ", amount))


def _least(schema: Mapping[str, Any], whole: bool, salt: int) -> float:
    """Return the `salt`-th number that the bounds allow, from the one nearest to zero."""
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    step = schema.get("multipleOf") or (1 if whole else 0)
    near = min(max(0, low), high)
    tried = _multiples(near, step, whole) if step else _between(low, high, near, salt)
    fitting = dict.fromkeys(value for value in tried if in_bounds(value, schema))
    if salt >= len(fitting):
        raise Unfillable("no number within these bounds")
    return list(fitting)[salt]


def _multiples(near: float, step: float, whole: bool) -> Iterator[float]:
    at = round(near / step)
    for off in range(400):
        for value in ((at + off) * step, (at - off) * step):
            if not whole:
                yield value
            elif value == int(value):
                yield int(value)


def _between(low: float, high: float, near: float, salt: int) -> Iterator[float]:
    yield from (near, low, high)
    if math.isfinite(low) and math.isfinite(high):
        count = salt + 3
        yield from (low + (high - low) * at / count for at in range(1, count))
    else:
        yield from (near + at for at in range(1, salt + 3))
        yield from (near - at for at in range(1, salt + 3))
