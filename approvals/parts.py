"""What a page is made of: the matter to decide on, and the forms with what was filled in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote_plus, urlsplit

from .forms import WHOLE, Field, fields_of
from .outcomes import Outcome
from .requests import ApprovalRequest, Link
from .text import pretty, shortened

SHOWN = 100_000
"""So many characters of a subject are shown, unless all of it is asked for."""
EDITABLE = 56 * 1024
"""So many bytes a form may come to, as it is posted; the receiver reads a little more."""
_PARTS, _DEPTH = 1000, 6

FormName = Literal["decide", "edit", "respond"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A text as far as it is shown, and how many characters are not."""

    text: str
    more: int

    @classmethod
    def of(cls, subject: str, full: bool = False) -> Shown:
        """Return what is shown of a subject's JSON text."""
        text = pretty(subject)
        return cls(text, 0) if full else cls(*shortened(text, SHOWN))


@dataclass(frozen=True, slots=True)
class Attachment:
    """A link to look at; only one that is safe can be followed."""

    title: str
    url: str
    host: str
    safe: bool

    @classmethod
    def of(cls, link: Link) -> Attachment:
        """Return how a link is shown."""
        try:
            parts = urlsplit(link.url)
            host = parts.hostname or ""
        except ValueError:
            return cls(link.title, link.url, "", False)
        return cls(link.title, link.url, host, parts.scheme in ("http", "https") and bool(host))


@dataclass(frozen=True, slots=True)
class Matter:
    """What is to be decided.

    Attributes:
        shown: its text.
        data: it as data, if that is small enough to be laid out as a list.
        is_text: it is a text, not data.
    """

    request: ApprovalRequest
    shown: Shown
    data: Any
    is_text: bool
    links: tuple[Attachment, ...]

    @classmethod
    def of(cls, request: ApprovalRequest, full: bool) -> Matter:
        """Return how the matter of a request is shown."""
        shown = Shown.of(request.subject, full)
        is_text = request.subject.startswith('"')
        data = None if is_text or shown.more else _laid_out(request.subject)
        links = tuple(Attachment.of(each) for each in request.attachments)
        return cls(request, shown, data, is_text, links)


@dataclass(frozen=True, slots=True)
class Wrong:
    """An error, and the place of the page that it is about."""

    id: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """One form of a page: what it asks, what was filled in, what is wrong with that."""

    name: FormName
    fields: tuple[Field, ...] = ()
    filled: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    open: bool = False
    title: str = ""
    about: str = ""
    button: str = ""

    @property
    def comment(self) -> str:
        """The comment as it was filled in."""
        return self.filled.get("comment", "")

    @property
    def confirm(self) -> str:
        """The word as it was typed."""
        return self.filled.get("confirm", "")

    @property
    def too_long(self) -> bool:
        """Whether it cannot be posted."""
        return sum(len(quote_plus(self.value_of(each))) for each in self.fields) > EDITABLE

    @property
    def wrongs(self) -> list[Wrong]:
        """The errors, each with its place."""
        return [self._placed(name, text) for name, text in self.errors.items()]

    def error(self, name: str) -> str:
        """Return what is wrong with a field, or ""."""
        return self.errors.get(name, "")

    def value_of(self, field: Field) -> str:
        """Return what a field is filled in with."""
        return self.filled.get(field.posted, field.value)

    def id_of(self, field: Field) -> str:
        """Return the id of a field's element."""
        return f"{self.name}-{self.fields.index(field) + 1}"

    def _placed(self, name: str, text: str) -> Wrong:
        for each in self.fields:
            if each.name == name:
                return Wrong(self.id_of(each), each.label, text)
        if name in ("comment", "confirm"):
            label = "Comment" if name == "comment" else "The word to type"
            return Wrong(f"{self.name}-{name}", label, text)
        return Wrong("", "", text if name in ("", "decision") else f"{name}: {text}")


def sections_of(
    request: ApprovalRequest, outcome: Outcome | None, filled: Mapping[str, str]
) -> Iterator[Section]:
    """Return the forms of a request; that which was posted last is filled in as it was."""
    tried = filled.get("decision", "")
    errors = outcome.errors if outcome is not None and outcome.kind == "invalid" else {}

    def of(name: FormName, *words: str) -> Section:
        mine = tried == name or (name == "decide" and tried not in ("edit", "respond"))
        return Section(
            name,
            () if name == "decide" else fields_of(request, name),
            filled if mine else {},
            errors if mine else {},
            mine or set(request.allowed) == {name},
            *words,
        )

    if {"approve", "reject"} & set(request.allowed):
        yield of("decide")
    if "edit" in request.allowed:
        about = "What stands here is approved, in place of what was asked; both are kept."
        yield of("edit", "Change it, then approve", about, "Approve as changed")
    if "respond" in request.allowed:
        yield of("respond", "Give an answer", "The run goes on with your answer.", "Send answer")


def answer_section(outcome: Outcome | None, filled: Mapping[str, str]) -> Section:
    """Return the form of a named wait."""
    help = 'As JSON, such as {"ok": true} or "text".'
    asked = Field(WHOLE, "Answer", "json", required=True, help=help)
    errors = outcome.errors if outcome is not None and outcome.kind == "invalid" else {}
    return Section("respond", (asked,), filled, errors, filled.get("decision") == "respond")


def as_code(value: Any) -> str | None:
    """Return a single value as JSON, or None for a text that can be taken for nothing else."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return None if value.strip() == value != "" else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


def _laid_out(subject: str) -> Any:
    """Return a subject as data, or None if a list of it would be too long, too deep, or nothing."""
    try:
        data = json.loads(subject)
    except (ValueError, RecursionError):
        return None
    level, count = [data], 0
    for _ in range(_DEPTH):
        level = [inner for each in level for inner in _inside(each)]
        count += len(level)
        if not level or count > _PARTS:
            break
    return data if not level and count else None


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
