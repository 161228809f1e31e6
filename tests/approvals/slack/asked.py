"""Requests, notices and decisions made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from perdure.approvals.channels import Notice
from perdure.approvals.decisions import Decision, vote
from perdure.approvals.office import Office
from perdure.approvals.people import Principal, approvers_of
from perdure.approvals.requests import ApprovalRequest, Policy, canonical, digest_of

ASKED = datetime(2026, 1, 1, tzinfo=UTC)


def request_of(
    subject: Any = "Pay 100 EUR",
    *,
    approvers: Sequence[Any] = ("slack:T1:UALICE",),
    required: int = 1,
    requested_by: tuple[str, ...] = (),
    id: str = "0123456789abcdef",
    **more: Any,
) -> ApprovalRequest:
    """Return a request that waits until 8 January."""
    text = canonical(subject)
    policy = Policy(approvers=approvers_of(approvers), required=required, requested_by=requested_by)
    given: dict[str, Any] = {"title": "Approval", "allowed": ("approve", "reject"), **more}
    return ApprovalRequest(
        id=id,
        execution="order-7",
        operation="a1b2c3d4-e5f60718",
        name="approval",
        subject=text,
        digest=digest_of(text),
        policy=policy,
        asked=ASKED,
        deadline=ASKED + timedelta(days=7),
        **given,
    )


def notice_of(
    office: Office,
    kind: Any = "request",
    *,
    attempt: int = 1,
    number: int = 0,
    decision: Decision | None = None,
    **request: Any,
) -> Notice:
    """Return a notice about such a request, to all of its approvers."""
    made = request_of(**request)
    everyone = made.policy.everyone
    callbacks = {each.name: "callback-of-all" for each in everyone}
    return Notice(
        kind,
        made,
        everyone,
        callbacks,
        office,
        decision=decision,
        attempt=attempt,
        number=number,
        seed="00112233445566778899aabb",
    )


def decision_of(request: ApprovalRequest, action: Any = "approve", **more: Any) -> Decision:
    """Return what alice decided about it on 2 January."""
    return vote(
        request,
        action,
        digest=request.digest,
        by=Principal(identity="slack:T1:UALICE", assurance="slack", display="alice"),
        approver="slack:T1:UALICE",
        at=ASKED + timedelta(days=1, hours=14, minutes=2),
        channel="slack",
        seed="00112233445566778899aabb",
        **more,
    )
