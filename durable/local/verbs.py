"""What people and other programs do to a run from outside: send, complete, cancel, resume, delete.

Each verb is one transaction that checks first and writes after; each refusal names the cure.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from ..addressing import addressed
from ..errors import (
    ExecutionConflictError,
    PayloadTooLargeError,
    UsageError,
)
from ..events import Event, EventKind
from ..operations import ErrorObject, Operation, SubType
from . import callbacks
from .executions import Record
from .resuming import resume
from .service import LocalService

_K = EventKind


class Verbs:
    """The outside's side of a service."""

    def __init__(self, service: LocalService) -> None:
        self._service = service

    def send(self, id: str, name: str, payload: Any) -> None:
        """Complete the open wait of this name, or path, of a run."""
        text = self._text(payload)

        def work(c: sqlite3.Connection) -> None:
            record = self._service.record(c, id)
            operations = self._service.operations(c, record.run)
            operation = addressed(id, record.status, operations, name)
            if text == "null" and operation.subtype == SubType.EVENT:
                raise UsageError(
                    f"null cannot be sent to the wait {name!r}: it would read as a time-out; "
                    "send nothing (the handler gets True) or a value"
                )
            self._complete(c, record, operation, text)

        self._service.store.write(work)

    def complete(self, callback: str, payload: str | None) -> None:
        """Complete a callback by its id."""
        self._check_size(payload)

        def work(c: sqlite3.Connection) -> None:
            record, operation = callbacks.find_open(self._service, c, callback)
            if operation.subtype == SubType.EVENT and payload == "null":
                raise UsageError("null cannot complete a named wait: it would read as a time-out")
            self._complete(c, record, operation, payload)

        self._service.store.write(work)

    def fail(self, callback: str, error: ErrorObject) -> None:
        """Fail a callback by its id."""
        self._service.store.write(lambda c: callbacks.fail(self._service, c, callback, error))

    def heartbeat(self, callback: str) -> None:
        """Keep a callback alive for another of its heartbeat intervals."""

        def work(c: sqlite3.Connection) -> None:
            record, operation = callbacks.find_open(self._service, c, callback)
            event = callbacks.outcome(self._service, _K.CALLBACK_HEARTBEAT, operation)
            self._service.postpone(c, record, event)

        self._service.store.write(work)

    def cancel(self, id: str, reason: str) -> None:
        """End a run; a body in flight may still record its result, nothing new starts."""

        def work(c: sqlite3.Connection) -> None:
            record = self._service.record(c, id)
            if record.status != "RUNNING":
                raise ExecutionConflictError(
                    f"the execution {id!r} has ended ({record.status}); there is nothing to cancel"
                )
            now = self._service.clock.now()
            closing = Event(_K.EXECUTION_STOPPED, now, error=ErrorObject(reason, "Cancelled"))
            self._service.append(c, record.run, [closing])
            # The lease, if held, stays: its holder records what is in flight, then lets go.
            if record.lease_owner is None:
                self._service.conclude(c, record.run, closing)
            else:
                c.execute(
                    "UPDATE executions SET status = 'CANCELLED', ended = ? WHERE run = ?",
                    (now, record.run),
                )
                self._service.tell_parent(c, record.run, closing)

        self._service.store.write(work)

    def resume(self, id: str, names: Sequence[str]) -> None:
        """Reopen what ended a failed run, and have it invoked again."""
        self._service.store.write(lambda c: resume(self._service, c, id, names))

    def delete(self, id: str) -> None:
        """Remove an ended run and what only it keeps."""

        def work(c: sqlite3.Connection) -> None:
            record = self._service.record(c, id)
            if record.status == "RUNNING" or record.lease_owner is not None:
                raise ExecutionConflictError(
                    f"the execution {id!r} is running; cancel it before it is deleted"
                )
            hashes = c.execute(
                "SELECT blob FROM events WHERE run = ?1 AND blob IS NOT NULL UNION"
                " SELECT blob FROM executions WHERE run = ?1 AND blob IS NOT NULL",
                (record.run,),
            ).fetchall()
            chains = c.execute(
                "SELECT DISTINCT chain FROM events WHERE run = ? AND chain IS NOT NULL",
                (record.run,),
            ).fetchall()
            c.execute("DELETE FROM events WHERE run = ?", (record.run,))
            c.execute("DELETE FROM open_callbacks WHERE run = ?", (record.run,))
            c.execute("DELETE FROM executions WHERE run = ?", (record.run,))
            hashes += _delete_chains(c, [last for (last,) in chains])
            c.executemany(
                "DELETE FROM blobs WHERE hash = ?1"
                " AND NOT EXISTS (SELECT 1 FROM events WHERE blob = ?1)"
                " AND NOT EXISTS (SELECT 1 FROM chains WHERE text = ?1)"
                " AND NOT EXISTS (SELECT 1 FROM executions WHERE blob = ?1)",
                hashes,
            )

        self._service.store.write(work)

    def _complete(
        self, c: sqlite3.Connection, record: Record, operation: Operation, text: str | None
    ) -> None:
        if operation.subtype == SubType.FAILURE:
            resume(self._service, c, record.id, ())
            return
        event = callbacks.outcome(self._service, _K.CALLBACK_SUCCEEDED, operation)
        event.payload = text
        self._service.append(c, record.run, [event])

    def _text(self, payload: Any) -> str | None:
        if payload is NOTHING:
            return None
        text = plain_text(payload)
        self._check_size(text)
        return text

    def _check_size(self, text: str | None) -> None:
        limit = self._service.limits.payload
        if text is not None and len(text.encode()) > limit:
            raise PayloadTooLargeError(
                f"the payload is {len(text.encode()):,} bytes; this engine takes at most {limit:,}"
            )


def _delete_chains(c: sqlite3.Connection, lasts: Sequence[bytes]) -> list[tuple[bytes]]:
    """Delete the links that nothing refers to any more; return the hashes of their texts."""
    gone: list[tuple[bytes]] = []
    left = list(lasts)
    while left:
        found = c.execute(
            "DELETE FROM chains WHERE hash = ?1"
            " AND NOT EXISTS (SELECT 1 FROM events WHERE chain = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM chains WHERE before = ?1) RETURNING before, text",
            (left.pop(),),
        ).fetchone()
        if found is not None:
            gone.append((found[1],))
            left += [found[0]] if found[0] is not None else []
    return gone


class _Nothing:
    """Sent without a payload."""


NOTHING = _Nothing()


def plain_text(value: Any) -> str:
    """Return a payload from outside as JSON text.

    Raises:
        UsageError: it is not plain JSON.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"a payload is plain JSON: {error}") from None
    return text
