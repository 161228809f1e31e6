"""The executions of a journal as rows: found, ended, and added to from outside.

The rows say all there is; nothing here is cached. Whatever gives a run work sets its `wake_at` in
the same transaction and then tells the engine (`on_work`) and the other processes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..clock import Clock
from ..errors import ExecutionNotFoundError
from ..events import Event, EventKind, fold
from ..limits import Limits
from ..operations import Operation
from . import rows
from .store import Store

_K = EventKind
STATUS_AFTER = {
    _K.EXECUTION_SUCCEEDED: "SUCCEEDED",
    _K.EXECUTION_FAILED: "FAILED",
    _K.EXECUTION_TIMED_OUT: "TIMED_OUT",
    _K.EXECUTION_STOPPED: "CANCELLED",
}
_INVOKE_END = {
    _K.EXECUTION_SUCCEEDED: _K.INVOKE_SUCCEEDED,
    _K.EXECUTION_FAILED: _K.INVOKE_FAILED,
    _K.EXECUTION_TIMED_OUT: _K.INVOKE_TIMED_OUT,
    _K.EXECUTION_STOPPED: _K.INVOKE_STOPPED,
}
_RECORD = (
    "SELECT run, id, handler, status, created, ended, deadline, wake_at, lease_owner, source,"
    " seed, coalesce(input, (SELECT data FROM blobs WHERE hash = blob)) FROM executions"
)


@dataclass(frozen=True, slots=True)
class Record:
    """The row of one execution; times in milliseconds."""

    run: int
    id: str
    handler: str
    status: str
    created: int
    ended: int | None
    deadline: int
    wake_at: int | None
    lease_owner: str | None
    source: str | None
    seed: str
    payload: str


class Executions:
    """What is known of the executions of one journal file, and how they end."""

    def __init__(self, store: Store, clock: Clock, limits: Limits, owner: str, lease: int) -> None:
        self.store = store
        self.clock = clock
        self.limits = limits
        self.owner = owner
        self.lease = lease
        self.on_work: Callable[[Iterable[int]], None] = lambda runs: None
        self.drain_soon: Callable[[], None] = store.group.wake
        self._touched: list[int] = []
        store.after_commit = self._tell

    def record(self, c: sqlite3.Connection, id: str) -> Record:
        """Return the row of an execution.

        Raises:
            ExecutionNotFoundError: there is none of this id.
        """
        row = c.execute(f"{_RECORD} WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise ExecutionNotFoundError(f"no execution {id!r} in {self.store.path}")
        return Record(*row)

    def records(self, status: str | None, handler: str | None, limit: int) -> list[Record]:
        """Return the newest executions, newest first."""
        clauses = {"status": status, "handler": handler}
        wanted = {name: value for name, value in clauses.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in wanted)
        with self.store.read() as c:
            found = c.execute(
                f"{_RECORD} {'WHERE ' + where if where else ''} ORDER BY run DESC LIMIT ?",
                (*wanted.values(), limit),
            ).fetchall()
        return [Record(*row) for row in found]

    def operations(self, c: sqlite3.Connection, run: int) -> dict[str, Operation]:
        """Return the state of a run's operations."""
        operations: dict[str, Operation] = {}
        for event in rows.select(c, run):
            fold(operations, event)
        return operations

    def touch(self, run: int) -> None:
        """Note, inside a transaction, that a run has something to do or to tell."""
        self._touched.append(run)

    def _tell(self) -> None:
        if self._touched:
            touched, self._touched = self._touched, []
            self.on_work(touched)

    def due(self, handlers: Sequence[str]) -> int | None:
        """Return when the next run of these handlers is to be invoked, or None."""
        names = ",".join("?" * len(handlers))
        with self.store.read() as c:
            when: int | None = c.execute(
                "SELECT min(wake_at) FROM executions WHERE wake_at IS NOT NULL"
                f" AND handler IN ({names})",
                tuple(handlers),
            ).fetchone()[0]
        return when

    def next_timer(self) -> int | None:
        """Return when the next timer of any run is due; the timeout of a whole run is none."""
        with self.store.read() as c:
            when: int | None = c.execute(
                "SELECT min(wake_at) FROM executions WHERE wake_at < deadline"
            ).fetchone()[0]
        return when

    def conclude(self, c: sqlite3.Connection, run: int, closing: Event) -> None:
        """Settle a run whose closing event was appended, and tell the run that invoked it."""
        c.execute(
            "UPDATE executions SET status = ?, ended = ?, wake_at = NULL, lease_owner = NULL,"
            " lease_until = NULL, lease_since = NULL, stalls = 0 WHERE run = ?",
            (STATUS_AFTER[closing.kind], closing.at, run),
        )
        self.touch(run)
        self.tell_parent(c, run, closing)

    def tell_parent(self, c: sqlite3.Connection, run: int, closing: Event) -> None:
        """End the CHAINED_INVOKE that a run was started by, if one."""
        parent_run, parent_op = c.execute(
            "SELECT parent_run, parent_op FROM executions WHERE run = ?", (run,)
        ).fetchone()
        if parent_run is None:
            return
        operation = self.operations(c, parent_run).get(parent_op)
        if operation is None or operation.closed:
            return
        event = Event(
            _INVOKE_END[closing.kind],
            closing.at,
            operation.id,
            operation.parent,
            operation.name,
            operation.subtype,
            payload=closing.payload,
            error=closing.error,
        )
        self.append(c, parent_run, [event])

    def append(self, c: sqlite3.Connection, run: int, events: Sequence[Event]) -> None:
        """Append events that came from outside the run, and have it invoked."""
        rows.insert(c, run, last_event(c, run), events)
        c.execute(
            "UPDATE executions SET wake_at = min(coalesce(wake_at, ?1), ?1)"
            " WHERE run = ?2 AND lease_owner IS NULL AND status = 'RUNNING'",
            (self.clock.now(), run),
        )
        self.touch(run)

    def postpone(self, c: sqlite3.Connection, record: Record, event: Event) -> None:
        """Append a heartbeat, which moves a timer and invokes nothing."""
        rows.insert(c, record.run, last_event(c, record.run), [event])
        timers = [each.due for each in self.operations(c, record.run).values() if not each.closed]
        due = min((when for when in timers if when is not None), default=record.deadline)
        c.execute(
            "UPDATE executions SET wake_at = ? WHERE run = ? AND lease_owner IS NULL"
            " AND status = 'RUNNING' AND wake_at > ?",
            (min(due, record.deadline), record.run, self.clock.now()),
        )
        self.touch(record.run)


def closing_of(c: sqlite3.Connection, run: int) -> Event:
    """Return the event that ended a run."""
    return next(
        event for event in reversed(list(rows.select(c, run))) if event.kind in STATUS_AFTER
    )


def last_event(c: sqlite3.Connection, run: int) -> int:
    """Return the number of a run's last event, 0 for none."""
    last: int | None = c.execute("SELECT max(seq) FROM events WHERE run = ?", (run,)).fetchone()[0]
    return last or 0
