"""A request as it comes to the mail channel, and what the tests look for in mails."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from perdure.approvals.channels import Notice
from perdure.approvals.decisions import Decision
from perdure.approvals.office import Office
from perdure.approvals.people import Principal, approvers_of
from perdure.approvals.requests import ApprovalRequest, Policy, canonical, digest_of
from perdure.durable.testing import ManualClock

ID = "0123456789abcdef0123456789abcdef"
LINK = re.compile(r"https?://\S+/a/v1~([^/\s\"]+)/review")


def request(subject: Any = None, approvers: Any = "alice@example.org", **changed: Any):
    """Return a request asked at the beginning of 2026, with two hours to decide."""
    text = canonical(subject if subject is not None else {"amount": 1250, "order": 77})
    policy = changed.pop("policy", None) or Policy(
        approvers=approvers_of(approvers), requested_by=("bob@example.org",)
    )
    asked = ManualClock().moment()
    given = {
        "id": ID,
        "execution": "refund-77",
        "operation": "a" * 32,
        "name": "approval",
        "title": "Refund order 77",
        "subject": text,
        "digest": digest_of(text),
        "policy": policy,
        "allowed": ("approve", "reject"),
        "asked": asked,
        "deadline": asked + timedelta(hours=2),
    }
    return ApprovalRequest(**{**given, **changed})


def notice(office: Office, asked: ApprovalRequest, kind: Any = "request", **more: Any) -> Notice:
    """Return a notice to the first approver, about a callback of the id `callback`."""
    callback = more.pop("callback", "callback-1")
    callbacks = {each.name: callback for each in asked.policy.everyone}
    to = more.pop("to", asked.policy.approvers[:1])
    return Notice(kind, asked, to, callbacks, office, **more)


def decision(asked: ApprovalRequest, kind: Any = "approved", **changed: Any) -> Decision:
    """Return what Alice decided, a minute after she was asked."""
    given = {
        "request_id": asked.id,
        "digest": asked.digest,
        "kind": kind,
        "by": Principal(identity="alice@example.org", assurance="link"),
        "approver": "alice@example.org",
        "at": asked.asked + timedelta(minutes=1),
        "channel": "email",
        "nonce": "n",
    }
    return Decision(**{**given, **changed})


def tokens_in(text: str) -> set[str]:
    """Return the tokens of the links in a text."""
    return set(LINK.findall(text))
