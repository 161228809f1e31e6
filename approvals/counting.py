"""What the votes come to: decided by plain code, checked again after whoever completed a callback.

Whoever can reach the engine can complete a callback with anything; what is no valid decision about
this request, this subject, by one of its approvers, is an error and never a yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .decisions import KINDS, Decision
from .errors import ApprovalError
from .people import POLICY
from .requests import ApprovalRequest
from .terms import Terms

EXPIRED, WITHDRAWN = "expired", "withdrawn"


@dataclass(frozen=True, slots=True)
class Found:
    """What waiting came to: the votes as they completed callbacks, and why there are no more."""

    votes: list[Any]
    ended: str | None = None

    def kept(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {"votes": self.votes, "ended": self.ended}

    @classmethod
    def read(cls, value: dict[str, Any]) -> Found:
        """Return it from plain JSON."""
        return cls(value["votes"], value["ended"])


def outcome_of(found: Found, request: ApprovalRequest, terms: Terms) -> Decision:
    """Return the decision that the votes come to.

    Raises:
        ApprovalError: a vote is not valid.
    """
    votes = [_checked(Decision.read(each), request) for each in found.votes]
    nobody = _by_nobody(found.ended or EXPIRED, request, terms)
    if not terms.policy.is_quorum:
        return _fitting(votes[0], terms) if votes else nobody
    rejects = [each for each in votes if each.kind == "rejected"]
    if len(votes) - len(rejects) >= terms.policy.required:
        return _joined(votes, votes[-1])
    if rejects and _is_lost(terms, len(rejects)):
        return _joined(votes, rejects[0])
    return _joined(votes, nobody)


def _checked(vote: Decision, request: ApprovalRequest) -> Decision:
    approver = request.policy.find(vote.approver or "")
    if vote.request_id != request.id or vote.digest != request.digest:
        why = "it is about another request, or another subject"
    elif vote.kind not in {KINDS[action] for action in request.allowed}:
        why = f"{vote.kind!r} was not among what could be decided"
    elif approver is None:
        why = f"{vote.approver!r} is not among the approvers"
    elif {vote.by.identity, *approver.identities} & set(request.policy.requested_by):
        why = "who asked may not decide"
    else:
        return vote
    raise ApprovalError(f"{request.name!r}: the decision that came is not valid: {why}")


def _fitting(vote: Decision, terms: Terms) -> Decision:
    form = terms.form
    if form is not None and vote.kind in ("edited", "responded"):
        try:
            form.model_validate(vote.value)
        except ValueError as error:
            raise ApprovalError(
                f"{terms.name!r}: the {vote.kind} value does not fit {form.__name__}: {error}"
            ) from None
    return vote


def _by_nobody(ended: str, request: ApprovalRequest, terms: Terms) -> Decision:
    expired = ended == EXPIRED
    held = None if terms.on_timeout == "raise" else terms.on_timeout
    return Decision(
        request_id=request.id,
        digest=request.digest,
        kind="expired" if expired else "withdrawn",
        by=POLICY,
        approver=None,
        at=request.deadline if expired else request.asked,
        channel="policy",
        nonce="",
        value=terms.default if expired else None,
        default=held if expired else None,
    )


def _is_lost(terms: Terms, rejects: int) -> bool:
    policy = terms.policy
    return policy.veto or rejects > len(policy.everyone) - policy.required


def _joined(votes: Sequence[Decision], last: Decision) -> Decision:
    return last.model_copy(update={"votes": tuple(votes)})
