"""Events as rows of the journal file, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any

from ..events import Event, EventKind, fold
from ..gates import Link
from ..operations import ErrorObject, Operation, OperationStatus, OperationType
from .callback_ids import callback_id
from .open_callbacks import FOLLOW
from .schema import BLOB_BYTES

_COLUMNS = (
    "run, seq, kind, at, op, parent, name, subtype, started, attempt, detail, blob, payload, chain"
)
_ROW = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_CHUNK = 64
"""Rows a statement inserts: each call into SQLite lets go of the interpreter's lock."""
_INSERTS = {
    size: f"INSERT INTO events ({_COLUMNS}) VALUES {','.join([_ROW] * size)}"
    for size in (1, 2, 4, 8, 16, 32, _CHUNK)
}
Row = tuple[Any, ...]
_SELECT = (
    "SELECT kind, at, op, parent, name, subtype, started, attempt, detail,"
    " coalesce(payload, (SELECT data FROM blobs WHERE hash = blob)) FROM events"
    " WHERE run = ? AND seq > ? ORDER BY seq"
)
_BARE = frozenset({EventKind.STEP_SUCCEEDED, EventKind.CONTEXT_SUCCEEDED})
_STEP = EventKind.STEP_SUCCEEDED.value
_KINDS = {kind.value: kind for kind in EventKind}
_PLAIN = ("delay", "timeout", "heartbeat", "function", "digest", "note", "token")


def insert(connection: sqlite3.Connection, run: int, seq: int, events: Iterable[Event]) -> int:
    """Append events to a run after `seq`; return the last one's number."""
    made = make(connection, run, seq, events)
    insert_rows(connection, made)
    return seq + len(made)


def make(connection: sqlite3.Connection, run: int, seq: int, events: Iterable[Event]) -> list[Row]:
    """Return the rows of events that follow `seq`; what is kept beside them is written already."""
    made: list[Row] = []
    for event in events:
        seq += 1
        blob, payload = store_payload(connection, event.payload)
        kind = event.kind.value
        if kind in FOLLOW:
            FOLLOW[kind](connection, run, event)
        row = (
            run,
            seq,
            kind,
            event.at,
            event.id or None,
            event.parent,
            event.name,
            event.subtype,
            event.started,
            event.attempt or None,
            _detail(event),
            blob,
            payload,
            _store_chain(connection, event.chain) if event.chain else None,
        )
        made.append(row)
    return made


def insert_rows(connection: sqlite3.Connection, made: list[Row]) -> None:
    """Insert rows with as few statements as there can be."""
    if len(made) == 1:
        connection.execute(_INSERTS[1], made[0])
        return
    first = 0
    while (left := len(made) - first) > 0:
        size = min(_CHUNK, 1 << (left.bit_length() - 1))
        values = [value for row in made[first : first + size] for value in row]
        connection.execute(_INSERTS[size], values)
        first += size


def store_payload(
    connection: sqlite3.Connection, payload: str | None
) -> tuple[bytes | None, str | None]:
    """Return what a row keeps of a payload: itself, or the hash of a blob that is there now."""
    if payload is None or len(payload) <= BLOB_BYTES // 4:
        return None, payload
    data = payload.encode()
    if len(data) <= BLOB_BYTES:
        return None, payload
    digest = sha256(data).digest()
    connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (digest, payload))
    return digest, None


def _store_chain(connection: sqlite3.Connection, links: Sequence[Link]) -> bytes:
    """Store what is new of a chain, which is its end; return the hash of the last link."""
    for link in reversed(links):
        new = connection.execute(
            "INSERT OR IGNORE INTO chains VALUES (?, ?, ?)", (link.hash, link.before, link.digest)
        )
        if not new.rowcount:
            break
        connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (link.digest, link.text))
    return links[-1].hash


def texts(connection: sqlite3.Connection, last: bytes) -> list[str]:
    """Return the texts of a chain, in order; empty where it is not kept."""
    found = connection.execute(
        "WITH RECURSIVE links (before, text, place) AS ("
        " SELECT before, text, 0 FROM chains WHERE hash = ? UNION ALL"
        " SELECT chains.before, chains.text, place + 1 FROM chains JOIN links"
        " ON chains.hash = links.before)"
        " SELECT data FROM links JOIN blobs ON blobs.hash = links.text ORDER BY place DESC",
        (last,),
    ).fetchall()
    return [text for (text,) in found]


