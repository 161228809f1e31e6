"""What gets a person's click: it verifies who that is, and completes the callback.

It keeps no state and needs no framework, so one receiver serves the local pages and a function URL.
Looking never changes anything. A token that is forged, cut, foreign or signed with a key that is
gone gives one and the same page; no answer and no log line holds an error's text, a path or a
token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from .callbacks import Callbacks, Standing
from .errors import Unavailable
from .http import Request, Response, most_bytes, new_nonce, page, see, sender_of
from .office import Office
from .people import IdentityKind, Principal, kind_of
from .reviewing import Review, Reviewer, WaitReview, is_form_of, message
from .sessions import Session, begun, form_token, over, session_of, user_of
from .tokens import PREFIX, BadToken, Claims, unseal
from .voting import claims_of

_log = logging.getLogger("perdure.approvals")
_PATH = 8192
_LOOK = ("GET", "HEAD")
_BOTH = ("GET", "HEAD", "POST")
_CHANNELS = {IdentityKind.EMAIL: "email", IdentityKind.SLACK: "slack", IdentityKind.USER: "web"}


class Incoming(Protocol):
    """What a chat service's requests are given to."""

    def handle(self, request: Request) -> Response:
        """Answer a request after checking its signature."""


class Receiver:
    """Answers requests about approvals; never raises.

    Args:
        office: the keys, the address of the pages, the clock.
        callbacks: the engine, as far as decisions need it.
        slack: what Slack's requests are given to.
        user: the account on the machine, like `user:alice`: enables signing in and the inbox, which
            shows all that is open. On a local server only.
    """

    def __init__(
        self,
        office: Office,
        callbacks: Callbacks,
        *,
        slack: Incoming | None = None,
        user: str | None = None,
    ) -> None:
        self._office = office
        self._callbacks = callbacks
        self._slack = slack
        self._user = user if user is None or user.startswith("user:") else f"user:{user}"
        self._base = urlsplit(office.base_url).path

    def handle(self, request: Request) -> Response:
        """Answer a request; one that fails here was not recorded, as far as is known."""
        try:
            response = self._answer(request)
        except Exception as error:
            if not isinstance(error, Unavailable):
                _log.error("a request could not be answered: %s", type(error).__name__)
            response = message(503)
        return response._replace(body=b"") if request.method == "HEAD" else response

    def _answer(self, request: Request) -> Response:
        if len(request.body) > most_bytes(request.path):
            return message(413)
        found = self._route(request) if len(request.path) <= _PATH else None
        if found is None:
            return message(404)
        methods, answer = found
        if request.method not in methods:
            return message(405, {"Allow": ", ".join(methods)})
        return answer(request)

    def _route(
        self, request: Request
    ) -> tuple[tuple[str, ...], Callable[[Request], Response]] | None:
        path = unquote(request.path)
        if not path.startswith(f"{self._base}/"):
            return None
        match path[len(self._base) + 1 :].split("/"):
            case ["a", token, "review"]:
                return _BOTH, lambda request: self._link(request, token)
            case ["slack", "interactivity"] if self._slack is not None:
                return ("POST",), self._slack.handle
            case [""] if self._user is not None:
                return _LOOK, lambda request: see(f"{self._base}/inbox")
            case ["login", token] if self._user is not None:
                return _BOTH, lambda request: self._login(request, token)
            case ["logout"] if self._user is not None:
                return ("POST",), self._signed_in(self._logout)
            case ["inbox"] if self._user is not None:
                return _LOOK, self._signed_in(self._inbox)
            case ["inbox", execution, operation] if self._user is not None:
                return _BOTH, self._signed_in(
                    lambda request, session: self._entry(request, session, execution, operation)
                )
        return None

    def _link(self, request: Request, token: str) -> Response:
        """Answer for a personal link: whoever has it is its one person."""
        try:
            claims = unseal(self._office.keys, "link", token.removeprefix(PREFIX))
        except BadToken:
            return message(404)
        by = _holder(claims) if token.startswith(PREFIX) else None
        if by is None:
            return message(404)
        standing = self._callbacks.lookup(claims.execution, claims.operation)
        if not isinstance(standing, Standing):
            return message(404)
        channel = _CHANNELS[kind_of(by.identity)]
        path = f"{self._base}/a/{PREFIX}{token.removeprefix(PREFIX)}/review"
        reviewer = Reviewer(by, claims.who[0].approver, channel, path)
        return Review(self._office, self._callbacks, standing, claims, reviewer).answer(request)

    def _signed_in(self, answer: Callable[[Request, Session], Response]) -> Callable[..., Response]:
        def checked(request: Request) -> Response:
            session = session_of(self._office, request, self._user or "")
            return message(401) if session is None else answer(request, session)

        return checked

    def _login(self, request: Request, token: str) -> Response:
        from . import pages

        if user_of(self._office, token) != self._user or self._user is None:
            return message(401)
        sender = sender_of(request, self._office.base_url)
        if request.method == "POST" and sender == "foreign":
            return message(403)
        if request.method == "POST" and sender == "person":
            cookie = begun(self._office, self._user)
            return see(f"{self._base}/inbox", {"Set-Cookie": cookie})
        nonce = new_nonce()
        path = f"{self._base}/login/{token}"
        return page(200, pages.login(nonce=nonce, post_to=path, user=self._user), nonce)

    def _logout(self, request: Request, session: Session) -> Response:
        from . import pages

        if not is_form_of(request, self._office, session):
            return message(403)
        nonce = new_nonce()
        return page(200, pages.signed_out(nonce=nonce), nonce, {"Set-Cookie": over(self._office)})

    def _inbox(self, request: Request, session: Session) -> Response:
        from . import pages

        found = self._callbacks.inbox(_after(request.query))
        nonce = new_nonce()
        csrf = form_token(self._office, session, f"{self._base}/inbox")
        return page(200, pages.inbox(found, nonce=nonce, to=session.user, csrf=csrf), nonce)

    def _entry(
        self, request: Request, session: Session, execution: str, operation: str
    ) -> Response:
        """Answer for a request or named wait, to whoever is signed in."""
        path = f"{self._base}/inbox/{execution}/{operation}"
        by = Principal(identity=session.user, assurance="session")
        found = self._callbacks.lookup(execution, operation)
        reviewer = Reviewer(by, session.user, "web", path, session)
        if not isinstance(found, Standing):
            return WaitReview(self._office, self._callbacks, found, reviewer).answer(request)
        claims = claims_of(found, (session.user,))
        name = session.user if claims is None else claims.who[0].approver
        about = f"{found.request.digest} {found.request.deadline.isoformat()}"
        reviewer = Reviewer(by, name, "web", path, session, about)
        return Review(self._office, self._callbacks, found, claims, reviewer).answer(request)


def _holder(claims: Claims) -> Principal | None:
    """Return the one person whose link it is, or None if it is nobody's in particular."""
    if len(claims.who) != 1:
        return None
    by_kind = {kind_of(each): each for each in reversed(claims.who[0].identities)}
    identity = next((by_kind[kind] for kind in _CHANNELS if kind in by_kind), None)
    if identity is None or IdentityKind.SLACK_GROUP in by_kind:
        return None
    return Principal(identity=identity, assurance="link")


def _after(query: str) -> int | None:
    """Return where a page of the inbox begins."""
    given = parse_qs(query).get("after", [""])[0]
    return int(given) if given.isdecimal() and given.isascii() and len(given) < 19 else None
