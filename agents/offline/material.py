"""What the stand-in reads: a conversation, taken apart into a request and numbered passages.

Documents stand in fences (`<document id="3" sha="…">` to `</document-…>`), also inside the results
of tools; a result may state its number too. Only what stands outside of fences in the user's
messages is a request: a document never asks for anything. Passages are ranked by how much they
share with the others and with what is asked.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from .facts import amounts, dates, emails, parties
from .text import (
    QUESTION_MARKS,
    content_stems,
    is_small,
    sentences,
    shorten,
    stem,
    stems,
    the_request,
)

_FENCE = re.compile(r"<document\b([^<>\n]{0,300})>")
_CLOSE = re.compile(r"</document[^<>\n]{0,80}>")
_ATTRIBUTE = re.compile(r"""(\w+)\s*=\s*["']([^"']*)["']""")
_COLON = re.compile("([:\uff1a])")
_ENDS = re.compile("[.!?\u2026\u3002\uff01\uff1f\u061f][\"'\u201d\u2019\u00bb)]*$")
_CITED = re.compile(r"\s?\[\d{1,3}\]")
_NUMBERED = re.compile(r"\s*\[(\d{1,6})\]\s*")
_LEADING = 200
_TEXT_KEYS = ("text", "content", "excerpt", "snippet", "body", "summary", "abstract")
NUMBER_KEYS = ("n", "number", "citation", "index")
_NOTHING = re.compile(
    r"\W*(?:no|0|none|null|nothing|empty|not found)\b[^.\n]{0,60}\W*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `id` is empty until the call is part of an answer."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A message: its role (`system`, `user`, `assistant`, `tool`), text, and calls it makes.

    `ok` is False for the result of a tool that failed, `answers` is the id of the call it answers;
    `documents` are attached plain texts.
    """

    role: str
    text: str
    calls: tuple[Call, ...] = ()
    ok: bool = True
    answers: str = ""
    documents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence of what was given, and the number of the document it stands in."""

    text: str
    number: int | None = None
    heading: bool = False
    place: int = 0


@dataclass(frozen=True, slots=True)
class Seed:
    """What one item of a list is made from: a phrase, and the passage it stands in.

    `asks` is True where the passage is a request of its own, to be answered from all passages.
    """

    phrase: str
    passage: Passage
    asks: bool = False


class Material:
    """A request and the passages to answer it from.

    Args:
        request: what is asked.
        passages: the sentences given, in their order.
        own: True when they are the request's own, since no document or result came with it.
        phrase: what this material is about, where it is one item of a list.
        index: the place of that item in its list.
    """

    def __init__(
        self,
        request: str,
        passages: Sequence[Passage],
        *,
        own: bool = False,
        phrase: str | None = None,
        index: int = 0,
    ) -> None:
        self.request = request
        self.passages = tuple(passages)
        self.own = own
        self.phrase = phrase
        self.index = index
        self._words = [frozenset(stems(passage.text)) for passage in self.passages]
        self._tally = Counter(word for words in self._words for word in words)
        count = len(self.passages)
        self._rarity = {word: math.log(1 + count / n) for word, n in self._tally.items()}
        self._weights = self._weigh()
        self._scores = self._rank()

    def narrow(self, seed: Seed, index: int) -> Material:
        """Return the material of one item of a list: its passage alone, or what it asks for."""
        if not seed.asks or self.own or not self.passages:
            return Material(
                seed.passage.text, [seed.passage], own=self.own, phrase=seed.phrase, index=index
            )
        about = copy(self)
        about.request, about.phrase, about.index = seed.passage.text, seed.phrase, index
        about._scores = about._rank()
        return about

    def best(
        self,
        most: int,
        asked: Iterable[str] = (),
        keep: Callable[[Passage], bool] | None = None,
        *,
        strict: bool = False,
    ) -> list[Passage]:
        """Return the best passages for some stems, best first, none saying what another said.

        With `strict` only those that share a stem with `asked` are returned.
        """
        wanted = {word for word in asked if word in self._rarity}
        worth = sum(self._rarity[word] for word in wanted) or 1.0
        scored = []
        for at, words in enumerate(self._words):
            shared = sum(self._rarity[word] for word in wanted & words) / worth
            if (shared or not strict) and (keep is None or keep(self.passages[at])):
                scored.append((-self._scores[at] - 1.5 * shared, at))
        return [self.passages[at] for at in self._apart(sorted(scored), most)]

    def answer(self, most: int, *, whole: bool = False) -> list[Passage]:
        """Return the passages that answer the request, in source order, each document heard.

        With `whole`, lines that are no sentences are left out, if there are any that are.
        """

        def said(passage: Passage) -> bool:
            ends = not whole or _ENDS.search(passage.text) is not None
            return ends and len(stems(passage.text)) > 2

        leading = self.best(4 * most, keep=said)
        leading = leading or self.best(most)
        places = {passage.place for passage in leading}
        share = max(1, math.ceil(most / len(places))) if places else most
        heard: Counter[int] = Counter()
        chosen: list[Passage] = []
        for passage in leading:
            if heard[passage.place] < share and len(chosen) < most:
                heard[passage.place] += 1
                chosen.append(passage)
        order = {id(passage): at for at, passage in enumerate(self.passages)}
        return sorted(chosen, key=lambda passage: order[id(passage)])

    def mentions(self, words: Iterable[str]) -> bool:
        """Return whether any passage has one of these stems."""
        wanted = set(words)
        return any(not wanted.isdisjoint(found) for found in self._words)

    def count(self, words: Sequence[str]) -> int:
        """Return how many passages have all of these stems."""
        wanted = set(words)
        return sum(1 for found in self._words if wanted and wanted <= found)

    def _apart(self, scored: list[tuple[float, int]], most: int) -> list[int]:
        chosen: list[int] = []
        for _, at in scored:
            if len(chosen) == most:
                break
            if not any(_alike(self._words[at], self._words[other]) for other in chosen):
                chosen.append(at)
        return chosen

    def _weigh(self) -> list[float]:
        """Return how much each passage shares with the others, from 0 to 1."""
        often = 0.35 * len(self._words) if len(self._words) >= 12 else math.inf
        weight = {
            word: 0.0 if count > often or is_small(word) else math.log(1 + count)
            for word, count in self._tally.items()
        }
        dense = [sum(map(weight.__getitem__, words)) / (6 + len(words)) for words in self._words]
        highest = max(dense, default=0.0) or 1.0
        return [density / highest for density in dense]

    def _rank(self) -> list[float]:
        """Return the score of each passage for the request."""
        asked = content_stems(self.request)
        wanted = asked & self._rarity.keys()
        worth = sum(self._rarity[word] for word in wanted) or 1.0
        scores = []
        for passage, words, weight in zip(self.passages, self._words, self._weights, strict=True):
            shared = sum(self._rarity[word] for word in wanted & words) / worth
            short = 0.3 if passage.heading else 0.6 if len(words) < 4 else 1.0
            scores.append((weight + 1.2 * shared) * short)
        stated = _stated_kinds(asked)
        if stated:
            for at in sorted(range(len(scores)), key=lambda at: -scores[at])[:_LEADING]:
                text = "" if self.passages[at].heading else self.passages[at].text
                scores[at] += sum(worth for worth, finder in stated if finder(text))
        return scores


def request_of(turns: Sequence[Turn]) -> str:
    """Return what the user's messages ask, fences left out."""
    outside = [_outside(turn.text) for turn in turns if turn.role == "user"]
    return the_request("\n\n".join(text for text in outside if text))