def steps(connection: sqlite3.Connection, run: int, kind: str) -> list[Operation]:
    """Return the steps of one kind of a run."""
    return _only(connection, run, "subtype = ?", kind)


def children(connection: sqlite3.Connection, run: int, parent: str | None) -> list[Operation]:
    """Return the operations of a run directly under another, or under none."""
    found = _only(connection, run, "op IS NOT NULL AND parent IS ?", parent)
    for each in found:
        if each.type is OperationType.CALLBACK:
            each.callback_id = callback_id(run, each.id)
    return found


def callbacks(connection: sqlite3.Connection, run: int) -> list[Operation]:
    """Return the callbacks of a run."""
    return _only(connection, run, "kind GLOB ?", "Callback*")


def one(connection: sqlite3.Connection, run: int, id: str) -> Operation | None:
    """Return one operation of a run, or None."""
    found = _only(connection, run, "op = ?", id)
    return found[0] if found else None


def _only(connection: sqlite3.Connection, run: int, which: str, value: Any) -> list[Operation]:
    """Return some operations of a run, made of their own events and the run's resumes."""
    operations: dict[str, Operation] = {}
    resumed = EventKind.EXECUTION_RESUMED.value
    chosen = _SELECT.replace(" ORDER", f" AND ({which} OR kind = ?) ORDER")
    for row in connection.execute(chosen, (run, 0, value, resumed)).fetchall():
        fold(operations, _event(row))
    return list(operations.values())


def replays(connection: sqlite3.Connection, run: int, kind: str) -> dict[str, int]:
    """Return how many ended invocations found each step of a kind recorded, by its id.

    The first invocation to end after a step did is the one that made it.
    """
    found = connection.execute(
        "SELECT op, kind FROM events WHERE run = ? AND (kind = ? OR (subtype = ? AND kind = ?))"
        " ORDER BY seq DESC",
        (run, EventKind.INVOCATION_COMPLETED.value, kind, _STEP),
    ).fetchall()
    counts: dict[str, int] = {}
    ended = 0
    for op, event in found:
        if event == _STEP:
            counts[op] = max(0, ended - 1)
        else:
            ended += 1
    return counts


def select(connection: sqlite3.Connection, run: int, after: int = 0) -> Iterator[Event]:
    """Return the events of a run after `after`, in order."""
    for row in connection.execute(_SELECT, (run, after)).fetchall():
        yield _event(row)


def load(connection: sqlite3.Connection, run: int, operations: dict[str, Operation]) -> int:
    """Fold all events of a run into `operations`; return how many there are.

    A step that was started and ended in one write, which most are, is made without the detour.
    """
    found = connection.execute(_SELECT, (run, 0)).fetchall()
    step, succeeded = OperationType.STEP, OperationStatus.SUCCEEDED
    for row in found:
        kind, at, op, parent, name, subtype, started, attempt, detail, payload = row
        if kind == _STEP and started is not None and detail is None and op not in operations:
            operations[op] = Operation(
                op, step, succeeded, parent, name, subtype, started, at, attempt, payload
            )
        else:
            fold(operations, _event(row))
    return len(found)


def _event(row: tuple[Any, ...]) -> Event:
    kind, at, op, parent, name, subtype, started, attempt, detail, payload = row
    event = Event(_KINDS[kind], at, op or "", parent, name, subtype, started, attempt or 0, payload)
    if detail is not None:
        for key, value in json.loads(detail).items():
            setattr(event, key, _READ[key](value) if key in _READ else value)
    return event


def _error(kept: list[Any]) -> ErrorObject:
    message, type_, data, trace = kept
    return ErrorObject(message, type_, data, tuple(trace))


_READ: dict[str, Any] = {"error": _error, "reopened": tuple}


def _detail(event: Event) -> str | None:
    if event.kind in _BARE and event.digest is event.note is None and not event.replay_children:
        return None
    detail: dict[str, Any] = {}
    if event.error is not None:
        error = event.error
        detail["error"] = [error.message, error.type, error.data, list(error.trace)]
    for name in _PLAIN:
        value = getattr(event, name)
        if value is not None:
            detail[name] = value
    if event.replay_children:
        detail["replay_children"] = True
    if event.reopened:
        detail["reopened"] = list(event.reopened)
    return json.dumps(detail) if detail else None
