"""What the votes come to: decided by plain code, checked again after whoever completed a callback.

Whoever can reach the engine can complete a callback with anything; what is no valid decision about
this request, this subject, by the approver whose callback it is, is an error and never a yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from .decisions import KINDS, Decision, fitted
from .errors import ApprovalError
from .people import POLICY
from .requests import ApprovalRequest, canonical, digest_of

EXPIRED, WITHDRAWN = "expired", "withdrawn"


@dataclass(frozen=True, slots=True)
class Found:
    """What waiting came to.

    Attributes:
        votes: what completed a callback, with the approver whose callback it is, or None for the
            one that all share.
        ended: why a callback closed without a vote.
    """

    votes: Sequence[tuple[str | None, Any]]
    ended: str | None = None


def is_yes(vote: Any) -> bool:
    """Return whether what completed a callback counts in favour, as far as that shows by itself."""
    return isinstance(vote, Mapping) and vote.get("kind") == KINDS["approve"]


def outcome_of(
    found: Found, request: ApprovalRequest, form: type[BaseModel] | None, now: datetime
) -> Decision:
    """Return the decision that the votes come to.

    Args:
        form: the class that an edit or an answer has to fit.
        now: when a request was withdrawn, if it was.

    Raises:
        ApprovalError: a vote is not valid.
    """
    votes = [_checked(Decision.read(vote), request, owner, form) for owner, vote in found.votes]
    _check_distinct(votes, request)
    if not request.policy.is_quorum:
        return votes[0] if votes else _by_nobody(found.ended, request, now)
    last = _deciding(votes, request) or _by_nobody(found.ended, request, now)
    return last.model_copy(update={"votes": tuple(votes)})


def _deciding(votes: Sequence[Decision], request: ApprovalRequest) -> Decision | None:
    """Return the vote that decided a quorum: in the order in which they were cast."""
    yes = no = 0
    for vote in sorted(votes, key=lambda each: each.at):
        yes += vote.kind == "approved"
        no += vote.kind == "rejected"
        if yes >= request.policy.required or (no and request.policy.is_lost(no)):
            return vote
    return None


def _checked(
    vote: Decision, request: ApprovalRequest, owner: str | None, form: type[BaseModel] | None
) -> Decision:
    why = _against(vote, request, owner)
    if why is None and form is not None and vote.kind in ("edited", "responded"):
        try:
            fitted(form, vote.value)
        except ValueError as error:
            why = f"the {vote.kind} value does not fit {form.__name__}: {error}"
    if why is not None:
        raise ApprovalError(f"{request.name!r}: the decision that came is not valid: {why}")
    return vote


def _against(vote: Decision, request: ApprovalRequest, owner: str | None) -> str | None:
    """Return why a vote does not count, or None."""
    approver = request.policy.find(vote.approver or "")
    if vote.request_id != request.id or vote.digest != request.digest:
        return "it is about another request, or another subject"
    if vote.kind not in {KINDS[action] for action in request.allowed}:
        return f"{vote.kind!r} was not among what could be decided"
    if approver is None:
        return f"{vote.approver!r} is not among the approvers"
    if owner not in (None, approver.name):
        return f"{approver.name!r} does not vote for {owner!r}"
    if {vote.by.identity, *approver.identities} & set(request.policy.requested_by):
        return "who asked may not decide"
    if vote.by.assurance == "policy" or vote.default is not None or vote.votes:
        return "it is not the vote of a person"
    return _against_value(vote)


def _against_value(vote: Decision) -> str | None:
    if vote.kind in ("approved", "rejected"):
        return None if vote.value is None else f"{vote.kind!r} comes with no value"
    digest = digest_of(canonical(vote.value)) if vote.value is not None else None
    return None if vote.value_digest == digest else "its value is not the one that was signed for"


def _check_distinct(votes: Sequence[Decision], request: ApprovalRequest) -> None:
    people = [each.by.identity for each in votes]
    for person in people:
        if people.count(person) > 1:
            raise ApprovalError(
                f"{request.name!r}: {person!r} voted for more than one approver; a person counts "
                "once"
            )


def _by_nobody(ended: str | None, request: ApprovalRequest, now: datetime) -> Decision:
    expired = ended == EXPIRED  # whatever else closed a callback, it is no yes by default
    held = request.on_timeout if expired and request.on_timeout != "raise" else None
    return Decision(
        request_id=request.id,
        digest=request.digest,
        kind="expired" if expired else "withdrawn",
        by=POLICY,
        approver=None,
        at=request.deadline if expired else now,
        channel="policy",
        nonce="",
        value=request.default if expired else None,
        default=held,
    )
