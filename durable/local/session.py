"""One invocation's hold on a run of the embedded engine: its lease, its place in the journal."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from ..errors import LeaseLostError
from ..events import Event, EventKind, closes, fold
from ..group_commit import Ticket
from ..limits import Limits
from ..operations import ErrorObject, Operation, OperationStatus, OperationType
from ..session import Ending, Failed, Reply, Succeeded
from . import rows
from .callback_ids import callback_id

if TYPE_CHECKING:
    from .service import LocalService

_K = EventKind
_STEP_ENDS = frozenset({_K.STEP_SUCCEEDED, _K.STEP_FAILED})
_PROGRESS_NOT = frozenset({_K.STEP_STARTED, _K.CONTEXT_STARTED, _K.INVOCATION_COMPLETED})
_TIMED = frozenset({_K.WAIT_STARTED, _K.CALLBACK_STARTED, _K.STEP_RETRIED, _K.INVOKE_STARTED})
_HELD = (
    "SELECT lease_token, status, stalls, lease_until,"
    " (SELECT max(seq) FROM events WHERE run = ?1) FROM executions WHERE run = ?1"
)


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
        self.execution_id = execution_id
        self.handler = handler
        self.payload = payload
        self.seed = seed
        self.token = token
        self.deadline = deadline
        self.since = since
        self.cautious = stalls > 0
        self.replay_only = False
        self.limits: Limits = service.limits
        self.operations: dict[str, Operation] = {}
        self.seq = 0
        self._timers: list[tuple[int, str]] = []

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what is recorded of the run: one SELECT, linear in its events."""
        operations = self.operations
        for event in rows.select(connection, self.run):
            fold(operations, event)
            self.seq += 1
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
        for event in events:
            if event.kind in _TIMED:
                operation = self.operations[event.id]
                if operation.due is not None:
                    heappush(self._timers, (operation.due, event.id))
        ticket = Ticket(_Append(self, events, self._due()), callback)
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

    def end(self, events: list[Event], ending: Ending) -> None:
        """Write the last events and the outcome, and give the lease back."""
        self.service.store.group.wait(self.enqueue_end(events, ending, None))

    def enqueue_end(
        self, events: list[Event], ending: Ending, callback: Callable[[Ticket], None] | None
    ) -> Ticket:
        """Queue the last events and the outcome."""
        for event in events:
            operation = self.operations.get(event.id)
            if event.kind in _TIMED and operation is not None and operation.due is not None:
                heappush(self._timers, (operation.due, event.id))
        ticket = Ticket(_End(self, events, ending), callback)
        return self.service.store.group.enqueue(ticket)

    def next_due(self) -> int | None:
        """Return when the next timer of this run is due, or None."""
        while self._timers:
            due, id = self._timers[0]
            operation = self.operations[id]
            if operation.due == due and not operation.closed:
                return due
            heappop(self._timers)
            if operation.due is not None and not operation.closed:
                heappush(self._timers, (operation.due, id))
        return None

    def _due(self) -> list[Event]:
        now = self.service.clock.now()
        ended = []
        while (due := self.next_due()) is not None and due <= now:
            _, id = heappop(self._timers)
            event = timer_event(self.operations[id], now)
            if event is not None:
                ended.append(event)
        return ended


class _Append:
    """Work: append a run's events, if its lease still holds."""

    def __init__(self, session: LocalSession, events: list[Event], timers: list[Event]) -> None:
        self._session = session
        self._events = events
        self._timers = timers
        self._before = session.seq

    def __call__(self, connection: sqlite3.Connection) -> Reply:
        session = self._session
        self._before = session.seq
        held = _held(connection, session)
        _, status, stalls, until, last = held
        external: list[Event] = []
        if last != session.seq:
            external = list(rows.select(connection, session.run, session.seq))
        ended = status != "RUNNING"
        closed = {event.id for event in external if closes(event.kind)}
        events = self._events
        if ended:
            events = [event for event in events if event.kind in _STEP_ENDS]
        timers = [each for each in self._timers if each.id not in closed and not ended]
        last = rows.insert(connection, session.run, last, (*events, *timers))
        session.seq = last
        if stalls and any(event.kind not in _PROGRESS_NOT for event in events):
            connection.execute("UPDATE executions SET stalls = 0 WHERE run = ?", (session.run,))
        session.service.extend(connection, session.run, until)
        for event in events:
            if event.kind is _K.INVOKE_STARTED:
                external += session.service.start_child(connection, session, event)
        return Reply(events=(*external, *timers), ended=ended)

    def undo(self) -> None:
        """Forget the place in the journal that the rollback took back."""
        self._session.seq = self._before


class _End:
    """Work: append a run's last events of an invocation and settle what it is next."""

    def __init__(self, session: LocalSession, events: list[Event], ending: Ending) -> None:
        self._session = session
        self._events = events
        self._ending = ending

    def __call__(self, connection: sqlite3.Connection) -> None:
        session, ending = self._session, self._ending
        _, status, _, _, last = _held(connection, session)
        now = session.service.clock.now()
        if status != "RUNNING":
            ends = [event for event in self._events if event.kind in _STEP_ENDS]
            events = [*ends, completed(now, session.since, session.token)]
            rows.insert(connection, session.run, last, events)
            session.service.release(connection, session.run, status, None, None)
            return
        events = [*self._events, completed(now, session.since, session.token)]
        for event in self._events:
            if event.kind is _K.INVOKE_STARTED:
                session.service.start_child(connection, session, event)
        if isinstance(ending, (Succeeded, Failed)):
            closing = _closing(ending, now)
            rows.insert(connection, session.run, last, (*events, closing))
            session.service.conclude(connection, session.run, closing)
            return
        unseen = last != session.seq or ending.again
        rows.insert(connection, session.run, last, events)
        due = session.next_due()
        wake = now if unseen else min(session.deadline, due or session.deadline)
        session.service.release(connection, session.run, "RUNNING", wake, None)


def completed(
    now: int, since: int | None, token: int, error: ErrorObject | None = None
) -> Event:
    """Return the event that ends an invocation."""
    return Event(_K.INVOCATION_COMPLETED, now, started=since or now, error=error, token=token)


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


def _held(connection: sqlite3.Connection, session: LocalSession) -> Any:
    row = connection.execute(_HELD, (session.run,)).fetchone()
    if row is None or row[0] != session.token:
        raise LeaseLostError(
            f"the run {session.execution_id!r} was taken over by another process; what this one "
            "did since is not recorded"
        )
    return (*row[:4], row[4] or 0)


def _closing(ending: Succeeded | Failed, now: int) -> Event:
    if isinstance(ending, Succeeded):
        return Event(_K.EXECUTION_SUCCEEDED, now, payload=ending.payload)
    return Event(_K.EXECUTION_FAILED, now, error=ending.error)


def real_now() -> int:
    """Return the machine's time in milliseconds: leases never follow a clock moved by hand."""
    return time.time_ns() // 1_000_000
