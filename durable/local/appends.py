"""What runs write: their events, and at the end of an invocation the outcome, many runs at once.

All that waits is written with one look at the leases and a few statements, however many runs it
comes from: under threads, each call into SQLite is a chance to lose the interpreter for a while. A
run whose token is stale is left out, and it alone fails.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import LeaseLostError
from ..events import Event, EventKind, closes, fold
from ..group_commit import Ticket
from ..operations import ErrorObject
from ..session import Ending, Failed, Reply, Succeeded
from . import rows

if TYPE_CHECKING:
    from .session import LocalSession

_K = EventKind
_STEP_ENDS = frozenset({_K.STEP_SUCCEEDED, _K.STEP_FAILED})
_NO_PROGRESS = frozenset({_K.STEP_STARTED, _K.CONTEXT_STARTED, _K.INVOCATION_COMPLETED})
_HELD = (
    "SELECT run, lease_token, status, stalls, lease_until,"
    " (SELECT max(seq) FROM events WHERE events.run = executions.run) FROM executions"
    " WHERE +lease_owner IS NOT NULL AND run IN "
)
_HELD_ALONE = f"{_HELD}(?)"
_HELD_CHUNK = 64


class Held:
    """What the journal says of a leased run, kept up to date while a group is written."""

    __slots__ = ("last", "stalls", "status", "token", "until")

    def __init__(
        self, token: int, status: str, stalls: int, until: int | None, last: int | None
    ) -> None:
        self.token = token
        self.status = status
        self.stalls = stalls
        self.until = until
        self.last = last or 0


class Group:
    """The rows of a group of writes, and the statements that follow them."""

    __slots__ = ("after", "connection", "moving", "releases", "rows")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.rows: list[rows.Row] = []
        self.moving: list[int] = []
        self.releases: list[tuple[int, int | None]] = []
        self.after: list[Callable[[], None]] = []

    def add(self, held: Held, run: int, events: Sequence[Event]) -> None:
        """Append events to a run."""
        self.rows += rows.make(self.connection, run, held.last, events)
        held.last += len(events)


class Append:
    """Work: append a run's events, and the ends of its timers that are due."""

    __slots__ = ("_before", "_events", "_timers", "session")

    def __init__(self, session: LocalSession, events: list[Event], timers: list[Event]) -> None:
        self.session = session
        self._events = events
        self._timers = timers
        self._before: int | None = None

    def place(self, group: Group, held: Held) -> Reply:
        """Add what is to be written to the group; return what the run learns."""
        session = self.session
        self._before = session.seq
        events, timers = self._events, self._timers
        external: Sequence[Event] = ()
        if held.last != session.seq:
            external = list(rows.select(group.connection, session.run, session.seq))
        ended = held.status != "RUNNING"
        if ended:
            events, timers = [event for event in events if event.kind in _STEP_ENDS], []
        elif external and timers:
            closed = {event.id for event in external if closes(event.kind)}
            timers = [event for event in timers if event.id not in closed]
        group.add(held, session.run, (*events, *timers))
        session.seq = held.last
        if held.stalls and any(event.kind not in _NO_PROGRESS for event in events):
            held.stalls = 0
            group.moving.append(session.run)
        session.service.extend(group, session.run, held)
        for event in events:
            if event.kind is _K.INVOKE_STARTED:
                group.after.append(session.service.child_starter(group, session, event))
        return Reply(events=(*external, *timers), ended=ended)

    def undo(self) -> None:
        """Forget the place in the journal that a rollback took back."""
        if self._before is not None:
            self.session.seq, self._before = self._before, None


