"""The sources of a report: one number for each, whoever found it and however it was written.

Two sources are one if their locations come to the same canonical form, or if they have the same
text of some length at different places. Numbers run from 1 in the order in which they are added,
so the same findings get the same numbers at every replay.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict

from perdure.durable.errors import UsageError

from .citations import cited, renumbered

LEAST_SHARED = 80
"""From how many characters on two places with the same text are one source."""
MOST_KEPT = 4000
"""How many characters of what a tool returned go with a finding; the tool's own record has all."""

_TRACKING = re.compile(
    r"utm_\w*|[a-z]{0,5}clid|mc_[ce]id|igshid|_h(?:senc|smi)|ref_src|msclkid|yclid|_ga|_gl"
    r"|x-amz-[\w-]+|x-goog-[\w-]+|access_token|api_?key"
)
_GAP = "\n\n[…]\n\n"
_PORTS = {"http": 80, "https": 443, "ftp": 21}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_PLACES = ("location", "url", "uri", "link", "href", "path", "file", "filename", "name", "source")
_TEXTS = ("text", "content", "body", "excerpt", "snippet", "summary")
_TITLES = ("title", "heading", "name")
_NUMBERS = ("n", "number", "citation", "index")


class Source(BaseModel):
    """Where something was found: a web address or a file, its title, and what was read there.

    Attributes:
        text: what was read, or the parts of it that matter.
        sha: of all that was read, if that is more than the text: its `digest`.
    """

    model_config = ConfigDict(frozen=True)

    location: str = ""
    title: str = ""
    text: str = ""
    sha: str = ""


class SourceRef(BaseModel):
    """A source as a report lists it.

    Attributes:
        id: the number by which the report cites it.
        sha: the `digest` of what was read there first; empty if nothing was.
        also: further places that have the same text.
    """

    model_config = ConfigDict(frozen=True)

    id: int
    title: str
    location: str
    sha: str = ""
    also: list[str] = []


def canonical(location: str) -> str:
    """Return the one form of a location that stands for all its spellings.

    Of a web address: scheme and host in lower case; without user, default port, fragment, trailing
    slash, and the parameters that only track or sign. A path is `file:` and its shortest form; no
    file is looked at.
    """
    location = location.strip()
    if not _SCHEME.match(location):
        return f"file:{posixpath.normpath(location)}" if location else ""
    try:
        parts = urlsplit(location)
        port = parts.port
    except ValueError:
        return location
    scheme = parts.scheme.lower()
    if scheme == "file":
        return f"file:{posixpath.normpath(unquote(parts.path))}"
    if not parts.netloc:
        return f"{scheme}:{location[len(scheme) + 1 :]}"
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS.get(scheme):
        host = f"{host}:{port}"
    query = "&".join(each for each in parts.query.split("&") if not _tracks(each))
    return urlunsplit((scheme, host, parts.path.rstrip("/"), query, ""))


