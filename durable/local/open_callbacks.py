"""The table of open callbacks, kept in step with the events it is derived from.

Each event that opens, moves or closes a callback, or ends a run, changes the table in the same
transaction. It has a row for each callback that is open in a run that goes on, and no others; the
callback that holds a failure open is nobody's to answer, and is left out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from ..events import Event, EventKind, fold
from ..operations import Operation, OperationType, SubType

_K = EventKind
_PUT = (
    "INSERT INTO open_callbacks (run, op, parent, name, subtype, opened, due, deadline, heartbeat)"
    " VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (run, op) DO UPDATE SET"
    " due = excluded.due, deadline = excluded.deadline, heartbeat = excluded.heartbeat"
)


def put(connection: sqlite3.Connection, run: int, operations: Iterable[Operation]) -> None:
    """Take up those of a run's operations that are open callbacks."""
    for each in operations:
        if each.type is OperationType.CALLBACK and not each.closed and each.subtype != _HOLDS:
            connection.execute(
                _PUT,
                (
                    run,
                    each.id,
                    each.parent,
                    each.name,
                    each.subtype,
                    each.started,
                    each.due,
                    each.deadline,
                    each.heartbeat,
                ),
            )


def clear(connection: sqlite3.Connection, run: int) -> None:
    """Forget the callbacks of a run."""
    connection.execute("DELETE FROM open_callbacks WHERE run = ?", (run,))


def _open(connection: sqlite3.Connection, run: int, event: Event) -> None:
    opened = fold({}, event)
    assert opened is not None
    put(connection, run, [opened])


def _beat(connection: sqlite3.Connection, run: int, event: Event) -> None:
    connection.execute(
        "UPDATE open_callbacks SET due = min(?1 + heartbeat, coalesce(deadline, ?1 + heartbeat))"
        " WHERE run = ?2 AND op = ?3 AND heartbeat IS NOT NULL",
        (event.at, run, event.id),
    )


def _close(connection: sqlite3.Connection, run: int, event: Event) -> None:
    connection.execute("DELETE FROM open_callbacks WHERE run = ? AND op = ?", (run, event.id))


def _end(connection: sqlite3.Connection, run: int, event: Event) -> None:
    clear(connection, run)


_HOLDS = SubType.FAILURE
FOLLOW: dict[str, Callable[[sqlite3.Connection, int, Event], None]] = {
    _K.CALLBACK_STARTED.value: _open,
    _K.CALLBACK_HEARTBEAT.value: _beat,
    _K.CALLBACK_SUCCEEDED.value: _close,
    _K.CALLBACK_FAILED.value: _close,
    _K.CALLBACK_TIMED_OUT.value: _close,
    _K.EXECUTION_SUCCEEDED.value: _end,
    _K.EXECUTION_FAILED.value: _end,
    _K.EXECUTION_TIMED_OUT.value: _end,
    _K.EXECUTION_STOPPED.value: _end,
}
"""What the table does with each kind of event, by its text. A resume takes up a run anew."""
