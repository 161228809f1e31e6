"""A receiver behind a Lambda function URL: events of payload format 2.0 in, answers out.

`handler` is a receiver as it is named in a template. It takes all it needs from the environment:
`PERDURE_APPROVAL_KEYS`; `PERDURE_BASE_URL`, else the function URL's own address; with
`SLACK_SIGNING_SECRET` and `SLACK_BOT_TOKEN` also clicks in Slack. `PERDURE_SECRETS_ARN` names the
secrets that hold them. The event is never printed or logged: its path may hold a token.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from .http import Request, Response
from .receiver import Receiver

Event = Mapping[str, Any]


def handler(event: Event, context: Any = None) -> dict[str, Any]:
    """Answer a request to the function's URL, by its settings.

    Raises:
        UsageError: a setting is missing or cannot be meant; the function's log has it.
    """
    domain = _text(_inner(event, "requestContext"), "domainName")
    return lambda_handler_for(_configured(domain))(event, context)


@cache
def _configured(domain: str) -> Receiver:
    """Return the receiver of the environment; `domain` is the address that AWS gave the URL."""
    from perdure.durable.aws.api import LambdaApi
    from perdure.durable.aws.secrets import take_secrets

    from .lambda_callbacks import LambdaCallbacks
    from .office import VARIABLE, Office

    take_secrets()
    given = os.environ.get(VARIABLE) or (f"https://{domain}" if domain else None)
    office, callbacks = Office.at(None, base_url=given), LambdaCallbacks(LambdaApi())
    slack = None
    if os.environ.get("SLACK_SIGNING_SECRET", "").strip():
        from .slack import SlackIn

        slack = SlackIn(office, callbacks)
    return Receiver(office, callbacks, slack=slack)


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
