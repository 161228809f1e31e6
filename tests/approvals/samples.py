"""Requests and standings as values, for tests of what is drawn of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from perdure.approvals.callbacks import Ballot, Standing
from perdure.approvals.decisions import Decision, vote
from perdure.approvals.people import Principal, approvers_of, identities_of
from perdure.approvals.requests import ApprovalRequest, Policy, canonical, digest_of

ALICE = "alice@example.org"
ASKED = datetime(2026, 11, 26, 14, 2, tzinfo=UTC)


def request_of(subject: Any = "the text", **given: Any) -> ApprovalRequest:
    """A request that asks alice, with what is given."""
    text = canonical(subject)
    policy = Policy(
        approvers=approvers_of(given.pop("approvers", [ALICE])),
        required=given.pop("required", 1),
        veto=given.pop("veto", True),
        requested_by=identities_of(given.pop("requested_by", None)),
    )
    values = {
        "id": "r1",
        "execution": "run-1",
        "operation": "0a1b-2c3d",
        "name": "release",
        "title": "Release it?",
        "subject": text,
        "digest": digest_of(text),
        "policy": policy,
        "allowed": ("approve", "reject"),
        "asked": ASKED,
        "deadline": ASKED + timedelta(days=7),
    }
    return ApprovalRequest(**(values | given))


def standing_of(request: ApprovalRequest, *votes: Decision) -> Standing:
    """How it stands after some votes, given in the order of the approvers."""
    names = [each.name for each in request.policy.everyone] if request.policy.is_quorum else [None]
    given = [*votes, *[None] * (len(names) - len(votes))]
    ballots = tuple(
        Ballot(f"cb-{number}", name, open=cast is None, vote=cast)
        for number, (name, cast) in enumerate(zip(names, given, strict=True))
    )
    return Standing(request, ballots, None, "RUNNING", "nightly")


def voted(request: ApprovalRequest, action: Any = "approve", **given: Any) -> Decision:
    """A vote of alice."""
    who = given.pop("who", ALICE)
    by = Principal(identity=who, assurance="link", display=given.pop("display", None))
    values = {"at": ASKED + timedelta(minutes=5), "channel": "email", "seed": "s"} | given
    return vote(request, action, digest=request.digest, by=by, approver=who, **values)
