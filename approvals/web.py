"""The inbox and the terminal as a channel: nothing is sent, the journal is what they show."""

from __future__ import annotations

from typing import Any

from .channels import Notice, Receipt
from .errors import ChannelError
from .people import Approver, IdentityKind


class Web:
    """The inbox of `perdure serve`, and the terminal, for people with an account on the machine."""

    name = "web"
    personal = False

    def reaches(self, approver: Approver) -> bool:
        """Return whether the approver can sign in."""
        return approver.of(IdentityKind.USER) is not None

    def send(self, notice: Notice) -> Receipt:
        """Refuse: there is nothing to send."""
        raise ChannelError("the inbox is looked at, not sent to", final=True)

    def update(self, receipt: Receipt, notice: Notice) -> None:
        """Do nothing: the inbox shows the journal."""

    def find(self, notice: Notice, since: Any) -> Receipt | None:
        """Return None: nothing is sent."""
        return None

    def spec(self) -> dict[str, Any] | None:
        """Return what builds this channel again."""
        return {"channel": "web"}
