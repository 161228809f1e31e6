"""One invocation's hold on a run of the embedded engine: its lease, its place in the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CallbackClosedError, CallbackNotFoundError
from ..events import Event, EventKind, fold
from ..group_commit import Ticket
from ..limits import Limits
from ..operations import ErrorObject, Operation, OperationStatus, OperationType
from ..session import Ending, Reply
from . import rows
from .appends import Append, End, check_held
from .callback_ids import callback_id
from .callbacks import fail

if TYPE_CHECKING:
    from .service import LocalService

_K = EventKind
_TIMED = frozenset({_K.WAIT_STARTED, _K.CALLBACK_STARTED, _K.STEP_RETRIED, _K.INVOKE_STARTED})


class LocalSession:
    """The session of a leased run; see `perdure.durable.session.Session`."""

    def __init__(
        self,
        service: LocalService,
        run: int,
        execution_id: str,
        handler: str,
        payload: str,
        seed: str,
        token: int,
        *,
        stalls: int,
        deadline: int,
        since: int,
    ) -> None:
        self.service = service
        self.run = run
        self.execution_id = self.address = execution_id
        self.handler = handler
        self.payload = payload
        self.seed = seed
        self.token = token
        self.deadline = deadline
        self.since = since
        self.cautious = stalls > 0
        self.replay_only = False
        self.limits: Limits = service.limits
        self.home: Path | None = service.store.path.parent
        self.operations: dict[str, Operation] = {}
        self.seq = 0
        self._timers: list[tuple[int, str]] = []

    @property
    def room(self) -> int | None:
        """How many operations may still be added; None for any number."""
        limit = self.limits.operations
        return None if limit is None else limit - len(self.operations)

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what is recorded of the run: one SELECT, linear in its events."""
        operations = self.operations
        self.seq = rows.load(connection, self.run, operations)
        self._timers = [
            (each.due, each.id)
            for each in operations.values()
            if each.due is not None and not each.closed
        ]
        heapify(self._timers)

    def fire_timers(self) -> None:
        """Record the ends of the timers that came due while the run waited."""
        if (due := self.next_due()) is not None and due <= self.service.clock.now():
            for event in self.wait(self.enqueue([], None)).events:
                fold(self.operations, event)

    def enqueue(self, events: list[Event], callback: Callable[[Ticket], None] | None) -> Ticket:
        """Queue events, and with them the ends of the timers that are due."""
        self._note_timers(events)
        ticket = Ticket(Append(self, events, self._due()), callback)
        return self.service.store.group.enqueue(ticket)

    def wait(self, ticket: Ticket) -> Reply:
        """Return once the ticket's events are durable."""
        reply: Reply = self.service.store.group.wait(ticket)
        return reply

    def soon(self, ticket: Ticket) -> None:
        """Have a queued ticket written without anybody waiting for it."""
        self.service.drain_soon()

    def callback_id(self, operation: Operation) -> str:
        """Return the id by which others complete a recorded CALLBACK."""
        return callback_id(self.run, operation.id)

    def fail_callback(self, callback_id: str, error: ErrorObject) -> bool:
        """Fail a CALLBACK of this run: the run hears of it with its next write.

        Raises:
            LeaseLostError: another process has the run.
        """

        def work(c: sqlite3.Connection) -> None:
            check_held(c, self)
            fail(self.service, c, callback_id, error, only=self.run)

        try:
            self.service.store.write(work)
        except (CallbackClosedError, CallbackNotFoundError):
            return False
        return True

    def end(self, events: list[Event], ending: Ending) -> None:
        """Write the last events and the outcome, and give the lease back."""
        self.service.store.group.wait(self.enqueue_end(events, ending, None))

    def enqueue_end(
        self, events: list[Event], ending: Ending, callback: Callable[[Ticket], None] | None
    ) -> Ticket:
        """Queue the last events and the outcome."""
        self._note_timers(events)
        ticket = Ticket(End(self, events, ending), callback)
        return self.service.store.group.enqueue(ticket)

    def next_due(self) -> int | None:
        """Return when the next timer of this run is due, or None."""
        while self._timers:
            due, id = self._timers[0]
            operation = self.operations[id]
            over = operation.closed or self._is_dropped(operation)
            if operation.due == due and not over:
                return due
            heappop(self._timers)
            if operation.due is not None and not over:
                heappush(self._timers, (operation.due, id))
        return None

    def _is_dropped(self, operation: Operation) -> bool:
        """Return whether a step is to be tried again in a branch whose batch went on without it."""
        if operation.type is not OperationType.STEP:
            return False
        parent = self.operations.get(operation.parent or "")
        while parent is not None and not parent.closed:
            parent = self.operations.get(parent.parent or "")
        return parent is not None

    def _note_timers(self, events: list[Event]) -> None:
        for event in events:
            if event.kind in _TIMED and (due := self.operations[event.id].due) is not None:
                heappush(self._timers, (due, event.id))

    def _due(self) -> list[Event]:
        now = self.service.clock.now()
        ended, retries = [], []
        while (due := self.next_due()) is not None and due <= now:
            _, id = heappop(self._timers)
            event = timer_event(self.operations[id], now)
            if event is not None:
                ended.append(event)
            else:
                retries.append((due, id))
        # Due until the handler starts it: should it suspend instead, it is invoked again at once.
        for timer in retries:
            heappush(self._timers, timer)
        return ended


def timer_event(operation: Operation, now: int) -> Event | None:
    """Return the event by which a due timer ends its operation; a retry needs none."""
    if operation.type is OperationType.STEP:
        if operation.status is OperationStatus.PENDING:
            operation.status = OperationStatus.READY
        return None
    common: dict[str, Any] = {
        "id": operation.id,
        "parent": operation.parent,
        "name": operation.name,
        "subtype": operation.subtype,
    }
    if operation.type is OperationType.WAIT:
        length = ((operation.due or now) - operation.started) / 1000
        return Event(_K.WAIT_SUCCEEDED, now, delay=length, **common)
    missed = operation.heartbeat is not None and operation.due != operation.deadline
    what, type_ = (
        ("missed its heartbeat", "Callback.Heartbeat")
        if missed
        else ("timed out", "Callback.Timeout")
    )
    error = ErrorObject(f"{operation.name!r} {what}", type_)
    if operation.type is OperationType.CALLBACK:
        return Event(_K.CALLBACK_TIMED_OUT, now, error=error, **common)
    error = ErrorObject(f"{operation.name!r} timed out", "Invoke.Timeout")
    return Event(_K.INVOKE_TIMED_OUT, now, error=error, **common)
