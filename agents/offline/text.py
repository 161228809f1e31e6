"""Splits text of any language into sentences, words and the parts of a request.

Everything it returns stands in the text it was given, runs of white space read as one space.
No dictionary, no model: what has no full stops is split at its lines, and long lines at a space;
scripts written without spaces are compared by pairs of characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from .words import ASKING_WORDS, STOP_WORDS

LONGEST = 320
"""The most characters of one sentence; what is longer is cut at a comma or a space."""

QUESTION_MARKS = ("?", "\uff1f", "؟")
_WORD = re.compile(r"[^\W_]+(?:['\u2019\-][^\W_]+)*")
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_END = re.compile(
    r"[.!?…]+[\"'”\u2019»)]*(?:[ \t]?\[\d{1,3}\])*(?=\s|$)"
    r"|[。\uff01\uff1f।؟]+[\"”\u2019」』\uff09]*"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|[^\W\d_]\.[^\W\d_]|mr|mrs|ms|dr|prof|st|no|nr|art|sec|para|fig"
    r"|vs|cf|ca|approx|inc|ltd|co|corp|bzw|etc|vol|pp|ed|al|abs|jan|feb|mar|apr|jun|jul|aug|sept?"
    r"|oct|nov|dec)$",
    re.IGNORECASE,
)
_ORDINAL = re.compile(
    r"\D{0,2}\b\d{1,2}\.\s+(?:jan|feb|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])",
    re.IGNORECASE,
)
_MARK = re.compile(r"\s*(?:#{1,6}\s+|[-*•\u2013—>]+\s+|\(?\d{1,3}[.)]\s+|\(?[a-zA-Z][.)]\s+)")
_AND = re.compile(
    r"\s*(?:[,;、\uff0c\uff1b]\s*(?:and|und|et|or|y)\s+|[,;、\uff0c\uff1b]|\s(?:and|und|et|y|и)\s)\s*"
)
_COMMA = re.compile(r"[,;、\uff0c\uff1b]")
_AND_ASK = re.compile(
    r"\s+and\s+(?=(?:what|when|where|which|who|why|how|say|list|find|compare|check|summari[sz]e"
    r"|describe|explain|identify|extract|write|give|show|assess|tell)\b)",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^\s*(?:request|question|task|goal|objective|topic|query)\s*:\s*(?=\S)", re.I | re.M
)
_TAGGED = re.compile(r"<(request|question|task|goal|objective|topic|query)\b[^>]*>(.*?)</\1>", re.S)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, or a line that has none."""

    text: str
    heading: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a request asks for: a phrase to call it by, and the words that ask it."""

    phrase: str
    text: str


def tidy(text: str) -> str:
    """Return the text with each run of white space as one space."""
    return " ".join(text.split())


def stems(text: str) -> list[str]:
    """Return the words in a form that compares: no case, no plural, pairs where no spaces are."""
    words = _WORD.findall(text.casefold())
    if not _UNSPACED.search(text):
        return [stem(word) for word in words]
    found: list[str] = []
    for word in words:
        if len(word) > 2 and _UNSPACED.search(word):
            found.extend(word[at : at + 2] for at in range(len(word) - 1))
        else:
            found.append(stem(word))
    return found


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """Return a lower-case word without its plural, at most eight characters of it."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3][:7] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return word[:8]


_STOPPED = frozenset(map(stem, STOP_WORDS))
_ASKED = frozenset(map(stem, ASKING_WORDS))


def content_stems(text: str) -> set[str]:
    """Return the stems that carry a request: neither small words nor the verbs of asking."""
    return {word for word in stems(text) if word not in _STOPPED and word not in _ASKED}


def is_small(word: str) -> bool:
    """Return whether a stem is one of the small words that say nothing by themselves."""
    return word in _STOPPED


def keywords(text: str, most: int) -> list[str]:
    """Return the words to look for, as they are written, in their order."""
    seen: dict[str, tuple[int, int, str]] = {}
    for at, word in enumerate(_WORD.findall(text)):
        key = stem(word.casefold())
        if len(word) < 2 or key in _STOPPED or key in _ASKED:
            continue
        count, place, first = seen.get(key, (0, at, word))
        seen[key] = (count + 1, place, first)
    best = sorted(seen.values(), key=lambda each: (-each[0], -min(len(each[2]), 8), each[1]))
    return [word for _, _, word in sorted(best[:most], key=lambda each: each[1])]


def sentences(text: str) -> list[Sentence]:
    """Return the sentences of a text, in its order."""
    found: list[Sentence] = []
    for unit, heading in _units(text):
        for sentence in _split(unit):
            found.extend(Sentence(piece, heading) for piece in windows(sentence, LONGEST))
    return found


