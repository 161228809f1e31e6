"""A handle on one run of a Lambda function: its state, its history, its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..local.execution import ExecutionInfo, ExecutionStatus, Wait, wait_of
from ..local.history import HistoryEvent, moment
from ..operations import Operation
from .history import is_active

if TYPE_CHECKING:
    from .engine import LambdaEngine

STATUSES = {
    "RUNNING": ExecutionStatus.RUNNING,
    "PAUSING": ExecutionStatus.RUNNING,
    "PAUSED": ExecutionStatus.RUNNING,
    "SUCCEEDED": ExecutionStatus.SUCCEEDED,
    "FAILED": ExecutionStatus.FAILED,
    "TIMED_OUT": ExecutionStatus.TIMED_OUT,
    "STOPPED": ExecutionStatus.CANCELLED,
}
"""The service's words and ours; of one that is being deleted nothing is told."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a run at one time.

    Attributes:
        told: what the service says of it; without its data, that is in the events.
        operations: by their paths; taken from the events.
    """

    told: Mapping[str, Any]
    events: Sequence[HistoryEvent]
    operations: dict[str, Operation]

    @property
    def runs(self) -> bool:
        """Whether the run has not ended."""
        return status_of(self.told) is ExecutionStatus.RUNNING

    def info(self) -> ExecutionInfo:
        """Return what a listing tells of the run."""
        dues = [each.due for each in self.operations.values() if not each.closed]
        wakes = min((due for due in dues if due is not None), default=None)
        return info_of(
            self.told,
            active=self.told["Status"] == "RUNNING" and is_active(self.events),
            wakes=wakes if self.runs else None,
        )

    def waits(self) -> list[Wait]:
        """Return what the run waits for."""
        if not self.runs:
            return []
        found = (wait_of(path, each, each.callback_id) for path, each in self.operations.items())
        return [wait for wait in found if wait is not None]


class LambdaExecution:
    """A handle on one run.

    Attributes:
        id: its name, as it was given at the start.
        arn: what the service calls it.
    """

    def __init__(self, engine: LambdaEngine, id: str, arn: str) -> None:
        self._engine = engine
        self.id = id
        self.arn = arn

    def __repr__(self) -> str:
        return f"<execution {self.id!r}>"

    @property
    def status(self) -> ExecutionStatus:
        """The state of the run, asked of the service."""
        return self._engine.status(self.arn)

    def info(self) -> ExecutionInfo:
        """Return what a listing tells of the run."""
        return self._engine.info(self.arn)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the run to end and return its result.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            TimeoutError: it has not ended by then; it goes on.
            ExecutionFailedError: its handler raised, or the service gave it up.
            ExecutionCancelledError: it was stopped.
            ExecutionTimedOutError: it passed its function's ExecutionTimeout.
        """
        return self._engine.wait_for(self.arn, timeout)

    def waiting_for(self) -> list[Wait]:
        """Return what the run waits for: events, callbacks, timers, retries, invoked functions."""
        return self._engine.waiting_for(self.arn)

    def operations(self) -> dict[str, Operation]:
        """Return the state of each operation, by the path that addresses it."""
        return self._engine.operations(self.arn)

    def steps(self, kind: str) -> list[Operation]:
        """Return the run's steps of one kind."""
        return self._engine.steps(self.arn, kind)

    def replays(self, kind: str) -> dict[str, int]:
        """Return nothing: the service does not tell what an invocation found recorded."""
        return {}

    def texts(self, last: str) -> list[str]:
        """Return the texts of a chain, named by its last link; [] if not kept in S3."""
        return self._engine.texts(self.arn, last)

    def history(self) -> list[HistoryEvent]:
        """Return the run's events as the service tells them."""
        return self._engine.history(self.arn)

    def cancel(self, reason: str = "cancelled") -> None:
        """End the run; a step in flight may still record its result."""
        self._engine.cancel(self.arn, reason)


def status_of(told: Mapping[str, Any]) -> ExecutionStatus:
    """Return the status of a run in perdure's words; one that is paused is RUNNING."""
    return STATUSES.get(told["Status"], ExecutionStatus.CANCELLED)


def statuses_of(status: str) -> list[str]:
    """Return the service's words for a status."""
    return [theirs for theirs, ours in STATUSES.items() if ours == status]


def info_of(
    told: Mapping[str, Any], *, active: bool = False, wakes: int | None = None
) -> ExecutionInfo:
    """Return what a listing tells of a run."""
    return ExecutionInfo(
        told["DurableExecutionName"],
        _name_of(told.get("FunctionArn") or ""),
        status_of(told),
        told["StartTimestamp"],
        told.get("EndTimestamp"),
        active,
        None if wakes is None else moment(wakes),
        None,
    )


def _name_of(function: str) -> str:
    """Return the name in a function's ARN."""
    parts = function.split(":")
    return parts[6] if len(parts) > 6 else function
