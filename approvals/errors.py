"""The errors of approvals, below `PerdureError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.durable.errors import PerdureError

if TYPE_CHECKING:
    from .decisions import Decision


class ApprovalError(PerdureError):
    """What came back for a request is not a decision about it; it never counts as a yes."""


class ApprovalRejected(ApprovalError):
    """A request was not approved, and the caller asked for an error; see `raise_if_rejected`.

    Attributes:
        decision: what was decided, by whom.
    """

    def __init__(self, message: str, decision: Decision | None = None) -> None:
        super().__init__(message)
        self.decision = decision


class ApprovalExpired(ApprovalError):
    """Nobody decided in time, and `on_timeout` is "raise"."""


class ChannelError(PerdureError):
    """A channel could not deliver.

    Attributes:
        retry_after: seconds after which the other side asks to try again, if it said so.
        final: trying again cannot help: a wrong password, an unknown channel.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, final: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.final = final


class Unavailable(PerdureError):
    """The engine could not be asked, or its answer was lost; nothing is known to be recorded."""