class End:
    """Work: append the last events of an invocation, and settle what the run is next."""

    __slots__ = ("_ending", "_events", "session")

    def __init__(self, session: LocalSession, events: list[Event], ending: Ending) -> None:
        self.session = session
        self._events = events
        self._ending = ending

    def place(self, group: Group, held: Held) -> None:
        """Add what is to be written to the group."""
        session, ending, events = self.session, self._ending, self._events
        service, run = session.service, session.run
        now = service.clock.now()
        done = completed(now, session.since, session.token)
        if held.status != "RUNNING":
            ends = [event for event in events if event.kind in _STEP_ENDS]
            group.add(held, run, [*ends, done])
            status, connection = held.status, group.connection
            group.after.append(lambda: service.release(connection, run, status, None, None))
            return
        unseen = _unseen(group.connection, session) if held.last != session.seq else False
        for event in events:
            if event.kind is _K.INVOKE_STARTED:
                group.after.append(service.child_starter(group, session, event))
        if isinstance(ending, (Succeeded, Failed)):
            closing = _closing(ending, now)
            group.add(held, run, [*events, done, closing])
            group.after.append(lambda: service.conclude(group.connection, run, closing))
            return
        group.add(held, run, [*events, done])
        due = session.next_due() or session.deadline
        wake = now if unseen or ending.again else min(session.deadline, due)
        group.releases.append((run, wake))

    def undo(self) -> None:
        """Do nothing: nobody asks this session again."""


def write_together(connection: sqlite3.Connection, tickets: Sequence[Ticket]) -> None:
    """Write the appends and ends of many runs."""
    held = _held(connection, list({ticket.work.session.run for ticket in tickets}))
    group = Group(connection)
    for ticket in tickets:
        session = ticket.work.session
        state = held.get(session.run)
        if state is None or state.token != session.token:
            ticket.error = _lost(session)
        else:
            ticket.result = ticket.work.place(group, state)
    rows.insert_rows(connection, group.rows)
    if group.moving:
        marks = ",".join("?" * len(group.moving))
        connection.execute(f"UPDATE executions SET stalls = 0 WHERE run IN ({marks})", group.moving)
    # First what is let go: a run that ends in this group may wake its caller that just suspended.
    if group.releases:
        tickets[0].work.session.service.release_all(connection, group.releases)
    for follow in group.after:
        follow()


def check_held(connection: sqlite3.Connection, session: LocalSession) -> None:
    """Check, inside a transaction, that this session's lease holds.

    Raises:
        LeaseLostError: another process has the run.
    """
    held = _held(connection, [session.run]).get(session.run)
    if held is None or held.token != session.token:
        raise _lost(session)


def _lost(session: LocalSession) -> LeaseLostError:
    return LeaseLostError(
        f"the run {session.execution_id!r} was given up, or taken over by another process; "
        "what this one did since is not recorded"
    )


def _unseen(connection: sqlite3.Connection, session: LocalSession) -> bool:
    """Take in heartbeats the run has not heard of; return whether there is more than those."""
    events = list(rows.select(connection, session.run, session.seq))
    for event in events:
        if event.kind is _K.CALLBACK_HEARTBEAT:
            fold(session.operations, event)
    return any(event.kind is not _K.CALLBACK_HEARTBEAT for event in events)


def _held(connection: sqlite3.Connection, runs: Sequence[int]) -> dict[int, Held]:
    if len(runs) == 1:
        alone = connection.execute(_HELD_ALONE, runs).fetchone()
        return {} if alone is None else {alone[0]: Held(*alone[1:])}
    held = {}
    for first in range(0, len(runs), _HELD_CHUNK):
        some = runs[first : first + _HELD_CHUNK]
        marks = ",".join("?" * len(some))
        for run, *state in connection.execute(f"{_HELD}({marks})", some).fetchall():
            held[run] = Held(*state)
    return held


def completed(now: int, since: int | None, token: int, error: ErrorObject | None = None) -> Event:
    """Return the event that ends an invocation."""
    return Event(_K.INVOCATION_COMPLETED, now, started=since or now, error=error, token=token)


def real_now() -> int:
    """Return the machine's time in milliseconds: leases never follow a clock moved by hand."""
    return time.time_ns() // 1_000_000


def _closing(ending: Succeeded | Failed, now: int) -> Event:
    if isinstance(ending, Succeeded):
        return Event(_K.EXECUTION_SUCCEEDED, now, payload=ending.payload)
    return Event(_K.EXECUTION_FAILED, now, error=ending.error)