def material_of(turns: Sequence[Turn]) -> Material:
    """Return the request of a conversation and what there is to answer it from."""
    request = request_of(turns)
    passages: list[Passage] = []
    for place, (text, number) in enumerate(_sources(turns)):
        passages.extend(
            Passage(sentence.text, number, sentence.heading, place) for sentence in sentences(text)
        )
    if passages or any(turn.role == "tool" for turn in turns):
        return Material(request, _citable(passages))
    asked, own = _own_material(request)
    return Material(
        request,
        [Passage(sentence.text, None, sentence.heading) for sentence in sentences(own)],
        own=True,
        phrase=shorten(asked, 80) if asked else None,
    )


def is_empty(result: str) -> bool:
    """Return whether a tool's result says that there is nothing."""
    values = json_values(result)
    if values is not None:
        return not any(each not in (None, "", 0, False) for _, each in leaves(values))
    return not stems(result) or _NOTHING.fullmatch(result) is not None


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the plain values in a JSON value, each with the key it stands under."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, key)
    else:
        yield key, value


def json_values(text: str) -> Any:
    """Return the JSON array or object that a text is, or None."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def fences(text: str) -> Iterator[tuple[dict[str, str], str, int, int]]:
    """Yield each fenced document: its attributes, its text, where its fence starts and ends."""
    at = 0
    while opening := _FENCE.search(text, at):
        attributes = dict(_ATTRIBUTE.findall(opening[1]))
        closing = None
        if attributes.get("sha"):
            exact = re.compile(rf"</document-{re.escape(attributes['sha'])}\s*>")
            closing = exact.search(text, opening.end())
        closing = closing or _CLOSE.search(text, opening.end())
        stop = closing.start() if closing else len(text)
        at = closing.end() if closing else len(text)
        yield attributes, text[opening.end() : stop].strip(), opening.start(), at


def _citable(passages: list[Passage]) -> list[Passage]:
    """Leave out excerpts without a number of what stands in a numbered document as well."""
    numbered = "\n".join(each.text for each in passages if each.number is not None)
    if not numbered:
        return passages
    return [each for each in passages if each.number is not None or each.text not in numbered]


def _sources(turns: Sequence[Turn]) -> Iterator[tuple[str, int | None]]:
    for turn in turns:
        for attached in turn.documents:
            yield attached, None
        if turn.role == "user":
            yield from _fenced(turn.text)
        elif turn.role == "tool" and turn.ok and not is_empty(turn.text):
            yield from _result(turn.text)


def _fenced(text: str) -> Iterator[tuple[str, int | None]]:
    for attributes, body, _, _ in fences(text):
        name = attributes.get("id", "")
        number = int(name) if name.isascii() and name.isdigit() else None
        yield (body if number is None else _CITED.sub("", body)), number


def _outside(text: str) -> str:
    pieces, at = [], 0
    for _, _, start, end in fences(text):
        pieces.append(text[at:start])
        at = end
    return "".join([*pieces, text[at:]]).strip()


def _result(text: str) -> Iterator[tuple[str, int | None]]:
    """Yield the texts of a tool's result, each with the number that it states."""
    if _FENCE.search(text):
        yield from _fenced(text)
        return
    values = json_values(text)
    if values is not None:
        yield from _texts(values, None)
        return
    stated = _NUMBERED.match(text)
    if stated:
        yield _CITED.sub("", text[stated.end() :]), int(stated[1])
    else:
        yield text, None


