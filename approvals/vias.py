"""`via=`: the channels of a request, as objects or by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from perdure.durable.errors import UsageError

from .channels import Channel
from .people import Approver, Kept

_KNOWN = '"web", "slack", "slack:C0123", "email", or a channel object'
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = ("reaches", "send", "update", "find")


def channels_of(via: Any) -> tuple[Channel, ...]:
    """Return the channels that are meant.

    Raises:
        UsageError: one is unknown, none is named, or two have one name.
    """
    given: Iterable[Any] = [via] if isinstance(via, str) or _is_channel(via) else via
    if not isinstance(given, Iterable):
        raise UsageError(f"via is a list of channels ({_KNOWN}), not {via!r}")
    channels = tuple(_channel(each) for each in given)
    if not channels:
        raise UsageError(f"via is empty: name at least one channel ({_KNOWN})")
    names = [each.name for each in channels]
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"via has a channel named {name!r}; a name has 1 to 64 letters, digits and . _ -"
            )
        if names.count(name) > 1:
            raise UsageError(f"via names the channel {name!r} twice; once is enough")
    return channels


def check_reach(channels: tuple[Channel, ...], approvers: Iterable[Approver], what: str) -> None:
    """Check that each approver can be told.

    Raises:
        UsageError: naming the approver who cannot, and the cure.
    """
    for approver in approvers:
        if not any(each.reaches(approver) for each in channels):
            names = ", ".join(each.name for each in channels)
            raise UsageError(f"{what} ({names}) has no channel that {_cure(approver)}")


def channel_from(spec: Mapping[str, Any]) -> Channel:
    """Return the channel that a spec describes; its secrets come from the environment.

    Raises:
        UsageError: there is no such channel.
    """
    given = dict(spec)
    match given.pop("channel", None):
        case "web":
            from .web import Web

            return Web()
        case "slack":
            from .slack import Slack

            return cast("Channel", Slack.from_spec(given))
        case "email":
            from .mail import Email

            return cast("Channel", Email.from_spec(given))
        case unknown:
            raise UsageError(
                f"a message went through {unknown!r}, a channel that is not known here"
            )


def _channel(given: Any) -> Channel:
    if not isinstance(given, str):
        if not _is_channel(given):
            raise UsageError(f"via takes {_KNOWN}, not {given!r}")
        return cast("Channel", given)
    kind, _, rest = given.partition(":")
    if kind == "slack":
        from .slack import Slack

        return cast("Channel", Slack(rest.lstrip("#") or None))
    if given == "email":
        from .mail import Email

        return cast("Channel", Email())
    if given == "web":
        from .web import Web

        return Web()
    raise UsageError(f"via names {given!r}, which is no channel; it takes {_KNOWN}")


def _is_channel(given: Any) -> bool:
    return (
        not isinstance(given, type | Kept)
        and isinstance(getattr(given, "name", None), str)
        and isinstance(getattr(given, "personal", None), bool)
        and all(callable(getattr(given, method, None)) for method in _METHODS)
    )


def _cure(approver: Approver) -> str:
    kind, _, _ = approver.name.partition(":")
    if approver.name.startswith("user:"):
        return f"reaches {approver.name!r}; add 'web'"
    if kind.startswith("slack"):
        return f"reaches {approver.name!r}; add 'slack'"
    return f"reaches {approver.name!r}; add 'email', or 'slack', which looks addresses up"
