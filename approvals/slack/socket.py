"""Slack without a public address: clicks come in over a socket that we open, to the same core.

The socket is opened with a token of the app and is thereby authenticated; nothing is signed. A
click is acknowledged once it is dealt with, so one that fails is shown as failed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..callbacks import Callbacks
from ..errors import ChannelError
from ..office import Office
from .api import attempt, client_of, quiet_log
from .interactions import Interactions
from .replies import HOSTS

if TYPE_CHECKING:
    from slack_sdk.socket_mode.client import BaseSocketModeClient
    from slack_sdk.socket_mode.request import SocketModeRequest

APP_TOKEN = "SLACK_APP_TOKEN"
_log = logging.getLogger("perdure.approvals.slack")


@contextmanager
def listen(
    office: Office,
    callbacks: Callbacks,
    app_token: str | None = None,
    *,
    token: str | None = None,
    base_url: str | None = None,
    response_hosts: Sequence[str] = HOSTS,
) -> Iterator[None]:
    """Take clicks from a socket until the block ends.

    Args:
        app_token: of the app, with the scope `connections:write`; else `SLACK_APP_TOKEN`.
        token: of the bot; else `SLACK_BOT_TOKEN`.
        base_url: of the Web API, if it is not Slack's.
        response_hosts: to which an answer may be posted.

    Raises:
        ChannelError: there is no token, or the socket cannot be opened.
    """
    from slack_sdk.socket_mode import SocketModeClient

    given = app_token or os.environ.get(APP_TOKEN, "").strip()
    if not given:
        raise ChannelError(f"set {APP_TOKEN} to a token of the app (xapp-...)", final=True)
    core = Interactions(
        office, callbacks, token=token, base_url=base_url, response_hosts=response_hosts
    )
    client = SocketModeClient(given, logger=quiet_log(), web_client=client_of(given, base_url))
    client.socket_mode_request_listeners.append(lambda by, request: _take(core, by, request))
    client.on_error_listeners.append(
        lambda error: _log.warning("the socket to Slack: %s", type(error).__name__)
    )
    try:
        attempt("apps.connections.open", client.connect)
        yield
    finally:
        client.close()


def _take(core: Interactions, client: BaseSocketModeClient, request: SocketModeRequest) -> None:
    """Do what an envelope asks, and acknowledge it with the answer."""
    from slack_sdk.socket_mode.response import SocketModeResponse

    answer = None
    if request.type == "interactive":
        try:
            answer = core.act(request.payload)
        except ValueError:  # its text would show the token
            _log.warning("what came over the socket to Slack is no payload that is known")
    response = SocketModeResponse(request.envelope_id, payload=answer)
    client.send_socket_mode_response(response)
