"""What the name and description of a field say about the text that belongs in it.

A hint steers: which sentences a field is filled from, and what each item of a list is made of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from . import facts
from .material import Material, Passage, Seed
from .text import QUESTION_MARKS, content_stems, keywords, parts, shorten, stem, stems


class Kind(StrEnum):
    """What kind of text a field is meant for."""

    TEXT = auto()
    TITLE = auto()
    IDENTIFIER = auto()
    QUESTION = auto()
    TASK = auto()
    SUMMARY = auto()
    TOPIC = auto()
    RISK = auto()
    DATE = auto()
    AMOUNT = auto()
    EMAIL = auto()
    URL = auto()
    ORGANISATION = auto()
    PERSON = auto()
    PARTY = auto()
    ENTITY = auto()
    SOURCE = auto()
    DEPENDS = auto()
    JUDGEMENT = auto()


_NAMES = {
    Kind.DEPENDS: "depends dependency dependencies prerequisite requires blocker blocked parent"
    " tool",
    Kind.SOURCE: "source citation cite citations reference doc",
    Kind.JUDGEMENT: "confidence score probability likelihood rating relevance priority severity"
    " weight rank importance certainty",
    Kind.EMAIL: "email mail",
    Kind.URL: "url link uri website",
    Kind.DATE: "date deadline due expiry when",
    Kind.AMOUNT: "amount price cost total sum fee payment salary budget money",
    Kind.PARTY: "party",
    Kind.ORGANISATION: "organisation organization company org vendor supplier customer employer",
    Kind.PERSON: "person people author signatory attendee participant who",
    Kind.ENTITY: "entity",
    Kind.RISK: "risk issue concern danger liability",
    Kind.TOPIC: "topic tag keyword theme",
    Kind.IDENTIFIER: "id key slug identifier code",
    Kind.TITLE: "title name heading headline label subject phrase",
    Kind.QUESTION: "question query",
    Kind.TASK: "task subtask objective goal step instruction action todo plan section",
    Kind.SUMMARY: "summary abstract answer conclusion overview report body content text synthesis",
}
_KINDS = {stem(word): kind for kind, names in _NAMES.items() for word in names.split()}
_FINDERS: dict[Kind, Callable[[str], list[str]]] = {
    Kind.DATE: facts.dates,
    Kind.AMOUNT: facts.amounts,
    Kind.EMAIL: facts.emails,
    Kind.URL: facts.urls,
    Kind.ORGANISATION: facts.organisations,
    Kind.PERSON: facts.people,
    Kind.PARTY: facts.parties,
    Kind.ENTITY: facts.entities,
}
_ORDER = list(_NAMES)
_SHAPES = frozenset({Kind.TITLE, Kind.IDENTIFIER, Kind.SUMMARY})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
FACTS = frozenset(_FINDERS)
WIDE = 60
"""How many of the best passages are looked through for facts."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What a field is called, the stems that describe it, and the kind of text it takes.

    `cite` says that a sentence is to be followed by the number of its document, `item` that the
    field is an item of a list, made from a passage chosen for it.
    """

    name: str
    words: frozenset[str]
    kind: Kind
    cite: bool = False
    item: bool = False


def hint_of(name: str, schema: Any, cite: bool = False) -> Hint:
    """Read the hint in a field's name, title and description."""
    described = ""
    if isinstance(schema, Mapping):
        described = f"{schema.get('title', '')} {schema.get('description', '')}"
    named = [stem(part.casefold()) for part in _CAMEL.split(name) if part]
    words = {word for word in named if len(word) > 1} | content_stems(described)
    return Hint(name, frozenset(words), _kind_of(named), cite)


def find_facts(kind: Kind, text: str) -> list[str]:
    """Return what a text states of a kind: its dates, its names; nothing for kinds of prose."""
    finder = _FINDERS.get(kind)
    return finder(text) if finder else []


def seeds(hint: Hint, material: Material, most: int) -> list[Seed]:
    """Return what the items of a list are made from, each from another place of the text."""
    if hint.kind is Kind.DEPENDS:
        return []
    found = _distinct(_candidates(hint, material, most))
    return found[:most]


def spare_seeds(material: Material) -> list[Seed]:
    """Return what more items can be made from when a list must be longer than its seeds."""
    found = [_of_passage(passage) for passage in material.best(40)]
    words = keywords(material.request, 40)
    return _distinct([*found, *(Seed(word, Passage(word)) for word in words)])


def _kind_of(named: list[str]) -> Kind:
    kinds = {_KINDS[word] for word in named if word in _KINDS}
    if "document" in named and len(named) > 1:
        kinds.add(Kind.SOURCE)
    last = _KINDS.get(named[-1]) if named else None
    prose = kinds <= {Kind.TASK, Kind.QUESTION, Kind.TOPIC, *_SHAPES}
    if prose and last in _SHAPES:
        return last or Kind.TEXT
    kinds -= _SHAPES
    return next((kind for kind in _ORDER if kind in kinds), Kind.TEXT)


def _candidates(hint: Hint, material: Material, most: int) -> Iterable[Seed]:
    kind = hint.kind
    if kind in FACTS:
        return _facts(hint, material)
    if kind is Kind.SOURCE:
        numbered = [passage for passage in material.passages if passage.number is not None]
        return [Seed(str(passage.number), passage) for passage in numbered]
    if kind is Kind.RISK:
        risky = material.best(most, hint.words, keep=lambda each: facts.is_risk(stems(each.text)))
        return map(_of_passage, risky)
    if kind is Kind.TOPIC:
        text = material.request if material.phrase else _heart(material)
        return [Seed(word, Passage(word)) for word in keywords(text, most)]
    if kind is Kind.QUESTION:
        return _questions(material) or _asked(material)
    if kind in (Kind.TASK, Kind.TITLE):
        return _asked(material, headings=True)
    found = material.best(most, hint.words, keep=lambda each: not each.heading)
    found = found or material.best(most, hint.words)
    return map(_of_passage, found) if found else _asked(material)


def _facts(hint: Hint, material: Material) -> Iterable[Seed]:
    order = {id(passage): at for at, passage in enumerate(material.passages)}
    leading = sorted(material.best(WIDE, hint.words), key=lambda passage: order[id(passage)])
    for passage in leading:
        for fact in find_facts(hint.kind, passage.text):
            yield Seed(fact, passage)


def _questions(material: Material) -> list[Seed]:
    asked = [part for part in parts(material.request) if part.text.endswith(QUESTION_MARKS)]
    seeds = [Seed(part.phrase, Passage(part.text), True) for part in asked]
    return seeds if len(seeds) > 1 else []


def _asked(material: Material, *, headings: bool = False) -> list[Seed]:
    found = [Seed(part.phrase, Passage(part.text), True) for part in parts(material.request)]
    if headings and len(found) < 2:
        titles = [each for each in material.passages if each.heading]
        found += [Seed(shorten(each.text, 80), each, True) for each in titles]
    return found or [_of_passage(passage) for passage in material.best(5)]


def _heart(material: Material) -> str:
    return "\n".join(passage.text for passage in material.best(12)) or material.request


def _of_passage(passage: Passage) -> Seed:
    return Seed(shorten(passage.text, 80), passage)


def _distinct(found: Iterable[Seed]) -> list[Seed]:
    kept: dict[str, Seed] = {}
    for seed in found:
        if seed.phrase:
            kept.setdefault(seed.phrase.casefold(), seed)
    return list(kept.values())


def kind_of_word(word: str) -> Kind:
    """Return the kind that a word such as `organisation` names."""
    return _kind_of([stem(word.casefold())])
