"""A receiver behind a Lambda function URL: events of payload format 2.0 in, answers out.

The event is never printed or logged: its path may hold a token.
"""

from __future__ import annotations

import base64
import binascii
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
    headers = {str(name).lower(): str(text) for name, text in (event.get("headers") or {}).items()}
    cookies = event.get("cookies")
    if cookies:
        headers["cookie"] = "; ".join(cookies)
    method = event.get("requestContext", {}).get("http", {}).get("method", "")
    return Request(
        method, event.get("rawPath", ""), event.get("rawQueryString", ""), headers, _body(event)
    )


def _body(event: Event) -> bytes:
    text = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(text).encode()
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


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
