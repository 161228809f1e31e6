"""Slack's requests over HTTP: signed, read strictly, answered within the seconds Slack waits.

What is not signed is 401, whatever is wrong with it; what is signed and no form of one JSON payload
is 400. All else is 200: refusals are told to the person alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs

from perdure.durable.errors import UsageError

from ..callbacks import Callbacks
from ..http import SLACK_BYTES, Request, Response, as_json, plain
from ..office import Office
from .interactions import Interactions
from .replies import HOSTS

if TYPE_CHECKING:
    from slack_sdk.signature import Clock

SECRET = "SLACK_SIGNING_SECRET"
_FIELDS = 20


class SlackIn:
    """Receives what people do with the messages of `Slack`.

    The request URL of the app's interactivity is `/slack/interactivity` below the base URL of the
    pages.

    Args:
        signing_secret: of the app; else `SLACK_SIGNING_SECRET`.
        token: of the bot, for groups and forms; else `SLACK_BOT_TOKEN`.
        base_url: of the Web API, if it is not Slack's.
        response_hosts: to which an answer may be posted.
    """

    def __init__(
        self,
        office: Office,
        callbacks: Callbacks,
        *,
        signing_secret: str | None = None,
        token: str | None = None,
        base_url: str | None = None,
        response_hosts: Sequence[str] = HOSTS,
    ) -> None:
        secret = (signing_secret or os.environ.get(SECRET, "")).strip()
        if not secret:
            raise UsageError(f"set {SECRET} to the signing secret of the Slack app")
        self._secret = secret
        self._office = office
        self._core = Interactions(
            office, callbacks, token=token, base_url=base_url, response_hosts=response_hosts
        )

    def handle(self, request: Request) -> Response:
        """Verify a request, do what it asks, and answer."""
        if request.method != "POST":
            return plain(405, "POST only", {"Allow": "POST"})
        if len(request.body) > SLACK_BYTES:
            return plain(413, "too large")
        if not self._is_signed(request):
            return plain(401, "not signed by Slack")
        payload = _payload(request.body)
        if payload is None:
            return plain(400, "not a payload of Slack")
        try:
            answer = self._core.act(payload)
        except ValueError:  # pydantic's, too; its text would show the token
            return plain(400, "not a payload of Slack")
        return plain(200, "") if answer is None else as_json(200, answer)

    def _is_signed(self, request: Request) -> bool:
        from slack_sdk.signature import SignatureVerifier

        try:
            clock = cast("Clock", _Clock(self._office))
            verifier = SignatureVerifier(self._secret, clock)
            return verifier.is_valid_request(request.body, dict(request.headers))
        except Exception:  # the verifier raises on what is no number, no ASCII, no UTF-8
            return False


class _Clock:
    """The clock of the office, as the verifier asks it."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def now(self) -> float:
        return self._office.now


def _payload(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object of the one field `payload`, or None if there is none."""
    try:
        fields = parse_qs(
            body.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=_FIELDS
        )
        [text] = fields["payload"]
        payload = json.loads(text)
    except (ValueError, KeyError, RecursionError):
        return None
    return payload if isinstance(payload, dict) and len(fields) == 1 else None
