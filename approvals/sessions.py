"""Signing in on the machine: a link that `perdure login` prints, and the cookie it is traded for.

Nothing is kept: link, cookie and form tokens are signed and expire by the office's clock. The link
does nothing by being opened; a button on its page trades it.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from .http import Request, cookie_of
from .office import Office
from .tokens import BadToken, Purpose, sign, verify

COOKIE = "perdure_session"
_LOGIN_SECONDS = 5 * 60
_SESSION_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in.

    Attributes:
        user: the identity, like `user:alice`.
        mark: what tells this session from any other.
    """

    user: str
    mark: str


def login_token(office: Office, user: str) -> str:
    """Return what signs a user in, within 5 minutes."""
    return _signed(office, "login", user, secrets.token_hex(12), _LOGIN_SECONDS)


def login_url(office: Office, user: str) -> str:
    """Return the page on which a user signs in, within 5 minutes."""
    return f"{office.base_url}/login/{login_token(office, user)}"


def user_of(office: Office, token: str) -> str | None:
    """Return whom a login token signs in, or None if it is none or too old."""
    found = _read(office, "login", token)
    return found.user if found is not None else None


def begun(office: Office, user: str) -> str:
    """Return the Set-Cookie header by which a session begins."""
    value = _signed(office, "session", user, secrets.token_hex(12), _SESSION_SECONDS)
    return _cookie(office, value, _SESSION_SECONDS)


def over(office: Office) -> str:
    """Return the Set-Cookie header that ends a session."""
    return _cookie(office, "", 0)


def session_of(office: Office, request: Request, user: str) -> Session | None:
    """Return this user's session, if the request comes with one."""
    found = _read(office, "session", cookie_of(request, COOKIE) or "")
    return found if found is not None and found.user == user else None


def form_token(office: Office, session: Session, target: str) -> str:
    """Return what a form of this session carries to be taken at this target, and nowhere else."""
    return sign(office.keys, "form", {"u": session.user, "j": session.mark, "t": target})


def is_form(office: Office, session: Session, target: str | None, token: str) -> bool:
    """Return whether a form was made for this session and target; None is any target."""
    try:
        found = verify(office.keys, "form", token)
    except BadToken:
        return False
    return (
        _equal(found.get("u"), session.user)
        and _equal(found.get("j"), session.mark)
        and (target is None or _equal(found.get("t"), target))
    )


def _equal(found: object, expected: str) -> bool:
    return isinstance(found, str) and hmac.compare_digest(found.encode(), expected.encode())


def _signed(office: Office, purpose: Purpose, user: str, mark: str, seconds: int) -> str:
    return sign(office.keys, purpose, {"u": user, "j": mark, "e": int(office.now) + seconds})


def _read(office: Office, purpose: Purpose, token: str) -> Session | None:
    try:
        found = verify(office.keys, purpose, token)
    except BadToken:
        return None
    user, mark, end = found.get("u"), found.get("j"), found.get("e")
    if not (isinstance(user, str) and isinstance(mark, str) and isinstance(end, int)):
        return None
    return Session(user, mark) if office.now < end else None


def _cookie(office: Office, value: str, seconds: int) -> str:
    scheme, _, path, *_ = urlsplit(office.base_url)
    secure = "; Secure" if scheme == "https" else ""
    kept = f"{COOKIE}={value}; Path={path or '/'}; Max-Age={seconds}"
    return f"{kept}; HttpOnly; SameSite=Strict{secure}"
