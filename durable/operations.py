"""The operation model: what a handler did, in the terms of AWS Lambda durable functions.

Types, statuses and patterns are those of the Lambda API's `Operation` shape (botocore, service
`lambda`). Times are integer milliseconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class OperationType(StrEnum):
    """The kinds of operation."""

    EXECUTION = "EXECUTION"
    CONTEXT = "CONTEXT"
    STEP = "STEP"
    WAIT = "WAIT"
    CALLBACK = "CALLBACK"
    CHAINED_INVOKE = "CHAINED_INVOKE"


class OperationStatus(StrEnum):
    """The states of an operation. UNRECORDED is ours: claimed, and nothing of it written yet."""

    UNRECORDED = "UNRECORDED"
    STARTED = "STARTED"
    PENDING = "PENDING"
    READY = "READY"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"


TERMINAL = frozenset(
    {
        OperationStatus.SUCCEEDED,
        OperationStatus.FAILED,
        OperationStatus.CANCELLED,
        OperationStatus.TIMED_OUT,
        OperationStatus.STOPPED,
    }
)


class SubType:
    """The subtypes the core writes; a layer above may write its own."""

    STEP = "Step"
    CONDITION = "WaitForCondition"
    WAIT = "Wait"
    CALLBACK = "Callback"
    EVENT = "WaitForEvent"
    NOW = "Now"
    INVOKE = "ChainedInvoke"
    CHILD = "RunInChildContext"
    WAIT_FOR_CALLBACK = "WaitForCallback"
    MAP = "Map"
    MAP_ITEM = "MapIteration"
    PARALLEL = "Parallel"
    BRANCH = "ParallelBranch"
    PATCH = "Patched"
    FAILURE = "HeldFailure"


@dataclass(frozen=True, slots=True)
class ErrorObject:
    """A failure as it is kept: AWS's `ErrorObject`."""

    message: str
    type: str | None = None
    data: str | None = None
    trace: tuple[str, ...] = ()

    @property
    def carries(self) -> bool:
        """Whether `data` is a gate's JSON, and not the name of the operation it came from."""
        return self.data is not None and self.data.startswith("{")


@dataclass(slots=True)
class Operation:
    """The state of one operation, folded from its events.

    `attempt` counts ended attempts. `due` is when a timer acts on it: the end of a WAIT, the next
    attempt of a STEP, the timeout or missed heartbeat of a CALLBACK (`deadline` is its timeout,
    `heartbeat` the milliseconds allowed between two). `payload` is the encoded result (or, while a
    condition is polled, its state). `optional` marks what a resume made unneeded: recorded after
    the failure that was reopened, so the handler may or may not ask for it again. `note` is what a
    gate recorded with the last start, `carried` what it left in the last failure; a resume keeps
    both.
    """

    id: str
    type: OperationType
    status: OperationStatus
    parent: str | None = None
    name: str | None = None
    subtype: str | None = None
    started: int = 0
    ended: int | None = None
    attempt: int = 0
    payload: str | None = None
    error: ErrorObject | None = None
    due: int | None = None
    callback_id: str | None = None
    heartbeat: int | None = None
    deadline: int | None = None
    replay_children: bool = False
    optional: bool = False
    note: str | None = None
    carried: str | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing changes this operation any more."""
        return self.status in TERMINAL

    def reopen(self) -> None:
        """Have it begin anew: a scope goes on, anything else is due to start."""
        context = self.type is OperationType.CONTEXT
        self.status = OperationStatus.STARTED if context else OperationStatus.READY
        self.attempt = 0
        self.payload = self.error = self.ended = self.due = None
