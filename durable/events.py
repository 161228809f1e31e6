"""The journal's entries, and the one function that folds them into the state of operations.

An `Event` is one entry: something an operation did. The state of a run is what `fold` makes of its
events in order, whether they are loaded from a file or were just recorded. A step whose start and
end are written together is one event (`started` holds the time of the start).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from .gates import Link
from .names import scope_of
from .operations import ErrorObject, Operation, OperationStatus, OperationType


class EventKind(StrEnum):
    """What happened; the names of AWS's history events where it has one."""

    CONTEXT_STARTED = "ContextStarted"
    CONTEXT_SUCCEEDED = "ContextSucceeded"
    CONTEXT_FAILED = "ContextFailed"
    STEP_STARTED = "StepStarted"
    STEP_SUCCEEDED = "StepSucceeded"
    STEP_FAILED = "StepFailed"
    STEP_RETRIED = "StepRetried"
    WAIT_STARTED = "WaitStarted"
    WAIT_SUCCEEDED = "WaitSucceeded"
    WAIT_CANCELLED = "WaitCancelled"
    CALLBACK_STARTED = "CallbackStarted"
    CALLBACK_SUCCEEDED = "CallbackSucceeded"
    CALLBACK_FAILED = "CallbackFailed"
    CALLBACK_TIMED_OUT = "CallbackTimedOut"
    CALLBACK_HEARTBEAT = "CallbackHeartbeat"
    INVOKE_STARTED = "ChainedInvokeStarted"
    INVOKE_SUCCEEDED = "ChainedInvokeSucceeded"
    INVOKE_FAILED = "ChainedInvokeFailed"
    INVOKE_TIMED_OUT = "ChainedInvokeTimedOut"
    INVOKE_STOPPED = "ChainedInvokeStopped"
    INVOCATION_COMPLETED = "InvocationCompleted"
    EXECUTION_SUCCEEDED = "ExecutionSucceeded"
    EXECUTION_FAILED = "ExecutionFailed"
    EXECUTION_TIMED_OUT = "ExecutionTimedOut"
    EXECUTION_STOPPED = "ExecutionStopped"
    EXECUTION_RESUMED = "ExecutionResumed"


_K, _T, _S = EventKind, OperationType, OperationStatus

OUTCOME: dict[EventKind, tuple[OperationType, OperationStatus]] = {
    _K.CONTEXT_STARTED: (_T.CONTEXT, _S.STARTED),
    _K.CONTEXT_SUCCEEDED: (_T.CONTEXT, _S.SUCCEEDED),
    _K.CONTEXT_FAILED: (_T.CONTEXT, _S.FAILED),
    _K.STEP_STARTED: (_T.STEP, _S.STARTED),
    _K.STEP_SUCCEEDED: (_T.STEP, _S.SUCCEEDED),
    _K.STEP_FAILED: (_T.STEP, _S.FAILED),
    _K.STEP_RETRIED: (_T.STEP, _S.PENDING),
    _K.WAIT_STARTED: (_T.WAIT, _S.STARTED),
    _K.WAIT_SUCCEEDED: (_T.WAIT, _S.SUCCEEDED),
    _K.WAIT_CANCELLED: (_T.WAIT, _S.CANCELLED),
    _K.CALLBACK_STARTED: (_T.CALLBACK, _S.STARTED),
    _K.CALLBACK_SUCCEEDED: (_T.CALLBACK, _S.SUCCEEDED),
    _K.CALLBACK_FAILED: (_T.CALLBACK, _S.FAILED),
    _K.CALLBACK_TIMED_OUT: (_T.CALLBACK, _S.TIMED_OUT),
    _K.INVOKE_STARTED: (_T.CHAINED_INVOKE, _S.STARTED),
    _K.INVOKE_SUCCEEDED: (_T.CHAINED_INVOKE, _S.SUCCEEDED),
    _K.INVOKE_FAILED: (_T.CHAINED_INVOKE, _S.FAILED),
    _K.INVOKE_TIMED_OUT: (_T.CHAINED_INVOKE, _S.TIMED_OUT),
    _K.INVOKE_STOPPED: (_T.CHAINED_INVOKE, _S.STOPPED),
}
"""The type of operation each kind of event belongs to, and the status it leaves it in."""

