"""Callbacks by their ids, and the open ones of all runs: found without reading their runs.

What is open is listed from the table of open callbacks; whether a callback may be completed is
decided by its own events.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from ..errors import CallbackClosedError, CallbackNotFoundError
from ..events import Event, EventKind
from ..operations import ErrorObject, Operation, OperationType
from . import open_callbacks, rows
from .callback_ids import callback_id, parse_callback_id
from .executions import Executions, Record
from .history import moment

_OPEN = (
    "SELECT number, id, handler, source, open.run, op, parent, name, subtype, opened, due"
    " FROM open_callbacks AS open CROSS JOIN executions ON executions.run = open.run"
    " WHERE (due IS NULL OR due > ?) AND status = 'RUNNING'"
)


@dataclass(frozen=True, slots=True)
class OpenCallback:
    """A callback that waits to be completed.

    Attributes:
        cursor: where it stands in the listing, to go on from.
        handler: the name of its run's handler; `source` the file of that, where known.
        parent: the id of the operation whose scope it was opened in; None for the handler's own.
        subtype: "Callback", or "WaitForEvent" for a named wait.
        due: when it times out, or misses its heartbeat, if it does.
    """

    cursor: int
    execution_id: str
    handler: str
    source: str | None
    callback_id: str
    operation_id: str
    parent: str | None
    name: str
    subtype: str
    created: datetime
    due: datetime | None


def list_open(
    c: sqlite3.Connection, now: int, limit: int, after: int | None, run: int | None
) -> list[OpenCallback]:
    """Return the open callbacks of all runs, or of one, newest first."""
    wanted = {"number < ?": after, "open.run = ?": run}
    clauses = {clause: value for clause, value in wanted.items() if value is not None}
    where = "".join(f" AND {clause}" for clause in clauses)
    found = c.execute(
        f"{_OPEN}{where} ORDER BY number DESC LIMIT ?", (now, *clauses.values(), limit)
    ).fetchall()
    return [_open_callback(*row) for row in found]


def _open_callback(
    number: int,
    id: str,
    handler: str,
    source: str | None,
    run: int,
    op: str,
    parent: str | None,
    name: str | None,
    subtype: str | None,
    opened: int,
    due: int | None,
) -> OpenCallback:
    return OpenCallback(
        number,
        id,
        handler,
        source,
        callback_id(run, op),
        op,
        parent,
        name or "",
        subtype or "",
        moment(opened),
        None if due is None else moment(due),
    )


def count_open(c: sqlite3.Connection, now: int) -> int:
    """Return how many callbacks are open."""
    count: int = c.execute(
        "SELECT count(*) FROM open_callbacks WHERE due IS NULL OR due > ?", (now,)
    ).fetchone()[0]
    return count


def take_up(c: sqlite3.Connection, run: int) -> None:
    """Make the table of open callbacks right for a run that goes on, from its events."""
    open_callbacks.clear(c, run)
    open_callbacks.put(c, run, rows.callbacks(c, run))


def take_up_all(c: sqlite3.Connection) -> None:
    """Make the table of open callbacks right for all runs."""
    running = c.execute("SELECT run FROM executions WHERE status = 'RUNNING' ORDER BY run")
    for (run,) in running.fetchall():
        take_up(c, run)


def find(service: Executions, c: sqlite3.Connection, callback: str) -> tuple[Record, Operation]:
    """Return a callback, open or closed, and the row of its run.

    Raises:
        CallbackNotFoundError: no run has it.
    """
    run, id = parse_callback_id(callback)
    row = c.execute("SELECT id FROM executions WHERE run = ?", (run,)).fetchone()
    if row is None:
        raise CallbackNotFoundError("no execution has this callback; it may have been deleted")
    record = service.record(c, row[0])
    operation = rows.one(c, run, id)
    if operation is None or operation.type is not OperationType.CALLBACK:
        raise CallbackNotFoundError(f"the execution {record.id!r} has no such callback")
    operation.callback_id = callback
    return record, operation


def find_open(
    service: Executions, c: sqlite3.Connection, callback: str
) -> tuple[Record, Operation]:
    """Return a callback that may be completed now, and the row of its run.

    Raises:
        CallbackNotFoundError: no run has it.
        CallbackClosedError: it was completed, its time is up, or its run has ended.
    """
    record, operation = find(service, c, callback)
    name = operation.name or "callback"
    if operation.closed:
        raise CallbackClosedError(f"{name!r} of {record.id!r} is already completed")
    if record.status != "RUNNING":
        raise CallbackClosedError(f"the execution {record.id!r} has ended ({record.status})")
    if operation.due is not None and operation.due <= service.clock.now():
        raise CallbackClosedError(f"{name!r} of {record.id!r} has timed out")
    return record, operation


def fail(
    service: Executions,
    c: sqlite3.Connection,
    callback: str,
    error: ErrorObject,
    *,
    only: int | None = None,
) -> None:
    """Fail an open callback, of any run or of `only` one.

    Raises:
        CallbackNotFoundError: no run has it, or another one.
        CallbackClosedError: it was completed, its time is up, or its run has ended.
    """
    record, operation = find_open(service, c, callback)
    if only not in (None, record.run):
        raise CallbackNotFoundError(f"the callback is one of another run, {record.id!r}")
    event = outcome(service, EventKind.CALLBACK_FAILED, operation)
    event.error = error
    service.append(c, record.run, [event])


def outcome(service: Executions, kind: EventKind, operation: Operation) -> Event:
    """Return the event by which something happens to a callback now."""
    return Event(
        kind,
        service.clock.now(),
        operation.id,
        operation.parent,
        operation.name,
        operation.subtype,
    )
