"""perdure's durable core: handlers in plain Python whose finished steps are never run again.

The names below are loaded when first used, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazily

if TYPE_CHECKING:
    from .async_context import AsyncContext
    from .aws import LambdaEngine
    from .clock import Clock, SystemClock
    from .codec import Serdes
    from .completion import BatchResult, Completion, Outcome, Reason
    from .context import Callback, Context
    from .current import CurrentStep, current_step
    from .duration import Duration
    from .errors import (
        BatchError,
        CallbackClosedError,
        CallbackError,
        CallbackNotFoundError,
        CallbackTimeoutError,
        ChildError,
        ConditionTimeoutError,
        ExecutionCancelledError,
        ExecutionConflictError,
        ExecutionError,
        ExecutionFailedError,
        ExecutionNotFoundError,
        ExecutionTimedOutError,
        HandlerNotFoundError,
        InvokeError,
        JournalError,
        LeaseLostError,
        NonDeterminismError,
        OperationError,
        OperationLimitError,
        PayloadTooLargeError,
        PayloadUnavailableError,
        PerdureError,
        SerializationError,
        StepError,
        StepInterrupted,
        Suspended,
        UsageError,
    )
    from .handler import Handler, durable_execution
    from .limits import Limits
    from .local import (
        Execution,
        ExecutionInfo,
        ExecutionStatus,
        LocalEngine,
        OpenCallback,
        Wait,
    )
    from .operations import ErrorObject, Operation, OperationStatus, OperationType
    from .retry import RetryPolicy

_ERRORS = (
    "BatchError CallbackClosedError CallbackError CallbackNotFoundError CallbackTimeoutError"
    " ChildError ConditionTimeoutError ExecutionCancelledError ExecutionConflictError"
    " ExecutionError ExecutionFailedError ExecutionNotFoundError ExecutionTimedOutError"
    " HandlerNotFoundError InvokeError JournalError LeaseLostError NonDeterminismError"
    " OperationError OperationLimitError PayloadTooLargeError PayloadUnavailableError"
    " PerdureError SerializationError StepError StepInterrupted Suspended UsageError"
)
_HOMES = {
    "async_context": "AsyncContext",
    "aws.engine": "LambdaEngine",
    "clock": "Clock SystemClock",
    "codec": "Serdes",
    "completion": "BatchResult Completion Outcome Reason",
    "context": "Callback Context",
    "current": "CurrentStep current_step",
    "duration": "Duration",
    "errors": _ERRORS,
    "handler": "Handler durable_execution",
    "limits": "Limits",
    "local": "Execution ExecutionInfo ExecutionStatus LocalEngine OpenCallback Wait",
    "operations": "ErrorObject Operation OperationStatus OperationType",
    "retry": "RetryPolicy",
}

__all__ = [
    "AsyncContext",
    "BatchError",
    "BatchResult",
    "Callback",
    "CallbackClosedError",
    "CallbackError",
    "CallbackNotFoundError",
    "CallbackTimeoutError",
    "ChildError",
    "Clock",
    "Completion",
    "ConditionTimeoutError",
    "Context",
    "CurrentStep",
    "Duration",
    "ErrorObject",
    "Execution",
    "ExecutionCancelledError",
    "ExecutionConflictError",
    "ExecutionError",
    "ExecutionFailedError",
    "ExecutionInfo",
    "ExecutionNotFoundError",
    "ExecutionStatus",
    "ExecutionTimedOutError",
    "Handler",
    "HandlerNotFoundError",
    "InvokeError",
    "JournalError",
    "LambdaEngine",
    "LeaseLostError",
    "Limits",
    "LocalEngine",
    "NonDeterminismError",
    "OpenCallback",
    "Operation",
    "OperationError",
    "OperationLimitError",
    "OperationStatus",
    "OperationType",
    "Outcome",
    "PayloadTooLargeError",
    "PayloadUnavailableError",
    "PerdureError",
    "Reason",
    "RetryPolicy",
    "Serdes",
    "SerializationError",
    "StepError",
    "StepInterrupted",
    "Suspended",
    "SystemClock",
    "UsageError",
    "Wait",
    "current_step",
    "durable_execution",
]

__getattr__ = lazily(__name__, _HOMES)
