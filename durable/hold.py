"""Keeping a failing run open, where a failed execution would be final.

With `hold_on_failure`, what would fail the run opens the callback `perdure:failed` instead; a
resume completes it and reopens what failed.
"""

from __future__ import annotations

from .events import Event, EventKind
from .handler import Handler
from .names import RESERVED, ROOT, operation_id
from .operations import Operation, OperationStatus, OperationType, SubType
from .run import Run
from .session import Ending, Failed, Pending

FAILED = f"{RESERVED}failed"


def is_held(operations: dict[str, Operation]) -> bool:
    """Return whether a run waits on the callback that holds a failure."""
    return held_by(operations) is not None


def held_by(operations: dict[str, Operation]) -> Operation | None:
    """Return the open callback that holds a failure of a run, if one."""
    for operation in operations.values():
        if operation.subtype == SubType.FAILURE and not operation.closed:
            return operation
    return None


def hold(run: Run, handler: Handler[object], ending: Ending) -> Ending:
    """Return the ending to write: where the handler asks for it, a failure becomes a wait."""
    failed = isinstance(ending, Failed)
    if not (failed and handler.hold_on_failure) or run.session.replay_only:
        return ending
    operations = run.journal.operations
    count = sum(operation.subtype == SubType.FAILURE for operation in operations.values())
    id = operation_id(ROOT, FAILED, count)
    operation = Operation(
        id, OperationType.CALLBACK, OperationStatus.UNRECORDED, None, FAILED, SubType.FAILURE
    )
    run.journal.adopt(operation)
    run.journal.record(
        Event(
            EventKind.CALLBACK_STARTED,
            run.clock.now(),
            id,
            name=FAILED,
            subtype=SubType.FAILURE,
            error=ending.error if isinstance(ending, Failed) else None,
        )
    )
    return Pending()
