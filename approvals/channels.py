"""What a channel is: it tells people of a request, and later what became of it.

A channel of your own has a name and the methods of `Channel`; subclass it for the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from .decisions import Decision
from .office import Office
from .people import Approver, Kept
from .requests import ApprovalRequest
from .tokens import PREFIX, Claims, Person, Purpose, new_seed, seal


class Receipt(Kept):
    """Where a message is, so that it can be changed later; no token, no secret.

    Attributes:
        channel: the channel's name.
        to: the names of the approvers it went to.
        ref: what the channel needs to find the message again; plain JSON.
        at: when it was sent, in UTC.
    """

    channel: str
    to: tuple[str, ...]
    ref: dict[str, Any]
    at: datetime


@dataclass(frozen=True)
class Notice:
    """What a channel is to tell.

    Attributes:
        kind: "request" asks; "reminder" asks again; "closed" tells what became of it.
        request: what is asked.
        to: whom; one approver where the channel is personal.
        callbacks: the callback of each approver, by name.
        office: the keys, the base URL and the clock.
        decision: with "closed", what was decided.
        attempt: of the step that sends; above 1, an earlier one may have delivered.
        number: of the reminder, from 1.
    """

    kind: Literal["request", "reminder", "closed"]
    request: ApprovalRequest
    to: tuple[Approver, ...]
    callbacks: Mapping[str, str]
    office: Office
    decision: Decision | None = None
    attempt: int = 1
    number: int = 0
    seed: str = field(default_factory=new_seed)

    def personal(self, approver: Approver) -> Notice:
        """Return this notice for one approver."""
        return replace(self, to=(approver,))

    def token(
        self,
        purpose: Purpose = "link",
        who: Sequence[Person] = (),
        requester: Sequence[str] = (),
    ) -> str:
        """Return a signed token by which those in `who` decide; by default all it goes to.

        Args:
            requester: who may not, if a channel knows more of their identities than the policy.

        Raises:
            ValueError: they decide through different callbacks (a quorum is told one by one).
        """
        people = tuple(who) or tuple(Person(each.name, each.identities) for each in self.to)
        callbacks = {self.callbacks[each.approver] for each in people}
        if len(callbacks) != 1:
            raise ValueError("one message cannot carry the votes of several approvers")
        request = self.request
        return seal(
            self.office.keys,
            purpose,
            Claims(
                callback=callbacks.pop(),
                execution=request.execution,
                operation=request.operation,
                who=people,
                requester=tuple(requester) or request.policy.requested_by,
                allowed=request.allowed,
                digest=request.digest,
                deadline=int(request.deadline.timestamp()),
                seed=self.seed,
            ),
        )

    def link(self, who: Sequence[Person] = (), requester: Sequence[str] = ()) -> str:
        """Return the page on which the one approver it goes to looks and decides."""
        if len(self.to) != 1:
            raise ValueError("a link is personal: use a notice for one approver")
        token = self.token("link", who, requester)
        return f"{self.office.base_url}/a/{PREFIX}{token}/review"

    @property
    def page(self) -> str:
        """The page for people who are signed in; it carries no token."""
        return f"{self.office.base_url}/inbox/{self.request.execution}/{self.request.operation}"


@runtime_checkable
class Channel(Protocol):
    """A way to reach people.

    Attributes:
        name: in receipts, decisions and screens.
        personal: each approver gets a message of their own; else one message serves all.
    """

    name: str
    personal: bool

    def reaches(self, approver: Approver) -> bool:
        """Return whether this approver can be told this way; asks nobody."""
        return True

    def send(self, notice: Notice) -> Receipt:
        """Deliver a request, inside a step; mint tokens here, and put none in the receipt.

        Raises:
            ChannelError: it could not; the step's retry policy decides what is next.
        """
        ...

    def update(self, receipt: Receipt, notice: Notice) -> None:
        """Remind, or tell what became of the request, where the message is.

        Raises:
            ChannelError: it could not.
        """

    def find(self, notice: Notice, since: datetime) -> Receipt | None:
        """Return the message that an interrupted attempt already sent; None if unknown."""
        return None

    def spec(self) -> dict[str, Any] | None:
        """Return what builds this channel again in another process: no secret; None if nothing can.

        It is for `perdure cancel`, which tells people without running the handler.
        """
        return None
