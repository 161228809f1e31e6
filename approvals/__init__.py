"""Asking people: Slack, email, the web and the terminal, at no compute while they think.

The names below are loaded when first used, so that importing this package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .asking import await_approval
    from .channels import Channel, Notice, Receipt
    from .decisions import Decision
    from .errors import (
        ApprovalError,
        ApprovalExpired,
        ApprovalRejected,
        ChannelError,
        Unavailable,
    )
    from .mail import Email, Ses, Smtp
    from .people import Approver, Principal
    from .receiver import Receiver
    from .requests import ApprovalRequest
    from .requiring import require_approval
    from .slack import Slack, SlackIn
    from .terms import Escalation
    from .web import Web

_HOMES = {
    "asking": "await_approval",
    "channels": "Channel Notice Receipt",
    "decisions": "Decision",
    "errors": "ApprovalError ApprovalExpired ApprovalRejected ChannelError Unavailable",
    "mail": "Email Ses Smtp",
    "people": "Approver Principal",
    "receiver": "Receiver",
    "requests": "ApprovalRequest",
    "requiring": "require_approval",
    "slack": "Slack SlackIn",
    "terms": "Escalation",
    "web": "Web",
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "ApprovalError",
    "ApprovalExpired",
    "ApprovalRejected",
    "ApprovalRequest",
    "Approver",
    "Channel",
    "ChannelError",
    "Decision",
    "Email",
    "Escalation",
    "Notice",
    "Principal",
    "Receipt",
    "Receiver",
    "Ses",
    "Slack",
    "SlackIn",
    "Smtp",
    "Unavailable",
    "Web",
    "await_approval",
    "require_approval",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
