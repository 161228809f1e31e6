"""Requests and answers as the receiver sees them, whatever server stands before it.

A path is as it came, percent-encoded: it is decoded once, by the receiver. Every answer forbids
scripts, framing, storing and indexing, and lets no address with a token leave in a Referer.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

BODY_BYTES = 64 * 1024
"""The largest body that is read."""
SLACK = "/slack/interactivity"
SLACK_BYTES = 1_000_000
"""The same for Slack: a click brings the whole message along, and a form all that was filled in."""
_FIELDS = 200
_FORM = "application/x-www-form-urlencoded"


class Request(NamedTuple):
    """A request; the names of headers are in small letters."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Show no path, query, header or body: each of them may hold a token."""
        return f"<{self.method} request>"


class Response(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BadForm(Exception):
    """A body is not a form, or a field of it is there twice. Says nothing more."""


def most_bytes(path: str) -> int:
    """Return how large a body may be that is sent to a path."""
    return SLACK_BYTES if path.endswith(SLACK) else BODY_BYTES


def new_nonce() -> str:
    """Return what lets one page use its own styles."""
    return secrets.token_urlsafe(16)


def page(status: int, body: bytes, nonce: str, more: Mapping[str, str] | None = None) -> Response:
    """Return an HTML page."""
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        **_GUARDS,
        **(more or {}),
    }
    return Response(status, headers, body)


def plain(status: int, text: str, more: Mapping[str, str] | None = None) -> Response:
    """Return a line of text."""
    headers = {"Content-Type": "text/plain; charset=utf-8", **_GUARDS, **(more or {})}
    return Response(status, headers, text.encode())


def as_json(status: int, value: Any) -> Response:
    """Return JSON."""
    headers = {"Content-Type": "application/json", **_GUARDS}
    return Response(status, headers, json.dumps(value).encode())


def see(path: str, more: Mapping[str, str] | None = None) -> Response:
    """Return an answer that sends a browser on, by GET."""
    return Response(303, {"Location": path, **_GUARDS, **(more or {})}, b"")


_GUARDS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "strict-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form that was posted.

    Raises:
        BadForm: the body is none, or names a field twice.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise BadForm
    try:
        pairs = parse_qsl(
            request.body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_FIELDS,
        )
    except ValueError:  # an encoding that is none is one, too
        raise BadForm from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadForm
    return fields


def cookie_of(request: Request, name: str) -> str | None:
    """Return the value of a cookie, the first if there are several; ours need no quotes."""
    # Python's own parser takes quadratic time, and stops at a cookie that another server set badly.
    pairs = (each.partition("=") for each in request.headers.get("cookie", "").split(";"))
    return next((value.strip() for key, _, value in pairs if key.strip() == name), None)


Sender = Literal["person", "script", "foreign"]


def sender_of(request: Request, base_url: str) -> Sender:
    """Return who submitted a form, as far as a browser says.

    A browser that says nothing, or no browser, counts as a person: what it presents decides.
    """
    headers = request.headers
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return "foreign"
    origin = headers.get("origin")
    if site is None and origin is not None and not _is_ours(origin, request, base_url):
        return "foreign"
    if "sec-fetch-mode" in headers and headers.get("sec-fetch-user") != "?1":
        return "script"
    return "person"


def _is_ours(origin: str, request: Request, base_url: str) -> bool:
    """Whether an origin is that of the base URL, or of the host that was asked."""
    scheme, host, *_ = urlsplit(base_url)
    own = {f"{scheme}://{host}", f"{scheme}://{request.headers.get('host', host)}"}
    return origin.lower() in {each.lower() for each in own}