class Registry:
    """Numbers sources from 1 on, each once."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._by_place: dict[str, _Entry] = {}
        self._by_text: dict[str, _Entry] = {}

    def add(self, source: Source) -> int:
        """Return the number of a source, a new one if it is not known yet.

        Raises:
            UsageError: it has neither a location nor a text to know it by.
        """
        place, text = canonical(source.location), source.text.strip()
        sha = source.sha or (digest(text) if text else "")
        if not place and not text:
            raise UsageError("a source has a location or a text; this one has neither")
        telling = bool(source.sha) or len(text) >= LEAST_SHARED or not place
        shared = self._by_text.get(sha) if telling else None
        entry = self._by_place.get(place) if place else None
        entry = entry or shared or self._new()
        entry.take(place, source.title.strip(), text, sha)
        if place:
            self._by_place.setdefault(place, entry)
        if sha:
            self._by_text.setdefault(sha, entry)
        return entry.id

    def refs(self) -> list[SourceRef]:
        """Return all sources, in the order of their numbers."""
        return [entry.ref() for entry in self._entries]

    def texts(self) -> dict[int, str]:
        """Return what was read of each source, by number; its title where that is nothing."""
        return {entry.id: entry.text or entry.title for entry in self._entries}

    def _new(self) -> _Entry:
        self._entries.append(_Entry(len(self._entries) + 1))
        return self._entries[-1]


@dataclass(slots=True)
class _Entry:
    """A source while it is gathered; `texts` are the different parts of it that were read."""

    id: int
    title: str = ""
    sha: str = ""
    places: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def take(self, place: str, title: str, text: str, sha: str) -> None:
        shown = place.removeprefix("file:")
        if shown and shown not in self.places:
            self.places.append(shown)
        self.title = self.title or title
        self.sha = self.sha or sha
        if text and not any(text in held for held in self.texts):
            self.texts = [held for held in self.texts if held not in text] + [text]

    @property
    def text(self) -> str:
        return _GAP.join(self.texts)

    def ref(self) -> SourceRef:
        location = self.places[0] if self.places else ""
        return SourceRef(
            id=self.id,
            title=self.title or location or f"Source {self.id}",
            location=location,
            sha=self.sha,
            also=self.places[1:],
        )


def sources_in(results: Iterable[Any]) -> list[tuple[int | None, Source]]:
    """Return the sources that results of tools name, each with the number that it states.

    A source is an object, at any depth of the JSON, with a location (`url`, `path`, `name`, …) and
    a text (`text`, `content`, `excerpt`, …), maybe a `title`, and a number as `n`.
    """
    return [each for result in results for each in _named(_value(result))]


def attributed(text: str, found: Iterable[tuple[int | None, Source]]) -> tuple[str, list[Source]]:
    """Return a text and its sources such that `[n]` is the n-th of them.

    Sources of one place become one. If the text cites any, the others are left out. A number that
    no source stated, or that two of them did, becomes `[?]`.
    """
    registry = Registry()
    numbers: dict[int, set[int]] = {}
    for number, source in found:
        id = registry.add(source)
        if number is not None:
            numbers.setdefault(number, set()).add(id)
    ids = {number: min(found) for number, found in numbers.items() if len(found) == 1}
    used = dict.fromkeys(ids[each] for each in cited(text) if each in ids)
    kept = list(used) or [ref.id for ref in registry.refs()]
    places = {id: at for at, id in enumerate(kept, 1)}
    text, _ = renumbered(text, {each: places[id] for each, id in ids.items() if id in places})
    refs, texts = {ref.id: ref for ref in registry.refs()}, registry.texts()
    return text, [_source(refs[id], texts[id], text) for id in kept]


def excerpt(text: str, about: str, most: int) -> str:
    """Return a text, or those of its paragraphs that share most words with another, in order.

    What is left out is marked; beside the marks there are `most` characters at most.
    """
    if len(text) <= most:
        return text
    wanted = set(_words(about))
    paragraphs = [each for each in re.split(r"\n\s*\n", text) if each.strip()]
    shared = [len(wanted & set(_words(each))) for each in paragraphs]
    ranked = sorted(range(len(paragraphs)), key=lambda at: (-shared[at], at))
    kept: list[int] = []
    left = most
    for at in ranked:
        if len(paragraphs[at]) <= left and (shared[at] or not any(shared)):
            kept.append(at)
            left -= len(paragraphs[at]) + len(_GAP)
    if not kept:
        return f"{paragraphs[ranked[0]][:most]}{_GAP.rstrip()}" if ranked else ""
    runs = ["\n\n".join(paragraphs[at] for at in run) for run in _runs(sorted(kept))]
    last = _GAP.rstrip() if max(kept) + 1 < len(paragraphs) else ""
    return ("" if min(kept) == 0 else _GAP.lstrip()) + _GAP.join(runs) + last


def digest(text: str) -> str:
    """Return the SHA-256 of a text in hex, all white space read as one space."""
    plain = " ".join(text.split())
    return sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def _source(ref: SourceRef, whole: str, about: str) -> Source:
    kept = excerpt(whole, about, MOST_KEPT)
    sha = "" if kept == whole else digest(whole)
    return Source(location=ref.location, title=ref.title, text=kept, sha=sha)


def _tracks(parameter: str) -> bool:
    name = parameter.partition("=")[0].lower()
    return not name or _TRACKING.fullmatch(name) is not None


def _words(text: str) -> list[str]:
    return re.findall(r"\w{4,}", text.casefold())


def _runs(numbers: list[int]) -> list[list[int]]:
    """Return numbers in order, divided where one is left out."""
    runs: list[list[int]] = []
    for each in numbers:
        if runs and each == runs[-1][-1] + 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    return runs


def _value(result: Any) -> Any:
    if not isinstance(result, str) or result.lstrip()[:1] not in ("{", "["):
        return result
    try:
        return json.loads(result)
    except (ValueError, RecursionError):
        return None


def _named(value: Any) -> Iterator[tuple[int | None, Source]]:
    if isinstance(value, Mapping):
        place, text = _first(value, _PLACES), _first(value, _TEXTS)
        if place and text:
            number = next((value[key] for key in _NUMBERS if type(value.get(key)) is int), None)
            title = _first(value, _TITLES)
            yield number, Source(location=place, title=title, text=text)
            return
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _named(each)


def _first(value: Mapping[Any, Any], keys: Iterable[str]) -> str:
    found = (value[key] for key in keys if isinstance(value.get(key), str) and value[key].strip())
    return str(next(found, ""))