def windows(text: str, longest: int) -> Iterator[str]:
    """Yield a text in pieces of at most so many characters, cut at a comma or space if any."""
    while len(text) > longest:
        comma = max(
            text.rfind(mark, longest // 2, longest) for mark in (", ", "; ", "\uff0c", "、")
        )
        space = text.rfind(" ", longest // 2, longest)
        cut = comma + 1 if comma > 0 else space if space > 0 else longest
        yield text[:cut].strip()
        text = text[cut:].strip()
    if text:
        yield text


def shorten(text: str, longest: int) -> str:
    """Return the first clause or the first words of a text, at most so many characters."""
    text = text.strip().rstrip(".!?。:;, ")
    if len(text) <= longest:
        return text
    return next(windows(text, longest)).rstrip(",;\uff0c、 ")


def slug(text: str, longest: int = 40) -> str:
    """Return a name made of the words of a text: `payment-terms`."""
    words = _WORD.findall(text.casefold().replace("'", "").replace("\u2019", ""))
    made = words[0][:longest] if words else ""
    for word in words[1:]:
        if len(made) + 1 + len(word) > longest:
            break
        made += "-" + word
    return made


def the_request(text: str) -> str:
    """Return the part of a prompt that is marked as the request, or all of it."""
    tagged = _TAGGED.search(text)
    if tagged and tagged[2].strip():
        return tagged[2].strip()
    label = _LABEL.search(text)
    if label is None:
        return text.strip()
    return text[label.end() :].split("\n\n", 1)[0].strip()


def parts(request: str) -> list[Part]:
    """Return what a request asks for: its list, else its sentences, else its clauses."""
    lines = [line for line in request.splitlines() if line.strip()]
    listed = [_MARK.sub("", line, count=1) for line in lines if _MARK.match(line)]
    if len(listed) > 1:
        return _distinct(Part(shorten(tidy(line), 80), tidy(line)) for line in listed)
    whole = [sentence.text for sentence in sentences(request)]
    for sentence in whole:
        head, colon, rest = sentence.partition(": ")
        items = _clauses(rest) if colon else []
        if len(items) > 1:
            return _distinct(Part(item, f"{head}: {item}") for item in items)
    if len(whole) == 1:
        clauses = _clauses(whole[0], _AND if _COMMA.search(whole[0]) else _AND_ASK)
        if len(clauses) > 1:
            return _distinct(Part(shorten(clause, 80), clause) for clause in clauses)
    return _distinct(Part(shorten(sentence, 80), sentence) for sentence in whole)


def _units(text: str) -> Iterator[tuple[str, bool]]:
    """Yield paragraphs, list items and headings, each on one line."""
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        lines = [line for line in block.split("\n") if line.strip()]
        held = ""
        for at, line in enumerate(lines):
            mark = _MARK.match(line)
            plain = tidy(line[mark.end() :] if mark else line)
            titled = bool(mark and "#" in mark[0]) or (at == 0 and _is_title(plain, mark, lines))
            if held and (mark or titled or not _goes_on(held, plain)):
                yield held, False
                held = ""
            if titled:
                yield plain, True
            else:
                held = f"{held} {plain}" if held else plain
        if held:
            yield held, False


def _is_title(line: str, mark: re.Match[str] | None, lines: list[str]) -> bool:
    if (
        mark
        or not line
        or len(line) > 70
        or line.count(" ") > 8
        or _END.search(line)
        or line.endswith(":")
    ):
        return False
    return len(lines) == 1 or (line[:1].isupper() and len(lines[1].strip()) > len(line))


def _goes_on(held: str, line: str) -> bool:
    """Return whether a line continues the one before it: a wrapped paragraph, not a list."""
    last = held[-1]
    if last in ".!?:;。\uff01\uff1f":
        return last not in ":;"
    return len(held) > 55 or line[:1].islower()


def _split(unit: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(unit):
        follows = unit[end.end() : end.end() + 3].lstrip()[:1]
        if end[0].startswith(".") and (
            follows.islower()
            or _ABBREVIATION.search(unit[start : end.start()][-8:])
            or _ORDINAL.match(unit, max(start, end.start() - 3))
        ):
            continue
        if piece := unit[start : end.end()].strip():
            yield piece
        start = end.end()
    if rest := unit[start:].strip():
        yield rest


def _clauses(sentence: str, between: re.Pattern[str] = _AND) -> list[str]:
    pieces = [shorten(piece, 120) for piece in between.split(sentence)]
    return [piece for piece in pieces if content_stems(piece)]


def _distinct(found: Iterable[Part]) -> list[Part]:
    kept: dict[str, Part] = {}
    for part in found:
        if part.phrase:
            kept.setdefault(part.phrase.casefold(), part)
    return list(kept.values())
