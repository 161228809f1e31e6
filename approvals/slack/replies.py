"""Answers to a click beside the HTTP answer: through `response_url`, soon, once, or not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from .api import quiet_log
from .blocks import Message

HOSTS = ("hooks.slack.com",)
SECONDS = 2.0
ACK = 2.6
"""Slack waits 3 seconds for the HTTP answer; a platform may freeze right after it."""
_LOCAL = ("127.0.0.1", "localhost")
_log = logging.getLogger("perdure.approvals.slack")


class Patience:
    """What is left of the time in which a click has to be answered."""

    def __init__(self, seconds: float = ACK) -> None:
        self._end = time.monotonic() + seconds

    @property
    def seconds(self) -> float:
        """How long a call may take now; none is worth less than a little."""
        return max(0.1, min(SECONDS, self._end - time.monotonic()))


class Reply:
    """Where a click is answered. What fails is logged, without the address, and nothing more."""

    def __init__(self, url: str | None, hosts: Sequence[str], patience: Patience) -> None:
        self._url = url if url is not None and _is_allowed(url, hosts) else None
        self._patience = patience
        if url is not None and self._url is None:
            _log.warning("a response_url leads to a host that is not allowed; not answered there")

    def privately(self, text: str) -> None:
        """Tell the person who clicked, and nobody else; the text is escaped already."""
        self._post({"response_type": "ephemeral", "replace_original": False, "text": text})

    def replace(self, message: Message) -> None:
        """Replace the message that was clicked."""
        self._post({"replace_original": True, **message._asdict()})

    def _post(self, body: dict[str, Any]) -> None:
        from slack_sdk.webhook import WebhookClient

        if self._url is None:
            return
        client = WebhookClient(
            self._url,
            timeout=self._patience.seconds,  # type: ignore[arg-type]
            retry_handlers=[],
            logger=quiet_log(),
        )
        try:
            status = client.send_dict(body).status_code
        except Exception as error:  # its text may hold the address
            _log.warning("a click was not answered in Slack (%s)", type(error).__name__)
            return
        if status != 200:
            _log.warning("a click was not answered in Slack (status %d)", status)


def _is_allowed(url: str, hosts: Sequence[str]) -> bool:
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
        return secure and parts.netloc in hosts
    except ValueError:
        return False
