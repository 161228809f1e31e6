"""The pages on which a person looks and decides: plain HTML, without a script, for any screen.

Every text that comes from outside is escaped, has nothing hidden in it, and never stands where a
status stands. Nothing is decided by Enter: a form's first button is one that does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import wording
from .callbacks import OpenWait, Page, Standing
from .outcomes import Outcome
from .parts import Matter, Shown, answer_section, as_code, sections_of
from .people import Principal
from .requests import canonical
from .text import in_utc, visible

if TYPE_CHECKING:
    from jinja2 import Environment

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
    sections = tuple(sections_of(standing.request, outcome, filled or {}))
    return _page(
        "review.html",
        nonce,
        standing=standing,
        matter=Matter.of(standing.request, full),
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
        matter=Matter.of(standing.request, full) if standing else None,
        value=None if value is None else Shown.of(value),
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
    section = answer_section(outcome, filled or {})
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
    name = user.removeprefix("user:")
    text = f"You will look and decide as {name}, in this browser, for 12 hours."
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
            "waiting": [],
        }
    request = entry.request
    waiting = [each.approver for each in entry.ballots if each.open and each.approver]
    votes = wording.votes_so_far(entry) or "waits for a decision"
    return {
        "href": f"inbox/{request.execution}/{request.operation}",
        "title": request.title,
        "handler": entry.handler,
        "run": request.run,
        "asked": request.asked,
        "due": request.deadline,
        "request": request,
        "votes": votes,
        "waiting": waiting,
    }


def _heading(outcome: Outcome, recorded: str = "") -> str:
    decision = outcome.decision
    done = recorded or (wording.DONE[decision.kind].capitalize() if decision else "Recorded")
    return {
        "recorded": "Your vote is recorded" if outcome.quorum else done,
        "again": "Your vote was recorded before" if outcome.quorum else "Recorded before",
        "already": "Already decided",
        "expired": "Too late: time was up",
        "withdrawn": "No longer asked",
        "refused": "You may not decide this",
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
        "brief": lambda at: in_utc(at).removesuffix(" UTC (+00:00)"),
        "iso": _iso,
        "needed": wording.needed,
        "known_as": wording.known_as,
        "unless_decided": wording.unless_decided,
        "votes_so_far": wording.votes_so_far,
        "ballot_words": wording.ballot_words,
        "decided": wording.decided,
        "proof": _proof,
        "as_code": as_code,
        "account": lambda identity: identity.removeprefix("user:"),
    }
    return environment


def _iso(at: datetime) -> str:
    utc = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    return utc.isoformat(timespec="seconds")
