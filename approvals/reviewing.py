"""One request, or one named wait, on a page: shown to whoever looks, decided by whoever posts.

What is said after a decision is what `voting` found recorded. Anything short of a person's own,
complete answer shows the form again, filled in as it was, and records nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .callbacks import Callbacks, OpenWait, Standing
from .errors import Unavailable
from .http import BadForm, Request, Response, form_of, new_nonce, page, plain, sender_of
from .office import Office
from .people import Principal
from .requests import ACTIONS, Action
from .sessions import Session, form_token, is_form
from .tokens import Claims
from .voting import Outcome, answer, cast, outlook

_log = logging.getLogger("perdure.approvals")
_STATUS = {
    "recorded": 200,
    "again": 200,
    "already": 200,
    "expired": 410,
    "withdrawn": 410,
    "refused": 403,
    "invalid": 400,
    "unavailable": 503,
    "unknown": 404,
}
_UNREAD = Outcome("invalid", errors={"": "the form could not be read; please fill it in again"})
_UNDECIDED = Outcome("invalid", errors={"decision": "choose one of the buttons"})
_STALE = Outcome("invalid", errors={"": "this page is too old; please look at it and decide again"})


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who looks, and where their form goes.

    Attributes:
        approver: the approver in whose place they decide.
        path: of the page.
        session: of somebody who is signed in; None for the holder of a link.
        about: what tells what they were shown from what may stand at the same path later.
    """

    by: Principal
    approver: str
    channel: str
    path: str
    session: Session | None = None
    about: str = ""

    @property
    def target(self) -> str:
        """What their form is good for."""
        return f"{self.path} {self.about}".rstrip()

    def csrf(self, office: Office) -> str | None:
        """Return what the form has to carry."""
        return None if self.session is None else form_token(office, self.session, self.target)

    def made(self, office: Office, form: Mapping[str, str]) -> bool:
        """Return whether a form is one of theirs."""
        given = form.get("csrf", "")
        return self.session is None or is_form(office, self.session, self.target, given)


class Review:
    """A request on its page.

    Args:
        claims: of the link, or of the session; None if this person has no say.
    """

    def __init__(
        self,
        office: Office,
        callbacks: Callbacks,
        standing: Standing,
        claims: Claims | None,
        reviewer: Reviewer,
    ) -> None:
        self._office = office
        self._callbacks = callbacks
        self._standing = standing
        self._claims = claims
        self._reviewer = reviewer

    def answer(self, request: Request) -> Response:
        """Show the page, or take what was posted."""
        claims = self._claims
        looks, full = request.method != "POST", request.query == "full=1"
        if claims is None:
            refused = Outcome("refused", errors={"": _others(self._standing)})
            return self._result(refused, 200 if looks else 403, full=full)
        if looks:
            return self._form(claims, 200, full=full)
        if sender_of(request, self._office.base_url) == "foreign":
            return message(403)
        try:
            form = form_of(request)
        except BadForm:
            return self._form(claims, 400, _UNREAD)
        if not self._reviewer.made(self._office, form):
            return self._form(claims, 403, _STALE, form)
        if sender_of(request, self._office.base_url) == "script":
            return self._form(claims, 200, filled=form, once_more=True)
        action = next((each for each in ACTIONS if each == form.get("decision")), None)
        if action is None:
            return self._form(claims, 400, _UNDECIDED, form)
        return self._told(claims, self._cast(claims, action, form), form)

    def _cast(self, claims: Claims, action: Action, form: Mapping[str, str]) -> Outcome:
        value: Any = None
        if action in ("edit", "respond") and action in claims.allowed:
            from .forms import value_of

            value, errors = value_of(self._standing.request, action, form)
            if errors:
                return self._outlook(claims) or Outcome("invalid", errors=errors)
        return cast(
            self._office,
            self._callbacks,
            claims,
            action=action,
            by=self._reviewer.by,
            approver=self._reviewer.approver,
            channel=self._reviewer.channel,
            comment=form.get("comment", "").replace("\r\n", "\n").strip() or None,
            value=value,
            confirm=form.get("confirm"),
        )

    def _told(self, claims: Claims, outcome: Outcome, form: Mapping[str, str]) -> Response:
        """Tell what became of a vote, in plain words if the page cannot be drawn."""
        try:
            if outcome.kind in ("invalid", "unavailable"):
                return self._form(claims, _STATUS[outcome.kind], outcome, form)
            self._standing = self._fresh()
            return self._result(outcome)
        except Exception as error:
            _log.error("a page could not be drawn: %s", type(error).__name__)
            return plain(_STATUS[outcome.kind], f"{outcome.text}.\n")

    def _outlook(self, claims: Claims) -> Outcome | None:
        who = self._reviewer
        return outlook(self._office, self._standing, claims, who.by, who.approver)

    def _fresh(self) -> Standing:
        request = self._standing.request
        try:
            found = self._callbacks.lookup(request.execution, request.operation)
        except Unavailable:
            return self._standing
        return found if isinstance(found, Standing) else self._standing

    def _form(
        self,
        claims: Claims,
        status: int,
        outcome: Outcome | None = None,
        filled: Mapping[str, str] | None = None,
        *,
        once_more: bool = False,
        full: bool = False,
    ) -> Response:
        """Show the form; or, if nothing can be decided any more, why."""
        from . import pages

        closed = self._outlook(claims)
        if closed is not None:
            looked = status == 200 and closed.kind == "refused"
            return self._result(closed, 200 if looked else None, full=full)
        nonce = new_nonce()
        body = pages.review(
            self._standing,
            nonce=nonce,
            post_to=self._reviewer.path,
            to=self._reviewer.by.shown,
            csrf=self._reviewer.csrf(self._office),
            outcome=outcome,
            filled=filled or {},
            once_more=once_more,
            full=full,
        )
        return page(status, body, nonce)

    def _result(
        self, outcome: Outcome, status: int | None = None, *, full: bool = False
    ) -> Response:
        from . import pages

        if outcome.kind == "unknown":
            return message(404)
        nonce = new_nonce()
        body = pages.result(
            self._standing,
            outcome,
            nonce=nonce,
            to=self._reviewer.by.shown,
            signed_in=self._reviewer.session is not None,
            full=full,
        )
        return page(status or _STATUS[outcome.kind], body, nonce)


