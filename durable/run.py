"""The decisions of a run, made once for sync and async: what each operation does next.

Nothing here waits, writes or starts a thread. A driver asks for the next move of an operation,
carries it out, and hands back what came of it; the run turns that into events.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Literal, NoReturn

from .clock import Clock
from .codec import Codec, Serdes
from .completion import BatchResult, Outcome, Plan, Reason, read_summary, summarize
from .current import CurrentStep
from .errors import (
    BatchError,
    CallbackError,
    CallbackTimeoutError,
    ChildError,
    ConditionTimeoutError,
    InvokeError,
    NonDeterminismError,
    OperationError,
    PayloadTooLargeError,
    PerdureError,
    SerializationError,
    StepError,
    StepInterrupted,
    UsageError,
)
from .events import Event, EventKind
from .journal import Journal, Scope
from .names import child_scope, operation_id
from .operations import ErrorObject, Operation, OperationStatus, OperationType, SubType
from .retry import RetryPolicy
from .session import Reply, Session, hear

Semantics = Literal["at_least_once", "at_most_once"]
_S = OperationStatus
_INTERRUPTED = "perdure.StepInterrupted"
_CONDITION = "perdure.ConditionTimeout"
_BATCH = "perdure.BatchError"


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


class Run:
    """One execution during one invocation, without its driver."""

    def __init__(self, session: Session, codec: Codec, clock: Clock) -> None:
        self.session = session
        self.codec = codec
        self.clock = clock
        self.journal = Journal(session.operations, session.seed)
        self.ended = False

    @property
    def execution_id(self) -> str:
        """The id of the execution."""
        return self.session.execution_id

    # -- steps ------------------------------------------------------------------------------

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

    def start_step(self, operation: Operation, digest: str | None = None) -> None:
        """Record that an attempt of a STEP begins."""
        self._adopt(operation, EventKind.STEP_STARTED)
        self.journal.start_step(operation, self.clock.now(), digest)

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
            payload, copy = self._keep(operation, value, spec.returns, spec.serdes)
        except SerializationError as error:
            self.step_raised(operation, spec, error)
            return None
        self._record(
            operation, EventKind.STEP_SUCCEEDED, payload=payload, attempt=operation.attempt + 1
        )
        return copy

    def step_raised(self, operation: Operation, spec: StepSpec, error: BaseException) -> None:
        """Record that a STEP's attempt failed: for good, or with another attempt to come."""
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
            self._record(
                operation, EventKind.STEP_RETRIED, error=kept, attempt=attempt, delay=delay
            )
        else:
            self._record(operation, EventKind.STEP_FAILED, error=kept, attempt=attempt)

    def step_interrupted(self, operation: Operation, spec: StepSpec) -> None:
        """Record that a started at-most-once STEP has no outcome."""
        error = ErrorObject(
            f"attempt {operation.attempt + 1} was started, and its process ended before the "
            "outcome was recorded; what it did outside is unknown",
            _INTERRUPTED,
        )
        self.step_raised(operation, spec, StepInterrupted(operation.name, error, operation.id))

    def poll_again(self, operation: Operation, state: Any, delay: float) -> None:
        """Record the state of a condition that is not met yet."""
        payload, _ = self._keep(operation, state, None, None)
        attempt = operation.attempt + 1
        self._record(
            operation, EventKind.STEP_RETRIED, payload=payload, attempt=attempt, delay=delay
        )

    def condition_expired(self, operation: Operation, message: str) -> None:
        """Record that a condition was not met in time."""
        error = ErrorObject(message, _CONDITION)
        self._record(
            operation, EventKind.STEP_FAILED, error=error, attempt=operation.attempt + 1
        )

    # -- timers, callbacks, invokes -----------------------------------------------------------

    def start_wait(self, operation: Operation, seconds: float) -> None:
        """Record that a WAIT begins."""
        self._record(operation, EventKind.WAIT_STARTED, delay=seconds)

    def start_callback(
        self, operation: Operation, timeout: float | None, heartbeat: float | None
    ) -> None:
        """Record that a CALLBACK is open."""
        self._record(operation, EventKind.CALLBACK_STARTED, timeout=timeout, heartbeat=heartbeat)

    def start_invoke(
        self, operation: Operation, function: str, payload: Any, timeout: float | None
    ) -> None:
        """Record that another durable function is invoked."""
        text = self.codec.encode(payload, where=f"the payload of {_words(operation)}")
        self.check_size(text, f"the payload of {_words(operation)}")
        self._record(
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

    # -- scopes -------------------------------------------------------------------------------

    def start_context(self, operation: Operation) -> None:
        """Record that a CONTEXT begins, unless it is on record."""
        if operation.status is _S.UNRECORDED:
            self._record(operation, EventKind.CONTEXT_STARTED)

    def context_returned(
        self, operation: Operation, value: Any, serdes: Serdes | None
    ) -> tuple[str, Any]:
        """Record a CONTEXT's result; return its text and the copy that the handler gets."""
        payload, copy = self._keep(operation, value, None, serdes, limited=False)
        if operation.replay_children and operation.status is _S.SUCCEEDED:
            return payload, copy
        stripped = self._too_large_inline(payload)
        if not stripped:
            self.check_size(payload, _words(operation))
        self._record(
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
            self._record(operation, EventKind.CONTEXT_FAILED, error=kept)
        return kept

    def batch_decided(
        self,
        operation: Operation,
        plan: Plan,
        names: list[str],
        serdes: Serdes | None,
        item_serdes: Serdes | None,
    ) -> Any:
        """Record the outcome of a batch; return its result as the handler gets it.

        Raises:
            BatchError: the completion rule was not met.
        """
        result = self._batch_result(operation, plan.reason, _items_of(plan, names), item_serdes)
        if operation.status is not _S.SUCCEEDED:
            summary = summarize(f"{operation.subtype}Result", plan, names, items=True)
            if serdes is not None and plan.reason is not Reason.FAILURE_TOLERANCE_EXCEEDED:
                summary, result = self._keep(operation, result, None, serdes, limited=False)
            stripped = self._too_large_inline(summary)
            if stripped:
                summary = summarize(f"{operation.subtype}Result", plan, names, items=False)
            self._record(
                operation,
                EventKind.CONTEXT_SUCCEEDED,
                payload=summary,
                replay_children=stripped,
            )
        return self._checked(operation, plan.reason, result)

    def batch_recorded(
        self, operation: Operation, serdes: Serdes | None, item_serdes: Serdes | None
    ) -> Any:
        """Return the result of a batch that is on record whole.

        Raises:
            BatchError: the completion rule was not met.
        """
        payload = operation.payload or ""
        if serdes is not None and not payload.startswith('{"type": "'):
            return self.codec.decode(payload, where=_words(operation), serdes=serdes)
        try:
            summary = read_summary(payload)
        except ValueError as error:
            raise SerializationError(f"{_words(operation)}: {error}") from error
        result = self._batch_result(operation, summary.reason, summary.items, item_serdes)
        return self._checked(operation, summary.reason, result)

    # -- values -------------------------------------------------------------------------------

    def value_of(
        self, operation: Operation, returns: Any = None, serdes: Serdes | None = None
    ) -> Any:
        """Return the recorded result of an operation, decoded."""
        payload = operation.payload
        if payload is None:
            return None
        return self.codec.decode(
            payload, where=_Where(operation), returns=returns, serdes=serdes
        )

    def error_of(self, operation: Operation) -> OperationError:
        """Return the error of a failed operation, as the handler gets it."""
        error = operation.error or ErrorObject("no error was recorded")
        kind: type[OperationError] = StepError
        match operation.type:
            case OperationType.STEP if error.type == _INTERRUPTED:
                kind = StepInterrupted
            case OperationType.STEP if error.type == _CONDITION:
                kind = ConditionTimeoutError
            case OperationType.CONTEXT:
                kind = _context_error(operation, error)
            case OperationType.CALLBACK if operation.status is _S.TIMED_OUT:
                kind = CallbackTimeoutError
            case OperationType.CALLBACK:
                kind = CallbackError
            case OperationType.CHAINED_INVOKE:
                kind = InvokeError
        return kind(operation.name, error, operation.id)

    def is_due(self, operation: Operation) -> bool:
        """Return whether something that was waited for has come."""
        if operation.closed or operation.status is _S.READY:
            return True
        return operation.status is _S.PENDING and (operation.due or 0) <= self.clock.now()

    def absorb(self, reply: Reply) -> list[Operation]:
        """Take in what others did; return the operations that changed."""
        self.ended = self.ended or reply.ended
        changed = self.journal.absorb(reply.events)
        for state in reply.operations:
            operation = self.journal.operations.get(state.id)
            if operation is not None and hear(operation, state):
                changed.append(operation)
        return changed

    def check_size(self, text: str, what: str) -> None:
        """Refuse a text over the engine's limit.

        Raises:
            PayloadTooLargeError: with both sizes.
        """
        limit = self.session.limits.payload
        if len(text) * 4 <= limit:
            return
        size = len(text.encode())
        if size > limit:
            raise PayloadTooLargeError(
                f"{what} is {size:,} bytes; this engine keeps at most {limit:,}. Store it "
                "elsewhere and return a reference"
            )

    # -- inside -------------------------------------------------------------------------------

    def _keep(
        self,
        operation: Operation,
        value: Any,
        returns: Any,
        serdes: Serdes | None,
        *,
        limited: bool = True,
    ) -> tuple[str, Any]:
        kept = self.codec.roundtrip(
            value, where=_Where(operation), returns=returns, serdes=serdes
        )
        if limited:
            self.check_size(kept[0], f"the result of {_words(operation)}")
        return kept

    def _too_large_inline(self, payload: str) -> bool:
        limit = self.session.limits.replay_children
        return limit is not None and len(payload.encode()) > limit

    def _batch_result(
        self,
        operation: Operation,
        reason: Reason | None,
        items: list[tuple[int, str, str, str | ErrorObject | None]],
        item_serdes: Serdes | None,
    ) -> BatchResult[Any]:
        assert reason is not None
        outcomes: list[Outcome[Any]] = []
        for index, name, status, kept in items:
            if isinstance(kept, str):
                value = self.codec.decode(
                    kept, where=f"{_words(operation)}, {name!r}", serdes=item_serdes
                )
                outcomes.append(Outcome(index, name, status, value))
            else:
                outcomes.append(Outcome(index, name, status, None, kept))
        return BatchResult(reason, outcomes)

    def _checked(self, operation: Operation, reason: Reason | None, result: Any) -> Any:
        if reason is not Reason.FAILURE_TOLERANCE_EXCEEDED:
            return result
        failures = result.failures
        first = failures[0] if failures else None
        cause = f"; the first, {first.name!r}: {first.error.message}" if first else ""
        error = ErrorObject(
            f"{len(failures)} of {result.total_count} started branches failed{cause}",
            (first.error.type if first else None) or _BATCH,
        )
        raise BatchError(operation.name, error, operation.id, result)

    def _record(self, operation: Operation, kind: EventKind, **fields: Any) -> None:
        self._adopt(operation, kind)
        self.journal.record(
            Event(
                kind,
                self.clock.now(),
                operation.id,
                operation.parent,
                operation.name,
                operation.subtype,
                **fields,
            )
        )

    def _adopt(self, operation: Operation, kind: EventKind) -> None:
        if self.session.replay_only:
            what = f"{kind.value} of {_words(operation)}"
            raise self.journal.fail(
                NonDeterminismError(f"the handler does something its journal does not hold: {what}")
            )
        if operation.status is _S.UNRECORDED and operation.id not in self.journal.operations:
            # The claim's own object becomes the recorded state, so whoever holds it sees it move.
            operation.status = _S.STARTED
            operation.started = 0
            self.journal.adopt(operation)


class _Where:
    """Words for an operation in an error message, put together only when asked for."""

    __slots__ = ("_operation",)

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def __str__(self) -> str:
        return _words(self._operation)


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
    """Return an exception's type as AWS's SDK spells it: builtins bare, others with their module."""
    cls = type(error)
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    if isinstance(error, PerdureError):
        return f"perdure.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def plain_json(payload: str | None) -> Any:
    """Return what an outsider sent: JSON if it is, else the text itself."""
    import json

    if payload is None:
        return None
    try:
        return json.loads(payload)
    except ValueError:
        return payload


def misplaced(name: str, running: CurrentStep) -> UsageError:
    """Return the error for a durable call inside a step's body."""
    return UsageError(
        f"{name!r} was called inside the body of step {running.name!r}: what runs in a step is "
        "recorded as that step's result. Call it from the handler, or open a scope with "
        "context.child"
    )


def raise_operation_error(run: Run, operation: Operation) -> NoReturn:
    """Raise the recorded error of a failed operation."""
    raise run.error_of(operation)


def scope_path(scope: Scope, name: str | None) -> str:
    """Return the path of a scope opened in another: `review[3]/approval`."""
    own = name or ""
    return f"{scope.path}/{own}" if scope.path else own


def _context_error(operation: Operation, error: ErrorObject) -> type[OperationError]:
    """Return the class of a failed scope's error: a `wait_for_callback` fails as its callback."""
    if operation.subtype != SubType.WAIT_FOR_CALLBACK:
        return ChildError
    inner = operation_id(child_scope(operation.id), operation.name or "", 0)
    if error.data != f"perdure:{inner}":
        return ChildError
    timed_out = error.type in ("Callback.Timeout", "Callback.Heartbeat")
    return CallbackTimeoutError if timed_out else CallbackError


def _items_of(
    plan: Plan, names: list[str]
) -> list[tuple[int, str, str, str | ErrorObject | None]]:
    items = []
    for index in sorted(plan.started):
        status, outcome = plan.outcomes.get(index, ("STARTED", None))
        items.append((index, names[index], status, outcome))
    return items


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


def _words(operation: Operation) -> str:
    kind = (operation.subtype or operation.type.value).lower()
    return f"{kind} {operation.name!r}" if operation.name else f"an unnamed {kind}"


__all__ = ["Move", "Run", "Semantics", "StepSpec", "SubType"]