def _texts(value: Any, number: int | None) -> Iterator[tuple[str, int | None]]:
    """Yield the texts in a JSON value that are more than a word or a name."""
    if isinstance(value, dict):
        stated = next((value[key] for key in NUMBER_KEYS if type(value.get(key)) is int), number)
        texts = [value[key] for key in _TEXT_KEYS if isinstance(value.get(key), str)]
        rest = [each for each in value.values() if not texts or isinstance(each, (dict, list))]
        for each in [*texts, *rest]:
            yield from _texts(each, stated)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, number)
    elif isinstance(value, str) and len(stems(value)) > 2 and not value.startswith("http"):
        yield (_CITED.sub("", value) if number is not None else value), number


def _own_material(request: str) -> tuple[str, str]:
    """Divide a request without documents into what it asks and what it brings along."""
    head, colon, rest = _COLON.split(request, 1) if _COLON.search(request) else (request, "", "")
    if colon and rest.strip() and len(head) < 120 and not re.search(r"[.!?\n]", head):
        return head.strip(), rest.strip()
    found = sentences(request)
    asking = [each.text for each in found if each.text.endswith((*QUESTION_MARKS, ":", "\uff1a"))]
    brought = [each.text for each in found if each.text not in asking]
    return " ".join(asking), "\n\n".join(brought)


_STATED: tuple[tuple[str, float, Callable[[str], list[str]]], ...] = (
    ("date deadline day when term", 0.5, dates),
    ("amount price cost sum payment fee money total budget", 0.8, amounts),
    ("email contact", 0.6, emails),
    ("party organisation organization company people person supplier customer", 0.4, parties),
)


def _stated_kinds(asked: set[str]) -> list[tuple[float, Callable[[str], list[str]]]]:
    """Return what kinds of fact a request names, each with what it is worth to state one."""
    return [
        (worth, finder)
        for names, worth, finder in _STATED
        if not asked.isdisjoint(map(stem, names.split()))
    ]


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    smaller = min(len(one), len(other))
    return smaller > 0 and len(one & other) > 0.8 * smaller and len(one | other) < 2 * smaller