class WaitReview:
    """A named wait on its page; None for one that is not open."""

    def __init__(
        self, office: Office, callbacks: Callbacks, entry: OpenWait | None, reviewer: Reviewer
    ) -> None:
        self._office = office
        self._callbacks = callbacks
        self._entry = entry
        self._reviewer = reviewer

    def answer(self, request: Request) -> Response:
        """Show the page, or take what was posted."""
        if request.method != "POST":
            return self._page(None)
        if sender_of(request, self._office.base_url) == "foreign":
            return message(403)
        try:
            form = form_of(request)
        except BadForm:
            return self._page(_UNREAD)
        if not self._reviewer.made(self._office, form):
            return self._page(_STALE, 403)
        if self._entry is None:
            return self._page(Outcome("already"))  # the form was made while it was open
        if sender_of(request, self._office.base_url) == "script":
            return self._page(None, filled=form, once_more=True)
        read = _ANSWERS.get(form.get("decision", ""))
        if read is None:
            return self._page(_UNDECIDED, filled=form)
        try:
            value = read(form)
        except (ValueError, RecursionError):
            wrong = {"value": 'JSON, such as true or "yes"'}
            return self._page(Outcome("invalid", errors=wrong), filled=form)
        return self._told(answer(self._callbacks, self._entry, value), form)

    def _told(self, outcome: Outcome, form: Mapping[str, str]) -> Response:
        try:
            return self._page(outcome, filled=form)
        except Exception as error:
            _log.error("a page could not be drawn: %s", type(error).__name__)
            return plain(_STATUS[outcome.kind], f"{outcome.text}.\n")

    def _page(
        self,
        outcome: Outcome | None,
        status: int | None = None,
        *,
        filled: Mapping[str, str] | None = None,
        once_more: bool = False,
    ) -> Response:
        from . import pages

        nonce, to = new_nonce(), self._reviewer.by.shown
        status = status or (200 if outcome is None else _STATUS[outcome.kind])
        if self._entry is None:
            if outcome is None:
                return message(404)
            body = pages.result(None, outcome, nonce=nonce, to=to, signed_in=True)
            return page(status, body, nonce)
        body = pages.wait(
            self._entry,
            nonce=nonce,
            post_to=self._reviewer.path,
            to=to,
            csrf=self._reviewer.csrf(self._office),
            outcome=outcome,
            filled=filled or {},
            once_more=once_more,
        )
        return page(status, body, nonce)


def message(status: int, more: Mapping[str, str] | None = None) -> Response:
    """Return the page that says no more than a status."""
    nonce = new_nonce()
    try:
        from . import pages

        return page(status, pages.message(status, nonce=nonce), nonce, more)
    except Exception as error:
        _log.error("a page could not be drawn: %s", type(error).__name__)
        return plain(status, "Nothing was recorded, as far as is known.\n", more)


def is_form_of(request: Request, office: Office, session: Session) -> bool:
    """Return whether a request posts a form that this session was given."""
    if sender_of(request, office.base_url) == "foreign":
        return False
    try:
        return is_form(office, session, None, form_of(request).get("csrf", ""))
    except BadForm:
        return False


def _others(standing: Standing) -> str:
    names = ", ".join(each.name for each in standing.request.policy.everyone)
    return f"only {names} may decide here"


_ANSWERS: dict[str, Callable[[Mapping[str, str]], Any]] = {
    "approve": lambda form: True,
    "reject": lambda form: False,
    "respond": lambda form: json.loads(form.get("value", "")),
}
