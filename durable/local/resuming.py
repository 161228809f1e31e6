"""What a resume opens again: the operation whose error ended the run, and what failed by it.

Failures that the handler caught stay as they are recorded, and so does everything that succeeded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..completion import read_summary
from ..errors import ExecutionConflictError, UsageError
from ..events import Event, EventKind
from ..hold import held_by
from ..operations import ErrorObject, Operation, OperationStatus, OperationType, SubType
from . import rows
from .callbacks import take_up
from .paths import paths_of

if TYPE_CHECKING:
    from .service import LocalService

_K = EventKind
_FAILED = (OperationStatus.FAILED, OperationStatus.TIMED_OUT, OperationStatus.STOPPED)


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
            data = held.error.data if held.error is not None else None
            released = Event(_K.CALLBACK_SUCCEEDED, now, held.id, None, held.name, held.subtype)
            service.append(c, record.run, [released, _resumed(operations, data, names, now)])
            take_up(c, record.run)
        elif names:
            raise ExecutionConflictError(f"the execution {id!r} is running; nothing is reopened")
        return
    if record.status not in ("FAILED", "TIMED_OUT"):
        raise ExecutionConflictError(
            f"the execution {id!r} is {record.status}; only a failed one is resumed"
        )
    event = _resumed(operations, _ending_source(c, record.run), names, now)
    deadline = max(record.deadline, now + record.deadline - record.created)
    c.execute(
        "UPDATE executions SET status = 'RUNNING', ended = NULL, stalls = 0, deadline = ?"
        " WHERE run = ?",
        (deadline, record.run),
    )
    service.append(c, record.run, [event])
    take_up(c, record.run)


def _resumed(
    operations: dict[str, Operation], source: str | None, names: Sequence[str], now: int
) -> Event:
    reopened = reopened_by(operations, (source or "").removeprefix("perdure:"))
    reopened |= _named(operations, names)
    return Event(_K.EXECUTION_RESUMED, now, reopened=tuple(reopened))


def reopened_by(operations: dict[str, Operation], source: str | None) -> set[str]:
    """Return what a resume opens again for the failure that came from this operation."""
    reopened: set[str] = set()
    operation = operations.get(source or "")
    while operation is not None and operation.id not in reopened:
        reopened.add(operation.id)
        if operation.subtype in (SubType.MAP, SubType.PARALLEL):
            for branch in _failed_branches(operations, operation):
                reopened |= reopened_by(operations, branch.id)
                reopened |= _inner(operations, branch)
        inner = _inner_source(operation)
        if inner is None:
            break
        operation = operations.get(inner)
    for id in list(reopened):
        parent = operations.get(operations[id].parent or "")
        while parent is not None:
            if parent.closed:
                reopened.add(parent.id)
            parent = operations.get(parent.parent or "")
    return {id for id in reopened if _reopenable(operations[id])}


def _inner(operations: dict[str, Operation], operation: Operation) -> set[str]:
    inner = _inner_source(operation)
    return reopened_by(operations, inner) if inner else set()


def _inner_source(operation: Operation) -> str | None:
    data = operation.error.data if operation.error is not None else None
    return data.removeprefix("perdure:") if data and data.startswith("perdure:") else None


def _failed_branches(operations: dict[str, Operation], batch: Operation) -> Iterable[Operation]:
    for operation in operations.values():
        if operation.parent == batch.id and operation.status in _FAILED:
            yield operation
    for _, _, status, error in read_summary(batch.payload or "{}").items if batch.payload else ():
        # A flat branch has no operation of its own; its error says where it came from.
        if status == "FAILED" and isinstance(error, ErrorObject) and error.data:
            source = operations.get(error.data.removeprefix("perdure:"))
            if source is not None:
                yield source


def _reopenable(operation: Operation) -> bool:
    return (
        operation.status in _FAILED
        or operation.type is OperationType.CONTEXT
        or (operation.type is OperationType.STEP and operation.status is OperationStatus.STARTED)
    )


def _named(operations: dict[str, Operation], names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    paths = paths_of(operations)
    for name in names:
        matching = [
            operation.id
            for operation in operations.values()
            if name in (operation.name, paths[operation.id]) and operation.status in _FAILED
        ]
        if not matching:
            raise UsageError(f"no failed operation is named {name!r}")
        for id in matching:
            found |= reopened_by(operations, id)
    return found


def _ending_source(c: sqlite3.Connection, run: int) -> str | None:
    events = list(rows.select(c, run))
    for event in reversed(events):
        if event.kind is _K.EXECUTION_FAILED:
            data = event.error.data if event.error else None
            return data.removeprefix("perdure:") if data else None
    return None
