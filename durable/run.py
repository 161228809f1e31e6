"""The decisions of a run, made once for sync and async: what each operation does next.

Nothing here waits, writes or starts a thread. A driver asks for the next move of an operation,
carries it out, and hands back what came of it; the run turns that into events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Literal

from .batch_records import BatchRecords
from .codec import Serdes
from .current import CurrentStep
from .errors import (
    SerializationError,
    StepInterrupted,
    UsageError,
)
from .events import EventKind
from .failures import CONDITION, INTERRUPTED, error_object
from .gates import PLAIN, Gate, Hold, Pass, Refuse, Verdict
from .journal import Scope, misuse
from .names import child_scope, operation_id
from .operations import ErrorObject, Operation, OperationStatus, OperationType, SubType
from .records import plain_json, words
from .retry import RetryPolicy

Semantics = Literal["at_least_once", "at_most_once"]
_S = OperationStatus


class Move(Enum):
    """What a driver does next with an operation."""

    RETURN = auto()
    RAISE = auto()
    START = auto()
    """New, or due again: record the start, then run the body."""
    RERUN = auto()
    """Started by an invocation that died: run the body, without a second start."""
    INTERRUPTED = auto()
    """At most once, started, no outcome: settle it as interrupted."""
    PAUSE = auto()


@dataclass(frozen=True, slots=True)
class StepSpec:
    """How a step is run and kept."""

    policy: RetryPolicy
    at_most_once: bool = False
    returns: Any = None
    serdes: Serdes | None = None
    gate: Gate | None = None


class Run(BatchRecords):
    """One execution during one invocation, without its driver."""

    def step_move(self, operation: Operation, *, at_most_once: bool) -> Move:
        """Decide what a claimed STEP does next."""
        match operation.status:
            case _S.SUCCEEDED:
                return Move.RETURN
            case _S.STARTED:
                return Move.INTERRUPTED if at_most_once else Move.RERUN
            case _S.PENDING if (operation.due or 0) > self.clock.now():
                return Move.PAUSE
            case _S.PENDING | _S.READY | _S.UNRECORDED:
                return Move.START
            case _:
                return Move.RAISE

    def start_step(
        self, operation: Operation, digest: str | None = None, opening: Pass = PLAIN
    ) -> None:
        """Record that an attempt of a STEP begins."""
        self.adopt(operation, EventKind.STEP_STARTED)
        self.journal.start_step(operation, self.clock.now(), digest, opening)

    def open_gate(
        self, operation: Operation, spec: StepSpec, digest: str | None
    ) -> Operation | None:
        """Start an attempt as its gate decides, or record its refusal.

        Returns:
            the operation that has to end first, if the gate holds the attempt.
        """
        if spec.gate is None:
            self.start_step(operation, digest)
            return None
        match spec.gate.open(operation):
            case Hold(first):
                return first
            case Refuse(error, note):
                self.start_step(operation, digest, Pass(note))
                self.step_raised(operation, spec, error)
            case Pass() as opening:
                self.start_step(operation, digest, opening)
        return None

    def current_step(self, operation: Operation) -> CurrentStep:
        """Return what the body of the running attempt may know."""
        session = self.session
        return CurrentStep(
            operation.name or "",
            operation.attempt + 1,
            session.execution_id,
            session.seed,
            operation.id,
        )

    def step_returned(self, operation: Operation, spec: StepSpec, value: Any) -> Any:
        """Record what a STEP's body returned; return the copy that the handler gets."""
        try:
            payload, copy = self.keep(operation, value, spec.returns, spec.serdes)
        except SerializationError as error:
            self.step_raised(operation, spec, error)
            return None
        self.record(
            operation, EventKind.STEP_SUCCEEDED, payload=payload, attempt=operation.attempt + 1
        )
        if spec.gate is not None:
            spec.gate.returned(operation)
        return copy

    def step_raised(self, operation: Operation, spec: StepSpec, error: BaseException) -> None:
        """Record that a STEP's attempt failed: for good, or with another attempt to come."""
        if spec.gate is not None:
            self._judged(operation, spec.gate.failed(operation, error))
            return
        attempt = operation.attempt + 1
        kept = error_object(error)
        try:
            again = spec.policy.retries(error, attempt)
        except Exception as broken:
            again = False
            words = f"{kept.message} (and retry_on raised {type(broken).__name__}: {broken})"
            kept = replace(kept, message=words)
        if again:
            delay = spec.policy.delay(attempt)
            self.record(operation, EventKind.STEP_RETRIED, error=kept, attempt=attempt, delay=delay)
        else:
            self.record(operation, EventKind.STEP_FAILED, error=kept, attempt=attempt)

    def _judged(self, operation: Operation, verdict: Verdict) -> None:
        attempt, kept, delay = operation.attempt + 1, verdict.error, verdict.delay
        if delay is None:
            self.record(operation, EventKind.STEP_FAILED, error=kept, attempt=attempt)
        else:
            self.record(operation, EventKind.STEP_RETRIED, error=kept, attempt=attempt, delay=delay)

    def step_interrupted(self, operation: Operation, spec: StepSpec) -> Operation | None:
        """Record that a started at-most-once STEP has no outcome.

        Returns:
            the operation that has to end first, if its gate asks before it decides.
        """
        if spec.gate is not None:
            found = spec.gate.interrupted(operation)
            if isinstance(found, Hold):
                return found.operation
            self._judged(operation, found)
            return None
        error = ErrorObject(
            f"attempt {operation.attempt + 1} was started, and its process ended before the "
            "outcome was recorded; what it did outside is unknown",
            INTERRUPTED,
        )
        self.step_raised(operation, spec, StepInterrupted(operation.name, error, operation.id))
        return None

    def shared_event(self, key: str, name: str, count: int, parent: str | None) -> Operation:
        """Return the named wait that several claims of a run share, opened if it is new.

        It belongs to no scope's claims: `key`, `name` and `count` are its identity.
        """
        id = operation_id(child_scope(key), name, count)
        operation = self.journal.operations.get(id)
        if operation is None:
            operation = Operation(
                id, OperationType.CALLBACK, _S.UNRECORDED, parent, name, SubType.EVENT
            )
        if operation.status in (_S.UNRECORDED, _S.READY):
            self.start_callback(operation, None, None)
        return operation

    def poll_again(self, operation: Operation, state: Any, delay: float) -> None:
        """Record the state of a condition that is not met yet."""
        payload, _ = self.keep(operation, state, None, None)
        attempt = operation.attempt + 1
        self.record(
            operation, EventKind.STEP_RETRIED, payload=payload, attempt=attempt, delay=delay
        )

    def condition_expired(self, operation: Operation, message: str) -> None:
        """Record that a condition was not met in time."""
        error = ErrorObject(message, CONDITION)
        self.record(operation, EventKind.STEP_FAILED, error=error, attempt=operation.attempt + 1)

    def start_wait(self, operation: Operation, seconds: float) -> None:
        """Record that a WAIT begins."""
        self.record(operation, EventKind.WAIT_STARTED, delay=seconds)

    def start_callback(
        self, operation: Operation, timeout: float | None, heartbeat: float | None
    ) -> None:
        """Record that a CALLBACK is open."""
        self.record(operation, EventKind.CALLBACK_STARTED, timeout=timeout, heartbeat=heartbeat)

    def start_invoke(
        self, operation: Operation, function: str, payload: Any, timeout: float | None
    ) -> None:
        """Record that another durable function is invoked."""
        limits = self.session.limits
        if timeout is not None and not limits.invoke_timeout:
            raise misuse(
                f"{words(operation)} has a timeout, which AWS Lambda cannot keep. Give the invoked "
                "function an ExecutionTimeout, or race it with context.sleep in a parallel of "
                "completion=Completion(min_successful=1)"
            )
        text = self.codec.encode(payload, where=f"the payload of {words(operation)}")
        self.check_size(text, f"the payload of {words(operation)}", limits.payload)
        self.record(
            operation, EventKind.INVOKE_STARTED, payload=text, function=function, timeout=timeout
        )

    def waits(self, operation: Operation) -> bool:
        """Return whether an operation that others end is still open."""
        return not operation.closed

    def callback_value(self, operation: Operation) -> Any:
        """Return what a closed CALLBACK was completed with.

        Raises:
            CallbackError: it failed, or timed out.
        """
        if operation.status is _S.SUCCEEDED:
            return plain_json(operation.payload)
        raise self.error_of(operation)

    def event_value(self, operation: Operation) -> Any:
        """Return what was sent to a named wait: True for nothing, None when time was up."""
        if operation.status is _S.TIMED_OUT:
            return None
        value = self.callback_value(operation)
        return True if value is None else value

    def start_context(self, operation: Operation) -> None:
        """Record that a CONTEXT begins, unless it is on record."""
        if operation.status is _S.UNRECORDED:
            self.record(operation, EventKind.CONTEXT_STARTED)

    def context_returned(
        self, operation: Operation, value: Any, serdes: Serdes | None
    ) -> tuple[str, Any]:
        """Record a CONTEXT's result; return its text and the copy that the handler gets."""
        payload, copy = self.keep(operation, value, None, serdes, limited=False)
        if operation.replay_children and operation.status is _S.SUCCEEDED:
            return payload, copy
        stripped = self.too_large_inline(payload)
        if not stripped:
            self.check_size(payload, words(operation))
        self.record(
            operation,
            EventKind.CONTEXT_SUCCEEDED,
            payload=None if stripped else payload,
            replay_children=stripped,
        )
        return payload, copy

    def context_raised(self, operation: Operation, error: BaseException) -> ErrorObject:
        """Record that a CONTEXT's function raised; return the error as it is kept."""
        kept = error_object(error)
        if not operation.closed:
            self.record(operation, EventKind.CONTEXT_FAILED, error=kept)
        return kept


def misplaced(name: str, running: CurrentStep) -> UsageError:
    """Return the error for a durable call inside a step's body."""
    return UsageError(
        f"{name!r} was called inside the body of step {running.name!r}: what runs in a step is "
        "recorded as that step's result. Call it from the handler, or open a scope with "
        "context.child"
    )


def scope_path(scope: Scope, name: str | None) -> str:
    """Return the path of a scope opened in another: `review[3]/approval`."""
    own = name or ""
    return f"{scope.path}/{own}" if scope.path else own
