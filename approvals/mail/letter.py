"""What a mail says, as clean text: who asks, for what, until when; or what came of it.

Words of the run stand apart from ours, and hold no character that hides or moves others. Escaping
for HTML is done by the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from ..channels import Notice
from ..decisions import Decision
from ..people import Principal
from ..requests import ApprovalRequest
from ..text import in_utc, pretty, shortened, visible
from ..wording import needed, unless_decided

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN = 20_000
"""So many characters of what is to be approved stand in a mail; the page shows the rest."""
_TEMPLATES = Path(__file__).parent / "templates"
_VERBS = {
    "approved": "Approved by",
    "rejected": "Rejected by",
    "edited": "Approved with changes by",
    "responded": "Answered by",
}
_HELD = {
    "reject": "It counts as rejected.",
    "approve": "It counts as approved.",
    "value": "The run goes on with a default value.",
    None: "The run fails.",
}
_CHANNELS = {
    "slack": "on Slack",
    "email": "by email",
    "web": "on the web",
    "terminal": "in a terminal",
}


@dataclass(frozen=True, slots=True)
class Attachment:
    """Something to look at before deciding."""

    title: str
    url: str

    @property
    def host(self) -> str | None:
        """The host of an address of the web, shown beside its title; None for any other address."""
        parts = urlsplit(self.url)
        return parts.hostname if parts.scheme in ("http", "https") else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request.

    Attributes:
        tone: how it is coloured.
        votes: of a quorum, a line each.
    """

    headline: str
    tone: Literal["good", "bad", "plain"]
    when: str | None
    comment: str | None
    changed: str | None
    votes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail in words.

    Attributes:
        kicker: what this mail is, in a few words.
        asker: who asks.
        you: the address it goes to.
        link: the page of this one approver; None when there is nothing left to decide.
        shown: what is to be approved, or its preview; `more` characters are not in it.
        code: whether it is JSON.
    """

    kicker: str
    title: str
    asker: str
    run: str
    you: str
    actions: str
    deadline: str
    lapse: str
    needed: str | None
    fingerprint: str
    link: str | None
    shown: str
    code: bool
    preview: bool
    more: int
    attachments: tuple[Attachment, ...]
    outcome: Outcome | None


def letter(notice: Notice, address: str) -> Letter:
    """Return what a mail to this address says."""
    request = notice.request
    asked = request.preview if request.preview is not None else pretty(request.subject)
    shown, more = shortened(asked, SHOWN)
    lapse = unless_decided(request)
    closed = notice.kind == "closed"
    return Letter(
        kicker=_kicker(notice),
        title=one_line(request.title),
        asker=_joined([one_line(each) for each in request.policy.requested_by[:1]]) or "A run",
        run=one_line(request.run),
        you=address,
        actions=_joined(request.allowed),
        deadline=in_utc(request.deadline),
        lapse=f"If nobody decides, {lapse[:1].lower()}{lapse[1:]}.",
        needed=_needed(request),
        fingerprint=request.fingerprint,
        link=None if closed else notice.link(),
        shown=visible(shown),
        code=request.preview is None and not request.subject.startswith('"'),
        preview=request.preview is not None,
        more=more,
        attachments=tuple(
            Attachment(one_line(a.title), one_line(a.url)) for a in request.attachments
        ),
        outcome=_outcome(notice.decision) if closed else None,
    )


def rendered(letter: Letter, kind: Literal["html", "txt"]) -> str:
    """Return the body of a mail."""
    template = "closed" if letter.outcome is not None else "request"
    return _environment().get_template(f"{template}.{kind}").render(letter=letter)


def one_line(text: str) -> str:
    """Return words of others as one line of clean text."""
    return " ".join(visible(text).split())


def _kicker(notice: Notice) -> str:
    if notice.kind == "reminder":
        return f"Reminder {notice.number or 1}, approval needed"
    return "Approval needed" if notice.kind == "request" else "Nothing left to decide"


def _needed(request: ApprovalRequest) -> str | None:
    everyone = request.policy.everyone
    if len(everyone) == 1:
        return None
    return (
        f"{needed(request.policy)} ({_joined([one_line(each.name) for each in everyone], 'and')})"
    )


def _outcome(decision: Decision | None) -> Outcome:
    if decision is None or decision.kind == "withdrawn":
        comment = decision.comment if decision is not None else None
        return Outcome(
            "Withdrawn: no answer is wanted any more", "plain", None, _clean(comment), None, ()
        )
    if decision.kind == "expired":
        told = f"Nobody decided in time. {_HELD[decision.default]}"
        return Outcome(told, "plain", in_utc(decision.at), None, None, _votes(decision))
    return Outcome(
        headline=f"{_VERBS[decision.kind]} {_deciders(decision)}",
        tone="bad" if decision.kind == "rejected" else "good",
        when=_when(decision),
        comment=_clean(decision.comment),
        changed=decision.value_digest[:8] if decision.value_digest else None,
        votes=_votes(decision),
    )


def _votes(decision: Decision) -> tuple[str, ...]:
    return tuple(
        f"{_VERBS[each.kind]} {_name(each.by)}, {_when(each)}"
        for each in decision.votes
        if each.kind in _VERBS
    )


def _deciders(decision: Decision) -> str:
    """Return who decided; of a quorum that approved, all who did."""
    same = [each for each in decision.votes if each.approved] if decision.approved else []
    return _joined([_name(each.by) for each in same or [decision]], "and")


def _name(principal: Principal) -> str:
    """Return a name that somebody gave themselves beside the identity that was proven."""
    shown, identity = one_line(principal.shown), one_line(principal.identity)
    return shown if shown == identity else f"{shown} ({identity})"


def _when(decision: Decision) -> str:
    channel = _CHANNELS.get(decision.channel, f"by {one_line(decision.channel)}")
    return f"{in_utc(decision.at)}, {channel}"


def _clean(text: str | None) -> str | None:
    return visible(text) if text else None


def _joined(words: Sequence[str], last: str = "or") -> str:
    *first, end = words or [""]
    return f"{', '.join(first)} {last} {end}" if first else end


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=lambda name: name is None or name.endswith(".html"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marked"] = _marked
    return environment


def _marked(text: str) -> str:
    """Return words of the run with a mark before each line, so that none passes for ours."""
    return "\n".join(f"| {line}" for line in text.split("\n"))
