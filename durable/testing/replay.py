"""Replays a finished run without writing, and fails on any difference from what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ExecutionError, NonDeterminismError
from ..events import Event
from ..group_commit import Ticket
from ..handler import Handler
from ..host import Host
from ..invocation import outcome_of
from ..limits import Limits
from ..local import Execution
from ..operations import ErrorObject, Operation
from ..session import Ending, Reply
from ..session import Failed as _Failed
from ..session import Succeeded as _Succeeded


class ReplayDifference(NonDeterminismError, AssertionError):
    """A finished run did not replay to what its journal holds."""


def check_replay(run: Execution, handler: Handler[Any] | None = None) -> None:
    """Run the handler of a finished run over its journal, and compare.

    No step is run, nothing is written.

    Args:
        run: the handle of a run that has ended.
        handler: the handler to replay, for example a changed version; by default the registered
            one.

    Raises:
        ReplayDifference: the handler asked for something new, left something out, or came to
            another result.
    """
    snapshot = run.snapshot()
    handler = handler or snapshot.handler
    session = ReplaySession(run.id, snapshot.payload, snapshot.seed, snapshot.operations)
    host = Host(8)
    try:
        ending = outcome_of(session, handler, snapshot.clock, host)
    except NonDeterminismError as error:
        raise ReplayDifference(f"the replay of {run.id!r} differs: {error}") from None
    finally:
        host.close()
    _compare(run, ending)


def _compare(run: Execution, ending: Ending) -> None:
    try:
        run.result(timeout=0)
    except ExecutionError as error:
        recorded = (error.error_type, error.error and error.error.message)
        replayed = isinstance(ending, _Failed) and (ending.error.type, ending.error.message)
        if recorded != replayed:
            raise ReplayDifference(
                f"the replay of {run.id!r} ended with {replayed or ending}, the journal holds "
                f"{recorded}"
            ) from None
        return
    kept = run.history()[-1]["ExecutionSucceededDetails"]["Result"]["Payload"]
    if not isinstance(ending, _Succeeded) or ending.payload != kept:
        shown = ending.payload if isinstance(ending, _Succeeded) else ending
        raise ReplayDifference(
            f"the replay of {run.id!r} came to {shown!r}, the journal holds {kept!r}"
        )


class ReplaySession:
    """A session that reads and never writes."""

    def __init__(
        self, execution_id: str, payload: str, seed: str, operations: dict[str, Operation]
    ) -> None:
        self.execution_id = self.address = execution_id
        self.payload = payload
        self.seed = seed
        self.operations = operations
        self.limits = Limits()
        self.cautious = False
        self.replay_only = True
        self.home = None
        self.room = None
        self.deadline = None

    def enqueue(self, events: list[Event], callback: Callable[[Ticket], None] | None) -> Ticket:
        """Refuse events; none is expected."""
        if events:
            names = ", ".join(f"{event.kind.value} {event.name!r}" for event in events)
            raise ReplayDifference(f"the replay records something new: {names}")
        ticket = Ticket(None, callback)
        ticket.done, ticket.result = True, Reply()
        if callback is not None:
            callback(ticket)
        return ticket

    def wait(self, ticket: Ticket) -> Reply:
        """Return at once."""
        return Reply()

    def soon(self, ticket: Ticket) -> None:
        """Do nothing."""

    def callback_id(self, operation: Operation) -> str:
        """Return a stand-in."""
        return operation.callback_id or operation.id

    def fail_callback(self, callback_id: str, error: ErrorObject) -> bool:
        """Refuse: no body runs in a replay, so nobody asks."""
        raise ReplayDifference(f"the replay fails a callback: {error.message}")

    def enqueue_end(
        self, events: list[Event], ending: Ending, callback: Callable[[Ticket], None] | None
    ) -> Ticket:
        """Refuse events; the outcome is compared, not written."""
        return self.enqueue(events, callback)

    def end(self, events: list[Event], ending: Ending) -> None:
        """Refuse events; the outcome is compared, not written."""
        self.enqueue(events, None)
