"""How a request and its votes are put in words, the same in each place that shows them."""

from __future__ import annotations

from .callbacks import Ballot, Standing
from .decisions import Decision
from .people import Approver
from .requests import ApprovalRequest, Policy
from .text import in_utc

DONE = {
    "approved": "approved",
    "rejected": "rejected",
    "edited": "approved with changes",
    "responded": "answered",
    "expired": "expired",
    "withdrawn": "withdrawn",
}
"""What each kind of decision is called."""

_DEFAULTS = {
    "reject": "counts as rejected",
    "approve": "counts as approved",
    "value": "counts as approved, with a value set beforehand",
    None: "the run is told that nobody decided",
}


def known_as(approver: Approver) -> str:
    """Return the name of an approver, and that it is a group if it is one."""
    return f"{approver.name} (a group)" if approver.is_group else approver.name


def needed(policy: Policy) -> str:
    """Return how many it takes."""
    count = len(policy.everyone)
    if not policy.is_quorum:
        return "One person decides" if count == 1 else f"One of {count} decides; the first counts"
    least = count - policy.required + 1
    if policy.veto or least == 1:
        return f"{policy.required} of {count} must approve; one reject ends it"
    return f"{policy.required} of {count} must approve; {least} rejects end it"


def unless_decided(request: ApprovalRequest) -> str:
    """Return what holds when nobody decides in time."""
    return {
        "reject": "It then counts as rejected",
        "approve": "It then counts as approved",
        "raise": "The run is then told that nobody decided, as an error",
        "value": "It then counts as approved, with a value set beforehand",
    }[request.on_timeout]


def votes_so_far(standing: Standing) -> str:
    """Return how the votes of a quorum stand, or "" where one person decides."""
    policy = standing.request.policy
    if not policy.is_quorum:
        return ""
    votes = [each.vote for each in standing.ballots if each.vote is not None]
    yes = sum(each.approved or each.kind == "responded" for each in votes)
    text = f"{yes} of {policy.required} approved"
    return text if yes == len(votes) else f"{text}, {len(votes) - yes} rejected"


def ballot_words(ballot: Ballot) -> str:
    """Return how one ballot stands."""
    if ballot.vote is not None:
        return f"{DONE[ballot.vote.kind]}, {in_utc(ballot.vote.at)}"
    if ballot.open:
        return "waiting"
    return {"timed out": "did not vote in time", "foreign": "closed by other means"}.get(
        ballot.ended or "", ballot.ended or "closed"
    )


def decided(decision: Decision) -> str:
    """Return what was decided, as a word or a sentence's end."""
    if decision.kind == "expired":
        return f"expired: nobody decided in time, it {_DEFAULTS[decision.default]}".replace(
            "it the run", "the run"
        )
    return DONE[decision.kind]
