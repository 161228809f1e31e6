"""A handle on one run: its state, its history, its result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..operations import Operation, OperationStatus, OperationType
from .executions import Record
from .history import HistoryEvent, moment
from .paths import paths_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock
    from ..handler import Handler
    from .engine import LocalEngine


class ExecutionStatus(StrEnum):
    """The states of an execution; one that waits is RUNNING, as on AWS."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """What a listing tells of an execution.

    Attributes:
        active: a process is running it right now; else a RUNNING one waits.
        wakes: when it is invoked next, if a time is set.
        source: the file its handler was defined in, where that was known.
    """

    id: str
    handler: str
    status: ExecutionStatus
    created: datetime
    ended: datetime | None
    active: bool
    wakes: datetime | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Something a run waits for.

    Attributes:
        path: how `send` addresses it, or the name of the step that is retried.
        kind: "event", "callback", "timer", "retry" or "invoke".
        due: when it ends by itself, if it does.
        callback_id: for an event or callback.
    """

    path: str
    kind: str
    due: datetime | None
    callback_id: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a replay of a run needs."""

    handler: Handler[Any]
    payload: str
    seed: str
    operations: dict[str, Operation]
    clock: Clock


class Execution:
    """A handle on one run of an engine."""

    def __init__(self, engine: LocalEngine, id: str) -> None:
        self._engine = engine
        self.id = id

    def __repr__(self) -> str:
        return f"<execution {self.id!r} {self.status.value}>"

    @property
    def status(self) -> ExecutionStatus:
        """The state of the run, read from the journal."""
        return self.info().status

    def info(self) -> ExecutionInfo:
        """Return what a listing tells of the run."""
        return self._engine.info(self.id)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the run to end and return its result.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            TimeoutError: it has not ended by then; it goes on.
            ExecutionFailedError: its handler raised, or the engine gave it up.
            ExecutionCancelledError: it was cancelled.
            ExecutionTimedOutError: it passed its handler's timeout.
            HandlerNotFoundError: its handler is not registered here, nor served elsewhere.
        """
        return self._engine.wait_for(self.id, timeout)

    def settle(self, timeout: float) -> Any:
        """Return the result, or raise `Suspended` when only waits longer than `timeout` are left.

        Raises:
            Suspended: with the handle and what the run waits for.
        """
        return self._engine.settle(self.id, timeout)

    def waiting_for(self) -> list[Wait]:
        """Return what the run waits for: events, callbacks, timers, retries, invoked functions."""
        return self._engine.waiting_for(self.id)

    def operations(self) -> dict[str, Operation]:
        """Return the state of each operation, by the path that addresses it."""
        return self._engine.operations(self.id)

    def steps(self, kind: str) -> list[Operation]:
        """Return the run's steps of one kind, without reading the others."""
        return self._engine.steps(self.id, kind)

    def replays(self, kind: str) -> dict[str, int]:
        """Return how many ended invocations found each step of a kind recorded, by its id."""
        return self._engine.replays(self.id, kind)

    def texts(self, last: str) -> list[str]:
        """Return the texts of a chain of the journal, named by its last link; [] if not kept."""
        return self._engine.texts(last)

    def snapshot(self) -> Snapshot:
        """Return all that a replay of the run needs."""
        return self._engine.snapshot(self.id)

    def history(self) -> list[HistoryEvent]:
        """Return the run's events in the shape of AWS's `GetDurableExecutionHistory`."""
        return self._engine.history(self.id)

    def cancel(self, reason: str = "cancelled") -> None:
        """End the run; a step in flight may still record its result."""
        self._engine.cancel(self.id, reason)


def info_of(record: Record, is_dead: Callable[[str], bool]) -> ExecutionInfo:
    """Return what a listing tells of a row; a dead process runs nothing."""
    return ExecutionInfo(
        record.id,
        record.handler,
        ExecutionStatus(record.status),
        moment(record.created),
        None if record.ended is None else moment(record.ended),
        record.lease_owner is not None and not is_dead(record.lease_owner),
        None if record.wake_at in (None, record.deadline) else moment(record.wake_at or 0),
        record.source,
    )


def waits_of(operations: dict[str, Operation], run: int) -> list[Wait]:
    """Return what is open among the operations of a run."""
    from .callback_ids import callback_id

    paths = paths_of(operations)
    waits = (
        wait_of(
            paths[each.id],
            each,
            callback_id(run, each.id) if each.type is OperationType.CALLBACK else None,
        )
        for each in operations.values()
    )
    return [wait for wait in waits if wait is not None]


def wait_of(path: str, operation: Operation, callback_id: str | None) -> Wait | None:
    """Return what an operation has its run wait for; None if nothing."""
    kind = _kind(operation)
    if kind is None:
        return None
    due = None if operation.due is None else moment(operation.due)
    return Wait(path, kind, due, callback_id)


def _kind(operation: Operation) -> str | None:
    if operation.closed:
        return None
    match operation.type:
        case OperationType.CALLBACK:
            return "event" if operation.subtype == "WaitForEvent" else "callback"
        case OperationType.WAIT:
            return "timer"
        case OperationType.CHAINED_INVOKE:
            return "invoke"
        case OperationType.STEP if operation.status is OperationStatus.PENDING:
            return "retry"
    return None