STARTS = frozenset(kind for kind, (_, status) in OUTCOME.items() if status is _S.STARTED)
_CLOSES = frozenset(
    kind for kind, (_, status) in OUTCOME.items() if status not in (_S.STARTED, _S.PENDING)
)


@dataclass(slots=True)
class Event:
    """One entry of a journal.

    Attributes:
        at: when it happened, milliseconds since the epoch.
        id: the operation it belongs to; empty for events of the execution itself.
        started: when the start was, in an event that stands for start and end (or, for an
            InvocationCompleted, when the invocation began).
        attempt: the number of the attempt that ended.
        delay: seconds until the next attempt, or the length of a wait.
        timeout: seconds, of a callback or an invoke; `heartbeat` likewise.
        function: the invoked function's name; `input` goes to it as `payload`.
        digest: the digest of a step's arguments.
        note: what a gate records with a start.
        chain: texts that are stored once each, with a start.
        reopened: the operations that a resume opens again.
        token: the number of the invocation that an InvocationCompleted ends.
    """

    kind: EventKind
    at: int
    id: str = ""
    parent: str | None = None
    name: str | None = None
    subtype: str | None = None
    started: int | None = None
    attempt: int = 0
    payload: str | None = None
    error: ErrorObject | None = None
    delay: float | None = None
    timeout: float | None = None
    heartbeat: float | None = None
    function: str | None = None
    replay_children: bool = False
    digest: str | None = None
    note: str | None = None
    chain: tuple[Link, ...] = ()
    reopened: tuple[str, ...] = ()
    token: int | None = None


def fold(operations: dict[str, Operation], event: Event) -> Operation | None:
    """Apply one event to the operations of its run; return the operation it changed, if one."""
    kind = event.kind
    outcome = OUTCOME.get(kind)
    if outcome is None:
        if kind is EventKind.EXECUTION_RESUMED:
            _reopen(operations, event.reopened)
        elif kind is EventKind.CALLBACK_HEARTBEAT:
            return _beat(operations.get(event.id), event.at)
        return None
    type_, status = outcome
    operation = operations.get(event.id)
    if operation is None:
        began = event.at if event.started is None else event.started
        operation = operations[event.id] = Operation(
            event.id, type_, status, event.parent, event.name, event.subtype, began
        )
    if event.note is not None:
        operation.note = event.note
    if status is OperationStatus.STARTED:
        _start(operation, event)
        return operation
    operation.status = status
    operation.attempt = event.attempt or operation.attempt
    operation.payload = event.payload
    operation.error = event.error
    if event.error is not None and event.error.carries:
        operation.carried = event.error.data
    if kind is EventKind.STEP_RETRIED:
        operation.due = event.at + round((event.delay or 0) * 1000)
    else:
        operation.ended = event.at
        operation.due = None
        operation.replay_children = event.replay_children
    return operation


def _start(operation: Operation, event: Event) -> None:
    operation.status = OperationStatus.STARTED
    if operation.ended is not None or operation.started == 0:
        operation.started = event.at
        operation.ended = None
    operation.due = None
    operation.error = event.error
    if operation.type is OperationType.WAIT:
        operation.due = event.at + round((event.delay or 0) * 1000)
    elif event.timeout or event.heartbeat:
        operation.heartbeat = round((event.heartbeat or 0) * 1000) or None
        operation.deadline = event.at + round(event.timeout * 1000) if event.timeout else None
        _beat(operation, event.at)


def _beat(operation: Operation | None, at: int) -> Operation | None:
    if operation is not None:
        beat = at + operation.heartbeat if operation.heartbeat else None
        ends = [when for when in (operation.deadline, beat) if when is not None]
        operation.due = min(ends, default=None)
    return operation


def _reopen(operations: dict[str, Operation], ids: Iterable[str]) -> None:
    order = {id: position for position, id in enumerate(operations)}
    first: dict[str, int] = {}
    for id in ids:
        operation = operations.get(id)
        if operation is None:
            continue
        operation.reopen()
        scope = scope_of(id)
        first[scope] = min(first.get(scope, len(order)), order[id])
    for id, operation in operations.items():
        after = first.get(scope_of(id))
        if after is not None and order[id] > after:
            operation.optional = True


def closes(kind: EventKind) -> bool:
    """Return whether events of this kind end their operation."""
    return kind in _CLOSES
