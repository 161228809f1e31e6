"""The journal's words and the wire's: operations, updates, errors, outputs. No I/O, no clock.

Shapes are those of the Lambda API (botocore, service `lambda`): `Operation` as it stands in an
invocation's event (times in epoch milliseconds) or in an answer of boto3 (times as `datetime`),
`OperationUpdate` as `CheckpointDurableExecution` takes it. Events that AWS has no word for
(heartbeats, resumes, ends of invocations) are never sent, nor is what others did.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..events import OUTCOME, Event, EventKind
from ..operations import ErrorObject, Operation, OperationStatus, OperationType
from ..session import Ending, Failed, Succeeded

Wire = dict[str, Any]
Update = dict[str, Any]

MAX_SECONDS = 31_622_400
"""The longest wait, delay or timeout that the service takes: 366 days."""
MAX_ERROR = 32_000
"""Characters of an error's JSON; AWS's local runner takes 32,768."""
MAX_OUTPUT = 6 * 1024 * 1024 - 50
"""Bytes of an invocation's output, less its envelope."""

_K = EventKind
_ACTIONS: dict[EventKind, str] = {
    _K.CONTEXT_STARTED: "START",
    _K.CONTEXT_SUCCEEDED: "SUCCEED",
    _K.CONTEXT_FAILED: "FAIL",
    _K.STEP_STARTED: "START",
    _K.STEP_SUCCEEDED: "SUCCEED",
    _K.STEP_FAILED: "FAIL",
    _K.STEP_RETRIED: "RETRY",
    _K.WAIT_STARTED: "START",
    _K.WAIT_CANCELLED: "CANCEL",
    _K.CALLBACK_STARTED: "START",
    _K.INVOKE_STARTED: "START",
}
_DETAILS = {
    OperationType.EXECUTION: "ExecutionDetails",
    OperationType.CONTEXT: "ContextDetails",
    OperationType.STEP: "StepDetails",
    OperationType.WAIT: "WaitDetails",
    OperationType.CALLBACK: "CallbackDetails",
    OperationType.CHAINED_INVOKE: "ChainedInvokeDetails",
}
_NOT_IN_SUBTYPE = re.compile(r"[^A-Za-z0-9_-]")


def operation_of(wire: Mapping[str, Any]) -> Operation:
    """Return the operation that the service describes."""
    type_ = OperationType(wire["Type"])
    status = OperationStatus(wire["Status"])
    details = wire.get(_DETAILS[type_]) or {}
    operation = Operation(
        wire["Id"],
        type_,
        status,
        wire.get("ParentId"),
        wire.get("Name"),
        wire.get("SubType"),
        milliseconds(wire.get("StartTimestamp")) or 0,
        milliseconds(wire.get("EndTimestamp")),
        payload=details.get("Result"),
        error=error_of(details.get("Error")),
    )
    match type_:
        case OperationType.EXECUTION:
            operation.payload = details.get("InputPayload")
        case OperationType.CONTEXT:
            operation.replay_children = bool(details.get("ReplayChildren"))
        case OperationType.STEP:
            operation.attempt = details.get("Attempt") or 0
            if operation.error is not None and operation.error.carries:
                operation.carried = operation.error.data
            if status is OperationStatus.PENDING:
                operation.due = milliseconds(details.get("NextAttemptTimestamp"))
        case OperationType.WAIT if not operation.closed:
            operation.due = milliseconds(details.get("ScheduledEndTimestamp"))
        case OperationType.CALLBACK:
            operation.callback_id = details.get("CallbackId")
    return operation


def updates_of(event: Event, room: int = MAX_ERROR) -> list[Update]:
    """Return the updates that tell the service of an event: none, one, or a start and an end.

    Args:
        room: characters of an error's JSON.
    """
    action = _ACTIONS.get(event.kind)
    if action is None:
        return []
    update = _update(event, action)
    if action == "START" or event.started is None:
        return [update | _options(event, room)]
    return [_update(event, "START"), update | _options(event, room)]


