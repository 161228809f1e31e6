"""A run's history in the shape of `GetDurableExecutionHistory` (botocore, service `lambda`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from ..events import Event, EventKind
from ..operations import ErrorObject
from . import rows
from .callback_ids import callback_id
from .executions import Record

_K = EventKind
HistoryEvent = dict[str, Any]


def history(c: sqlite3.Connection, record: Record) -> list[HistoryEvent]:
    """Return the events of a run, numbered from 1, each time as an aware `datetime`."""
    started = {
        "EventType": "ExecutionStarted",
        "EventTimestamp": moment(record.created),
        "Name": record.id,
        "ExecutionStartedDetails": {
            "Input": _kept(record.payload),
            "ExecutionTimeout": (record.deadline - record.created) // 1000,
        },
    }
    events = [started, *_expand(record.run, rows.select(c, record.run))]
    return [{"EventId": number, **event} for number, event in enumerate(events, 1)]


def moment(milliseconds: int) -> datetime:
    """Return a time of the journal as an aware `datetime`."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _expand(run: int, events: Iterable[Event]) -> Iterator[HistoryEvent]:
    lengths: dict[str, float] = {}
    for event in events:
        if event.kind is _K.CALLBACK_HEARTBEAT or event.kind is _K.EXECUTION_RESUMED:
            if event.kind is _K.EXECUTION_RESUMED:
                yield _entry(event, "ExecutionResumed", {"Reopened": list(event.reopened)})
            continue
        if event.kind is _K.WAIT_STARTED:
            lengths[event.id] = event.delay or 0
        elif event.kind is _K.WAIT_SUCCEEDED:
            event.delay = lengths.get(event.id, event.delay or 0)
        if event.started is not None and event.kind is not _K.INVOCATION_COMPLETED:
            start = "ContextStarted" if event.kind.name.startswith("CONTEXT") else "StepStarted"
            yield _entry(event, start, {}, at=event.started)
        name = event.kind.value
        if event.kind is _K.STEP_RETRIED:
            name = "StepFailed" if event.error is not None else "StepSucceeded"
        yield _entry(event, name, _details(event, run))


def _entry(event: Event, name: str, details: dict[str, Any], at: int | None = None) -> HistoryEvent:
    entry: HistoryEvent = {"EventType": name, "EventTimestamp": moment(at or event.at)}
    named = {"SubType": event.subtype, "Id": event.id, "Name": event.name, "ParentId": event.parent}
    entry |= {key: value for key, value in named.items() if value}
    entry[f"{name}Details"] = details
    return entry


def _details(event: Event, run: int) -> dict[str, Any]:
    match event.kind:
        case _K.STEP_SUCCEEDED | _K.STEP_FAILED | _K.STEP_RETRIED:
            return _outcome(event) | {"RetryDetails": _retry(event)}
        case _K.WAIT_STARTED:
            end = event.at + round((event.delay or 0) * 1000)
            return {"Duration": _whole(event.delay), "ScheduledEndTimestamp": moment(end)}
        case _K.WAIT_SUCCEEDED:
            return {"Duration": _whole(event.delay)}
        case _K.CALLBACK_STARTED:
            times = {"Timeout": event.timeout, "HeartbeatTimeout": event.heartbeat}
            kept = {key: _whole(value) for key, value in times.items() if value is not None}
            return {"CallbackId": callback_id(run, event.id), **kept}
        case _K.INVOKE_STARTED:
            return {
                "FunctionName": event.function,
                "Input": _kept(event.payload),
                "ExecutedVersion": "$LATEST",
            }
        case _K.INVOCATION_COMPLETED:
            details: dict[str, Any] = {
                "StartTimestamp": moment(event.started or event.at),
                "EndTimestamp": moment(event.at),
                "RequestId": f"{run}-{event.token}",
            }
            return details | ({"Error": _error(event.error)} if event.error else {})
        case _K.CONTEXT_STARTED | _K.STEP_STARTED | _K.WAIT_CANCELLED:
            return {}
        case _:
            return _outcome(event)


def _outcome(event: Event) -> dict[str, Any]:
    if event.error is not None:
        return {"Error": _error(event.error)}
    return {"Result": _kept(event.payload)}


def _retry(event: Event) -> dict[str, Any]:
    details: dict[str, Any] = {"CurrentAttempt": event.attempt}
    if event.kind is _K.STEP_RETRIED:
        details["NextAttemptDelaySeconds"] = _whole(event.delay)
    return details


def _kept(payload: str | None) -> dict[str, Any]:
    return {"Truncated": False} | ({"Payload": payload} if payload is not None else {})


def _error(error: ErrorObject) -> dict[str, Any]:
    payload: dict[str, Any] = {"ErrorMessage": error.message}
    if error.type is not None:
        payload["ErrorType"] = error.type
    if error.data is not None:
        payload["ErrorData"] = error.data
    if error.trace:
        payload["StackTrace"] = list(error.trace)
    return {"Payload": payload, "Truncated": False}


def _whole(seconds: float | None) -> float:
    value = seconds or 0
    return int(value) if value == int(value) else value
