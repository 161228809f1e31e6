"""How a receiver asks the engine: complete a callback, and read how a request stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from .decisions import Decision
from .requests import ApprovalRequest


@dataclass(frozen=True, slots=True)
class Ballot:
    """One callback of a request.

    Attributes:
        callback: its id.
        approver: whose it is in a quorum; None for the one callback that all share.
        open: nobody completed it, and its run goes on.
        vote: what it was completed with, if that is a decision.
        ended: why it is closed without one: "timed out", "withdrawn", "foreign" (completed with
            something that is no decision).
    """

    callback: str
    approver: str | None
    open: bool
    vote: Decision | None = None
    ended: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a request stands in the journal.

    Attributes:
        decision: the recorded outcome, once the handler went on with it.
        status: of the run: "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT".
        handler: the run's handler.
    """

    request: ApprovalRequest
    ballots: tuple[Ballot, ...]
    decision: Decision | None
    status: str
    handler: str = ""

    def ballot(self, callback: str) -> Ballot | None:
        """Return the ballot of a callback."""
        return next((each for each in self.ballots if each.callback == callback), None)

    def ballot_of(self, approver: str) -> Ballot | None:
        """Return the ballot by which an approver votes."""
        return next((b for b in self.ballots if b.approver in (approver, None)), None)

    @property
    def is_open(self) -> bool:
        """Whether a vote still counts."""
        return self.decision is None and any(each.open for each in self.ballots)


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A named wait of a handler: an event that somebody sends.

    Attributes:
        path: how `send` addresses it.
    """

    execution: str
    operation: str
    callback: str
    path: str
    handler: str
    created: datetime
    due: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the inbox: requests and named waits, newest first.

    Attributes:
        count: of all that is open.
        next: the cursor of what follows, or None.
    """

    entries: tuple[Standing | OpenWait, ...]
    count: int
    next: int | None


class Callbacks(Protocol):
    """An engine, as far as decisions need it. All of these may raise `Unavailable`."""

    def complete(self, callback: str, payload: str) -> Literal["recorded", "closed"]:
        """Complete a callback with JSON text, once; "closed" if that was too late, or no callback.

        Raises:
            Unavailable: it could not be asked, or the answer was lost.
        """
        ...

    def lookup(self, execution: str, operation: str) -> Standing | OpenWait | None:
        """Return how a request or named wait stands, or None if there is none."""
        ...

    def inbox(self, after: int | None = None, limit: int = 50) -> Page:
        """Return what is open."""
        ...
