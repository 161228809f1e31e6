"""The errors of perdure: one small tree, each text says what was found, expected, and what to do.

`OperationError` and its kin are what a handler sees when an operation failed; they are built from
the journal's record on the first pass too, so a handler meets the same error at every replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .completion import BatchResult
    from .operations import ErrorObject, Operation


class PerdureError(Exception):
    """The root of all errors raised by perdure."""


class UsageError(PerdureError):
    """The API was called in a way that cannot work; the text names the call and the cure."""


class NonDeterminismError(PerdureError):
    """The handler asked for operations that do not fit those recorded in its journal."""


class SerializationError(PerdureError):
    """A value cannot be kept in the journal faithfully, or no longer fits its class."""


class PayloadTooLargeError(SerializationError):
    """A value is larger than the engine's limit for one payload."""


class PayloadUnavailableError(PerdureError):
    """A recorded value is kept outside of the journal, and cannot be had from there."""


class OperationLimitError(PerdureError):
    """A run has as many operations as its engine allows; the text names the ways out."""


class JournalError(PerdureError):
    """The journal file cannot be used: damaged, foreign, newer, read-only or full."""


class LeaseLostError(JournalError):
    """Another process took this run over; what this one does is no longer recorded."""


class ExecutionNotFoundError(PerdureError):
    """No execution has this id in this journal."""


class ExecutionConflictError(PerdureError):
    """An execution of this id exists with another handler or input, or is in another state."""


class HandlerNotFoundError(PerdureError):
    """The handler of a run is not registered with this engine."""


class CallbackNotFoundError(PerdureError):
    """No open callback or named wait answers to this id or name."""


class CallbackClosedError(PerdureError):
    """The callback or named wait was already completed, failed, timed out or cancelled."""


class ExecutionError(PerdureError):
    """A run ended without a result.

    Attributes:
        error_type: the type name of the error that ended the run.
        error: the recorded error: message, type, traceback text.
    """

    def __init__(self, message: str, error: ErrorObject | None = None) -> None:
        super().__init__(message)
        self.error = error
        self.error_type = error.type if error is not None else None


class ExecutionFailedError(ExecutionError):
    """The run's handler raised, or the engine gave the run up."""


class ExecutionCancelledError(ExecutionError):
    """The run was cancelled."""


class ExecutionTimedOutError(ExecutionError):
    """The run passed the timeout of its handler."""


class OperationError(PerdureError):
    """A durable operation failed, as its journal records it.

    Attributes:
        name: the operation's name.
        error_type: the type name of the original error, for example `ValueError`.
        error: the recorded error: message, type, traceback text.
        operation_id: the id of the failed operation.
    """

    def __init__(self, name: str | None, error: ErrorObject, operation_id: str) -> None:
        what = f"{name!r}: " if name else ""
        super().__init__(
            f"{what}{error.type}: {error.message}" if error.type else what + error.message
        )
        self.name = name
        self.error = error
        self.error_type = error.type
        self.operation_id = operation_id


class StepError(OperationError):
    """A step failed and its retry policy, if any, is used up."""


class StepInterrupted(StepError):
    """An at-most-once step was started and its process died before the outcome was recorded."""


class ConditionTimeoutError(StepError):
    """A `wait_for_condition` was not met within its timeout or number of polls."""


class ChildError(OperationError):
    """The function of a child scope or branch raised."""


class CallbackError(OperationError):
    """A callback was completed as failed."""


class CallbackTimeoutError(CallbackError):
    """A callback passed its timeout or missed its heartbeat."""


class InvokeError(OperationError):
    """An invoked durable function failed, timed out or was stopped."""


class BatchError(OperationError):
    """A map or parallel did not meet its completion rule.

    Attributes:
        result: the `BatchResult` with what did succeed and what failed.
    """

    def __init__(
        self, name: str | None, error: ErrorObject, operation_id: str, result: BatchResult[Any]
    ) -> None:
        super().__init__(name, error, operation_id)
        self.result = result


class Suspended(PerdureError):
    """`handler.run` stopped waiting: the run goes on by itself when what it waits for comes.

    Attributes:
        execution: the handle of the run.
        waiting_for: one line for each open wait, callback and retry.
    """

    def __init__(self, message: str, execution: Any, waiting_for: list[str]) -> None:
        super().__init__(message)
        self.execution = execution
        self.waiting_for = waiting_for


class InvocationSuspended(BaseException):
    """Unwinds a sync scope that waits; a `BaseException` so that `except Exception` lets it pass.

    Attributes:
        operations: the operations that the scope waits for.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        super().__init__("perdure: this invocation waits; let this exception pass")
        self.operations = operations


class InvocationEnded(BaseException):
    """Unwinds a scope whose run has ended, was cancelled, or was taken over by another process."""
