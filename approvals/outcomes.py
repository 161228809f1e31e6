"""What became of a vote, and the sentence that tells a person so.

A voter in a quorum reads that a vote is recorded, never that something was approved; only a
recorded decision is told as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from .decisions import Decision
from .people import Principal
from .text import in_utc, visible

OutcomeKind = Literal[
    "recorded",
    "again",
    "already",
    "expired",
    "withdrawn",
    "refused",
    "invalid",
    "unavailable",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a vote.

    Attributes:
        kind: "recorded" it counts; "again" the same vote of the same person was recorded before;
            "already" another one was; "expired", "withdrawn" nothing is asked any more; "refused"
            this person may not decide; "invalid" see `errors`; "unavailable" nothing is known to
            be recorded, and trying again is safe; "unknown" there is no such request.
        decision: the vote, or the recorded decision it is about.
        errors: for "invalid" by field, "" for the whole; for "refused" and "withdrawn" why, in "".
        quorum: it is one vote of several.
        closed: when time was up.
    """

    kind: OutcomeKind
    decision: Decision | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    quorum: bool = False
    closed: datetime | None = None

    @property
    def text(self) -> str:
        """One sentence for a person, without its full stop; not escaped for any medium."""
        return _TEXTS[self.kind](self)


def _recorded(outcome: Outcome) -> str:
    if outcome.decision is None:
        return "Recorded: the run goes on with this answer"
    if outcome.quorum:
        return f"Your vote is recorded: {_vote(outcome.decision)}"
    return f"Recorded: {_decided(outcome.decision)}"


def _again(outcome: Outcome) -> str:
    if outcome.decision is None:
        return _already(outcome)
    if outcome.quorum:
        return f"Your vote was recorded before: {_vote(outcome.decision)}; it counts once"
    return f"This was recorded before: {_decided(outcome.decision)}"


def _already(outcome: Outcome) -> str:
    decision = outcome.decision
    if decision is None:
        return "This was answered before, or its time was up; your answer was not recorded"
    if outcome.quorum:
        who = named(decision.by)
        return f"{who} voted before: {_vote(decision)}; only the first vote of a person counts"
    return f"Already {_decided(decision)}; nothing else was recorded"


def _expired(outcome: Outcome) -> str:
    when = f" at {in_utc(outcome.closed)}" if outcome.closed is not None else ""
    return f"Time was up{when}; nothing was recorded for you"


def _withdrawn(outcome: Outcome) -> str:
    decision = outcome.decision
    if decision is not None and decision.kind in _DECIDED:
        return f"Already {_decided(decision)}; this vote is not needed, and was not recorded"
    why = outcome.errors.get("", "it was withdrawn")
    return f"This is not asked any more: {why}; nothing was recorded for you"


def _refused(outcome: Outcome) -> str:
    return f"Not recorded: {visible(outcome.errors.get('', 'you may not decide here'))}"


def _invalid(outcome: Outcome) -> str:
    wrong = "; ".join(f"{name}: {text}" if name else text for name, text in outcome.errors.items())
    return f"Not recorded: {visible(wrong)}"


def _unavailable(outcome: Outcome) -> str:
    return "Not recorded, as far as is known; please try again"


def _unknown(outcome: Outcome) -> str:
    return "There is no such request; nothing was recorded"


_TEXTS: dict[OutcomeKind, Callable[[Outcome], str]] = {
    "recorded": _recorded,
    "again": _again,
    "already": _already,
    "expired": _expired,
    "withdrawn": _withdrawn,
    "refused": _refused,
    "invalid": _invalid,
    "unavailable": _unavailable,
    "unknown": _unknown,
}
_DECIDED = {
    "approved": "approved",
    "rejected": "rejected",
    "edited": "approved with changes",
    "responded": "answered",
}
_VOTES = {"approved": "yes", "rejected": "no", "edited": "yes, with changes", "responded": "answer"}


def _decided(decision: Decision) -> str:
    votes = [each for each in decision.votes if each.kind == decision.kind] or [decision]
    names = " and ".join(named(each.by) for each in votes)
    return f"{_DECIDED.get(decision.kind, decision.kind)} by {names}, {in_utc(decision.at)}"


def _vote(decision: Decision) -> str:
    return f"{_VOTES.get(decision.kind, decision.kind)}, {in_utc(decision.at)}"


def named(by: Principal) -> str:
    """Return who somebody is: the name that the channel shows, and always the proven identity."""
    shown = visible(by.display or "").strip()
    return f"{shown} ({by.identity})" if shown and shown != by.identity else by.identity