def wire_error(error: ErrorObject, room: int = MAX_ERROR) -> Wire:
    """Return an error as the wire has it, cut to what fits; of a traceback the last lines stay."""
    wire: Wire = {"ErrorMessage": _cut(error.message, room // 2)}
    if error.type is not None:
        wire["ErrorType"] = _cut(error.type, room // 32)
    if error.data is not None:
        wire["ErrorData"] = _cut(error.data, 3 * room // 8)
    room -= _length(wire | {"StackTrace": []})
    trace: list[str] = []
    for line in reversed(error.trace):
        room -= _length(line) + 2
        if room < 0:
            break
        trace.append(line)
    if trace:
        wire["StackTrace"] = trace[::-1]
    return wire


def error_of(wire: Mapping[str, Any] | None) -> ErrorObject | None:
    """Return the error that the wire describes, or None."""
    if wire is None:
        return None
    return ErrorObject(
        wire.get("ErrorMessage") or "",
        wire.get("ErrorType"),
        wire.get("ErrorData"),
        tuple(wire.get("StackTrace") or ()),
    )


def execution_update(ending: Ending, at: int) -> Update | None:
    """Return the update that carries a result too large for the invocation's output, or None."""
    if not isinstance(ending, Succeeded) or _length(output(ending)) <= MAX_OUTPUT:
        return None
    return {
        "Id": f"execution-result-{at}",
        "Type": OperationType.EXECUTION.value,
        "Action": "SUCCEED",
        "Payload": ending.payload,
    }


def output(ending: Ending, *, concluded: bool = False, room: int = MAX_ERROR) -> Wire:
    """Return what the Lambda function answers; `concluded` if the result was checkpointed."""
    if isinstance(ending, Succeeded):
        return {"Status": "SUCCEEDED", "Result": "" if concluded else ending.payload}
    if isinstance(ending, Failed):
        return {"Status": "FAILED", "Error": wire_error(ending.error, room)}
    return {"Status": "PENDING"}


def whole_seconds(seconds: float | None) -> int:
    """Return a length of time in the service's whole seconds: rounded up, from 1 to 366 days."""
    return min(max(1, math.ceil(seconds or 0)), MAX_SECONDS)


def milliseconds(moment: datetime | float | None) -> int | None:
    """Return a time of the wire in milliseconds: a `datetime` of boto3, or milliseconds already."""
    if moment is None:
        return None
    if isinstance(moment, datetime):
        return round(moment.timestamp() * 1000)
    return round(moment)


def _update(event: Event, action: str) -> Update:
    update: Update = {"Id": event.id, "Type": OUTCOME[event.kind][0].value, "Action": action}
    if event.parent is not None:
        update["ParentId"] = event.parent
    if event.name is not None:
        update["Name"] = event.name
    if event.subtype is not None:
        update["SubType"] = _NOT_IN_SUBTYPE.sub("-", event.subtype)[:32]
    return update


def _options(event: Event, room: int) -> Update:
    match event.kind:
        case _K.WAIT_STARTED:
            return {"WaitOptions": {"WaitSeconds": whole_seconds(event.delay)}}
        case _K.CALLBACK_STARTED:
            timeouts = _timeouts(event)
            return {"CallbackOptions": timeouts} if timeouts else {}
        case _K.INVOKE_STARTED:
            function = {"ChainedInvokeOptions": {"FunctionName": event.function}}
            return _content(event, room) | function
        case _K.STEP_RETRIED:
            delay = {"NextAttemptDelaySeconds": whole_seconds(event.delay)}
            return _content(event, room) | {"StepOptions": delay}
        case _K.CONTEXT_SUCCEEDED if event.replay_children:
            return _content(event, room) | {"ContextOptions": {"ReplayChildren": True}}
        case _:
            return _content(event, room)


def _timeouts(event: Event) -> Wire:
    times = {"TimeoutSeconds": event.timeout, "HeartbeatTimeoutSeconds": event.heartbeat}
    return {key: whole_seconds(value) for key, value in times.items() if value}


def _content(event: Event, room: int) -> Update:
    if event.error is not None:
        return {"Error": wire_error(event.error, room)}
    return {} if event.payload is None else {"Payload": event.payload}


def _cut(text: str, room: int) -> str:
    """Return as much of the beginning of a text as has JSON of at most this length."""
    while (length := _length(text)) > room:
        text = text[: min(len(text) - 1, len(text) * room // length)]
    return text


def _length(wire: Any) -> int:
    return len(json.dumps(wire))
