"""Cancels a run and tells the people it asked that their answer is no longer wanted.

The run is stopped first and people are told after that, so nobody reads "withdrawn" while their
answer still counts. Telling is best effort: whoever cannot be told finds out when they open the
request, which answers that it was withdrawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perdure.durable.errors import PerdureError

from .audit import AuditRecord, Told, audit
from .channels import Notice, Receipt
from .decisions import Decision
from .office import Office
from .people import POLICY, Principal

if TYPE_CHECKING:
    from perdure.durable import LambdaEngine, LocalEngine


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What a cancelled run had asked.

    Attributes:
        requests: the approvals that were open.
        told: the messages that now say so.
        untold: a line for each that could not be changed: where it is, and why.
    """

    requests: tuple[AuditRecord, ...] = ()
    told: tuple[Receipt, ...] = ()
    untold: tuple[str, ...] = ()


def cancel(
    engine: LocalEngine | LambdaEngine,
    execution_id: str,
    reason: str = "cancelled",
    *,
    by: Principal = POLICY,
    office: Office | None = None,
) -> Withdrawn:
    """End a run, and tell those it waits for that their answer is not wanted any more.

    Args:
        by: who cancels.
        office: for the addresses in the messages; by default that of the journal.

    Raises:
        ExecutionConflictError: the run has ended; nobody is told anything.
        ExecutionNotFoundError: there is none of this id.
    """
    engine.cancel(execution_id, reason)
    requests = tuple(each for each in audit(engine, execution_id) if each.state == "withdrawn")
    told: list[Receipt] = []
    untold: list[str] = []
    for record in requests:
        decision = _withdrawn(record, reason, by, engine.clock.now())
        for message in _messages(record):
            assert message.receipt is not None
            try:
                at = office or Office.at(engine.home, engine.clock)
                if _tell(record, message, message.receipt, decision, at):
                    told.append(message.receipt)
            except Exception as error:  # a channel of the user's may raise anything
                untold.append(f"{_where(message)}: {_why(error)}")
    return Withdrawn(requests, tuple(told), tuple(untold))


def _messages(record: AuditRecord) -> Iterator[Told]:
    """Yield the messages about a request, each once."""
    found = {
        (each.channel, each.to, str(each.receipt.ref)): each
        for each in record.told
        if each.receipt is not None
    }
    yield from found.values()


def _withdrawn(record: AuditRecord, reason: str, by: Principal, now: int) -> Decision:
    request = record.request
    return Decision(
        request_id=request.id,
        digest=request.digest,
        kind="withdrawn",
        by=by,
        approver=None,
        at=datetime.fromtimestamp(now / 1000, UTC),
        channel="terminal",
        comment=reason,
        nonce=hashlib.sha256(f"withdrawn {request.id}".encode()).hexdigest()[:24],
    )


def _tell(
    record: AuditRecord, message: Told, receipt: Receipt, decision: Decision, office: Office
) -> bool:
    """Have the channel of a message change it; return False for one that has nothing to change."""
    from .vias import channel_from

    if message.spec is None:
        raise PerdureError("its channel is known to the handler alone")
    channel = channel_from(dict(message.spec))
    policy = record.request.policy
    to = tuple(each for each in policy.everyone if each.name in receipt.to)
    channel.update(
        receipt,
        Notice(
            kind="closed",
            request=record.request,
            to=to,
            callbacks={},
            office=office,
            decision=decision,
        ),
    )
    return bool(receipt.ref)


def _where(message: Told) -> str:
    return f"{message.channel} ({', '.join(message.to)})" if message.to else str(message.channel)


def _why(error: Exception) -> str:
    """Say what went wrong; an error that is not ours may hold what nobody is to see."""
    return str(error) if isinstance(error, PerdureError) else type(error).__name__
