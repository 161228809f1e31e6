"""A receiver behind a Lambda function URL: events of payload format 2.0 in, answers out.

The event is never printed or logged: its path may hold a token.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from .http import Request, Response
from .receiver import Receiver

Event = Mapping[str, Any]


def lambda_handler_for(receiver: Receiver) -> Callable[[Event, Any], dict[str, Any]]:
    """Return the function that Lambda calls for each request to its URL."""

    def handler(event: Event, context: Any = None) -> dict[str, Any]:
        return _answer(receiver.handle(request_of(event)))

    return handler


def request_of(event: Event) -> Request:
    """Return the request of an event; what is missing or malformed is empty."""
    headers = {name.lower(): str(text) for name, text in _inner(event, "headers").items()}
    cookies = event.get("cookies")
    if isinstance(cookies, list):
        headers["cookie"] = "; ".join(map(str, cookies))
    http = _inner(_inner(event, "requestContext"), "http")
    path, query = _text(event, "rawPath"), _text(event, "rawQueryString")
    return Request(_text(http, "method"), path, query, headers, _body(event))


def _body(event: Event) -> bytes:
    text = _text(event, "body")
    if not event.get("isBase64Encoded"):
        return text.encode(errors="replace")
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _inner(event: Event, name: str) -> Event:
    found = event.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(event: Event, name: str) -> str:
    found = event.get(name)
    return found if isinstance(found, str) else ""


def _answer(response: Response) -> dict[str, Any]:
    headers = {name.lower(): text for name, text in response.headers.items()}
    cookie = headers.pop("set-cookie", None)
    return {
        "statusCode": response.status,
        "headers": headers,
        "cookies": [] if cookie is None else [cookie],
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }
