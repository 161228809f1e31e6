"""Asking people: Slack, email, the web and the terminal, at no compute while they think.

The names below are loaded when first used, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.durable.lazy import lazily

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

__getattr__ = lazily(__name__, _HOMES)
