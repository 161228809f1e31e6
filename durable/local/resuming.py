"""Having a failed run of the embedded engine go on: one event says what is opened again."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ExecutionConflictError
from ..events import Event, EventKind
from ..hold import held_by
from ..operations import ErrorObject, Operation
from ..reopening import reopened_by_resume
from . import rows
from .callbacks import take_up

if TYPE_CHECKING:
    from .service import LocalService

_K = EventKind


def resume(service: LocalService, c: sqlite3.Connection, id: str, names: Sequence[str]) -> None:
    """Have a failed run go on: one event says what it reopens.

    Raises:
        ExecutionConflictError: the run has not failed.
        UsageError: no failed operation has one of the names.
    """
    record = service.record(c, id)
    operations = service.operations(c, record.run)
    now = service.clock.now()
    if record.status == "RUNNING":
        held = held_by(operations)
        if held is not None:
            released = Event(_K.CALLBACK_SUCCEEDED, now, held.id, None, held.name, held.subtype)
            service.append(c, record.run, [released, _resumed(operations, held.error, names, now)])
            take_up(c, record.run)
        elif names:
            raise ExecutionConflictError(f"the execution {id!r} is running; nothing is reopened")
        return
    if record.status not in ("FAILED", "TIMED_OUT"):
        raise ExecutionConflictError(
            f"the execution {id!r} is {record.status}; only a failed one is resumed"
        )
    event = _resumed(operations, _ending(c, record.run), names, now)
    deadline = max(record.deadline, now + record.deadline - record.created)
    c.execute(
        "UPDATE executions SET status = 'RUNNING', ended = NULL, stalls = 0, deadline = ?"
        " WHERE run = ?",
        (deadline, record.run),
    )
    service.append(c, record.run, [event])
    take_up(c, record.run)


def _resumed(
    operations: dict[str, Operation], error: ErrorObject | None, names: Sequence[str], now: int
) -> Event:
    reopened = reopened_by_resume(operations, error, names)
    return Event(_K.EXECUTION_RESUMED, now, reopened=tuple(reopened))


def _ending(c: sqlite3.Connection, run: int) -> ErrorObject | None:
    for event in reversed(list(rows.select(c, run))):
        if event.kind is _K.EXECUTION_FAILED:
            return event.error
    return None
