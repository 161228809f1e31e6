"""Callbacks by their ids: found, and failed, without reading the rest of their run."""

from __future__ import annotations

import sqlite3

from ..errors import CallbackClosedError, CallbackNotFoundError
from ..events import Event, EventKind
from ..operations import ErrorObject, Operation, OperationType
from . import rows
from .callback_ids import parse_callback_id
from .executions import Executions, Record


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
