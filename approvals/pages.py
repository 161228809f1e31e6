"""The pages on which a person looks and decides: plain HTML, without a script, for any screen.

Every text that comes from outside is escaped, has nothing hidden in it, and never stands where a
status stands. Nothing is decided by Enter: a form's first button is one that does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote_plus, urlsplit

from . import wording
from .callbacks import OpenWait, Page, Standing
from .forms import WHOLE, Field, fields_of
from .people import Principal
from .requests import ApprovalRequest, Link, canonical
from .text import in_utc, pretty, shortened, visible

if TYPE_CHECKING:
    from jinja2 import Environment

    from .voting import Outcome

SHOWN = 100_000
"""So many characters of a subject are shown, unless all of it is asked for."""
EDITABLE = 56 * 1024
"""So many bytes a form may come to, as it is posted; the receiver reads a little more."""
_INBOX, _LOGOUT = "../../inbox", "../../logout"
_CLOSED = ("recorded", "again", "already", "expired", "withdrawn")


def review(
    standing: Standing,
    *,
    nonce: str,
    post_to: str,
    to: str,
    csrf: str | None = None,
    outcome: Outcome | None = None,
    filled: Mapping[str, str] | None = None,
    once_more: bool = False,
    full: bool = False,
) -> bytes:
    """Return the page of an open request, with its form.

    Args:
        nonce: for the style, as the response's policy names it.
        post_to: where the form goes.
        to: who looks.
        csrf: of a session; None where the address itself is the proof.
        outcome: why the last try was not recorded.
        filled: the form as it was posted, to be shown again.
        once_more: it was posted by a program; ask for a press of the button.
        full: show all of the subject, however long.
    """
    sections = tuple(_sections(standing.request, outcome, filled or {}))
    return _page(
        "review.html",
        nonce,
        standing=standing,
        matter=_matter(standing.request, full),
        sections=sections,
        wrongs=[each for section in sections for each in section.wrongs],
        post_to=post_to,
        to=to,
        csrf=csrf,
        outcome=outcome,
        once_more=once_more,
        back=_INBOX if csrf else None,
        out=_LOGOUT,
    )


def result(
    standing: Standing | None,
    outcome: Outcome,
    *,
    nonce: str,
    to: str,
    signed_in: bool = False,
    full: bool = False,
) -> bytes:
    """Return the page that says what is recorded: after deciding, or when there is no more to."""
    decision = outcome.decision
    value = None if decision is None or decision.value is None else canonical(decision.value)
    return _page(
        "result.html",
        nonce,
        standing=standing,
        outcome=outcome,
        heading=_heading(outcome),
        tone=_tone(outcome),
        matter=_matter(standing.request, full) if standing else None,
        value=None if value is None else _Shown(*shortened(pretty(value), SHOWN)),
        to=to,
        back=_INBOX if signed_in else None,
    )


def wait(
    entry: OpenWait,
    *,
    nonce: str,
    post_to: str,
    to: str,
    csrf: str | None = None,
    outcome: Outcome | None = None,
    filled: Mapping[str, str] | None = None,
    once_more: bool = False,
) -> bytes:
    """Return the page of a named wait: a yes, a no, or JSON to send to it."""
    filled = filled or {}
    asked = Field(
        WHOLE, "Answer", "json", required=True, help='JSON, such as {"ok": true} or "text"'
    )
    errors = outcome.errors if outcome and outcome.kind == "invalid" else {}
    section = _Section(
        "respond", (asked,), filled, errors, open=filled.get("decision") == "respond"
    )
    return _page(
        "wait.html",
        nonce,
        entry=entry,
        section=section,
        wrongs=section.wrongs,
        closed=outcome is not None and outcome.kind in _CLOSED,
        heading=_heading(outcome, "Sent: the run goes on") if outcome else "",
        tone=_tone(outcome) if outcome else "",
        outcome=outcome,
        once_more=once_more,
        post_to=post_to,
        to=to,
        csrf=csrf,
        back=_INBOX if csrf else None,
        out=_LOGOUT,
    )


def inbox(page: Page, *, nonce: str, to: str, csrf: str | None = None) -> bytes:
    """Return the list of what waits."""
    rows = [_row(each) for each in page.entries]
    return _page("inbox.html", nonce, page=page, rows=rows, to=to, csrf=csrf)


def login(*, nonce: str, post_to: str, user: str) -> bytes:
    """Return the page whose button signs a person in; looking at it does not."""
    text = f"You will look and decide as {user}, in this browser, for 12 hours."
    return _notice(nonce, "Sign in", text, post_to=post_to)


def signed_out(*, nonce: str) -> bytes:
    """Return the page after signing out."""
    return _notice(nonce, "Signed out", "To sign in again, run this:", "perdure login")


def message(status: int, *, nonce: str) -> bytes:
    """Return a page for a status that has no page of its own."""
    heading, text, *command = _MESSAGES.get(status, _MESSAGES[500])
    return _notice(nonce, heading, text, *command)


_MESSAGES: Mapping[int, tuple[str, ...]] = {
    400: ("Not understood", "Nothing is recorded: the form was incomplete. Open the page again."),
    401: (
        "Sign in first",
        "This page is for people with an account on this machine. Run this, and open the address "
        "that it prints:",
        "perdure login",
    ),
    403: (
        "Not accepted",
        "Nothing is recorded: the form came from another page. Open the request, and press the "
        "button there.",
    ),
    404: (
        "Nothing here",
        "There is no request at this address. If you came by a link, it may have been cut off, or "
        "it is not valid any more.",
    ),
    405: ("Not possible here", "Nothing is recorded: this address is only for looking."),
    410: ("No longer open", "Nothing is recorded: this request is closed."),
    413: ("Too long", "Nothing is recorded: what was sent is longer than is read here."),
    500: ("Something went wrong", "Nothing is known to be recorded. Try again in a moment."),
    503: (
        "Out of reach",
        "Nothing is known to be recorded: the runs cannot be reached just now. Trying again in a "
        "moment is safe.",
    ),
}


@dataclass(frozen=True, slots=True)
class _Shown:
    """A text as far as it is shown, and how many characters are not."""

    text: str
    more: int


@dataclass(frozen=True, slots=True)
class _Attachment:
    title: str
    url: str
    host: str
    safe: bool


@dataclass(frozen=True, slots=True)
class _Matter:
    """What is to be decided."""

    request: ApprovalRequest
    text: str
    more: int
    is_text: bool
    preview: str | None
    links: tuple[_Attachment, ...]


@dataclass(frozen=True, slots=True)
class _Wrong:
    id: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class _Section:
    """One form of a page: what it asks, what was filled in, what is wrong with that."""

    name: Literal["decide", "edit", "respond"]
    fields: tuple[Field, ...] = ()
    filled: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    open: bool = False
    title: str = ""
    about: str = ""
    button: str = ""

    @property
    def comment(self) -> str:
        return self.filled.get("comment", "")

    @property
    def confirm(self) -> str:
        return self.filled.get("confirm", "")

    @property
    def too_long(self) -> bool:
        if self.filled:
            return False
        return sum(len(quote_plus(each.value)) for each in self.fields) > EDITABLE

    @property
    def wrongs(self) -> list[_Wrong]:
        return [self._wrong(name, text) for name, text in self.errors.items()]

    def error(self, name: str) -> str:
        alone = len(self.fields) == 1 and self.fields[0].posted == WHOLE and name == WHOLE
        return self.errors.get(name) or (self.errors.get("", "") if alone else "")

    def value_of(self, field: Field) -> str:
        return self.filled.get(field.posted, field.value)

    def id_of(self, field: Field) -> str:
        return f"{self.name}-{self.fields.index(field) + 1}"

    def _wrong(self, name: str, text: str) -> _Wrong:
        if name in ("comment", "confirm") and all(each.name != name for each in self.fields):
            label = "Comment" if name == "comment" else "The word to type"
            return _Wrong(f"{self.name}-{name}", label, text)
        for each in self.fields:
            if name == each.name or (name == "" and each.posted == WHOLE):
                return _Wrong(self.id_of(each), each.label, text)
        return _Wrong("", "", f"{name}: {text}" if name else text)


def _sections(
    request: ApprovalRequest, outcome: Outcome | None, filled: Mapping[str, str]
) -> Iterator[_Section]:
    tried = filled.get("decision", "")
    errors = outcome.errors if outcome is not None and outcome.kind == "invalid" else {}

    def of(name: Literal["decide", "edit", "respond"], *words: str) -> _Section:
        mine = tried == name or (name == "decide" and tried not in ("edit", "respond"))
        return _Section(
            name,
            () if name == "decide" else fields_of(request, name),
            filled if mine else {},
            errors if mine else {},
            mine,
            *words,
        )

    if {"approve", "reject"} & set(request.allowed):
        yield of("decide")
    if "edit" in request.allowed:
        about = "What stands here is approved, in place of what was asked; both are kept."
        yield of("edit", "Change it, then approve", about, "Approve as changed")
    if "respond" in request.allowed:
        yield of("respond", "Answer in words", "The run goes on with your answer.", "Send answer")


def _matter(request: ApprovalRequest, full: bool) -> _Matter:
    whole = pretty(request.subject)
    text, more = (whole, 0) if full else shortened(whole, SHOWN)
    links = tuple(_attachment(each) for each in request.attachments)
    is_text = request.subject.startswith('"')
    return _Matter(request, text, more, is_text, request.preview, links)


def _attachment(link: Link) -> _Attachment:
    try:
        parts = urlsplit(link.url)
        host = parts.hostname or ""
    except ValueError:
        return _Attachment(link.title, link.url, "", False)
    return _Attachment(link.title, link.url, host, parts.scheme in ("http", "https") and bool(host))


def _row(entry: Standing | OpenWait) -> dict[str, Any]:
    if isinstance(entry, OpenWait):
        return {
            "href": f"inbox/{entry.execution}/{entry.operation}",
            "title": entry.path,
            "handler": entry.handler,
            "run": entry.execution,
            "asked": entry.created,
            "due": entry.due,
            "request": None,
            "votes": "waits for an answer",
        }
    request = entry.request
    waiting = [each.approver for each in entry.ballots if each.open and each.approver]
    votes = wording.votes_so_far(entry) or "waits for a decision"
    return {
        "href": f"inbox/{request.execution}/{request.operation}",
        "title": request.title,
        "handler": entry.handler,
        "run": request.execution,
        "asked": request.asked,
        "due": request.deadline,
        "request": request,
        "votes": f"{votes}; waits for {', '.join(waiting)}" if waiting else votes,
    }


def _heading(outcome: Outcome, recorded: str = "") -> str:
    decision = outcome.decision
    done = recorded or f"Recorded: {wording.DONE[decision.kind] if decision else 'done'}"
    return {
        "recorded": "Your vote is recorded" if outcome.quorum else done,
        "again": "Your vote was recorded before" if outcome.quorum else "Recorded before",
        "already": "Already decided",
        "expired": "Too late: time was up",
        "withdrawn": "No longer asked",
        "refused": "Not recorded",
        "invalid": "Nothing is recorded",
        "unavailable": "Not recorded, as far as is known",
        "unknown": "Nothing here",
    }[outcome.kind]


def _tone(outcome: Outcome) -> str:
    tones = {"recorded": "good", "again": "good"}
    return tones.get(outcome.kind, "note" if outcome.kind in _CLOSED else "bad")


def _proof(by: Principal) -> str:
    return {
        "slack": "as Slack says",
        "link": "by having the personal link",
        "session": "signed in on this machine",
        "cli": "by the account on the machine",
        "policy": "",
    }[by.assurance]


def _notice(
    nonce: str, heading: str, text: str, command: str = "", post_to: str | None = None
) -> bytes:
    return _page("notice.html", nonce, heading=heading, text=text, command=command, post_to=post_to)


def _page(template: str, nonce: str, **context: Any) -> bytes:
    text = _environment().get_template(template).render(nonce=nonce, **context)
    return text.encode("utf-8", "backslashreplace")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    def shown(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        # What a form sends back has to be what it was filled in with, to the character.
        "raw": escape,
        "utc": in_utc,
        "iso": _iso,
        "needed": wording.needed,
        "known_as": wording.known_as,
        "unless_decided": wording.unless_decided,
        "votes_so_far": wording.votes_so_far,
        "ballot_words": wording.ballot_words,
        "decided": wording.decided,
        "proof": _proof,
    }
    return environment


def _iso(at: datetime) -> str:
    utc = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    return utc.isoformat(timespec="seconds")
