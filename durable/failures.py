"""Failures: as the journal keeps them, and as the handler meets them."""

from __future__ import annotations

import traceback

from .errors import (
    CallbackError,
    CallbackTimeoutError,
    ChildError,
    ConditionTimeoutError,
    InvokeError,
    OperationError,
    PerdureError,
    StepError,
    StepInterrupted,
)
from .names import child_scope, operation_id
from .operations import ErrorObject, Operation, OperationStatus, OperationType, SubType

INTERRUPTED = "perdure.StepInterrupted"
CONDITION = "perdure.ConditionTimeout"


def error_object(error: BaseException) -> ErrorObject:
    """Return an exception as the journal keeps it.

    `data` names the operation the error came from, followed through `__cause__`: what a resume
    opens again.
    """
    if isinstance(error, OperationError):
        message, type_ = error.error.message, error.error_type
    else:
        message, type_ = str(error) or repr(error), type_name(error)
    trace = traceback.format_exception(type(error), error, error.__traceback__, limit=-20)
    return ErrorObject(message, type_, _source(error), tuple(_own_lines(trace)))


def type_name(error: BaseException) -> str:
    """Return an exception's type as AWS's SDK spells it: with its module, unless a builtin."""
    cls = type(error)
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    if isinstance(error, PerdureError):
        return f"perdure.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def error_of(operation: Operation) -> OperationError:
    """Return the error of a failed operation, as the handler gets it."""
    error = operation.error or ErrorObject("no error was recorded")
    kind: type[OperationError] = StepError
    match operation.type:
        case OperationType.STEP if error.type == INTERRUPTED:
            kind = StepInterrupted
        case OperationType.STEP if error.type == CONDITION:
            kind = ConditionTimeoutError
        case OperationType.CONTEXT:
            kind = _context_error(operation, error)
        case OperationType.CALLBACK if operation.status is OperationStatus.TIMED_OUT:
            kind = CallbackTimeoutError
        case OperationType.CALLBACK:
            kind = CallbackError
        case OperationType.CHAINED_INVOKE:
            kind = InvokeError
    return kind(operation.name, error, operation.id)


def _context_error(operation: Operation, error: ErrorObject) -> type[OperationError]:
    """Return the class of a failed scope's error: a `wait_for_callback` fails as its callback."""
    if operation.subtype != SubType.WAIT_FOR_CALLBACK:
        return ChildError
    inner = operation_id(child_scope(operation.id), operation.name or "", 0)
    if error.data != f"perdure:{inner}":
        return ChildError
    timed_out = error.type in ("Callback.Timeout", "Callback.Heartbeat")
    return CallbackTimeoutError if timed_out else CallbackError


def _source(error: BaseException | None) -> str | None:
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OperationError):
            return f"perdure:{error.operation_id}"
        seen.add(id(error))
        error = error.__cause__
    return None


def _own_lines(trace: list[str]) -> list[str]:
    return [line.rstrip("\n")[:2000] for line in trace]
