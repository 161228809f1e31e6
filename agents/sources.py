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

_TRACKING = re.compile(
    r"utm_\w*|[a-z]{0,5}clid|mc_[ce]id|igshid|_h(?:senc|smi)|ref_src|msclkid|yclid|_ga|_gl"
    r"|x-amz-[\w-]+|x-goog-[\w-]+|access_token|api_?key"
)
_PORTS = {"http": 80, "https": 443, "ftp": 21}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_PLACES = ("location", "url", "uri", "link", "href", "path", "file", "filename", "name", "source")
_TEXTS = ("text", "content", "body", "excerpt", "snippet", "summary")
_TITLES = ("title", "heading", "name")
_NUMBERS = ("n", "number", "citation", "index")


class Source(BaseModel):
    """Where something was found: a web address or a file, its title, and what was read there."""

    model_config = ConfigDict(frozen=True)

    location: str = ""
    title: str = ""
    text: str = ""


class SourceRef(BaseModel):
    """A source as a report lists it.

    Attributes:
        id: the number by which the report cites it.
        sha: the SHA-256 of what was read there, in hex; empty if nothing was kept.
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
        digest = _digest(text) if text else ""
        if not place and not text:
            raise UsageError("a source has a location or a text; this one has neither")
        shared = self._by_text.get(digest) if len(text) >= LEAST_SHARED or not place else None
        entry = self._by_place.get(place) if place else None
        entry = entry or shared or self._new()
        entry.take(place, source.title.strip(), text)
        if place:
            self._by_place.setdefault(place, entry)
        if digest:
            self._by_text.setdefault(digest, entry)
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
    places: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def take(self, place: str, title: str, text: str) -> None:
        shown = place.removeprefix("file:")
        if shown and shown not in self.places:
            self.places.append(shown)
        self.title = self.title or title
        if text and not any(text in held for held in self.texts):
            self.texts = [held for held in self.texts if held not in text] + [text]

    @property
    def text(self) -> str:
        return "\n\n[…]\n\n".join(self.texts)

    def ref(self) -> SourceRef:
        location = self.places[0] if self.places else ""
        return SourceRef(
            id=self.id,
            title=self.title or location or f"Source {self.id}",
            location=location,
            sha=_digest(self.text) if self.text else "",
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
    sources = [
        Source(location=refs[id].location, title=refs[id].title, text=texts[id]) for id in kept
    ]
    return text, sources


def _tracks(parameter: str) -> bool:
    name = parameter.partition("=")[0].lower()
    return not name or _TRACKING.fullmatch(name) is not None


def _digest(text: str) -> str:
    plain = " ".join(text.split())
    return sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


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
