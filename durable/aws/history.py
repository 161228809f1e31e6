"""A run's history, as the Lambda service tells it, folded into the state of its operations.

The events are the service's own, in order. What it does not tell stays unknown: heartbeats, the
notes of gates, and payloads that it truncated. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import PerdureError
from ..events import OUTCOME, Event, EventKind, fold
from ..offloaded import is_offloaded, text_of
from ..operations import Operation, OperationType
from .generations import Generations
from .wire import error_of, milliseconds

Wire = Mapping[str, Any]
_K = EventKind
STATUS_AFTER = {
    "ExecutionSucceeded": "SUCCEEDED",
    "ExecutionFailed": "FAILED",
    "ExecutionTimedOut": "TIMED_OUT",
    "ExecutionStopped": "STOPPED",
}
_STEP_ENDS = (_K.STEP_SUCCEEDED, _K.STEP_FAILED)
_NOTHING: Wire = {}
_READERS = 8


def operations_of(events: Iterable[Wire]) -> dict[str, Operation]:
    """Return the state of the handler's operations that these events are about, by their ids."""
    operations: dict[str, Operation] = {}
    for wire in events:
        event = _event(wire, operations)
        operation = fold(operations, event) if event is not None else None
        if operation is not None and operation.type is OperationType.CALLBACK:
            operation.callback_id = details_of(wire).get("CallbackId", operation.callback_id)
    return Generations(holding=False).fold(operations.values())


def by_path(operations: dict[str, Operation]) -> dict[str, Operation]:
    """Return operations by the path that addresses each."""
    from ..local.paths import paths_of

    paths = paths_of(operations)
    return {paths[operation.id]: operation for operation in operations.values()}


def make_whole(operations: Iterable[Operation]) -> None:
    """Put the values that are kept in S3 in the place of what refers to them, as far as possible.

    One that cannot be read stays a reference; what an outsider sent is never taken for one.
    """
    apart = [
        each
        for each in operations
        if each.type is not OperationType.CALLBACK and each.payload and is_offloaded(each.payload)
    ]
    if not apart:
        return
    with ThreadPoolExecutor(_READERS) as readers:
        for operation, text in zip(apart, readers.map(_text, apart), strict=True):
            operation.payload = text


def _text(operation: Operation) -> str:
    payload = operation.payload or ""
    try:
        return text_of(payload)
    except PerdureError:
        return payload


def details_of(wire: Wire) -> Wire:
    """Return the part of an event that its type names."""
    details: Wire = wire.get(f"{wire['EventType']}Details") or _NOTHING
    return details


def status_after(wire: Wire) -> str:
    """Return the status of a run of which this is the newest event."""
    return STATUS_AFTER.get(wire["EventType"], "RUNNING")


def is_active(events: Sequence[Wire]) -> bool:
    """Return whether an invocation is under way or about to be, as far as the events tell."""
    last = events[-1]["EventType"] if events else ""
    return last != "InvocationCompleted" and last not in STATUS_AFTER


def _event(wire: Wire, operations: Mapping[str, Operation]) -> Event | None:
    """Return what an event says of an operation; None if it is about the run."""
    try:
        kind = EventKind(wire["EventType"])
    except ValueError:  # of a later version of the service
        return None
    if kind not in OUTCOME or "Id" not in wire:
        return None
    details = details_of(wire)
    event = Event(
        kind,
        milliseconds(wire["EventTimestamp"]) or 0,
        wire["Id"],
        wire.get("ParentId"),
        wire.get("Name"),
        wire.get("SubType"),
        payload=_payload(details),
        error=error_of((details.get("Error") or _NOTHING).get("Payload")),
    )
    if kind in _STEP_ENDS:
        _take_attempt(event, details.get("RetryDetails") or _NOTHING, operations)
    elif kind is _K.WAIT_STARTED:
        event.delay = details.get("Duration")
    elif kind is _K.CALLBACK_STARTED:
        event.timeout = details.get("Timeout")
    elif kind is _K.INVOKE_STARTED:
        event.function = details.get("FunctionName")
    return event


def _take_attempt(event: Event, retry: Wire, operations: Mapping[str, Operation]) -> None:
    known = operations.get(event.id)
    before = known.attempt if known is not None else 0
    event.attempt = retry.get("CurrentAttempt") or before + 1
    delay = retry.get("NextAttemptDelaySeconds")
    if delay:
        event.kind, event.delay = _K.STEP_RETRIED, delay


def _payload(details: Wire) -> str | None:
    kept: Wire = details.get("Result") or _NOTHING
    payload: str | None = None if kept.get("Truncated") else kept.get("Payload")
    return payload
