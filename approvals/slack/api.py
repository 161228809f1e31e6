"""Calls of Slack's Web API: one request per call, and every failure said in our words.

slack_sdk repeats a request by itself when a connection drops, which posts a message twice; here it
does not. No error and no log line holds a token: its debug log, which prints bodies, stays shut.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from ..errors import ChannelError

if TYPE_CHECKING:
    from slack_sdk import WebClient
    from slack_sdk.web import SlackResponse

TOKEN = "SLACK_BOT_TOKEN"
SECONDS = 10
_AGAIN = frozenset(
    (
        "accesslimited",
        "fatal_error",
        "internal_error",
        "message_limit_exceeded",
        "rate_limited",
        "ratelimited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    )
)
_NEW_TOKEN = f"set {TOKEN} to the bot token (xoxb-...) of an app that is installed there"
_CURES = {
    "account_inactive": _NEW_TOKEN,
    "channel_is_archived": "unarchive it, or name another channel",
    "channel_not_found": "give the channel's id (C...), and invite the app to it",
    "invalid_auth": _NEW_TOKEN,
    "is_archived": "unarchive it, or name another channel",
    "missing_scope": "give the app that scope, and install it again",
    "no_permission": "let the app post there",
    "not_allowed_token_type": _NEW_TOKEN,
    "not_authed": _NEW_TOKEN,
    "not_in_channel": "invite the app to the channel, or give it the scope chat:write.public",
    "restricted_action": "let the app post there; a workspace setting forbids it",
    "token_expired": _NEW_TOKEN,
    "token_revoked": _NEW_TOKEN,
    "user_not_found": "give the person as slack:TEAM:USER, of the workspace of the app",
    "users_not_found": "give the person as slack:TEAM:USER, or reach them by email",
}
_CODE = re.compile(r"[a-z][a-z0-9_]{1,63}")


class SlackRefusal(ChannelError):
    """Slack answered, and said no.

    Attributes:
        code: Slack's word for why.
    """

    def __init__(self, message: str, code: str, *, final: bool, after: float | None = None) -> None:
        super().__init__(message, retry_after=after, final=final)
        self.code = code


def token_of(given: str | None) -> str:
    """Return the bot token, given or of the environment.

    Raises:
        ChannelError: there is none.
    """
    token = given or os.environ.get(TOKEN, "").strip()
    if not token:
        raise ChannelError(f"there is no token for Slack: {_NEW_TOKEN}", final=True)
    return token


def client_of(token: str, base_url: str | None, seconds: float = SECONDS) -> WebClient:
    """Return a client that tries once and keeps its debug log shut."""
    from slack_sdk import WebClient

    return WebClient(
        token,
        base_url=base_url or WebClient.BASE_URL,
        timeout=seconds,  # type: ignore[arg-type]
        retry_handlers=[],
        logger=quiet_log(),
    )


def quiet_log() -> logging.Logger:
    """Return a log for slack_sdk that prints no bodies, whatever level the root has."""
    log = logging.getLogger("perdure.approvals.slack.sdk")
    log.setLevel(logging.CRITICAL)
    return log


def ask(method: Callable[..., SlackResponse], **arguments: Any) -> dict[str, Any]:
    """Call a method of the Web API and return its answer.

    Raises:
        SlackRefusal: Slack said no; `final` unless it is a matter of time.
        ChannelError: it could not be reached, or its answer was lost.
    """
    called = method.__name__.replace("_", ".")
    answer = attempt(called, lambda: method(**arguments).data)
    if not isinstance(answer, dict):
        raise ChannelError(f"an unreadable answer to {called}")
    return answer


def attempt(called: str, call: Callable[[], Any]) -> Any:
    """Do what calls a method of the Web API; see `ask`."""
    from slack_sdk.errors import SlackApiError

    try:
        return call()
    except SlackApiError as error:
        failure = _refusal(called, error.response)
    except (OSError, HTTPException) as error:
        failure = ChannelError(f"no answer from Slack to {called} ({type(error).__name__})")
    except Exception as error:  # whatever an answer that is none did to the client
        failure = ChannelError(f"an unreadable answer to {called} ({type(error).__name__})")
    raise failure


def _refusal(called: str, response: Any) -> ChannelError:
    status = int(response.status_code)
    data = response.data if isinstance(response.data, dict) else {}
    code = str(data.get("error", ""))
    if status == 429 or code in ("ratelimited", "rate_limited"):
        after = _seconds(response.headers)
        text = f"Slack asks for fewer calls of {called}"
        return SlackRefusal(text, "ratelimited", final=False, after=after)
    if not _CODE.fullmatch(code):
        final = 400 <= status < 500
        cure = "; is base_url that of Slack's Web API?" if final else ""
        return ChannelError(f"Slack answered {called} with status {status}{cure}", final=final)
    needed = data.get("needed")
    scope = f" ({needed})" if code == "missing_scope" and isinstance(needed, str) else ""
    cure = f": {_CURES[code]}" if code in _CURES else ""
    final = code not in _AGAIN and status < 500
    return SlackRefusal(f"Slack refused {called} with {code}{scope}{cure}", code, final=final)


def _seconds(headers: Any) -> float | None:
    found = {str(name).lower(): value for name, value in dict(headers or {}).items()}
    try:
        return max(0.0, float(found["retry-after"]))
    except (KeyError, TypeError, ValueError):
        return None
